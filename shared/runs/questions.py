"""The rules of questions to people: who was asked, what they said, and what an answer lets be done."""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict, replace

from shared import entries as e
from shared.policy import ASK
from shared.runs.ground import known, need, put
from shared.runs.state import Run, Step

PLACES = ("hub", "local", "parent")  # where an order comes from; an answer never comes from a parent


def asked(run: Run, entry: e.Entry, f: e.ApprovalAskedV1) -> Run:
    step = _held_back(run, entry, f.action)
    if not isinstance(f, e.ApprovalAsked):
        f = e.ApprovalAsked(**asdict(f))
    need(entry, f.approval not in run.approvals_used and run.asked(f.approval) is None, "the approval was used before")
    need(entry, f.needed >= 1, "somebody must answer")
    need(entry, f.needed == 1 or not (f.local or f.similar_s), "several people answer at the hub, for one action")
    fresh: dict[str, Any] = {"asked_at": entry.at, "level": 0, "answer": None, "approvers": [], "granted": ""}
    return put(run, replace(step, status="waiting", approval=f, roles=f.roles, **fresh))


def _held_back(run: Run, entry: e.Entry, action: str) -> Step:
    """The step whose verdict wants a person for exactly this action."""
    step = known(run, entry, "judged", why="no verdict asks for a person")
    need(entry, step.verdict is not None and step.verdict.verdict == ASK, "no verdict asks for a person")
    need(entry, not run.opened.dry_run, "a dry run asks nobody")
    need(entry, action == step.action, "the question is about another action")
    return step


def escalated(run: Run, entry: e.Entry, f: e.ApprovalEscalated) -> Run:
    step = known(run, entry, "waiting", why="nobody was asked")
    need(entry, step.approval is not None and step.approval.approval == f.approval, "that is another question")
    need(entry, f.level == step.level + 1, "a level was left out")
    return put(run, replace(step, level=f.level, roles=[*dict.fromkeys([*step.roles, *f.roles])]))


def answered(run: Run, entry: e.Entry, f: e.ApprovalAnsweredV1) -> Run:
    step = known(run, entry, "waiting", why="nobody was asked")
    if not isinstance(f, e.ApprovalAnswered):
        f = e.ApprovalAnswered(**asdict(f))
    question = step.approval
    assert question is not None
    _check_answer(entry, step, question, f)
    used = run.approvals_used | {f.approval}
    match f.answer:
        case "correct":
            changes = {"status": "approved", "action": f.corrected, "corrected_seq": entry.seq, "granted": f.approval}
        case "approve" if len(step.approvers) + 1 < question.needed:
            return put(run, replace(step, approvers=[*step.approvers, f.by]))
        case "approve":
            changes = {"status": "approved", "granted": f.approval, "approvers": [*step.approvers, f.by]}
        case _:
            changes = {"status": "judged"}
    return put(run, replace(step, answer=f, **changes), approvals_used=used)


def _check_answer(entry: e.Entry, step: Step, question: e.ApprovalAsked, f: e.ApprovalAnswered) -> None:
    same = f.approval == question.approval and f.action == question.action
    need(entry, same, "the answer is to another question")
    need(entry, entry.at <= question.expires_at, "the approval had expired")
    need(entry, f.answer in ("approve", "deny", "correct"), "the answer is not one of three")
    need(entry, (f.answer == "correct") == bool(f.corrected), "only a correction names another action")
    need(entry, f.answer != "correct" or question.needed == 1, "what several people must approve, one cannot correct")
    need(entry, f.place in ("hub", "local"), "it was given at no known place")
    need(entry, f.place != "local" or question.local, "policy does not allow an answer at this computer")
    need(entry, f.by not in step.approvers, "the same person answered twice")
    lasts = entry.at + question.similar_s * 1_000_000 if question.similar_s else 0
    need(entry, 0 <= f.similar_until <= lasts, "it covers more than it may")


def covered(run: Run, entry: e.Entry, f: e.ApprovalCovered) -> Run:
    """That ``grant`` covers it, only the fold of a whole device can say: it is another run's answer."""
    step = _held_back(run, entry, f.action)
    need(entry, f.approval not in run.approvals_used and run.asked(f.approval) is None, "the approval was used before")
    used = run.approvals_used | {f.approval}
    return put(run, replace(step, status="approved", granted=f.approval), approvals_used=used)


def voided(run: Run, entry: e.Entry, f: e.ApprovalVoided) -> Run:
    step = known(run, entry, "waiting", "approved", "held", why="the approval was used")
    named = step.granted or (step.approval.approval if step.approval else "")
    need(entry, f.approval == named != "", "no such approval")
    return put(run, unjudged(step), approvals_used=run.approvals_used | {f.approval})


def unjudged(step: Step) -> Step:
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
