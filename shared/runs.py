"""Run state as a pure fold over entries, and the next move as a pure function of it. Spec page: ``shared/spec/log.md``.

    opened → planned → judged ─ allow ───────────────→ intended → resulted → observed → closed
                          │                               │
                          ├─ ask → asked → approved ──────┤            (approved actions are judged again first)
                          ├─ deny by the host → held       └→ doubted: only a person can say
                          └─ deny by policy → closed

The fold refuses an entry that cannot follow (``Tampered('run.order')``): an intent without an allowing verdict or a
person's approval, a result without an intent, anything after the end. So verifying a log also verifies that nothing
acted unguarded. The same code runs the agent, the hub's console and the auditor.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from shared import entries as e
from shared.errors import Tampered
from shared.policy import ALLOW, ASK, DENY

DONE, DENIED, DECLINED, FAILED, REFERRED = "done", "denied", "declined", "failed", "referred"
OUTCOMES = (DONE, DENIED, DECLINED, FAILED, REFERRED)


@dataclass(frozen=True)
class Run:
    """A run so far. ``status`` is one of: opened, planned, judged, held, waiting, approved, intended, doubted,
    resulted, observed, closed. ``action`` is the digest in force: the planner's, or the one a person put in its
    place."""

    id: str
    opened: e.RunOpened
    at: int
    seq: int
    status: str = "opened"
    step: str = ""
    finished_steps: tuple[str, ...] = ()
    recalled: e.ContextRecalled | None = None
    plan: e.PlanMade | None = None
    plan_seq: int = -1
    action: str = ""
    corrected_seq: int = -1
    verdict: e.VerdictGiven | None = None
    approval: e.ApprovalAsked | None = None
    answer: e.ApprovalAnswered | None = None
    approvals_used: frozenset[str] = frozenset()
    intent: e.IntentRecorded | None = None
    result: e.ResultRecorded | None = None
    observed: e.EffectObserved | None = None
    closed: e.RunClosed | None = None
    closed_at: int = 0

    @property
    def held(self) -> bool:
        return self.status == "held"


def _out_of_order(run: Run, entry: e.Entry, why: str) -> Tampered:
    return Tampered(
        "run.order",
        f"entry {entry.seq} ({entry.type}) cannot follow in run {run.id}: {why}",
        advice="the log was not written by the run engine; keep it as evidence",
    )


def fold(run: Run | None, entry: e.Entry) -> Run:
    """One entry further. ``run`` is ``None`` before ``run.opened``."""
    if run is None:
        if not isinstance(entry.facts, e.RunOpened):
            raise Tampered("run.order", f"entry {entry.seq} belongs to a run never opened", advice="keep the log")
        return Run(id=entry.run, opened=entry.facts, at=entry.at, seq=entry.seq)
    if run.status == "closed":
        raise _out_of_order(run, entry, "the run is closed")
    step = _STEPS.get(type(entry.facts))
    if step is None:
        raise _out_of_order(run, entry, "this type does not belong in an open run")
    return step(run, entry)


def _need(run: Run, entry: e.Entry, holds: bool, why: str) -> None:
    if not holds:
        raise _out_of_order(run, entry, why)


def _recalled(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.ContextRecalled)
    _need(run, entry, run.status in ("opened", "observed"), "a step is already planned")
    return replace(run, recalled=f, step=f.step)


def _planned(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.PlanMade)
    _need(run, entry, run.status in ("opened", "observed"), "a step is already planned")
    return replace(
        run,
        status="planned",
        step=f.step,
        plan=f,
        plan_seq=entry.seq,
        action=f.action,
        corrected_seq=-1,
        verdict=None,
        approval=None,
        answer=None,
        intent=None,
        result=None,
        observed=None,
    )


def _judged(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.VerdictGiven)
    _need(run, entry, run.status in ("planned", "judged", "held", "approved"), "nothing is to be judged")
    _need(run, entry, run.answer is None or run.answer.answer != "deny", "a person said no")
    _need(run, entry, f.action == run.action and f.action != "", "the verdict is about another action")
    if f.verdict == DENY:
        status = "held" if any(rule.startswith("host:") for rule in f.rules) else "judged"
    else:
        status = "approved" if run.status == "approved" or (run.held and run.answer) else "judged"
    return replace(run, status=status, verdict=f)


def _asked(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.ApprovalAsked)
    _need(run, entry, run.verdict is not None and run.verdict.verdict == ASK, "no verdict asks for a person")
    _need(run, entry, run.status == "judged" and f.action == run.action, "the question is about another action")
    _need(run, entry, f.approval not in run.approvals_used, "the approval was used before")
    return replace(run, status="waiting", approval=f, answer=None)


def _answered(run: Run, entry: e.Entry) -> Run:
    f, asked = entry.facts, run.approval
    assert isinstance(f, e.ApprovalAnswered)
    _need(run, entry, run.status == "waiting" and asked is not None, "nobody was asked")
    assert asked is not None
    _need(run, entry, f.approval == asked.approval and f.action == asked.action, "the answer is to another question")
    _need(run, entry, entry.at <= asked.expires_at, "the approval had expired")
    _need(run, entry, f.answer in ("approve", "deny", "correct"), "the answer is not one of three")
    _need(run, entry, (f.answer == "correct") == bool(f.corrected), "only a correction names another action")
    used = run.approvals_used | {f.approval}
    if f.answer == "correct":
        return replace(
            run, status="approved", answer=f, action=f.corrected, corrected_seq=entry.seq, approvals_used=used
        )
    return replace(run, status="approved" if f.answer == "approve" else "judged", answer=f, approvals_used=used)


def _voided(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.ApprovalVoided)
    _need(run, entry, run.approval is not None and run.approval.approval == f.approval, "no such approval")
    _need(run, entry, run.status in ("waiting", "approved", "held"), "the approval was used")
    used = run.approvals_used | {f.approval}
    assert run.plan is not None
    return replace(
        run,
        status="planned",
        action=run.plan.action,  # a correction dies with its approval
        corrected_seq=-1,
        approval=None,
        answer=None,
        verdict=None,
        approvals_used=used,
    )


def _intended(run: Run, entry: e.Entry) -> Run:
    f, verdict = entry.facts, run.verdict
    assert isinstance(f, e.IntentRecorded)
    _need(run, entry, verdict is not None and verdict.action == f.action == run.action, "no verdict on this action")
    assert verdict is not None
    if run.status == "approved":
        granted = run.answer is not None and f.approval == run.answer.approval
        _need(run, entry, granted and verdict.verdict in (ALLOW, ASK), "the approval does not cover it")
        _need(run, entry, verdict.context.get("approved") is True, "it was not judged again after the approval")
    else:
        _need(run, entry, run.status == "judged" and verdict.verdict == ALLOW, "the guard did not allow it")
        _need(run, entry, f.approval == "", "it names an approval that was not given")
    return replace(run, status="intended", intent=f)


def _doubted(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.IntentDoubted)
    _need(run, entry, run.status == "intended" and run.intent is not None, "no open intent")
    _need(run, entry, run.intent is not None and run.intent.key == f.key, "another intent is open")
    return replace(run, status="doubted")


def _resulted(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.ResultRecorded)
    _need(run, entry, run.status in ("intended", "doubted"), "no open intent")
    _need(run, entry, run.intent is not None and run.intent.key == f.key, "another intent is open")
    _need(run, entry, f.outcome in (DONE, FAILED), "the outcome is not known")
    return replace(run, status="resulted", result=f)


def _observed(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.EffectObserved)
    _need(run, entry, run.status == "resulted" and run.result is not None, "no result to observe")
    _need(run, entry, run.result is not None and run.result.key == f.key, "another intent was open")
    _need(run, entry, run.result is not None and run.result.outcome == DONE, "there is nothing to observe")
    return replace(run, status="observed", observed=f, finished_steps=(*run.finished_steps, run.step))


def _closed(run: Run, entry: e.Entry) -> Run:
    f = entry.facts
    assert isinstance(f, e.RunClosed)
    _need(run, entry, f.outcome in OUTCOMES, "the outcome is not known")
    _need(run, entry, run.status not in ("intended", "doubted"), "an intent is open")
    done = run.status == "observed" and run.observed is not None and run.observed.matches
    _need(run, entry, f.outcome != DONE or done, "nothing was done")
    return replace(run, status="closed", closed=f, closed_at=entry.at)


_STEPS: dict[type[e.Facts], Callable[[Run, e.Entry], Run]] = {
    e.ContextRecalled: _recalled,
    e.PlanMade: _planned,
    e.VerdictGiven: _judged,
    e.ApprovalAsked: _asked,
    e.ApprovalAnswered: _answered,
    e.ApprovalVoided: _voided,
    e.IntentRecorded: _intended,
    e.IntentDoubted: _doubted,
    e.ResultRecorded: _resulted,
    e.EffectObserved: _observed,
    e.RunClosed: _closed,
}


_OF_RUNS: tuple[type[e.Facts], ...] = (e.RunOpened, *_STEPS)


class Move(enum.Enum):
    """What the engine does next."""

    PLAN = "plan"
    JUDGE = "judge"
    ASK = "ask"
    WAIT = "wait"  # for a person
    HOLD = "hold"  # for a lease
    ACT = "act"
    SETTLE = "settle"  # an intent without a result: it may or may not have happened
    OBSERVE = "observe"
    CLOSE = "close"
    STOP = "stop"  # closed


@dataclass(frozen=True)
class Next:
    """A move, the step it concerns, and for ``CLOSE`` the outcome and code."""

    move: Move
    step: str = ""
    outcome: str = ""
    code: str = ""


def next_move(run: Run, steps: list[str]) -> Next:
    """The next move of a run whose playbook has these step ids, in order."""
    match run.status:
        case "opened":
            return Next(Move.PLAN, steps[0])
        case "planned":
            if not run.action:
                return Next(Move.CLOSE, run.step, REFERRED, run.plan.abstained if run.plan else "")
            return Next(Move.JUDGE, run.step)
        case "judged":
            return _after_judgement(run)
        case "held":
            return Next(Move.HOLD, run.step)
        case "waiting":
            return Next(Move.WAIT, run.step)
        case "approved":
            return _after_approval(run)
        case "intended":
            return Next(Move.SETTLE, run.step)
        case "doubted":
            return Next(Move.WAIT, run.step)
        case "resulted":
            if run.result is not None and run.result.outcome != DONE:
                return Next(Move.CLOSE, run.step, FAILED, run.result.code)
            return Next(Move.OBSERVE, run.step)
        case "observed":
            left = [step for step in steps if step not in run.finished_steps]
            if run.observed is not None and not run.observed.matches:
                return Next(Move.CLOSE, run.step, FAILED, "effect.mismatch")
            return Next(Move.PLAN, left[0]) if left else Next(Move.CLOSE, run.step, DONE)
        case _:
            return Next(Move.STOP)


def _after_judgement(run: Run) -> Next:
    if run.answer is not None and run.answer.answer == "deny":
        return Next(Move.CLOSE, run.step, DECLINED, "approval.denied")
    assert run.verdict is not None
    match run.verdict.verdict:
        case "allow":
            return Next(Move.ACT, run.step)
        case "ask":
            return Next(Move.ASK, run.step)
        case _:
            return Next(Move.CLOSE, run.step, DENIED, run.verdict.rules[0] if run.verdict.rules else "")


def _after_approval(run: Run) -> Next:
    """An approved action is judged again: what the policy now denies is not done because it was once approved. The
    second verdict is known by ``approved`` in its context."""
    verdict = run.verdict
    if verdict is None or verdict.action != run.action or verdict.context.get("approved") is not True:
        return Next(Move.JUDGE, run.step)
    return Next(Move.ACT, run.step)


@dataclass
class Device:
    """What the guard and the engine know of their device: a fold over its whole log, open runs in full.

    ``spent`` is what was done without a person since the hub last countersigned: it counts against the lease."""

    lease: e.LeaseTaken | None = None
    release: e.ReleaseInstalled | None = None
    joined: e.DeviceJoined | None = None
    revoked: bool = False
    hub_size: int = 0
    hub_root: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)  # run id -> outcome
    spent: list[tuple[int, int]] = field(default_factory=list)  # (seq, cents) of each intent not yet synced
    sources: dict[str, e.SourceRead] = field(default_factory=dict)  # by SHA-256 of the file

    def fold(self, entry: e.Entry) -> Run | None:
        """One entry further; the run it moved, if it moved one."""
        if entry.run or isinstance(entry.facts, _OF_RUNS):
            return self._fold_run(entry)
        match entry.facts:
            case e.DeviceJoined() as joined:
                self.joined = joined
            case e.ReleaseInstalled() as release:
                self.release = release
            case e.LeaseTaken() as lease:
                self.lease = lease
            case e.DeviceRevoked():
                self.revoked = True
            case e.SourceRead() as source:
                self.sources[source.sha256] = source
            case e.HubPinned(size=size, root=root):
                self.hub_size, self.hub_root = size, root
        return None

    def _fold_run(self, entry: e.Entry) -> Run:
        if not entry.run:
            raise Tampered("run.order", f"entry {entry.seq} ({entry.type}) names no run", advice="keep the log")
        if entry.run in self.closed:
            raise Tampered(
                "run.order", f"entry {entry.seq} goes on with a closed run", advice="keep the log as evidence"
            )
        run = fold(self.runs.get(entry.run), entry)
        if run.closed is not None:
            self.runs.pop(entry.run, None)
            self.closed[run.id] = run.closed.outcome
        else:
            self.runs[entry.run] = run
        if isinstance(entry.facts, e.IntentRecorded) and not entry.facts.approval and run.verdict is not None:
            cents = run.verdict.context.get("value_cents", 0)
            self.spent.append((entry.seq, cents if isinstance(cents, int) else 0))
        return run

    def synced(self, size: int) -> None:
        """The hub has countersigned ``size`` entries: what they spent no longer counts."""
        self.spent = [(seq, cents) for seq, cents in self.spent if seq >= size]

    @property
    def actions_since_sync(self) -> int:
        return len(self.spent)

    @property
    def value_since_sync(self) -> int:
        return sum(cents for _, cents in self.spent)
