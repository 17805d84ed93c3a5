"""Which release each device runs: whatever is paused, killed or offline, those of one cohort end up with the same."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from shared.errors import Conflict
from shared.facts import (
    DeviceExcluded,
    DevicePinned,
    Facts,
    RolloutAdvanced,
    RolloutFinished,
    RolloutHalted,
    RolloutPaused,
    RolloutResumed,
    RolloutRolledBack,
    RolloutStarted,
)
from shared.rollout import Rollout, assigned, bucket, fold, in_candidate
from tests.shared.rollout.plans import PLAN, begun

NAMES = [f"dev_{number}" for number in range(300)]
ADVANCE = RolloutAdvanced("rol_1", 1, "evidence", "hub")
HALT, BACK = RolloutHalted("rol_1", "rollout.worse", "failures", 1_000, "hub"), RolloutRolledBack("rol_1", 5, "hub")
TO_END = [RolloutAdvanced("rol_1", stage, "person", "mara") for stage in (1, 2, 3)]


def given(state: Rollout | None, current: int = 6) -> dict[str, int]:
    return {name: assigned(state, current, name) for name in NAMES}


def first(share: int) -> set[str]:
    return {name for name in NAMES if bucket(PLAN.salt, name) < share * 10}


def with_candidate(state: Rollout, current: int = 6) -> set[str]:
    found = {name for name, release in given(state, current).items() if release == 7}
    assert set(given(state, current).values()) <= {6, 7}
    return found


def test_without_a_rollout_everybody_runs_the_current_release() -> None:
    assert set(given(None).values()) == {6}
    assert set(given(fold(None, DeviceExcluded("dev_1", True, "mara"), 0)).values()) == {6}


def test_stages_grow() -> None:
    assert with_candidate(begun()) == first(10)
    assert with_candidate(begun(ADVANCE)) == first(100) > first(10)
    assert with_candidate(begun(ADVANCE, RolloutPaused("rol_1", "mara"))) == first(100)
    assert with_candidate(begun(*TO_END)) == set(NAMES)


def test_a_halt_takes_the_candidate_back_at_once() -> None:
    assert set(given(begun(ADVANCE, HALT)).values()) == {6}
    assert set(given(begun(ADVANCE, HALT, BACK)).values()) == {5}
    assert set(given(begun(ADVANCE, BACK), current=7).values()) == {5}  # also where it was published for everybody


def test_what_was_published_for_everybody_later_counts_when_the_rollout_is_over() -> None:
    assert set(given(begun(ADVANCE), current=8).values()) == {6, 7}
    for over in ([HALT], [HALT, BACK], [*TO_END, RolloutFinished("rol_1", "hub")]):
        assert set(given(begun(*over), current=8).values()) == {8}


def test_pinned_and_excluded_devices_stay_apart() -> None:
    one, other = sorted(first(100))[:2]
    apart: list[Facts] = [DevicePinned(one, 4, "mara"), DeviceExcluded(other, True, "mara")]
    state = begun(*TO_END, *apart)
    assert (given(state)[one], given(state)[other]) == (4, 6)
    assert not in_candidate(state, one) and not in_candidate(state, other)
    state = fold(state, RolloutFinished("rol_1", "hub"), 99)
    assert (given(state)[one], given(state)[other]) == (4, 7)


class Hub(RuleBasedStateMachine):
    """A hub that is paused, killed and asked for anything at any time, and devices that come and go. The log is all
    that a kill leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[bytes] = []
        self.state: Rollout | None = None
        self.current, self.newest, self.number = 1, 1, 0
        self.devices = [f"dev_{number}" for number in range(40)]
        self.running = dict.fromkeys(self.devices, 1)
        self.online = set(self.devices)
        self.published = {1}

    def write(self, facts: Facts) -> None:
        try:
            state = fold(self.state, facts, len(self.log))
        except Conflict:
            return  # as a person is told; nothing is written
        self.log.append(msgspec.msgpack.encode((KINDS.index(type(facts)), facts)))
        self.state = state
        self.push()

    def push(self) -> None:
        for name in self.online:
            self.running[name] = assigned(self.state, self.current, name)

    @rule(everybody=st.booleans(), shares=st.sampled_from([[10, 1000], [100, 500, 1000], [500, 1000]]))
    def publish(self, everybody: bool, shares: list[int]) -> None:
        self.newest += 1
        self.published.add(self.newest)
        if everybody:
            self.current = self.newest
            self.push()
            return
        self.number += 1
        stages = [replace(PLAN.stages[0], permille=share) for share in shares]
        control = assigned(self.state, self.current, "nobody")
        plan = replace(PLAN, rollout=f"rol_{self.number}", release=self.newest, control=control, stages=stages)
        self.write(RolloutStarted(replace(plan, salt=f"{self.number:x}"), "mara"))

    @precondition(lambda self: self.state is not None and self.state.plan is not None)
    @rule(act=st.sampled_from(["advance", "pause", "resume", "halt", "back", "finish"]))
    def act(self, act: str) -> None:
        assert self.state is not None and self.state.plan is not None
        name, control = self.state.plan.rollout, self.state.plan.control
        facts: dict[str, Facts] = {
            "advance": RolloutAdvanced(name, self.state.stage + 1, "person", "mara"),
            "pause": RolloutPaused(name, "mara"),
            "resume": RolloutResumed(name, "mara"),
            "halt": RolloutHalted(name, "rollout.worse", "failures", 1_000, "hub"),
            "back": RolloutRolledBack(name, control, "mara"),
            "finish": RolloutFinished(name, "hub"),
        }
        self.write(facts[act])

    @rule(number=st.integers(0, 39), pin=st.booleans(), on=st.booleans())
    def keep_apart(self, number: int, pin: bool, on: bool) -> None:
        device = self.devices[number]
        self.write(DevicePinned(device, int(on), "mara") if pin else DeviceExcluded(device, on, "mara"))

    @rule(numbers=st.sets(st.integers(0, 39), max_size=20))
    def go_offline(self, numbers: set[int]) -> None:
        self.online -= {self.devices[number] for number in numbers}

    @rule(numbers=st.sets(st.integers(0, 39), max_size=20))
    def come_back(self, numbers: set[int]) -> None:
        self.online |= {self.devices[number] for number in numbers}
        self.push()

    @rule()
    def kill_the_hub(self) -> None:
        self.state = None
        for at, data in enumerate(self.log):
            kind, facts = msgspec.msgpack.decode(data)
            self.state = fold(self.state, msgspec.convert(facts, KINDS[kind]), at)
        self.push()

    @invariant()
    def nobody_runs_what_was_never_published(self) -> None:
        assert set(self.running.values()) <= self.published

    @invariant()
    def those_of_a_cohort_run_the_same_once_they_have_synced(self) -> None:
        cohorts: dict[tuple[object, ...], set[int]] = {}
        state = self.state or Rollout()
        for name in self.online:
            inside = state.plan is not None and in_candidate(state, name)
            cohort = (state.pins.get(name), name in state.excluded, inside)
            cohorts.setdefault(cohort, set()).add(self.running[name])
        assert all(len(releases) == 1 for releases in cohorts.values())

    def teardown(self) -> None:
        self.online = set(self.devices)
        self.push()
        self.those_of_a_cohort_run_the_same_once_they_have_synced()


KINDS: list[type[Facts]] = [
    RolloutStarted, RolloutAdvanced, RolloutPaused, RolloutResumed, RolloutHalted, RolloutRolledBack, RolloutFinished,
    DevicePinned, DeviceExcluded,
]  # fmt: skip
TestHub = Hub.TestCase
TestHub.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
