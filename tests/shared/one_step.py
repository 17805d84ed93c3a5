"""The facts of one step's life, for tests that need them one by one."""

from __future__ import annotations

from typing import Any

import msgspec

from shared import entries as e
from shared.runs import Run, fold
from tests.shared.stories import START, make, opened, plan, result, verdict

RECALL = e.ContextRecalled("first", [], 1)
PLAN = plan("first", "act")
NO_PLAN = plan("first", "")
ALLOW = verdict("first", "act", "allow", ["r"])
ASK = verdict("first", "act", "ask", ["r"])
DENY = verdict("first", "act", "deny", ["r"])
HELD = verdict("first", "act", "deny", ["host:no-lease"])
AGAIN = verdict("first", "act", "ask", ["r"], approved=True)
ASKED = e.ApprovalAsked("first", "app", "act", ["clerk"], START + 1000)
ASKED_TWO = e.ApprovalAsked("first", "app", "act", ["clerk"], START + 1000, 2)
ESCALATED = e.ApprovalEscalated("first", "app", 1, ["mayor"])
YES = e.ApprovalAnswered("first", "app", "act", "approve", "", "mara")
NO = e.ApprovalAnswered("first", "app", "act", "deny", "", "mara")
CORRECT = e.ApprovalAnswered("first", "app", "act", "correct", "other", "mara")
VOID = e.ApprovalVoided("first", "app", "approval.expired")
INTENT = e.IntentRecorded("first", "act", "tool", "key", "")
APPROVED_INTENT = e.IntentRecorded("first", "act", "tool", "key", "app")
DOUBT = e.IntentDoubted("first", "key")
RESULT = result("first", "key", "done")
FAILED = result("first", "key", "failed")
SEEN = e.EffectObserved("first", "key", True)
UNSEEN = e.EffectObserved("first", "key", False)
DONE = e.RunClosed("done", "")

ACTED = [PLAN, ALLOW, INTENT, RESULT, SEEN]
BROKE = e.StepFailed("second", "expression.failed")  # another step, which ends the run
BACK = e.UndoBegun("failed", "expression.failed")
LEFT = e.UndoLeft("first", "undo.manual")
LOST = e.RunClosed("failed", "expression.failed")


def also(facts: e.Facts, **changes: Any) -> Any:
    return msgspec.structs.replace(facts, **changes)


def order(what: str, name: str = "ord", step: str = "", place: str = "hub") -> e.RunOrdered:
    return e.RunOrdered(what, name, step, "mara", place)


def told(*facts: e.Facts) -> list[e.Entry]:
    return [make(one, seq, START + seq) for seq, one in enumerate(facts)]


def folded(entries: list[e.Entry]) -> Run | None:
    run: Run | None = None
    for entry in entries:
        run = fold(run, entry)
    return run


def after(*facts: e.Facts, **more: Any) -> Run:
    """A run that was opened and went so."""
    run = folded(told(opened(**more), *facts))
    assert run is not None
    return run


def then(run: Run, facts: e.Facts, later: int = 50) -> Run:
    """One entry further, ``later`` microseconds after the run was opened."""
    return fold(run, make(facts, 50, START + later))
