"""What a run is after each of the ways it may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared import entries as e
from shared.errors import Tampered
from shared.runs import Device, Run, fold
from tests.shared import examples
from tests.shared.one_step import (
    ACTED,
    AGAIN,
    ALLOW,
    APPROVED_INTENT,
    ASK,
    ASKED,
    ASKED_TWO,
    BACK,
    BROKE,
    CORRECT,
    DENY,
    DONE,
    DOUBT,
    ESCALATED,
    FAILED,
    HELD,
    INTENT,
    LEFT,
    LOST,
    NO,
    NO_PLAN,
    PLAN,
    RESULT,
    SEEN,
    UNSEEN,
    VOID,
    YES,
    after,
    also,
    order,
    then,
)
from tests.shared.stories import START, make, plan, verdict

TIMER = e.StepEntered("rest", "time", START + 100, 0, "")
KID = e.StepEntered("kid", "run", 0, 0, "run_kid")
GROUP = e.StepEntered("all", "each", 0, 3, "")
UNDO_PLAN = plan("~first", "back", "undo")
UNDO_ALLOW = verdict("~first", "back", "allow", ["r"])
UNDO_INTENT = e.IntentRecorded("~first", "back", "tool", "key2", "")
UNDO_RESULT = e.ResultRecorded("~first", "key2", "done", "", "sent", 1, 1)
UNDONE = [UNDO_PLAN, UNDO_ALLOW, UNDO_INTENT, UNDO_RESULT, e.EffectObserved("~first", "key2", True)]
WAITS = [PLAN, ASK, ASKED]
OTHER_WAITS = [also(PLAN, step="zero"), also(ASK, step="zero")]

# --- what may follow, and what the run is then --------------------------------------------------------------------


def test_an_answer_in_its_last_microsecond() -> None:
    run = after(*WAITS)
    assert then(run, YES, later=1000).status == "approved"
    with pytest.raises(Tampered):
        then(run, YES, later=1001)


def test_a_held_step_goes_on_as_what_it_was() -> None:
    run = after(*WAITS, YES, also(AGAIN, verdict="deny", rules=["host:clock"]), AGAIN)
    assert run.status == "approved" and then(run, APPROVED_INTENT).status == "intended"
    run = after(PLAN, HELD, ALLOW)
    assert run.status == "judged" and then(run, INTENT).status == "intended"


def test_a_correction_dies_with_its_approval() -> None:
    step = after(*WAITS, CORRECT).steps["first"]
    assert (step.action, step.corrected_seq, step.granted) == ("other", 4, "app")
    step = after(*WAITS, CORRECT, VOID).steps["first"]
    assert (step.action, step.corrected_seq, step.status, step.granted) == ("act", -1, "planned", "")


def test_two_people_and_then_the_act() -> None:
    run = after(PLAN, ASK, ASKED_TWO, YES)
    assert run.status == "waiting" and run.steps["first"].approvers == ["mara"]
    run = after(PLAN, ASK, ASKED_TWO, YES, also(YES, by="otto"))
    assert run.status == "approved" and run.steps["first"].approvers == ["mara", "otto"]
    run = after(PLAN, ASK, ASKED_TWO, YES, also(NO, by="otto"))
    assert run.steps["first"].end == ("declined", "approval.denied")


def test_escalation_asks_more_people_and_keeps_those_asked_before() -> None:
    run = after(*WAITS, also(ESCALATED, roles=["mayor", "clerk"]))
    assert run.steps["first"].roles == ["clerk", "mayor"] and run.steps["first"].level == 1


@pytest.mark.parametrize(
    ("facts", "outcome", "code"),
    [
        ([NO_PLAN], "referred", "unsure"),
        ([PLAN, DENY], "denied", "r"),
        ([PLAN, also(DENY, rules=[])], "denied", ""),
        ([*WAITS, NO], "declined", "approval.denied"),
        ([PLAN, ALLOW, INTENT, FAILED], "failed", "tool.no"),
        ([PLAN, ALLOW, INTENT, RESULT, UNSEEN], "failed", "effect.mismatch"),
        (ACTED, "done", ""),
        ([e.StepSkipped("first")], "done", ""),
        ([also(BROKE, step="first")], "failed", "expression.failed"),
        ([also(KID, step="first"), e.StepEnded("first", "done")], "done", ""),
        ([also(KID, step="first"), e.StepEnded("first", "denied")], "failed", "child.denied"),
    ],
)
def test_how_a_step_ends(facts: list[e.Facts], outcome: str, code: str) -> None:
    assert after(*facts).steps["first"].end == (outcome, code)


@pytest.mark.parametrize("facts", [[PLAN], [PLAN, ALLOW], [PLAN, HELD], WAITS, [*WAITS, YES], [PLAN, ALLOW, INTENT]])
def test_how_a_step_does_not_end(facts: list[e.Facts]) -> None:
    assert after(*facts).steps["first"].end is None


def test_the_first_versions_fold_as_what_they_meant() -> None:
    """Logs of before the second versions of these types stand for ever."""
    v1 = examples.example(e.RunOpenedV1)
    run = fold(None, make(v1, 0, START))
    assert (run.opened.playbook, run.opened.parent, run.opened.dry_run) == ("permit-triage", "", False)
    asked = e.ApprovalAskedV1("first", "app", "act", ["clerk"], START + 1000)
    answer = e.ApprovalAnsweredV1("first", "app", "act", "approve", "", "mara")
    step = after(PLAN, ASK, asked).steps["first"]
    assert step.approval is not None and (step.approval.needed, step.approval.local) == (1, False)
    assert after(PLAN, ASK, asked, answer, AGAIN, APPROVED_INTENT).steps["first"].status == "intended"


STORIES_V1 = json.loads((Path(__file__).parents[2] / "vectors" / "runs-1.json").read_text("utf-8"))


@pytest.mark.parametrize("story", STORIES_V1, ids=lambda story: story["outcome"] or story["status"])
def test_logs_that_the_first_version_wrote_still_fold(story: dict[str, Any]) -> None:
    """Bytes that its own tests wrote, with every way its runs could go; they end, or wait, as they did then."""
    run: Run | None = None
    device = Device(closed={})
    for data in story["entries"]:
        entry = e.read(data.encode())
        run = fold(run, entry)
        device.fold(entry)
    assert run is not None
    assert (run.status, run.closed.outcome if run.closed else "") == (story["status"], story["outcome"])
    assert set(device.runs) | set(device.closed or ()) == {run.id}


def test_what_was_spent_is_counted_and_a_retry_counts_anew() -> None:
    run = after(*ACTED, BROKE)
    assert (run.actions, run.cents, run.tokens) == (1, 100, 7)
    run = after(*ACTED, BROKE, LOST, order("retry"))
    assert (run.actions, run.cents, run.tokens, run.began_at) == (0, 0, 0, START + 8)


def test_a_strange_context_is_no_crash() -> None:
    strange = also(ALLOW, context={"value_cents": "much", "approved": False})
    run = after(PLAN, strange, INTENT, RESULT)
    assert run.cents == 0 and run.effects == ("first",), "what may have an effect is taken to have one"


def test_reading_is_no_effect() -> None:
    assert after(PLAN, also(ALLOW, context={"effect": "read"}), INTENT, RESULT, SEEN).effects == ()


def test_what_the_run_leaves_behind_can_no_longer_be_answered() -> None:
    """Cancelled, taken back or closed: no question of it stays open, and its approval is used up."""
    for end, code in (
        ([order("cancel")], "run.cancelled"),
        ([BROKE, BACK], "run.undoing"),
        ([BROKE, LOST], "run.closed"),
    ):
        run = after(*ACTED, *OTHER_WAITS, also(ASKED, step="zero"), *end)
        assert run.waits == [] and run.asked("app") is None and "app" in run.approvals_used
        assert run.steps["zero"].end == ("failed", code)


# --- once more ----------------------------------------------------------------------------------------------------


def test_a_retry_keeps_what_was_done_and_begins_what_was_not() -> None:
    run = after(*ACTED, TIMER, KID, *OTHER_WAITS, BROKE, LOST, order("retry"))
    assert run.closed is None and set(run.steps) == {"first", "second"}
    assert run.steps["second"].again and run.effects == ("first",)
    assert run.times == {"rest": 1, "kid": 1, "zero": 1, "second": 1}
    assert then(run, also(PLAN, step="second")).steps["second"].status == "planned"


def test_what_was_taken_back_is_done_anew() -> None:
    for how in (UNDONE, [LEFT, order("handled", "h", "~first")]):
        run = after(*ACTED, BROKE, BACK, *how, LOST, order("retry"))
        assert "first" not in run.steps and "~first" not in run.steps
        assert run.effects == () and run.times["first"] == 1


def test_what_was_left_as_it_is_stays_done() -> None:
    """``undo: none``: it happened, and a retry must not do it a second time."""
    run = after(*ACTED, BROKE, BACK, e.StepSkipped("~first"), LOST, order("retry"))
    assert run.steps["first"].end == ("done", "") and run.effects == ("first",) and "first" not in run.times


def test_what_came_out_otherwise_is_looked_at_again_and_not_done_again() -> None:
    run = after(PLAN, ALLOW, INTENT, RESULT, UNSEEN, e.RunClosed("failed", "effect.mismatch"), order("retry"))
    assert run.steps["first"].in_flight and run.effects == ("first",)
    assert then(run, SEEN).steps["first"].end == ("done", "")


def test_a_group_is_open_again_and_its_time_begins_anew() -> None:
    for came in ([], [also(BROKE, step="all")]):
        run = after(GROUP, *came, BROKE, LOST, order("retry"))
        group = run.steps["all"]
        assert (group.status, group.at, group.end, group.again) == ("entered", run.began_at, None, bool(came))


def test_a_paused_run_that_ended_goes_on_when_it_is_retried() -> None:
    run = after(BROKE, order("pause"), LOST, order("retry", "2"))
    assert not run.paused


# --- what lists show ----------------------------------------------------------------------------------------------


def test_what_a_run_shows_is_what_needs_somebody() -> None:
    busy = [also(PLAN, step="busy")]
    assert after().status == "opened" and after().shown.id == ""
    assert after(*WAITS, *busy).shown.id == "first"
    doubt = [also(facts, step="d") for facts in (PLAN, ALLOW, INTENT, DOUBT)]
    assert after(*WAITS, *doubt, *busy).shown.id == "d", "a doubt before a question"
    assert after(*ACTED, *busy).shown.id == "busy"
    assert after(*busy, TIMER, e.StepSkipped("last")).shown.id == "busy"
    assert after(*busy, order("pause")).status == "paused"
    assert after(*ACTED, DONE).status == "closed"
