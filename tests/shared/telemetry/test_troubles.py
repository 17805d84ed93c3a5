"""Time to recovery: what begins a trouble, what ends it, and how."""

from __future__ import annotations

import pytest

from shared import entries as e
from shared.telemetry import Meter
from tests.shared import one_step as one
from tests.shared.stories import START, make, opened
from tests.shared.telemetry.lives import Life, metered, observed, stories, value

RECOVERY = "outrider_recovery_duration_seconds"


def lasted(life: Life, trouble: str, end: str = "recovered") -> tuple[int, float]:
    series = life.meter.series()
    labels = {"trouble": trouble, "end": end}
    return observed(series, RECOVERY, **labels), value(series, RECOVERY, **labels)


def began(life: Life, trouble: str) -> float:
    return life.value("outrider_troubles_total", trouble=trouble)


def test_a_failure_lasts_until_it_is_retried() -> None:
    life = Life()
    life.tell(opened(), one.BROKE)
    life.tell(one.LOST, at=10)
    assert (began(life, "failure"), lasted(life, "failure")) == (1, (0, 0))
    life.tell(one.order("retry"), at=70)
    assert lasted(life, "failure") == (1, 60)
    life.tell(one.BROKE, one.LOST, at=80)
    assert (began(life, "failure"), lasted(life, "failure")) == (2, (1, 60))


def test_a_failure_that_is_dismissed_was_given_up() -> None:
    life = Life()
    life.tell(opened(), one.BROKE, one.LOST)
    life.tell(one.order("dismiss"), at=9)
    assert lasted(life, "failure", "given-up") == (1, 9)
    assert lasted(life, "failure") == (0, 0)


@pytest.mark.parametrize(
    "settled", [one.RESULT, one.order("happened", step="first"), one.order("not-happened", step="first")]
)
def test_a_doubt_lasts_until_it_is_settled(settled: e.Facts) -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ALLOW, one.INTENT)
    life.tell(one.DOUBT, at=5)
    life.tell(one.order("pause", "o2"), at=6)
    assert lasted(life, "doubt") == (0, 0)
    life.tell(settled, at=25)
    assert (began(life, "doubt"), lasted(life, "doubt")) == (1, (1, 20))


def test_a_hold_lasts_until_the_host_lets_go() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.HELD, at=1)
    life.tell(one.also(one.HELD, rules=["host:lease-spent"]), at=5)  # held by something else: the same hold
    life.tell(one.ALLOW, at=31)
    assert (began(life, "hold"), lasted(life, "hold")) == (1, (1, 30))


@pytest.mark.parametrize("end", [e.StepFailed("first", "step.timeout"), one.order("cancel")])
def test_a_hold_that_is_dropped_was_given_up(end: e.Facts) -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.HELD)
    life.tell(end, at=3)
    assert lasted(life, "hold", "given-up") == (1, 3)
    assert lasted(life, "hold") == (0, 0)


def test_what_is_left_to_a_person_lasts_until_they_have_handled_it() -> None:
    life = Life()
    life.tell(opened(), *one.ACTED, one.BROKE, one.BACK)
    life.tell(one.LEFT, at=100)
    assert (began(life, "operator"), lasted(life, "operator")) == (1, (0, 0))
    life.tell(one.order("handled", step="~first"), at=160)
    assert lasted(life, "operator") == (1, 60)
    life.tell(one.LOST, at=161)
    assert (began(life, "failure"), lasted(life, "operator")) == (1, (1, 60))


def test_each_trouble_of_a_story_ends_once() -> None:
    kinds = set()
    for story in stories(70):
        meter = metered(story)
        series = meter.series()
        for kind in ("failure", "doubt", "hold", "operator"):
            began_, ended = (
                value(series, "outrider_troubles_total", trouble=kind),
                observed(series, RECOVERY, trouble=kind),
            )
            runs = [*story.device.runs.values(), *story.device.failed.values()]
            status = {"doubt": "doubted", "hold": "held", "operator": "left"}.get(kind)
            if status:
                now = sum(step.status == status for run in runs for step in run.steps.values())
            else:
                now = len(story.device.failed)
            unjudged = sum(step.status == "planned" for run in runs for step in run.steps.values())
            assert now <= began_ - ended <= now + (unjudged if kind == "hold" else 0), (kind, began_, ended, now)
            if ended:
                kinds.add(kind)
    assert kinds == {"failure", "doubt", "hold", "operator"}


# --- after a restart ----------------------------------------------------------------------------------------------


def test_troubles_from_before_a_restart_are_known_and_not_counted_again() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.HELD, at=10)
    life.tell(opened(), one.BROKE, one.LOST, at=20, run="r2")
    life.meter = Meter()
    life.meter.resume(life.of())
    life.meter.resume_failure("r2", life.device.failed["r2"].closed_at)
    assert life.meter.series() == []
    life.tell(one.ALLOW, at=110)
    life.tell(one.order("retry"), at=220, run="r2")
    assert (lasted(life, "hold"), lasted(life, "failure")) == ((1, 100), (1, 200))
    assert began(life, "hold") == began(life, "failure") == 0


def test_runs_of_the_same_name_on_two_devices_are_two() -> None:
    one_device, other = Life(), Life()
    other.meter = one_device.meter
    for life, name in ((one_device, "a"), (other, "b")):
        for n, facts in enumerate([opened(), one.BROKE, one.LOST]):
            entry = make(facts, n, START + n, "run_1")
            one_device.meter.take(entry, life.device.fold(entry), name)
    assert began(one_device, "failure") == 2


def test_only_so_many_troubled_runs_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.telemetry.troubles._RUNS", 3)
    life = Life()
    for n in range(5):
        life.tell(opened(), one.BROKE, one.LOST, run=f"r{n}")
    for n in range(5):
        life.tell(one.order("retry"), at=50, run=f"r{n}")
    assert (began(life, "failure"), lasted(life, "failure")) == (5, (3, 150))
