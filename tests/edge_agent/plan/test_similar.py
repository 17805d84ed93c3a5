from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.plan.similar import BIN_CASES, calibrate, vote

SHARES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=200)


def test_nearer_cases_speak_louder() -> None:
    ballot = vote([("express", 0.9), ("sign", 0.6), ("sign", 0.6)])
    assert ballot.lane == "express"
    assert [lane for lane, _ in ballot.lanes] == ["express", "sign"]


def test_far_cases_that_agree_are_not_loud() -> None:
    assert vote([("express", 0.25)] * 3).share < 0.6
    assert vote([("express", 0.8)] * 3).share > 0.99


def test_a_tie_goes_to_the_lane_that_sorts_first() -> None:
    assert vote([("sign", 0.7), ("express", 0.7)]).lane == vote([("express", 0.7), ("sign", 0.7)]).lane == "express"


def test_nobody_votes() -> None:
    assert (vote([]).lane, vote([]).share) == ("", 0.0)


@given(SHARES, st.floats(0, 1), st.floats(0, 1))
def test_confidence_rises_with_the_share(held_out: list[tuple[float, bool]], one: float, other: float) -> None:
    calibration = calibrate(held_out)
    low, high = sorted((one, other))
    assert 0 <= calibration.permille(low) <= calibration.permille(high) < 1000


@given(SHARES)
def test_order_of_held_out_cases_does_not_matter(held_out: list[tuple[float, bool]]) -> None:
    assert calibrate(held_out) == calibrate(held_out[::-1])


def test_a_short_history_is_never_certain() -> None:
    assert calibrate([(0.9, True)] * BIN_CASES).permille(0.95) == 916  # (10 + 1) / (10 + 2)
    assert calibrate([]).permille(0.99) == 0


def test_rates_follow_what_happened() -> None:
    calibration = calibrate([(0.4, n % 2 == 0) for n in range(100)] + [(0.9, n % 50 != 0) for n in range(500)])
    assert 480 <= calibration.permille(0.4) <= 520
    assert 970 <= calibration.permille(0.9) <= 985
    assert calibration.permille(0.2) < calibration.permille(0.4)  # below all that was seen: less still
