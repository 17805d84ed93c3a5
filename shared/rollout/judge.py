"""What is to be done with a rollout now: go on, wait, halt or finish. Pure: state, evidence and time in, verdict out.

In this order: a gate that is broken halts, paused or not. Then nobody goes on before the stage has lasted its time, has
its runs, and every gate has ruled out that the candidate is bad. Little evidence never goes on by itself: a person may.
The last stage has no control to compare with; it lasts its time.

No single device decides: what the evidence says it has to say without the devices of any one part too, if with half
of its weight. Where the candidate's devices are too few to be told apart, all of them are judged together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from shared.facts.rollouts import Gate, Metric, Plan
from shared.rollout.assign import in_candidate
from shared.rollout.cohort import part
from shared.rollout.evidence import against_bad, against_fine
from shared.rollout.fold import PAUSED, Rollout
from shared.rollout.outcomes import Outcomes
from shared.rollout.plan import ALL

_SECOND_US = 1_000_000
_LEAST_PARTS = 3  # with candidate's devices in fewer, one of them could keep a halt from all others
WORSE = "rollout.worse"  # the code of a halt by evidence


class Wait(msgspec.Struct, frozen=True):
    """``code`` is ``none``, ``paused``, ``hold``, ``runs`` or ``evidence``. With the last two a person may go on."""

    code: str
    why: str

    @property
    def is_for_a_person(self) -> bool:
        return self.code in ("runs", "evidence")


class Advance(msgspec.Struct, frozen=True):
    stage: int


class Halt(msgspec.Struct, frozen=True):
    code: str
    metric: Metric
    evidence_permille: int
    why: str


class Finish(msgspec.Struct, frozen=True):
    pass


Verdict = Wait | Advance | Halt | Finish


class Reading(msgspec.Struct, frozen=True):
    """One gate, for people: ``worse`` of ``runs`` with the candidate and with the control; how far the evidence has
    come on the way to a halt and to letting it pass, in permille of what is needed, both of the whole until that is
    enough, then of what is least without some part; and ``path``, the first of the two of the whole, by block."""

    gate: Gate
    worse: int
    runs: int
    control_worse: int
    control_runs: int
    halt_permille: int
    pass_permille: int
    path: list[int]

    @property
    def is_silent(self) -> bool:
        """There is nothing it could measure, in either arm."""
        return self.runs == 0 and self.control_runs == 0


def told_apart(state: Rollout, outcomes: Outcomes, devices: Iterable[str]) -> Outcomes:
    """``outcomes`` as they are to be judged in a fleet of these devices: without its parts where the candidate's
    devices are in fewer than three of them."""
    assert state.plan is not None
    parts = set()
    for device in devices:
        if in_candidate(state, device):
            parts.add(part(state.plan.salt, device))
            if len(parts) == _LEAST_PARTS:
                return outcomes
    return msgspec.structs.replace(outcomes, without=[])


def readings(plan: Plan, outcomes: Outcomes) -> list[Reading]:
    """What each gate has to say of the present stage."""
    return [_read(plan, gate, outcomes) for gate in plan.gates]


def judge(state: Rollout, outcomes: Outcomes, now: int) -> Verdict:
    """``outcomes`` are those of the present stage, ``now`` microseconds since 1970 UTC."""
    if state.plan is None or not state.active:
        return Wait("none", "no rollout is under way")
    read = [] if state.is_last else readings(state.plan, outcomes)
    broken = max(read, key=lambda one: one.halt_permille, default=None)
    if broken is not None and broken.halt_permille >= ALL:
        return Halt(WORSE, broken.gate.metric, broken.halt_permille, _told(broken))
    if state.status == PAUSED:
        return Wait("paused", "it is paused")
    left = state.stage_at + state.now.hold_s * _SECOND_US - now
    if left > 0:
        return Wait("hold", f"this stage lasts {-(-left // (60 * _SECOND_US))} more minutes")
    if outcomes.runs < state.now.least_runs:
        return Wait("runs", f"not enough evidence: {outcomes.runs} of {state.now.least_runs} runs")
    for one in read:
        if one.pass_permille < ALL and not one.is_silent:
            return Wait("evidence", f"not enough evidence: {one.gate.metric} at {one.pass_permille} of 1000")
    return Finish() if state.is_last else Advance(state.stage + 1)


def _read(plan: Plan, gate: Gate, outcomes: Outcomes) -> Reading:
    total = outcomes.total(gate.metric)
    path = _to_halt(plan, gate, outcomes)
    halt, passed = _furthest(path), _to_pass(plan, gate, outcomes)
    # Chance is held off by the whole. Without a part it is to be said again, though not as loud: half the way will do.
    if halt >= ALL:
        halt = min([halt, *(2 * _furthest(_to_halt(plan, gate, one)) for one in outcomes.without)])
    if passed >= ALL:
        passed = min([passed, *(2 * _to_pass(plan, gate, one) for one in outcomes.without)])
    return Reading(
        gate=gate,
        worse=total.worse,
        runs=total.runs,
        control_worse=total.control_worse,
        control_runs=total.control_runs,
        halt_permille=halt,
        pass_permille=passed,
        path=path,
    )


def _furthest(path: list[int]) -> int:
    """Where a way has led: once its end is reached, the test is over."""
    return next((one for one in path if one >= ALL), path[-1] if path else 0)


def _to_halt(plan: Plan, gate: Gate, outcomes: Outcomes) -> list[int]:
    """How far it is on the way to a halt, after each block."""
    compared = max(1, sum(stage.permille < ALL for stage in plan.stages))
    # The chance of a false halt is shared by all gates and stages. A bad candidate has to pass each gate of each stage.
    needed = math.log(ALL * len(plan.gates) * compared / plan.alpha_permille)
    fine = against_fine(outcomes.complete(gate.metric), gate.worse_permille / ALL)
    return [_permille(log, needed) for log in fine]


def _to_pass(plan: Plan, gate: Gate, outcomes: Outcomes) -> int:
    bad = against_bad(outcomes.complete(gate.metric), gate.bad_permille / ALL, gate.worse_permille / ALL)
    return _permille(max(bad, default=0.0), math.log(ALL / plan.beta_permille))


def _permille(log: float, needed: float) -> int:
    return max(0, math.floor(ALL * log / needed))


def _told(one: Reading) -> str:
    return (
        f"{one.gate.metric}: {one.worse} of {one.runs} runs, {one.control_worse} of {one.control_runs} with the control"
    )
