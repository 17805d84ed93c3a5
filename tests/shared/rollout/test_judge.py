"""Nobody goes on by little evidence, nobody is halted by little, and a bad candidate passes nothing."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from shared.facts import RolloutHalted, RolloutPaused
from shared.rollout import (
    PARTS,
    Advance,
    Finish,
    Halt,
    Outcomes,
    Rollout,
    Tally,
    Wait,
    bucket,
    fold,
    judge,
    part,
    readings,
    told_apart,
)
from tests.shared.rollout.plans import HOUR, PLAN, at_stage, begun, runs

LATER = 2 * HOUR


def outcomes(*looks: tuple[Tally, Tally]) -> Outcomes:
    found = Outcomes()
    for candidate, control in looks:
        found = found.taken(candidate, control)
    return found


GOOD = outcomes(*[(runs(2, answered=1), runs(20, answered=9))] * 200)
BAD = outcomes(*[(runs(2, 1), runs(20))] * 20)


def test_a_candidate_that_is_not_bad_goes_on() -> None:
    assert judge(begun(), GOOD, LATER) == Advance(1)
    assert judge(at_stage(2), GOOD, LATER) == Wait("runs", "not enough evidence: 400 of 500 runs")
    assert judge(at_stage(3), Outcomes(), LATER) == Finish()


def test_a_candidate_that_is_worse_is_halted_at_once_also_while_paused() -> None:
    for state in (begun(), begun(RolloutPaused("rol_1", "mara")), at_stage(2)):
        verdict = judge(state, BAD, 1)
        assert isinstance(verdict, Halt)
        assert (verdict.code, verdict.metric) == ("rollout.worse", "failures")
        assert verdict.evidence_permille >= 1000 and "20 of 40 runs, 0 of 400" in verdict.why


def test_a_stage_lasts_its_time_and_has_its_runs() -> None:
    early = judge(begun(), GOOD, HOUR - 60_000_001)
    assert early == Wait("hold", "this stage lasts 2 more minutes") and not early.is_for_a_person
    few = judge(begun(), outcomes((runs(12), runs(90))), LATER)
    assert few == Wait("runs", "not enough evidence: 12 of 50 runs") and few.is_for_a_person
    assert judge(begun(RolloutPaused("rol_1", "mara")), GOOD, LATER) == Wait("paused", "it is paused")
    assert judge(at_stage(3), Outcomes(), HOUR - 1).code == "hold"  # type: ignore[union-attr]  # a wait


@pytest.mark.parametrize("state", [Rollout(), begun(RolloutHalted("rol_1", "person", "", 0, "mara"))])
def test_what_is_over_is_not_judged(state: Rollout) -> None:
    assert judge(state, BAD, LATER) == Wait("none", "no rollout is under way")


def test_many_runs_that_prove_nothing_wait_for_a_person() -> None:
    """Somewhat worse: too little to halt, too much to rule out. A gate without a single case holds up no other."""
    verdict = judge(begun(), outcomes((runs(60, 4), runs(600, 12))), LATER)
    assert isinstance(verdict, Wait)
    assert verdict.code == "evidence" and verdict.is_for_a_person and "failures" in verdict.why
    few = judge(begun(), outcomes(*[(runs(2), runs(20))] * 200, (runs(1, answered=3), runs(1, answered=9))), LATER)
    assert isinstance(few, Wait) and "overridden" in few.why
    assert judge(begun(), outcomes(*[(runs(2), runs(20))] * 200), LATER) == Advance(1)  # nobody was asked at all


def test_without_a_control_nothing_is_known() -> None:
    verdict = judge(begun(), outcomes(*[(runs(2, 2), Tally())] * 100), LATER)
    assert isinstance(verdict, Wait) and verdict.code == "evidence"


def test_what_was_once_proved_stays_proved() -> None:
    later = BAD
    for _ in range(300):
        later = later.taken(runs(2), runs(20))
    assert isinstance(judge(begun(), later, 1), Halt)


def test_readings_are_for_people() -> None:
    failures, overridden = readings(PLAN, BAD)
    assert (failures.worse, failures.runs, failures.control_worse, failures.control_runs) == (20, 40, 0, 400)
    assert failures.halt_permille >= 1000 > failures.pass_permille and failures.halt_permille in failures.path
    assert overridden.is_silent and (overridden.halt_permille, overridden.pass_permille, overridden.path) == (0, 0, [])


def in_parts(*looks: tuple[list[Tally], Tally]) -> Outcomes:
    """The first parts' runs with the candidate, the others have none."""
    found = Outcomes()
    for candidate, control in looks:
        found = found.taken_in_parts([*candidate, *[Tally()] * (PARTS - len(candidate))], control)
    return found


def test_one_device_halts_nothing_and_lets_nothing_pass() -> None:
    """A broken one among healthy ones; and a busy one with which all goes well, among some with which a fifth fails."""
    broken = in_parts(*[([runs(9, 9), runs(2), runs(2)], runs(60))] * 30)
    whole = msgspec.structs.replace(broken, without=[])
    assert isinstance(judge(begun(), whole, 1), Halt)
    verdict = judge(begun(), broken, LATER)
    assert isinstance(verdict, Wait) and verdict.code == "evidence" and verdict.is_for_a_person
    assert readings(PLAN, broken)[0].halt_permille < 1000

    lucky = in_parts(*[([runs(90), runs(2, 1 if look % 3 else 0), runs(2)], runs(60)) for look in range(30)])
    assert judge(begun(), msgspec.structs.replace(lucky, without=[]), LATER) == Advance(1)
    verdict = judge(begun(), lucky, LATER)
    assert isinstance(verdict, Wait) and verdict.code == "evidence" and "failures" in verdict.why

    bad = in_parts(*[([runs(1, 1)] * PARTS, runs(60))] * 5)
    assert isinstance(judge(begun(), bad, 1), Halt)


def test_devices_are_told_apart_where_there_are_enough_of_them() -> None:
    found = in_parts(([runs(1)], runs(1)))
    names = [f"dev-{number}" for number in range(2_000)]
    taking = [name for name in names if bucket(PLAN.salt, name) < 100]
    assert told_apart(begun(), found, names) == found
    assert told_apart(begun(), found, [name for name in names if name not in taking]).without == []
    assert told_apart(begun(), found, taking[:2]).without == []
    assert {part(PLAN.salt, name) for name in taking} <= set(range(PARTS))


def judged(seed: int, share: float) -> tuple[str, int]:
    """What comes of a stage whose runs fail so often, of the control's two in a hundred, seen after every few runs."""
    chance = np.random.default_rng(seed)
    state, found = begun(), Outcomes()
    for look in range(1, 400):
        candidate, control = runs(3, int(chance.binomial(3, share))), runs(60, int(chance.binomial(60, 0.02)))
        found = found.taken(candidate, control)
        verdict = judge(state, found, look * HOUR // 30)
        if not isinstance(verdict, Wait):
            return type(verdict).__name__, look
    return "Wait", 400


def test_a_bad_candidate_is_halted_and_a_good_one_goes_on() -> None:
    bad = [judged(seed, 0.2) for seed in range(40)]
    good = [judged(seed, 0.02) for seed in range(40)]
    assert {what for what, _ in bad} == {"Halt"} and {what for what, _ in good} == {"Advance"}
    assert sorted(look for _, look in bad)[20] < 30
    assert fold(begun(), RolloutHalted("rol_1", "rollout.worse", "failures", 1_000, "hub"), 1).halted is not None
