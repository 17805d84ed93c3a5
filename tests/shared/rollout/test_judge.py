"""Nobody goes on by little evidence, nobody is halted by little, and a bad candidate passes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from shared.facts import RolloutHalted, RolloutPaused
from shared.rollout import Advance, Finish, Halt, Outcomes, Rollout, Tally, Wait, fold, judge, readings
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
