"""The state of a rollout follows from the hub's log alone, and what cannot follow is refused."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from shared.errors import BadInput, Conflict
from shared.facts import (
    DeviceExcluded,
    DevicePinned,
    Facts,
    LogOpened,
    RolloutAdvanced,
    RolloutFinished,
    RolloutHalted,
    RolloutPaused,
    RolloutResumed,
    RolloutRolledBack,
    RolloutStarted,
)
from shared.rollout import FINISHED, HALTED, NONE, ROLLED_BACK, RUNNING, Rollout, fold
from tests.shared.rollout.plans import HOUR, PLAN, begun

STARTED = RolloutStarted(PLAN, "mara")
PAUSE, RESUME = RolloutPaused("rol_1", "mara"), RolloutResumed("rol_1", "mara")
HALT, BACK = RolloutHalted("rol_1", "rollout.worse", "failures", 1_040, "hub"), RolloutRolledBack("rol_1", 6, "hub")
FINISH = RolloutFinished("rol_1", "hub")


def to_last() -> list[Facts]:
    return [RolloutAdvanced("rol_1", stage, "evidence", "hub") for stage in (1, 2, 3)]


def test_a_rollout_that_goes_well() -> None:
    state = begun(*to_last()[:2], PAUSE, RESUME, *to_last()[2:])
    assert (state.status, state.stage, state.stage_at, state.began_at) == (RUNNING, 3, 5 * HOUR, 0)
    assert state.is_last and state.active and state.now.permille == 1000 and state.started_by == "mara"
    state = fold(state, FINISH, 9 * HOUR)
    assert (state.status, state.ended_at, state.active) == (FINISHED, 9 * HOUR, False)


def test_a_rollout_that_is_halted_and_taken_back() -> None:
    state = begun(HALT)
    assert (state.status, state.halted, state.ended_at) == (HALTED, HALT, HOUR)
    state = fold(state, BACK, HOUR)
    assert (state.status, state.target, state.active) == (ROLLED_BACK, 6, False)


def test_pins_and_exclusions_outlast_rollouts() -> None:
    state = fold(None, DevicePinned("dev_1", 4, "mara"), 0)
    assert (state.status, state.plan, state.pins) == (NONE, None, {"dev_1": 4})
    state = fold(fold(state, DeviceExcluded("dev_2", True, "mara"), 1), STARTED, 2)
    again = RolloutStarted(replace(PLAN, rollout="rol_2"), "mara")
    for facts in (HALT, BACK, again):
        state = fold(state, facts, 3)
    assert (state.pins, state.excluded, state.status) == ({"dev_1": 4}, {"dev_2"}, RUNNING)
    assert state.halted is None and not state.target
    state = fold(fold(state, DevicePinned("dev_1", 0, "otto"), 4), DeviceExcluded("dev_2", False, "otto"), 4)
    assert (state.pins, state.excluded) == ({}, frozenset())


def test_what_others_write_changes_nothing() -> None:
    assert fold(begun(PAUSE), LogOpened("city/log", "k", "hub"), 9) == begun(PAUSE)


FINISHED_ONE = [*to_last(), FINISH]
WAYS: dict[str, tuple[list[Facts], list[Facts]]] = {
    "none": ([], [STARTED]),
    "running": ([STARTED], [to_last()[0], PAUSE, HALT, BACK]),
    "paused": ([STARTED, PAUSE], [RESUME, HALT, BACK]),
    "last": ([STARTED, *to_last()], [PAUSE, HALT, BACK, FINISH]),
    "halted": ([STARTED, HALT], [STARTED, BACK]),
    "rolled-back": ([STARTED, BACK], [STARTED]),
    "finished": ([STARTED, *FINISHED_ONE], [STARTED, BACK]),
}
ALL = [STARTED, *to_last(), PAUSE, RESUME, HALT, BACK, FINISH]


@pytest.mark.parametrize(("name", "facts"), list(itertools.product(WAYS, ALL)), ids=lambda part: type(part).__name__)
def test_nothing_else_may_follow(name: str, facts: Facts) -> None:
    before, allowed = WAYS[name]
    state: Rollout | None = None
    for one in before:
        state = fold(state, one, 0)
    if facts in allowed:
        assert fold(state, facts, 1) != state
    else:
        with pytest.raises(Conflict) as caught:
            fold(state, facts, 1)
        assert caught.value.code == "rollout.order"


@pytest.mark.parametrize(
    "facts",
    [
        RolloutAdvanced("rol_2", 1, "person", "mara"),
        RolloutAdvanced("rol_1", 0, "person", "mara"),
        RolloutAdvanced("rol_1", 2, "person", "mara"),
        RolloutRolledBack("rol_1", 7, "mara"),
        RolloutRolledBack("rol_1", 0, "mara"),
        DevicePinned("dev_1", -1, "mara"),
    ],
)
def test_what_names_something_else_is_refused(facts: Facts) -> None:
    with pytest.raises(Conflict, match="rollout.order"):
        fold(begun(), facts, 1)


def test_a_plan_is_checked_when_it_is_started() -> None:
    with pytest.raises(BadInput, match="rollout.plan"):
        fold(None, RolloutStarted(replace(PLAN, gates=[]), "mara"), 0)
