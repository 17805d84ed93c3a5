"""The state of a rollout, as a pure fold over the hub's own log.

    running ⇄ paused ──→ halted ──→ rolled-back
       │         └──────────────────────↑
       └─ last stage ──→ finished ──────┘

One rollout at a time. Pins and exclusions belong to devices, not to rollouts, and outlast them.
"""

from __future__ import annotations

import msgspec
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
from shared.facts.rollouts import Plan, Stage
from shared.rollout.plan import checked

NONE, RUNNING, PAUSED, HALTED, ROLLED_BACK, FINISHED = "none", "running", "paused", "halted", "rolled-back", "finished"
OF_ROLLOUTS = (
    RolloutStarted,
    RolloutAdvanced,
    RolloutPaused,
    RolloutResumed,
    RolloutHalted,
    RolloutRolledBack,
    RolloutFinished,
    DevicePinned,
    DeviceExcluded,
)
_MAY_FOLLOW: dict[type[Facts], tuple[str, ...]] = {
    RolloutAdvanced: (RUNNING,),
    RolloutPaused: (RUNNING,),
    RolloutResumed: (PAUSED,),
    RolloutHalted: (RUNNING, PAUSED),
    RolloutRolledBack: (RUNNING, PAUSED, HALTED, FINISHED),
    RolloutFinished: (RUNNING,),
}


class Rollout(msgspec.Struct, frozen=True):
    """The newest rollout, if there ever was one, and what devices are kept apart. Times are those of the entries:
    ``began_at`` of the rollout, ``stage_at`` of its present stage, ``ended_at`` of its end, 0 before."""

    plan: Plan | None = None
    status: str = NONE
    stage: int = 0
    began_at: int = 0
    stage_at: int = 0
    ended_at: int = 0
    started_by: str = ""
    halted: RolloutHalted | None = None
    target: int = 0  # of a rollback
    pins: dict[str, int] = {}
    excluded: frozenset[str] = frozenset()

    @property
    def active(self) -> bool:
        return self.status in (RUNNING, PAUSED)

    @property
    def now(self) -> Stage:
        """The present stage. Only where there is a plan."""
        assert self.plan is not None
        return self.plan.stages[self.stage]

    @property
    def is_last(self) -> bool:
        return self.plan is not None and self.stage == len(self.plan.stages) - 1


def fold(state: Rollout | None, facts: Facts, at: int) -> Rollout:
    """One entry of the hub's log further; ``at`` is its time. Facts of other things change nothing. Raises
    ``Conflict('rollout.order')`` on what cannot follow, and ``BadInput('rollout.plan')``."""
    state = state or Rollout()
    match facts:
        case RolloutStarted():
            return _started(state, facts, at)
        case DevicePinned():
            pins = {name: release for name, release in state.pins.items() if name != facts.device}
            if facts.release < 0:
                raise _out_of_order(facts, "no release has such a number")
            return replace(state, pins=pins | ({facts.device: facts.release} if facts.release else {}))
        case DeviceExcluded():
            others = state.excluded - {facts.device}
            return replace(state, excluded=others | {facts.device} if facts.on else others)
        case (
            RolloutAdvanced() | RolloutPaused() | RolloutResumed() | RolloutHalted() | RolloutRolledBack()
            | RolloutFinished()
        ):  # fmt: skip
            return _moved(state, facts, at)
    return state


def _started(state: Rollout, facts: RolloutStarted, at: int) -> Rollout:
    if state.active:
        raise _out_of_order(facts, "another rollout is under way")
    return Rollout(
        plan=checked(facts.plan),
        status=RUNNING,
        began_at=at,
        stage_at=at,
        started_by=facts.by,
        pins=state.pins,
        excluded=state.excluded,
    )


def _moved(
    state: Rollout,
    facts: RolloutAdvanced | RolloutPaused | RolloutResumed | RolloutHalted | RolloutRolledBack | RolloutFinished,
    at: int,
) -> Rollout:
    if state.plan is None or facts.rollout != state.plan.rollout:
        raise _out_of_order(facts, "that rollout is not the newest one")
    if state.status not in _MAY_FOLLOW[type(facts)]:
        raise _out_of_order(facts, f"the rollout is {state.status}")
    match facts:
        case RolloutAdvanced(stage=stage):
            if state.is_last or stage != state.stage + 1:
                raise _out_of_order(facts, f"stage {stage} does not come after stage {state.stage}")
            return replace(state, stage=stage, stage_at=at)
        case RolloutPaused():
            return replace(state, status=PAUSED)
        case RolloutResumed():
            return replace(state, status=RUNNING)
        case RolloutHalted():
            return replace(state, status=HALTED, halted=facts, ended_at=at)
        case RolloutRolledBack(target=target):
            if target < 1 or target == state.plan.release:
                raise _out_of_order(facts, f"release {target} is no way back")
            return replace(state, status=ROLLED_BACK, target=target, ended_at=at)
        case RolloutFinished():
            if not state.is_last:
                raise _out_of_order(facts, "the last stage is not reached")
            return replace(state, status=FINISHED, ended_at=at)


def _out_of_order(facts: Facts, why: str) -> Conflict:
    return Conflict("rollout.order", f"{type(facts).__name__}: {why}", advice="look at the rollout again")
