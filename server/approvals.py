"""Questions to people, and their answers.

A question is bound to the digest of one exact action, expires, and is answered once. The answer is signed by the hub's
key, written to the hub's log, put into the device's outbox and taken off the list in one transaction; only then is
anybody told. What is asked about (inputs, reason, sources) is read from the bodies the device sent, never copied.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection, Row, Select, and_, insert, or_, select, update

from server.bus import Bus
from server.store import HubLog
from server.store.tables import APPROVALS, BODIES, DEVICES, ENTRIES, OUTBOX
from shared import entries as e
from shared import limits
from shared.actions import Action, Arguments, Value
from shared.errors import BadInput, Conflict, OutriderError, Refused
from shared.release import Answer, Release, sign

APPROVE, DENY, CORRECT = "approve", "deny", "correct"
_RELEASES = 8  # opened ones kept at hand
_MOST = 500


class Library(Protocol):
    """Where releases are read; ``releases`` provides it."""

    def release(self, number: int, /) -> Release: ...


@dataclass(frozen=True)
class ApprovalView:
    """A question as shown. Times are microseconds since 1970 UTC, ``confidence`` is permille. ``rules`` are the ids
    that decided, with what their author says of them; ``lanes`` the ids and labels a correction may name. What stood in
    an erased body is empty. ``run`` is the run's name, ``run_id`` what ``Record.run`` finds it by."""

    id: str
    device: str
    device_name: str
    run: str
    run_id: str
    playbook: str
    step: str
    tool: str
    arguments: dict[str, Any]
    subject: str
    inputs: dict[str, Any]
    fields: dict[str, Any]
    label: str
    reason: str
    sources: list[dict[str, Any]]
    confidence: int
    planner: str
    rules: list[tuple[str, str]]
    roles: list[str]
    lanes: list[tuple[str, str]]
    asked_at: int
    expires_at: int
    state: str  # waiting | answered | expired | void
    void_code: str
    answer: str
    by: str
    answered_at: int
    answer_reason: str
    corrected: dict[str, Any] | None
    applied: bool


@dataclass(frozen=True)
class _Told:
    """What the device wrote about a question: entries and bodies."""

    opened: e.RunOpened
    plan: e.PlanMade
    verdict: e.VerdictGiven
    inputs: dict[str, Any]
    subject: str
    body: dict[str, Any]
    decided: dict[str, Any] = field(default_factory=dict)


class Approvals:
    """``library`` gives the releases whose playbooks and rules explain a question and bound a correction."""

    def __init__(self, hublog: HubLog, bus: Bus, library: Library) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._library = library
        self._lock = threading.Lock()
        self._opened: dict[int, Release | None] = {}

    # --- reading ----------------------------------------------------------------------------------------------

    def waiting(self) -> list[ApprovalView]:
        """Questions that can still be answered, the oldest first."""
        now = self._log.clock()
        query = _approvals().where(APPROVALS.c.state == "waiting", APPROVALS.c.expires_at > now)
        return self._views(query.order_by(APPROVALS.c.n).limit(_MOST))

    def recent(self, limit: int = 50) -> list[ApprovalView]:
        """Questions that are answered, expired or void, the newest first."""
        over = or_(APPROVALS.c.state != "waiting", APPROVALS.c.expires_at <= self._log.clock())
        return self._views(_approvals().where(over).order_by(APPROVALS.c.n.desc()).limit(max(1, min(limit, _MOST))))

    def get(self, approval: str) -> ApprovalView:
        """Raises ``BadInput('approval.unknown')``."""
        with self._store.read() as conn:
            row = self._row(conn, approval)
            return self._view(conn, row)

    def _views(self, query: Select[Any]) -> list[ApprovalView]:
        with self._store.read() as conn:
            return [self._view(conn, row) for row in conn.execute(query).all()]

    def _row(self, conn: Connection, approval: str) -> Row[Any]:
        row = conn.execute(_approvals().where(APPROVALS.c.id == approval)).first()
        if row is None:
            raise BadInput("approval.unknown", f"there is no question {approval[:80]!r}", advice="see the list")
        return row

    def _view(self, conn: Connection, row: Row[Any]) -> ApprovalView:
        told = self._told(conn, row)
        action = told.body.get("action") or {}
        release = self._release(told.verdict.release)
        decided = told.decided
        return ApprovalView(
            id=row.id,
            device=row.device,
            device_name=row.device_name,
            run=row.run,
            run_id=f"{row.device}:{row.run}",
            playbook=told.opened.playbook,
            step=row.step,
            tool=told.plan.tool,
            arguments=dict(action.get("arguments") or {}),
            subject=told.subject,
            inputs=told.inputs,
            fields=dict(told.body.get("fields") or {}),
            label=str(told.body.get("label") or told.plan.label),
            reason=str(told.body.get("reason") or ""),
            sources=list(told.body.get("sources") or []),
            confidence=told.plan.confidence,
            planner=told.plan.planner,
            rules=[(rule, release.policy.explain(rule) if release else rule) for rule in told.verdict.rules],
            roles=json.loads(row.roles),
            lanes=self._lanes(told.opened),
            asked_at=row.asked_at,
            expires_at=row.expires_at,
            state=self._state(row),
            void_code=row.void_code,
            answer=row.answer,
            by=row.by,
            answered_at=row.answered_at,
            answer_reason=str(decided.get("reason") or ""),
            corrected=decided.get("arguments") if row.answer == CORRECT else None,
            applied=row.applied_seq >= 0,
        )

    def _state(self, row: Row[Any]) -> str:
        expired = row.state == "waiting" and row.expires_at <= self._log.clock()
        return "expired" if expired else str(row.state)

    def _told(self, conn: Connection, row: Row[Any]) -> _Told:
        """The opening, the plan and the verdict that led to a question."""
        wanted = (row.opened_seq, row.plan_seq, row.verdict_seq)
        body = and_(BODIES.c.device == ENTRIES.c.device, BODIES.c.seq == ENTRIES.c.seq)
        found = conn.execute(
            select(ENTRIES.c.seq, ENTRIES.c.data, BODIES.c.data.label("body"))
            .outerjoin(BODIES, body)
            .where(ENTRIES.c.device == row.device, ENTRIES.c.seq.in_(wanted))
        )
        entries = {r.seq: (e.read(r.data).facts, json.loads(r.body) if r.body else {}) for r in found}
        (opened, inputs), (plan, planned), (verdict, _) = (entries[seq] for seq in wanted)
        assert isinstance(opened, e.RunOpened) and isinstance(plan, e.PlanMade) and isinstance(verdict, e.VerdictGiven)
        decided: dict[str, Any] = {}
        if row.decided_seq >= 0:
            envelope = (self._log.body(row.decided_seq) or {}).get("envelope") or {}
            decided = json.loads(envelope.get("payload") or "{}")
        subject = str(inputs.get("subject") or "")
        return _Told(opened, plan, verdict, dict(inputs.get("inputs") or {}), subject, planned, decided)

    def _lanes(self, opened: e.RunOpened) -> list[tuple[str, str]]:
        release = self._release(opened.release)
        book = release.playbooks.get(opened.playbook) if release else None
        return [(lane.id, lane.label) for lane in book.lanes] if book else []

    def _release(self, number: int) -> Release | None:
        """A release, opened once; ``None`` where the repository no longer has it: the question is shown without it."""
        with self._lock:
            if number not in self._opened:
                try:
                    self._opened[number] = self._library.release(number)
                except OutriderError:
                    return None
                while len(self._opened) > _RELEASES:
                    del self._opened[min(self._opened)]
            return self._opened[number]

    # --- answering --------------------------------------------------------------------------------------------

    def decide(
        self,
        approval: str,
        *,
        by: str,
        roles: Sequence[str],
        answer: str,
        reason: str = "",
        corrections: Mapping[str, str] | None = None,
    ) -> None:
        """Give a person's answer. ``roles`` are theirs; ``corrections`` are new values by argument name, as text.

        Raises ``BadInput('approval.unknown' | 'approval.answer' | 'approval.reason' | 'approval.correction')``,
        ``Refused('approval.role')``, ``Conflict('approval.used' | 'approval.expired' | 'approval.void')``.
        """
        reason = _checked(answer, reason)
        with self._store.read() as conn:
            row = self._row(conn, approval)
            told = self._told(conn, row)
        self._check_open(row)
        role = _role(json.loads(row.roles), roles)
        corrected = self._corrected(told, answer, corrections or {})
        at = self._log.clock()
        message = Answer(
            approval=approval,
            device=row.device,
            run=row.run,
            action=row.action,
            answer=answer,
            by=by,
            role=role,
            at=at,
            reason=reason,
            corrected=corrected.digest if corrected else "",
            arguments=corrected.arguments if corrected else None,
        )
        self._commit(message)
        for topic in ("approvals", f"device:{row.device}"):
            self._bus.publish(topic, {"approval": approval, "device": row.device})

    def _check_open(self, row: Row[Any]) -> None:
        state = self._state(row)
        if state == "answered":
            raise _used(row.by)
        if state == "void":
            raise Conflict("approval.void", "the question no longer stands", advice="see the run for what came after")
        if state == "expired":
            raise Conflict("approval.expired", "the question has expired", advice="the agent will plan the run again")

    def _corrected(self, told: _Told, answer: str, corrections: Mapping[str, str]) -> Action | None:
        """The action to be done instead; ``None`` unless the answer corrects."""
        planned = told.body.get("action")
        if not planned:
            if answer == CORRECT:
                raise _correction("the action's details were erased here", "approve or deny it")
            return None
        action = msgspec.convert(planned, Action)
        lanes = [name for name, _ in self._lanes(told.opened)]
        arguments = _merge(action, corrections, lanes)
        changed = arguments != action.arguments
        if answer == CORRECT and not changed:
            raise _correction("nothing was changed", "change a value, or approve the action as it is")
        if answer == APPROVE and changed:
            raise _correction("values were changed, but the answer approves the old ones", "answer with correct")
        return Action(action.tool, arguments, action.subject) if answer == CORRECT else None

    def _commit(self, message: Answer) -> None:
        sealed = sign(message, self._log.key)
        facts = e.ApprovalDecided(
            approval=message.approval,
            device=message.device,
            action=message.action,
            answer=message.answer,
            corrected=message.corrected,
            by=message.by,
        )

        def rows(conn: Connection, written: Sequence[e.Written]) -> None:
            values = {
                "state": "answered",
                "answer": message.answer,
                "by": message.by,
                "corrected": message.corrected,
                "answered_at": message.at,
                "decided_seq": written[0].entry.seq,
            }
            still = update(APPROVALS).where(APPROVALS.c.id == message.approval, APPROVALS.c.state == "waiting")
            if conn.execute(still.values(values)).rowcount != 1:
                row = self._row(conn, message.approval)
                self._check_open(row)
                raise _used(row.by)
            text = msgspec.json.encode(sealed).decode()
            conn.execute(insert(OUTBOX), [{"device": message.device, "at": message.at, "envelope": text}])

        self._log.append([e.Draft(facts, bodies={"shared": {"envelope": msgspec.to_builtins(sealed)}})], rows)


def _approvals() -> Select[Any]:
    return select(APPROVALS, DEVICES.c.name.label("device_name")).join(DEVICES, DEVICES.c.id == APPROVALS.c.device)


def _used(by: str) -> Conflict:
    return Conflict("approval.used", f"{by} answered this already", advice="see their answer")


def _correction(said: str, advice: str) -> BadInput:
    return BadInput("approval.correction", said, advice=advice)


def _role(asked: Sequence[str], theirs: Sequence[str]) -> str:
    """The role in which a person answers."""
    for role in asked:
        if role in theirs:
            return role
    needed = " or ".join(asked)
    raise Refused("approval.role", f"only {needed} may answer this", advice=f"ask somebody who is {needed}")


def _checked(answer: str, reason: str) -> str:
    """The reason, tidied."""
    if answer not in (APPROVE, DENY, CORRECT):
        raise BadInput("approval.answer", f"{answer[:40]!r} is no answer", advice="approve, deny or correct")
    reason = " ".join(reason.split())
    if len(reason) > limits.REASON_CHARS:
        raise BadInput(
            "approval.reason", f"the reason has {len(reason)} characters", advice=f"use at most {limits.REASON_CHARS}"
        )
    return reason


def _merge(action: Action, corrections: Mapping[str, str], lanes: list[str]) -> Arguments:
    """The action's arguments with a person's values in place, types kept."""
    arguments = dict(action.arguments)
    for name, text in corrections.items():
        if name not in arguments:
            raise _correction(f"{action.tool} was not given {name[:80]!r}", f"correct one of {', '.join(arguments)}")
        value = _typed(name, arguments[name], text)
        if value == arguments[name]:
            continue
        if arguments[name] == action.subject:
            raise _correction(f"{name} says which case this is", "deny this one, and open the right case")
        if name == "lane" and value not in lanes:
            raise _correction(f"{text[:80]!r} is not a lane", f"use one of {', '.join(lanes) or 'none known here'}")
        arguments[name] = value
    return arguments


def _typed(name: str, old: Value, text: str) -> Value:
    if isinstance(old, bool):
        if text.lower() not in ("true", "false"):
            raise _correction(f"{name} is yes or no", "use true or false")
        return text.lower() == "true"
    if isinstance(old, int):
        try:
            return int(text)
        except ValueError as error:
            raise _correction(f"{name} is a whole number", "use digits only") from error
    if len(text) > limits.FIELD_CHARS:
        raise _correction(f"{name} has {len(text)} characters", f"use at most {limits.FIELD_CHARS}")
    if old is None and not text:
        return None
    return text
