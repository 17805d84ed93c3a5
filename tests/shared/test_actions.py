"""An action's digest and keys: pinned, because receivers remember them for years."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions import Action
from shared.errors import BadInput

ROUTE = Action("register.decide", {"application": "PA-2026-0141", "lane": "express"}, "PA-2026-0141")


def test_digest_and_keys_are_pinned() -> None:
    assert ROUTE.digest == "ffa867657e8e83f7bd2eb55546b4c8bd4c586ba11f84664eed985754917b958f"
    assert ROUTE.key == ROUTE.key_for(0) == "78a8c96e7a659345761ad1106729c19804c5e202fb3020cb0d2404bdc73b3250"
    assert ROUTE.key_for(1) == "bbdaa806b2a5bf0026cefa922c61dad1c776f37adc4c02fc2c9a0eaf47047781"
    assert ROUTE.key_for(12) == "b427856d026b3b57ee0de0dd97c861e2861aa0899e6fd0ca6b7f6dc048d0ae98"


@pytest.mark.parametrize(
    "other",
    [
        Action("register.erase", ROUTE.arguments, ROUTE.subject),
        Action(ROUTE.tool, ROUTE.arguments | {"lane": "sign"}, ROUTE.subject),
        Action(ROUTE.tool, ROUTE.arguments | {"more": None}, ROUTE.subject),
        Action(ROUTE.tool, ROUTE.arguments, "PA-2026-0142"),
    ],
)
def test_another_action_has_another_key(other: Action) -> None:
    assert other.key != ROUTE.key and other.digest != ROUTE.digest


def test_the_same_action_met_twice_is_the_same() -> None:
    again = Action("register.decide", dict(reversed(ROUTE.arguments.items())), "PA-2026-0141")
    assert (again.key, again.digest) == (ROUTE.key, ROUTE.digest)


@given(st.integers(0, 50), st.integers(0, 50), st.text(max_size=5), st.text(max_size=5))
def test_keys_differ_unless_action_and_time_are_the_same(time: int, other: int, subject: str, another: str) -> None:
    first, second = Action("a.b", {}, subject), Action("a.b", {}, another)
    assert (first.key_for(time) == second.key_for(other)) == ((subject, time) == (another, other))


@pytest.mark.parametrize("value", [0.5, b"x", {1: "x"}, object(), {"deep": [1.0]}])
def test_what_has_no_one_form_has_no_digest(value: Any) -> None:
    with pytest.raises(BadInput):
        _ = Action("a.b", {"x": value}, "s").digest
