"""The numbers: what each entry adds, what labels may hold, and that any story can be counted."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from shared import entries as e
from shared.policy import DENY
from shared.telemetry import METRICS, Meter, gauges
from shared.telemetry.metrics import COUNTER, HISTOGRAM
from tests.shared import one_step as one
from tests.shared.stories import make, opened, plan, verdict
from tests.shared.telemetry.lives import Life, metered, observed, stories, value


def test_a_run_that_is_asked_about_and_done() -> None:
    life = Life()
    life.tell(opened())
    thought = msgspec.structs.replace(
        one.PLAN, latency_us=250_000, confidence=870, model="abcdef0123456789", cost_cents=3
    )
    life.tell(thought, one.ASK, msgspec.structs.replace(one.ASKED, expires_at=10**18), at=1)
    life.tell(one.YES, at=61)
    sent = msgspec.structs.replace(one.RESULT, attempts=3, latency_us=2_000_000)
    life.tell(one.AGAIN, one.APPROVED_INTENT, sent, one.SEEN, one.DONE, at=100)
    series = life.meter.series()
    expected = {
        ("outrider_runs_opened_total", 1),
        ("outrider_runs_closed_total", 1),
        ("outrider_run_duration_seconds", 100),
        ("outrider_plan_duration_seconds", 0.25),
        ("outrider_plan_confidence_ratio", 0.87),
        ("outrider_cost_cents_total", 3),
        ("outrider_verdicts_total", 2),
        ("outrider_approvals_asked_total", 1),
        ("outrider_approvals_answered_total", 1),
        ("outrider_approval_duration_seconds", 60),
        ("outrider_effects_total", 1),
        ("outrider_effect_attempts_total", 3),
        ("outrider_effect_duration_seconds", 2),
        ("outrider_troubles_total", 0),
    }
    assert {(name, value(series, name)) for name, _ in expected} == expected
    assert (
        value(series, "gen_ai_client_token_usage", gen_ai_token_type="input", gen_ai_request_model="abcdef012345") == 3
    )
    assert value(series, "gen_ai_client_token_usage", gen_ai_token_type="output") == 4
    assert value(series, "outrider_effects_total", tool="tool", outcome="done", how="sent") == 1


def test_time_in_approval_ends_with_the_answer_that_settles_it() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ASK, msgspec.structs.replace(one.ASKED_TWO, expires_at=10**18))
    life.tell(one.YES, at=10)
    assert observed(life.meter.series(), "outrider_approval_duration_seconds") == 0
    life.tell(one.also(one.YES, by="theo"), at=30)
    series = life.meter.series()
    assert observed(series, "outrider_approval_duration_seconds") == 1
    assert value(series, "outrider_approval_duration_seconds") == 30
    assert value(series, "outrider_approvals_answered_total", answer="approve") == 2


def test_a_question_that_is_void_is_counted_by_why() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ASK, one.ASKED, one.VOID)
    assert life.value("outrider_approvals_voided_total", code="approval.expired") == 1
    assert observed(life.meter.series(), "outrider_approval_duration_seconds") == 0


@pytest.mark.parametrize("planner", ["playbook", "undo", "assistant"])
def test_a_plan_that_nobody_thought_about_has_no_latency_or_confidence(planner: str) -> None:
    life = Life()
    life.tell(opened(), plan("first", "act", planner))
    series = life.meter.series()
    assert value(series, "outrider_plans_total", planner=planner) == 1
    assert observed(series, "outrider_plan_duration_seconds") == observed(series, "outrider_plan_confidence_ratio") == 0


def test_an_abstention_has_a_latency_and_no_confidence() -> None:
    life = Life()
    life.tell(opened(), one.NO_PLAN)
    series = life.meter.series()
    assert value(series, "outrider_plans_abstained_total", playbook="p") == 1
    assert observed(series, "outrider_plan_duration_seconds") == 1
    assert observed(series, "outrider_plan_confidence_ratio") == 0


def test_a_retried_run_lasts_from_its_retry() -> None:
    life = Life()
    life.tell(opened(), one.BROKE)
    life.tell(one.LOST, at=5)
    life.tell(one.order("retry"), at=1000)
    life.tell(*one.ACTED, one.DONE, at=1002)
    series = life.meter.series()
    assert (observed(series, "outrider_run_duration_seconds"), value(series, "outrider_run_duration_seconds")) == (2, 7)


def test_counters_are_what_the_entries_say() -> None:
    for story in stories(30):
        series = metered(story).series()
        types = Counter(entry.type for entry in story.entries)
        for name, kind in {
            "outrider_runs_opened_total": "run.opened",
            "outrider_runs_closed_total": "run.closed",
            "outrider_plans_total": "plan.made",
            "outrider_verdicts_total": "verdict.given",
            "outrider_approvals_asked_total": "approval.asked",
            "outrider_approvals_answered_total": "approval.answered",
            "outrider_approvals_covered_total": "approval.covered",
            "outrider_approvals_escalated_total": "approval.escalated",
            "outrider_approvals_voided_total": "approval.voided",
            "outrider_effects_total": "result.recorded",
            "outrider_effects_doubted_total": "intent.doubted",
        }.items():
            assert value(series, name) == types[kind], name
        held = sum(isinstance(x.facts, e.VerdictGiven) and x.facts.verdict == DENY for x in story.entries)
        assert value(series, "outrider_verdicts_total", verdict="deny") == held


def test_stories_bring_every_counter_and_histogram_about() -> None:
    found = {one.name for story in stories(150) for one in metered(story).series() if one.value}
    kinds = {name for name, metric in METRICS.items() if metric.kind in (COUNTER, HISTOGRAM)}
    assert kinds - found <= {"outrider_cost_cents_total"}  # planning on the device costs nothing yet


# --- labels -------------------------------------------------------------------------------------------------------


def test_values_beyond_the_bound_are_counted_as_other() -> None:
    meter = Meter()
    for n in range(200):
        life = Life()
        life.meter = meter
        life.tell(msgspec.structs.replace(opened(), playbook=f"book {n}"))
    series = [one for one in meter.series() if one.name == "outrider_runs_opened_total"]
    assert len(series) == 65
    assert value(series, "outrider_runs_opened_total", playbook="other") == 200 - 64
    assert sum(one.value for one in series) == 200


def test_combinations_are_bounded_too() -> None:
    meter, life = Meter(), Life()
    for tool in range(60):
        for book in range(60):
            run = life.tell(msgspec.structs.replace(opened(), playbook=f"b{book}"), run=f"r{tool}.{book}")
            assert run is not None
            facts = verdict("first", "act", "allow", ["r"])
            entry = make(msgspec.structs.replace(facts, tool=f"t{tool}"), 0, life.entries[-1].at, run.id)
            meter.take(entry, run)
    series = [one for one in meter.series() if one.name == "outrider_verdicts_total"]
    assert len(series) <= 1025
    assert sum(one.value for one in series) == 3600


def test_a_long_value_is_cut() -> None:
    life = Life()
    life.tell(msgspec.structs.replace(opened(), playbook="p" * 10_000))
    assert [one.labels for one in life.meter.series()] == [("p" * 64,)]


def test_labels_hold_no_ids_and_no_personal_text() -> None:
    """Nothing from an entry but what the release and closed lists name."""
    for story in stories(40):
        ids = {entry.run for entry in story.entries} | {getattr(entry.facts, "approval", "") for entry in story.entries}
        ids |= {getattr(entry.facts, name, "") for entry in story.entries for name in ("step", "key", "action", "by")}
        for one_series in metered(story).series():
            assert not (ids - {""}) & set(one_series.labels)


# --- gauges -------------------------------------------------------------------------------------------------------


def test_gauges_say_what_is_so_now() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ASK, one.ASKED, run="r1")
    life.tell(opened(), run="r2")
    life.tell(opened(), run="r3")
    now = gauges(life.device.runs.values(), failed=2, size=9, synced=4)
    series = life.meter.series(now)
    assert value(series, "outrider_runs_open", status="waiting") == 1
    assert value(series, "outrider_runs_open", status="opened") == 2
    assert value(series, "outrider_runs_failed") == 2
    assert value(series, "outrider_log_entries") == 9
    assert value(series, "outrider_log_unsynced_entries") == 5
    assert gauges([], failed=0, size=3, synced=7)["outrider_log_unsynced_entries",] == 0
