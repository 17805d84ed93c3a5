"""The order of devices is fixed for ever, even over all devices, and another for another rollout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.rollout import bucket, takes_part

NAMES = st.text(min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("salt", "device", "expected"),
    [("5f2d", "dev_1", 5015), ("5f2d", "dev_2", 7359), ("", "", 6297), ("ä", "dev_1", 2532)],
)
def test_buckets_are_pinned(salt: str, device: str, expected: int) -> None:
    assert bucket(salt, device) == expected


@given(salt=NAMES, device=NAMES, shares=st.lists(st.integers(0, 1000), min_size=2, max_size=2).map(sorted))
def test_who_is_in_a_stage_is_in_every_later_one(salt: str, device: str, shares: list[int]) -> None:
    assert 0 <= bucket(salt, device) < 10_000
    assert takes_part(salt, device, shares[0]) <= takes_part(salt, device, shares[1])
    assert takes_part(salt, device, 1000) and not takes_part(salt, device, 0)


def test_shares_are_what_they_say() -> None:
    names = [f"dev_{number}" for number in range(20_000)]
    for permille in (10, 100, 500):
        found = sum(takes_part("5f2d", name, permille) for name in names)
        expected = 20 * permille
        assert abs(found - expected) < 5 * (expected * (1000 - permille) / 1000) ** 0.5


def test_another_salt_is_another_order() -> None:
    names = [f"dev_{number}" for number in range(20_000)]
    first = {name for name in names if takes_part("one", name, 100)}
    both = sum(takes_part("two", name, 100) for name in first)
    assert 120 < both < 280  # a tenth of a tenth
