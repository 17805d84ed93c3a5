"""What may never follow in a run: every rule of the fold has its case here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from shared import entries as e
from shared import limits, runs
from shared.errors import Tampered
from shared.runs import Run, fold
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
    RECALL,
    RESULT,
    SEEN,
    VOID,
    YES,
    after,
    also,
    order,
)
from tests.shared.stories import START, make, opened, plan, verdict

CHILD = {"parent": "run_parent", "parent_step": "kid"}
DRY = {"dry_run": True}
TIMER = e.StepEntered("rest", "time", START + 100, 0, "")
EVENT = e.StepEntered("pay", "event", 0, 0, "ref")
KID = e.StepEntered("kid", "run", 0, 0, "run_kid")
GROUP = e.StepEntered("all", "each", 0, 3, "")
UNDO_PLAN = plan("~first", "back", "undo")
UNDO_ALLOW = verdict("~first", "back", "allow", ["r"])
UNDO_INTENT = e.IntentRecorded("~first", "back", "tool", "key2", "")
UNDO_RESULT = e.ResultRecorded("~first", "key2", "done", "", "sent", 1, 1)
UNDONE = [UNDO_PLAN, UNDO_ALLOW, UNDO_INTENT, UNDO_RESULT, e.EffectObserved("~first", "key2", True)]
ZERO_ACTED = [also(facts, step="zero") for facts in ACTED]
WAITS = [PLAN, ASK, ASKED]
BY_PARENT = order("happened", "1", "first", "parent")
OTHER_WAITS = [also(PLAN, step="zero"), also(ASK, step="zero")]

# Why, what came before, and what then may not follow.
NEVER: list[tuple[str, list[e.Facts], e.Facts]] = [
    # the run as a whole
    ("the run is closed", [PLAN, DENY, e.RunClosed("denied", "r")], PLAN),
    ("the run is closed", [*ACTED, DONE], DONE),
    ("this type does not belong in an open run", [], opened()),
    ("this type does not belong in an open run", [], e.ClockStepped(1)),
    ("it names no step", [], also(PLAN, step="")),
    # beginning a step
    ("the step is already under way", [PLAN], PLAN),
    ("the step is already under way", [PLAN], RECALL),
    ("the step is already under way", ACTED, PLAN),
    ("the step is already under way", [e.StepSkipped("first")], PLAN),
    ("the run does not go forward any more", [order("cancel")], PLAN),
    ("the run does not go forward any more", [*ACTED, BROKE, BACK], also(PLAN, step="third")),
    ("nothing is being undone", ACTED, UNDO_PLAN),
    ("there is no effect to take back", [*ACTED, BROKE, BACK], also(UNDO_PLAN, step="~second")),
    ("there is no effect to take back", [*ACTED, BROKE, BACK], also(UNDO_PLAN, step="~")),
    ("what was done later is taken back first", [*ACTED, *ZERO_ACTED, BROKE, BACK], UNDO_PLAN),
    # verdicts
    ("nothing is to be judged", [], ALLOW),
    ("nothing is to be judged", [NO_PLAN], also(ALLOW, action="")),
    ("nothing is to be judged", [PLAN, DENY], ALLOW),
    ("nothing is to be judged", WAITS, ALLOW),
    ("nothing is to be judged", [*WAITS, NO], ALLOW),
    ("nothing is to be judged", [PLAN, ALLOW, INTENT], ALLOW),
    ("the verdict is about another action", [PLAN], also(ALLOW, action="other")),
    ("the verdict is about another action", [*WAITS, CORRECT], AGAIN),
    ("the verdict is not one of three", [PLAN], also(ALLOW, verdict="perhaps")),
    ("nothing was judged", [PLAN], e.StepRehearsed("first", "act", "allow")),
    ("this is no dry run of that action", [PLAN, ALLOW], e.StepRehearsed("first", "act", "allow")),
    # questions
    ("no verdict asks for a person", [PLAN], ASKED),
    ("no verdict asks for a person", [PLAN, ALLOW], ASKED),
    ("no verdict asks for a person", [PLAN, DENY], ASKED),
    ("no verdict asks for a person", [PLAN, HELD], ASKED),
    ("no verdict asks for a person", [*WAITS, NO], also(ASKED, approval="new")),
    ("no verdict asks for a person", [*WAITS, NO], e.ApprovalCovered("first", "new", "act", "app9")),
    ("the question is about another action", [PLAN, ASK], also(ASKED, action="other")),
    ("the question is about another action", [PLAN, ASK], e.ApprovalCovered("first", "new", "other", "app9")),
    ("the approval was used before", [*WAITS, VOID, ASK], ASKED),
    ("the approval was used before", [*WAITS, *OTHER_WAITS], also(ASKED, step="zero")),
    ("the approval was used before", [*WAITS, *OTHER_WAITS], e.ApprovalCovered("zero", "app", "act", "app9")),
    ("somebody must answer", [PLAN, ASK], also(ASKED, needed=0)),
    ("several people answer at the hub, for one action", [PLAN, ASK], also(ASKED_TWO, local=True)),
    ("several people answer at the hub, for one action", [PLAN, ASK], also(ASKED_TWO, similar_s=60)),
    ("nobody was asked", [PLAN, ASK], YES),
    ("nobody was asked", [*WAITS, YES], YES),
    ("nobody was asked", [*WAITS, YES], NO),
    ("nobody was asked", [*WAITS, VOID], YES),
    ("nobody was asked", [*WAITS, order("cancel")], YES),
    ("nobody was asked", [*ACTED, *OTHER_WAITS, also(ASKED, step="zero"), BROKE, BACK], also(YES, step="zero")),
    ("nobody was asked", [PLAN, ASK], ESCALATED),
    ("that is another question", WAITS, also(ESCALATED, approval="another")),
    ("a level was left out", WAITS, also(ESCALATED, level=2)),
    ("a level was left out", [*WAITS, ESCALATED], ESCALATED),
    ("the answer is to another question", WAITS, also(YES, approval="another")),
    ("the answer is to another question", WAITS, also(YES, action="other")),
    ("the answer is to another question", [*WAITS, VOID, ASK, also(ASKED, approval="new")], YES),
    ("the approval had expired", [PLAN, ASK, also(ASKED, expires_at=START + 49)], YES),
    ("the answer is not one of three", WAITS, also(YES, answer="maybe")),
    ("only a correction names another action", WAITS, also(YES, corrected="other")),
    ("only a correction names another action", WAITS, also(CORRECT, corrected="")),
    ("what several people must approve, one cannot correct", [PLAN, ASK, ASKED_TWO], CORRECT),
    ("it was given at no known place", WAITS, also(YES, place="parent")),
    ("policy does not allow an answer at this computer", WAITS, also(YES, place="local")),
    ("the same person answered twice", [PLAN, ASK, ASKED_TWO, YES], YES),
    ("it covers more than it may", WAITS, also(YES, similar_until=START + 51)),
    ("it covers more than it may", [PLAN, ASK, also(ASKED, similar_s=1)], also(YES, similar_until=START + 1_000_051)),
    ("it covers more than it may", [PLAN, ASK, also(ASKED, similar_s=1)], also(YES, similar_until=-1)),
    ("the approval was used", [PLAN, ASK], VOID),
    ("the approval was used", [*WAITS, YES, AGAIN, APPROVED_INTENT], VOID),
    ("no such approval", WAITS, also(VOID, approval="another")),
    ("no such approval", [PLAN, HELD], also(VOID, approval="")),
    # acting
    ("the guard did not allow it", [], INTENT),
    ("the guard did not allow it", [PLAN], INTENT),
    ("the guard did not allow it", [PLAN, DENY], INTENT),
    ("the guard did not allow it", [PLAN, HELD], INTENT),
    ("the guard did not allow it", [PLAN, ASK], INTENT),
    ("the guard did not allow it", [PLAN, ASK], APPROVED_INTENT),
    ("the guard did not allow it", WAITS, APPROVED_INTENT),
    ("the guard did not allow it", [PLAN, ASK, ASKED_TWO, YES], APPROVED_INTENT),
    ("the guard did not allow it", [*WAITS, NO], APPROVED_INTENT),
    ("the guard did not allow it", [*WAITS, YES, also(AGAIN, verdict="deny")], APPROVED_INTENT),
    ("the guard did not allow it", [*WAITS, YES, also(AGAIN, verdict="deny", rules=["host:x"])], APPROVED_INTENT),
    ("the guard did not allow it", [*WAITS, VOID], APPROVED_INTENT),
    ("the guard did not allow it", [PLAN, ALLOW, INTENT], INTENT),
    ("the guard did not allow it", [PLAN, ALLOW, INTENT, RESULT], INTENT),
    ("the guard did not allow it", ACTED, INTENT),
    ("the run is paused", [PLAN, ALLOW, order("pause")], INTENT),
    (
        "the run was cancelled",
        [PLAN, ALLOW, INTENT, DOUBT, order("cancel"), order("not-happened", "2", "first"), ALLOW],
        INTENT,
    ),
    ("no verdict on this action", [PLAN, ALLOW], also(INTENT, action="other")),
    ("no verdict on this action", [*WAITS, CORRECT, also(AGAIN, action="other")], APPROVED_INTENT),
    ("no verdict on this action", [*WAITS, CORRECT], APPROVED_INTENT),
    ("the verdict is about another tool", [PLAN, ALLOW], also(INTENT, tool="other")),
    ("the approval does not cover it", [*WAITS, YES, AGAIN], INTENT),
    ("the approval does not cover it", [*WAITS, YES, AGAIN], also(APPROVED_INTENT, approval="another")),
    ("it was not judged again after the approval", [*WAITS, YES], APPROVED_INTENT),
    ("it was not judged again after the approval", [*WAITS, YES, ASK], APPROVED_INTENT),
    ("it names an approval that was not given", [PLAN, ALLOW], APPROVED_INTENT),
    # what came of it
    ("no open intent", [], RESULT),
    ("no open intent", [PLAN, ALLOW], RESULT),
    ("no open intent", [PLAN, ALLOW, INTENT, RESULT], RESULT),
    ("no open intent", [PLAN, ALLOW], DOUBT),
    ("no open intent", [PLAN, ALLOW, INTENT, DOUBT], DOUBT),
    ("another intent is open", [PLAN, ALLOW, INTENT], also(RESULT, key="other")),
    ("another intent is open", [PLAN, ALLOW, INTENT], also(DOUBT, key="other")),
    ("the outcome is not known", [PLAN, ALLOW, INTENT], also(RESULT, outcome="perhaps")),
    ("no result to observe", [PLAN, ALLOW, INTENT], SEEN),
    ("no result to observe", [PLAN, ALLOW, INTENT, FAILED], SEEN),
    ("no result to observe", ACTED, SEEN),
    ("another intent was open", [PLAN, ALLOW, INTENT, RESULT], also(SEEN, key="other")),
    # steps that are no action
    ("it is no known kind of step", [], also(TIMER, kind="sleep")),
    ("it is no known kind of step", [], also(GROUP, count=-1)),
    ("it is no known kind of step", [], also(GROUP, count=limits.FOR_EACH_ITEMS + 1)),
    ("what takes an effect back is an action", [*ACTED, BROKE, BACK], also(TIMER, step="~first")),
    ("the step was not waiting", [], e.StepEnded("rest", "time")),
    ("the step was not waiting", [EVENT, e.StepEnded("pay", "event")], e.StepEnded("pay", "event")),
    ("what it waits for has not come", [TIMER], e.StepEnded("rest", "time")),
    ("what it waits for has not come", [EVENT], e.StepEnded("pay", "time")),
    ("what it waits for has not come", [EVENT], e.StepEnded("pay", "rehearsed")),
    ("what it waits for has not come", [KID], e.StepEnded("kid", "event")),
    ("what it waits for has not come", [GROUP], e.StepEnded("all", "done")),
    ("the step is over, or its effect may have happened", [PLAN, DENY], also(BROKE, step="first")),
    ("the step is over, or its effect may have happened", [PLAN, ALLOW, INTENT], also(BROKE, step="first")),
    ("the step is over, or its effect may have happened", [PLAN, ALLOW, INTENT, DOUBT], also(BROKE, step="first")),
    ("the step is over, or its effect may have happened", [PLAN, ALLOW, INTENT, RESULT], also(BROKE, step="first")),
    ("the step is over, or its effect may have happened", ACTED, also(BROKE, step="first")),
    ("the step is over, or its effect may have happened", [BROKE], BROKE),
    ("a person has something to take back", [*ACTED, BROKE, BACK, LEFT], also(BROKE, step="~first")),
    # the way back
    ("it is being undone already", [*ACTED, BROKE, BACK], BACK),
    ("only what went wrong is undone", ACTED, also(BACK, outcome="done")),
    ("there is no effect to take back", [*ACTED, BROKE], LEFT),
    ("there is no effect to take back", [*ACTED, BROKE, BACK], also(LEFT, step="second")),
    ("it is not for a person", [*ACTED, BROKE, BACK, LEFT], LEFT),
    ("it is not for a person", [*ACTED, BROKE, BACK, UNDO_PLAN], LEFT),
    ("it is not for a person", [*ACTED, BROKE, BACK, *UNDONE], LEFT),
    ("it was undone for another reason", [*ACTED, BROKE, BACK, *UNDONE], e.RunClosed("denied", "r")),
    ("not everything is taken back", [*ACTED, BROKE, BACK], LOST),
    ("not everything is taken back", [*ACTED, BROKE, BACK, LEFT], LOST),
    ("not everything is taken back", [*ACTED, BROKE, BACK, *UNDONE[:-1]], LOST),
    # the end
    ("the outcome is not known", ACTED, e.RunClosed("perfect", "")),
    ("an intent is open, or an effect unobserved", [PLAN, ALLOW, INTENT], DONE),
    ("an intent is open, or an effect unobserved", [PLAN, ALLOW, INTENT, DOUBT, BROKE], LOST),
    ("an intent is open, or an effect unobserved", [PLAN, ALLOW, INTENT, RESULT], DONE),
    ("an intent is open, or an effect unobserved", [PLAN, ALLOW, INTENT, BROKE], BACK),
    ("nobody cancelled it, or somebody did", ACTED, e.RunClosed("cancelled", "run.cancelled")),
    ("nobody cancelled it, or somebody did", [*ACTED, order("cancel")], DONE),
    ("nobody cancelled it, or somebody did", [*ACTED, BROKE, order("cancel")], LOST),
    ("nothing was done, or not everything is over", [], DONE),
    ("nothing was done, or not everything is over", [PLAN], DONE),
    ("nothing was done, or not everything is over", [TIMER], DONE),
    ("nothing was done, or not everything is over", [*ACTED, *OTHER_WAITS], DONE),
    ("a dry run ends as one, and no other does", ACTED, e.RunClosed("rehearsed", "")),
    ("no step ended so", ACTED, e.RunClosed("failed", "")),
    ("no step ended so", [PLAN, DENY], e.RunClosed("referred", "")),
    ("no step ended so", ACTED, BACK),
    # orders
    ("the order came before, or from no known place", [order("pause")], order("resume")),
    ("the order came before, or from no known place", [], order("pause", place="moon")),
    ("no run waits for this one", [], order("cancel", place="parent")),
    ("the run is closed, or nobody looked", [*ACTED, DONE], order("happened", step="first")),
    ("it cannot be paused", [order("pause")], order("pause", "2")),
    ("it cannot be paused", [*ACTED, DONE], order("pause")),
    ("it is not paused", [], order("resume")),
    ("it cannot be cancelled", [order("cancel")], order("cancel", "2")),
    ("it cannot be cancelled", [*ACTED, DONE], order("cancel")),
    ("only a failed run is retried or dismissed", [], order("retry")),
    ("only a failed run is retried or dismissed", [*ACTED, DONE], order("retry")),
    ("only a failed run is retried or dismissed", [*ACTED, DONE], order("dismiss")),
    ("only a failed run is retried or dismissed", [BROKE, LOST, order("dismiss")], order("retry", "2")),
    ("only a failed run is retried or dismissed", [BROKE, LOST, order("dismiss")], order("dismiss", "2")),
    ("it is open, or nothing of it is left to take back", ACTED, order("undo")),
    ("it is open, or nothing of it is left to take back", [PLAN, DENY, e.RunClosed("denied", "r")], order("undo")),
    ("it is open, or nothing of it is left to take back",
     [*ACTED, BROKE, BACK, LEFT, order("handled", step="~first"), LOST], order("undo", "2")),
    ("there is no such order", [], order("hurry")),
    ("nothing was left to a person", [*ACTED, BROKE, BACK], order("handled", step="~first")),
    ("nothing was left to a person", [*ACTED, BROKE, BACK, LEFT], order("handled", step="first")),
    ("nothing is in doubt", [PLAN, ALLOW, INTENT], order("happened", step="first")),
    ("nothing is in doubt", [PLAN, ALLOW, INTENT], order("not-happened", step="first")),
]  # fmt: skip

# The same in a dry run, and in a run that another waits for.
NEVER_SO: list[tuple[str, dict[str, object], list[e.Facts], e.Facts]] = [
    ("a dry run does nothing", DRY, [PLAN, ALLOW], INTENT),
    ("a dry run asks nobody", DRY, [PLAN, ASK], ASKED),
    ("a dry run asks nobody", DRY, [PLAN, ASK], e.ApprovalCovered("first", "new", "act", "app9")),
    ("this is no dry run of that action", DRY, [PLAN, ALLOW], e.StepRehearsed("first", "other", "allow")),
    ("the verdict was another", DRY, [PLAN, ALLOW], e.StepRehearsed("first", "act", "ask")),
    ("a dry run ends as one, and no other does", DRY, [e.StepSkipped("first")], DONE),
    ("what it waits for has not come", DRY, [KID], e.StepEnded("kid", "event")),
    ("the run is closed, or nobody looked", CHILD, [PLAN, ALLOW, INTENT, DOUBT], BY_PARENT),
]  # fmt: skip


def refused(run: Run | None, facts: e.Facts) -> str:
    with pytest.raises(Tampered) as caught:
        fold(run, make(facts, 50, START + 50))
    assert caught.value.code == "run.order" and caught.value.advice
    return caught.value.message.split(": ", 1)[1]


@pytest.mark.parametrize(("why", "before", "bad"), NEVER, ids=[f"{type(bad).__name__}: {why}" for why, _, bad in NEVER])
def test_what_may_never_follow(why: str, before: list[e.Facts], bad: e.Facts) -> None:
    assert refused(after(*before), bad) == why


@pytest.mark.parametrize(("why", "what", "before", "bad"), NEVER_SO, ids=[why for why, *_ in NEVER_SO])
def test_what_may_never_follow_in_such_a_run(
    why: str, what: dict[str, object], before: list[e.Facts], bad: e.Facts
) -> None:
    assert refused(after(*before, **what), bad) == why


def test_a_run_that_was_never_opened() -> None:
    assert refused(None, PLAN) == "the run was never opened, or is closed"


def test_what_no_entries_lead_to_is_refused_all_the_same() -> None:
    """A forward step that is still to act while the run goes back: its begin ended all such."""
    run = also(after(PLAN, ALLOW), undoing=BACK)
    assert refused(run, INTENT) == "the run goes the other way"


def test_each_rule_of_the_fold_has_its_case() -> None:
    """Every reason that the rules can give, read from their source, is one of the cases here."""
    told = {why for why, *_ in NEVER} | {why for why, *_ in NEVER_SO}
    told |= {"the run was never opened, or is closed", "the run goes the other way"}
    folder = Path(runs.__file__).parent
    reasons: set[str] = set()
    for name in ("ground", "questions", "ends", "fold"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("need", "out_of_order", "known"):
                texts = [*node.args[1:], *(keyword.value for keyword in node.keywords if keyword.arg == "why")]
                reasons |= {
                    one.value
                    for one in texts
                    if isinstance(one, ast.Constant) and isinstance(one.value, str) and " " in one.value
                }
    assert reasons == told
