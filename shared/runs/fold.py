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
from shared.errors import Tampered
from shared.policy import ALLOW, ASK, DENY
from shared.runs.state import CANCELLED, DONE, FAILED, OUTCOMES, REHEARSED, UNDO, Run, Step

RUN_ORDERS = ("pause", "resume", "cancel", "retry", "dismiss")
STEP_ORDERS = ("happened", "not-happened", "handled")
PLACES = ("hub", "local", "parent")
KINDS = ("time", "event", "run", "each", "together")


def out_of_order(entry: e.Entry, why: str) -> Tampered:
    return Tampered(
        "run.order",
        f"entry {entry.seq} ({entry.type}) cannot follow in run {entry.run}: {why}",
        advice="the log was not written by the run engine; keep it as evidence",
    )


def fold(run: Run | None, entry: e.Entry) -> Run:
    """One entry further. ``run`` is ``None`` before ``run.opened``."""
    facts = entry.facts
    if run is None:
        if not isinstance(facts, e.RunOpenedV1):
            raise out_of_order(entry, "the run was never opened, or is closed")
        opened = facts if isinstance(facts, e.RunOpened) else e.RunOpened(**asdict(facts))
        return Run(id=entry.run, opened=opened, at=entry.at, seq=entry.seq, began_at=entry.at)
    if isinstance(facts, e.RunOrdered):
        return _ordered(run, entry, facts)
    if run.closed is not None:
        raise out_of_order(entry, "the run is closed")
    whole = _OF_RUN.get(type(facts))
    if whole is not None:
        return whole(run, entry, facts)
    one = _OF_STEP.get(type(facts))
    if one is None:
        raise out_of_order(entry, "this type does not belong in an open run")
    return one(run, entry, facts)


def _need(entry: e.Entry, holds: bool, why: str) -> None:
    if not holds:
        raise out_of_order(entry, why)


def _put(run: Run, step: Step, **changes: Any) -> Run:
    """The run with a step in place and moved last."""
    return replace(run, steps=run.steps | {step.id: step}, current=step.id, **changes)


def _step(run: Run, entry: e.Entry, *statuses: str, why: str) -> Step:
    """The step an entry names, which must be in one of these states."""
    found = run.steps.get(entry.facts.step)  # type: ignore[attr-defined]  # every type that comes here has a step
    if found is None or found.status not in statuses:
        raise out_of_order(entry, why)
    return found


# --- plans and verdicts -------------------------------------------------------------------------------------------


def _begin(run: Run, entry: e.Entry, name: str) -> Step:
    """A step's first entry, or the one after what was recalled for it."""
    found = run.steps.get(name)
    _need(entry, found is None or found.status == "recalled", "the step is already under way")
    if name.startswith(UNDO):
        acted = run.steps.get(name.removeprefix(UNDO))
        _need(entry, run.undoing is not None, "nothing is being undone")
        _need(entry, acted is not None and acted.id in run.effects, "there is no effect to take back")
    else:
        _need(entry, run.undoing is None and not run.cancelled, "the run does not go forward any more")
    return found or Step(id=name, at=entry.at)


def _recalled(run: Run, entry: e.Entry, f: e.ContextRecalled) -> Run:
    return _put(run, replace(_begin(run, entry, f.step), recalled=f))


def _planned(run: Run, entry: e.Entry, f: e.PlanMade) -> Run:
    step = replace(_begin(run, entry, f.step), status="planned", plan=f, plan_seq=entry.seq, action=f.action)
    return _put(
        run, step, tokens=run.tokens + f.prompt_tokens + f.generated_tokens, cents=run.cents + max(0, f.cost_cents)
    )


def _judged(run: Run, entry: e.Entry, f: e.VerdictGiven) -> Run:
    step = _step(run, entry, "planned", "judged", "held", "approved", why="nothing is to be judged")
    _need(entry, step.answer is None or step.answer.answer != "deny", "a person said no")
    _need(entry, f.action == step.action and f.action != "", "the verdict is about another action")
    if f.verdict == DENY:
        status = "held" if any(rule.startswith("host:") for rule in f.rules) else "judged"
    else:
        status = "approved" if step.granted else "judged"
    return _put(run, replace(step, status=status, verdict=f, verdict_seq=entry.seq))


def _rehearsed(run: Run, entry: e.Entry, f: e.StepRehearsed) -> Run:
    step = _step(run, entry, "judged", why="nothing was judged")
    _need(entry, run.opened.dry_run and step.action == f.action, "this is no dry run of that action")
    _need(entry, step.verdict is not None and step.verdict.verdict == f.verdict != DENY, "the verdict was another")
    return _put(run, replace(step, status="rehearsed"))


# --- questions ----------------------------------------------------------------------------------------------------


def _asked(run: Run, entry: e.Entry, f: e.ApprovalAskedV1) -> Run:
    step = _step(run, entry, "judged", why="no verdict asks for a person")
    _need(entry, step.verdict is not None and step.verdict.verdict == ASK, "no verdict asks for a person")
    _need(entry, not run.opened.dry_run, "a dry run asks nobody")
    _need(entry, f.action == step.action, "the question is about another action")
    _need(entry, f.approval not in run.approvals_used, "the approval was used before")
    if not isinstance(f, e.ApprovalAsked):
        f = e.ApprovalAsked(**asdict(f))
    _need(entry, f.needed >= 1, "somebody must answer")
    return _put(
        run,
        replace(
            step,
            status="waiting",
            approval=f,
            asked_at=entry.at,
            roles=f.roles,
            level=0,
            answer=None,
            approvers=[],
            granted="",
        ),
    )


def _escalated(run: Run, entry: e.Entry, f: e.ApprovalEscalated) -> Run:
    step = _step(run, entry, "waiting", why="nobody was asked")
    _need(entry, step.approval is not None and step.approval.approval == f.approval, "that is another question")
    _need(entry, f.level == step.level + 1, "a level was left out")
    return _put(run, replace(step, level=f.level, roles=[*dict.fromkeys([*step.roles, *f.roles])]))


def _answered(run: Run, entry: e.Entry, f: e.ApprovalAnsweredV1) -> Run:
    step = _step(run, entry, "waiting", why="nobody was asked")
    asked = step.approval
    assert isinstance(asked, e.ApprovalAsked)
    if not isinstance(f, e.ApprovalAnswered):
        f = e.ApprovalAnswered(**asdict(f))
    _need(entry, f.approval == asked.approval and f.action == asked.action, "the answer is to another question")
    _need(entry, entry.at <= asked.expires_at, "the approval had expired")
    _need(entry, f.answer in ("approve", "deny", "correct"), "the answer is not one of three")
    _need(entry, (f.answer == "correct") == bool(f.corrected), "only a correction names another action")
    _need(entry, f.place in ("hub", "local"), "it was given at no known place")
    _need(entry, f.place != "local" or asked.local, "policy does not allow an answer at this computer")
    _need(entry, f.by not in step.approvers, "the same person answered twice")
    forward = run.undoing is None or step.id.startswith(UNDO)
    _need(entry, forward, "what was asked is no longer to be done")
    _need(entry, not f.similar_until or asked.needed == 1, "what several people must approve, one cannot in advance")
    lasts = entry.at + asked.similar_s * 1_000_000
    _need(entry, f.similar_until <= lasts if asked.similar_s else not f.similar_until, "it covers more than it may")
    used = run.approvals_used | {f.approval}
    match f.answer:
        case "correct":
            _need(entry, asked.needed == 1, "what several people must approve, one cannot correct")
            changes = {"status": "approved", "action": f.corrected, "corrected_seq": entry.seq, "granted": f.approval}
        case "approve" if len(step.approvers) + 1 < asked.needed:
            return _put(run, replace(step, approvers=[*step.approvers, f.by], answer=None))
        case "approve":
            changes = {"status": "approved", "granted": f.approval, "approvers": [*step.approvers, f.by]}
        case _:
            changes = {"status": "judged"}
    return _put(run, replace(step, answer=f, **changes), approvals_used=used)


def _covered(run: Run, entry: e.Entry, f: e.ApprovalCovered) -> Run:
    step = _step(run, entry, "judged", why="no verdict asks for a person")
    _need(entry, step.verdict is not None and step.verdict.verdict == ASK, "no verdict asks for a person")
    _need(entry, f.action == step.action, "it covers another action")
    _need(entry, f.approval not in run.approvals_used and not run.opened.dry_run, "the approval was used before")
    return _put(
        run, replace(step, status="approved", granted=f.approval), approvals_used=run.approvals_used | {f.approval}
    )


def _voided(run: Run, entry: e.Entry, f: e.ApprovalVoided) -> Run:
    step = _step(run, entry, "waiting", "approved", "held", why="the approval was used")
    named = step.granted or (step.approval.approval if step.approval else "")
    _need(entry, f.approval == named != "", "no such approval")
    return _put(run, _unjudged(step), approvals_used=run.approvals_used | {f.approval})


def _unjudged(step: Step) -> Step:
    """The step as it was planned: verdict, question and answer no longer count, and a correction dies with them."""
    assert step.plan is not None
    return replace(
        step,
        status="planned",
        action=step.plan.action,
        corrected_seq=-1,
        approval=None,
        answer=None,
        approvers=[],
        granted="",
        verdict=None,
    )


# --- effects ------------------------------------------------------------------------------------------------------


def _intended(run: Run, entry: e.Entry, f: e.IntentRecorded) -> Run:
    step = _step(run, entry, "judged", "approved", why="the guard did not allow it")
    verdict = step.verdict
    _need(entry, not run.opened.dry_run, "a dry run does nothing")
    _need(entry, not run.paused, "the run is paused")
    _need(entry, step.id.startswith(UNDO) == (run.undoing is not None), "the run goes the other way")
    _need(entry, verdict is not None and verdict.action == f.action == step.action, "no verdict on this action")
    assert verdict is not None
    if step.status == "approved":
        _need(entry, f.approval == step.granted and verdict.verdict in (ALLOW, ASK), "the approval does not cover it")
        _need(entry, verdict.context.get("approved") is True, "it was not judged again after the approval")
    else:
        _need(entry, verdict.verdict == ALLOW, "the guard did not allow it")
        _need(entry, f.approval == "", "it names an approval that was not given")
    value = verdict.context.get("value_cents", 0)
    cents = value if isinstance(value, int) and value > 0 else 0
    return _put(run, replace(step, status="intended", intent=f), actions=run.actions + 1, cents=run.cents + cents)


def _doubted(run: Run, entry: e.Entry, f: e.IntentDoubted) -> Run:
    step = _step(run, entry, "intended", why="no open intent")
    _need(entry, step.intent is not None and step.intent.key == f.key, "another intent is open")
    return _put(run, replace(step, status="doubted"))


def _resulted(run: Run, entry: e.Entry, f: e.ResultRecorded) -> Run:
    step = _step(run, entry, "intended", "doubted", why="no open intent")
    _need(entry, step.intent is not None and step.intent.key == f.key, "another intent is open")
    _need(entry, f.outcome in (DONE, FAILED), "the outcome is not known")
    changed = step.verdict is not None and step.verdict.context.get("effect") != "read"
    acted = f.outcome == DONE and changed and not step.id.startswith(UNDO)
    effects = (*run.effects, step.id) if acted else run.effects
    return _put(run, replace(step, status="resulted", result=f, result_seq=entry.seq), effects=effects)


def _observed(run: Run, entry: e.Entry, f: e.EffectObserved) -> Run:
    step = _step(run, entry, "resulted", why="no result to observe")
    _need(entry, step.result is not None and step.result.key == f.key, "another intent was open")
    _need(entry, step.result is not None and step.result.outcome == DONE, "there is nothing to observe")
    return _put(run, replace(step, status="observed", observed=f))


# --- steps that are no action -------------------------------------------------------------------------------------


def _entered(run: Run, entry: e.Entry, f: e.StepEntered) -> Run:
    _need(entry, f.kind in KINDS and f.count >= 0, "it is no known kind of step")
    step = replace(_begin(run, entry, f.step), status="entered", entered=f, entered_seq=entry.seq)
    return _put(run, step)


def _ended(run: Run, entry: e.Entry, f: e.StepEnded) -> Run:
    step = _step(run, entry, "entered", why="the step was not waiting")
    return _put(run, replace(step, status="ended", ended=f, ended_seq=entry.seq))


def _skipped(run: Run, entry: e.Entry, f: e.StepSkipped) -> Run:
    return _put(run, replace(_begin(run, entry, f.step), status="skipped"))


def _failed(run: Run, entry: e.Entry, f: e.StepFailed) -> Run:
    found = run.steps.get(f.step) or _begin(run, entry, f.step)
    could = found.status in ("recalled", "entered", "planned", "judged", "held", "waiting", "approved")
    _need(entry, could and not found.open, "the step is over, or has an open intent")
    used = run.approvals_used
    if found.approval is not None:
        used |= {found.approval.approval}
    return _put(run, replace(found, status="failed", code=f.code), approvals_used=used)


# --- the way back, and the end ------------------------------------------------------------------------------------


def _undoing(run: Run, entry: e.Entry, f: e.UndoBegun) -> Run:
    _need(entry, run.undoing is None, "it is being undone already")
    _need(entry, f.outcome in OUTCOMES and f.outcome not in (DONE, REHEARSED), "only what went wrong is undone")
    _need(entry, not any(step.open for step in run.steps.values()), "an intent is open")
    return replace(run, undoing=f)


def _left(run: Run, entry: e.Entry, f: e.UndoLeft) -> Run:
    _need(entry, run.undoing is not None and f.step in run.effects, "there is no effect to take back")
    name = UNDO + f.step
    found = run.steps.get(name) or Step(id=name, at=entry.at)
    _need(entry, found.status not in ("left", "handled", "waiting") and not found.open, "it is not for a person")
    return _put(run, replace(found, status="left", code=f.code))


def _closed(run: Run, entry: e.Entry, f: e.RunClosed) -> Run:
    _need(entry, f.outcome in OUTCOMES, "the outcome is not known")
    _need(entry, not any(step.open for step in run.steps.values()), "an intent is open")
    _need(entry, not run.left, "a person has something to take back")
    forward = run.undoing is None and not run.cancelled
    if f.outcome in (DONE, REHEARSED):
        _need(entry, forward and bool(run.steps) and run.idle_steps, "nothing was done")
        _need(entry, (f.outcome == REHEARSED) == run.opened.dry_run, "a dry run ends as one, and no other does")
    if f.outcome == CANCELLED:
        _need(entry, run.cancelled, "nobody cancelled it")
    return replace(run, closed=f, closed_at=entry.at)


# --- orders -------------------------------------------------------------------------------------------------------


def _ordered(run: Run, entry: e.Entry, f: e.RunOrdered) -> Run:
    _need(entry, f.place in PLACES and f.id not in run.orders, "the order came before, or from no known place")
    run = replace(run, orders=(*run.orders, f.id))
    if f.order in STEP_ORDERS:
        _need(entry, run.closed is None, "the run is closed")
        return _about_step(run, entry, f)
    match f.order:
        case "pause":
            _need(entry, run.closed is None and not run.paused, "it cannot be paused")
            return replace(run, paused=True)
        case "resume":
            _need(entry, run.closed is None and run.paused, "it is not paused")
            return replace(run, paused=False)
        case "cancel":
            _need(entry, run.closed is None and not run.cancelled, "it cannot be cancelled")
            return replace(run, cancelled=True, paused=False)
        case "retry":
            failed = run.closed is not None and run.closed.outcome == FAILED and not run.dismissed
            _need(entry, failed, "only a failed run is retried")
            return _anew(run, entry.at)
        case "dismiss":
            failed = run.closed is not None and run.closed.outcome == FAILED and not run.dismissed
            _need(entry, failed, "only a failed run is dismissed")
            return replace(run, dismissed=True)
        case _:
            raise out_of_order(entry, "there is no such order")


def _about_step(run: Run, entry: e.Entry, f: e.RunOrdered) -> Run:
    if f.order == "handled":
        step = _step(run, entry, "left", why="nothing was left to a person")
        return _put(run, replace(step, status="handled"))
    step = _step(run, entry, "doubted", why="nothing is in doubt")
    if f.order == "happened":  # a result follows, told by a person
        return _put(run, replace(step, status="intended"))
    return _put(run, replace(_unjudged(step), intent=None))


def _anew(run: Run, at: int) -> Run:
    """A failed run goes on from what failed. What was done stays done, what was taken back is done anew."""
    undone = {name.removeprefix(UNDO) for name in run.steps if name.startswith(UNDO)}
    over = {name for name, step in run.steps.items() if step.end is None or step.end[0] != DONE}
    again = (over | undone) - {name for name, step in run.steps.items() if step.is_group}
    kept = {n: s for n, s in run.steps.items() if n not in again and not n.startswith(UNDO)}
    return replace(
        run,
        steps=kept,
        current="",
        effects=tuple(name for name in run.effects if name not in undone),
        times=run.times | {name: run.times.get(name, 0) + 1 for name in again},
        undoing=None,
        cancelled=False,
        began_at=at,
        closed=None,
        closed_at=0,
    )


_OF_RUN: dict[type[e.Facts], Callable[[Run, e.Entry, Any], Run]] = {
    e.UndoBegun: _undoing,
    e.UndoLeft: _left,
    e.RunClosed: _closed,
}
_OF_STEP: dict[type[e.Facts], Callable[[Run, e.Entry, Any], Run]] = {
    e.ContextRecalled: _recalled,
    e.PlanMade: _planned,
    e.VerdictGiven: _judged,
    e.StepRehearsed: _rehearsed,
    e.ApprovalAskedV1: _asked,
    e.ApprovalAsked: _asked,
    e.ApprovalEscalated: _escalated,
    e.ApprovalAnsweredV1: _answered,
    e.ApprovalAnswered: _answered,
    e.ApprovalCovered: _covered,
    e.ApprovalVoided: _voided,
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
