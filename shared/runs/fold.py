"""A run as a pure fold over its entries. Spec page: ``shared/spec/log.md``.

    planned → judged ─ allow ───────────────→ intended → resulted → observed
                │                                │
                ├─ ask → waiting → approved ─────┤        (an approved action is judged again first)
                ├─ deny by the host → held        └→ doubted: only asking, or a person, can say
                └─ deny by policy: the step's end

The fold refuses an entry that cannot follow (``Tampered('run.order')``): an intent without an allowing verdict or the
approvals it needs, a result without an intent, an effect in a dry run, anything after the end but a retry. So verifying
a log also verifies that nothing acted unguarded. The same code runs the agent, the hub's console and the auditor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import asdict, replace

from shared import entries as e
from shared import limits
from shared.policy import ALLOW, ASK, DENY
from shared.runs.ends import RUN_ORDERS as RUN_ORDERS
from shared.runs.ends import STEP_ORDERS as STEP_ORDERS
from shared.runs.ends import closed, left, ordered, undoing
from shared.runs.ground import begin, known, need, put
from shared.runs.ground import out_of_order as out_of_order
from shared.runs.questions import answered, asked, covered, escalated, voided
from shared.runs.state import DONE, FAILED, OUTCOMES, UNDO, Run

KINDS = ("time", "event", "run", "each", "together")


def fold(run: Run | None, entry: e.Entry) -> Run:
    """One entry further. ``run`` is ``None`` before ``run.opened``."""
    facts = entry.facts
    if run is None:
        if not isinstance(facts, e.RunOpenedV1):
            raise out_of_order(entry, "the run was never opened, or is closed")
        opened = facts if isinstance(facts, e.RunOpened) else e.RunOpened(**asdict(facts))
        return Run(id=entry.run, opened=opened, at=entry.at, seq=entry.seq, began_at=entry.at)
    if isinstance(facts, e.RunOrdered):
        return ordered(run, entry, facts)
    if run.closed is not None:
        raise out_of_order(entry, "the run is closed")
    whole = _OF_RUN.get(type(facts))
    if whole is not None:
        return whole(run, entry, facts)
    one = _OF_STEP.get(type(facts))
    if one is None:
        raise out_of_order(entry, "this type does not belong in an open run")
    return one(run, entry, facts)


# --- plans and verdicts -------------------------------------------------------------------------------------------


def _recalled(run: Run, entry: e.Entry, f: e.ContextRecalled) -> Run:
    return put(run, replace(begin(run, entry, f.step), recalled=f))


def _planned(run: Run, entry: e.Entry, f: e.PlanMade) -> Run:
    step = replace(begin(run, entry, f.step), status="planned", plan=f, plan_seq=entry.seq, action=f.action)
    return put(
        run, step, tokens=run.tokens + f.prompt_tokens + f.generated_tokens, cents=run.cents + max(0, f.cost_cents)
    )


def _judged(run: Run, entry: e.Entry, f: e.VerdictGiven) -> Run:
    step = known(run, entry, "planned", "judged", "held", "approved", why="nothing is to be judged")
    need(entry, f.action == step.action != "", "the verdict is about another action")
    need(entry, f.verdict in (ALLOW, ASK, DENY), "the verdict is not one of three")
    if f.verdict == DENY:
        status = "held" if any(rule.startswith("host:") for rule in f.rules) else "judged"
    else:
        status = "approved" if step.granted else "judged"
    return put(run, replace(step, status=status, verdict=f, verdict_seq=entry.seq))


def _rehearsed(run: Run, entry: e.Entry, f: e.StepRehearsed) -> Run:
    step = known(run, entry, "judged", why="nothing was judged")
    need(entry, run.opened.dry_run and step.action == f.action, "this is no dry run of that action")
    need(entry, step.verdict is not None and step.verdict.verdict == f.verdict != DENY, "the verdict was another")
    return put(run, replace(step, status="rehearsed"))


# --- effects ------------------------------------------------------------------------------------------------------


def _intended(run: Run, entry: e.Entry, f: e.IntentRecorded) -> Run:
    step = known(run, entry, "judged", "approved", why="the guard did not allow it")
    verdict = step.verdict
    need(entry, not run.opened.dry_run, "a dry run does nothing")
    need(entry, not run.paused, "the run is paused")
    backward = run.undoing is not None
    need(entry, step.id.startswith(UNDO) == backward, "the run goes the other way")
    need(entry, backward or not run.cancelled, "the run was cancelled")
    need(entry, verdict is not None and verdict.action == f.action == step.action, "no verdict on this action")
    assert verdict is not None
    need(entry, verdict.tool == f.tool, "the verdict is about another tool")
    if step.status == "approved":
        need(entry, f.approval == step.granted and verdict.verdict in (ALLOW, ASK), "the approval does not cover it")
        need(entry, verdict.context.get("approved") is True, "it was not judged again after the approval")
    else:
        need(entry, verdict.verdict == ALLOW, "the guard did not allow it")
        need(entry, f.approval == "", "it names an approval that was not given")
    value = verdict.context.get("value_cents", 0)
    cents = value if isinstance(value, int) and value > 0 else 0
    return put(run, replace(step, status="intended", intent=f), actions=run.actions + 1, cents=run.cents + cents)


def _doubted(run: Run, entry: e.Entry, f: e.IntentDoubted) -> Run:
    step = known(run, entry, "intended", why="no open intent")
    need(entry, step.intent is not None and step.intent.key == f.key, "another intent is open")
    return put(run, replace(step, status="doubted"))


def _resulted(run: Run, entry: e.Entry, f: e.ResultRecorded) -> Run:
    step = known(run, entry, "intended", "doubted", why="no open intent")
    need(entry, step.intent is not None and step.intent.key == f.key, "another intent is open")
    need(entry, f.outcome in (DONE, FAILED), "the outcome is not known")
    changed = step.verdict is not None and step.verdict.context.get("effect") != "read"
    acted = f.outcome == DONE and changed and not step.id.startswith(UNDO)
    effects = (*run.effects, step.id) if acted else run.effects
    return put(run, replace(step, status="resulted", result=f, result_seq=entry.seq), effects=effects)


def _observed(run: Run, entry: e.Entry, f: e.EffectObserved) -> Run:
    step = known(run, entry, "resulted", why="no result to observe")
    need(entry, step.result is not None and step.result.key == f.key, "another intent was open")
    return put(run, replace(step, status="observed", observed=f))


# --- steps that are no action -------------------------------------------------------------------------------------


def _entered(run: Run, entry: e.Entry, f: e.StepEntered) -> Run:
    need(entry, f.kind in KINDS and 0 <= f.count <= limits.FOR_EACH_ITEMS, "it is no known kind of step")
    need(entry, not f.step.startswith(UNDO), "what takes an effect back is an action")
    step = replace(begin(run, entry, f.step), status="entered", entered=f, entered_seq=entry.seq)
    return put(run, step)


def _ended(run: Run, entry: e.Entry, f: e.StepEnded) -> Run:
    step = known(run, entry, "entered", why="the step was not waiting")
    waited = step.entered
    assert waited is not None
    match waited.kind:
        case "time":
            come = f.code == "time" and entry.at >= waited.until
        case "event":
            come = f.code == "event"
        case "run":
            come = f.code in OUTCOMES
        case _:  # a group is over when the steps within it are
            come = False
    rehearsed = run.opened.dry_run and f.code == "rehearsed" and waited.kind in ("time", "event")
    need(entry, come or rehearsed, "what it waits for has not come")
    return put(run, replace(step, status="ended", ended=f, ended_seq=entry.seq))


def _skipped(run: Run, entry: e.Entry, f: e.StepSkipped) -> Run:
    return put(run, replace(begin(run, entry, f.step), status="skipped"))


def _failed(run: Run, entry: e.Entry, f: e.StepFailed) -> Run:
    found = run.steps.get(f.step)
    if found is None or (found.again and not found.is_group):
        found = begin(run, entry, f.step)
    need(entry, found.end is None and not found.in_flight, "the step is over, or its effect may have happened")
    need(entry, found.status != "left", "a person has something to take back")
    used = run.approvals_used
    if found.approval is not None:
        used |= {found.approval.approval}
    return put(run, replace(found, status="failed", code=f.code), approvals_used=used)


# --- which rule is whose ---------------------------------------------------------------------------------------------

_OF_RUN: dict[type[e.Facts], Callable[[Run, e.Entry, Any], Run]] = {
    e.UndoBegun: undoing,
    e.UndoLeft: left,
    e.RunClosed: closed,
}
_OF_STEP: dict[type[e.Facts], Callable[[Run, e.Entry, Any], Run]] = {
    e.ContextRecalled: _recalled,
    e.PlanMade: _planned,
    e.VerdictGiven: _judged,
    e.StepRehearsed: _rehearsed,
    e.ApprovalAskedV1: asked,
    e.ApprovalAsked: asked,
    e.ApprovalEscalated: escalated,
    e.ApprovalAnsweredV1: answered,
    e.ApprovalAnswered: answered,
    e.ApprovalCovered: covered,
    e.ApprovalVoided: voided,
    e.IntentRecorded: _intended,
    e.IntentDoubted: _doubted,
    e.ResultRecorded: _resulted,
    e.EffectObserved: _observed,
    e.StepEntered: _entered,
    e.StepEnded: _ended,
    e.StepSkipped: _skipped,
    e.StepFailed: _failed,
}
OF_RUNS: tuple[type[e.Facts], ...] = (e.RunOpenedV1, e.RunOpened, e.RunOrdered, *_OF_RUN, *_OF_STEP)
