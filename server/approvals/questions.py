"""Questions read back for people: rows, and what the device wrote about each, put together."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, or_, select

from server.approvals.views import CORRECT, AnswerView, ApprovalView, Library
from server.store import HubLog
from server.store.tables import ANSWERS, APPROVALS, BODIES, DEVICES, ENTRIES
from shared import entries as e
from shared.errors import BadInput, OutriderError
from shared.playbook import Playbook, seconds
from shared.release import Release

_RELEASES = 8  # opened ones kept at hand
_MOST = 500


@dataclass(frozen=True)
class Told:
    """What the device wrote about a question: entries and bodies."""

    opened: e.RunOpenedV1
    plan: e.PlanMade
    verdict: e.VerdictGiven
    inputs: dict[str, Any]
    subject: str
    body: dict[str, Any]
    answers: list[AnswerView] = field(default_factory=list)
    corrected: dict[str, Any] | None = None

    @property
    def action(self) -> dict[str, Any]:
        """The action asked about; empty where its body was erased."""
        found = self.body.get("action")
        return found if isinstance(found, dict) else {}


class Questions:
    """``library`` gives the releases whose playbooks and rules explain a question and bound a correction."""

    def __init__(self, hublog: HubLog, library: Library) -> None:
        self._log = hublog
        self._store = hublog.store
        self._library = library
        self._lock = threading.Lock()
        self._opened: dict[int, Release | None] = {}

    def waiting(self) -> list[ApprovalView]:
        """Questions that can still be answered, the oldest first."""
        query = _approvals().where(APPROVALS.c.state == "waiting", APPROVALS.c.expires_at > self._log.clock())
        return self._views(query.order_by(APPROVALS.c.n).limit(_MOST))

    def recent(self, limit: int) -> list[ApprovalView]:
        """Questions that are answered, expired or void, the newest first."""
        over = or_(APPROVALS.c.state != "waiting", APPROVALS.c.expires_at <= self._log.clock())
        return self._views(_approvals().where(over).order_by(APPROVALS.c.n.desc()).limit(max(1, min(limit, _MOST))))

    def get(self, approval: str) -> ApprovalView:
        """Raises ``BadInput('approval.unknown')``."""
        with self._store.read() as conn:
            row = self.row(conn, approval)
            return self._view(row, self.told(conn, row))

    def row(self, conn: Connection, approval: str) -> Row[Any]:
        row = conn.execute(_approvals().where(APPROVALS.c.id == approval)).first()
        if row is None:
            raise BadInput("approval.unknown", f"there is no question {approval[:80]!r}", advice="see the list")
        return row

    def state(self, row: Row[Any]) -> str:
        expired = row.state == "waiting" and row.expires_at <= self._log.clock()
        return "expired" if expired else str(row.state)

    def lanes(self, told: Told) -> list[tuple[str, str]]:
        """What a correction may put in the place of an action's lane; none where it has no lane."""
        book = self._book(told)
        has_lane = "lane" in (told.action.get("arguments") or {})
        return [(lane.id, lane.label) for lane in book.lanes] if book and has_lane else []

    # --- putting together -------------------------------------------------------------------------------------

    def _views(self, query: Select[Any]) -> list[ApprovalView]:
        with self._store.read() as conn:
            return [self._view(row, self.told(conn, row)) for row in conn.execute(query).all()]

    def told(self, conn: Connection, row: Row[Any]) -> Told:
        """The opening, the plan and the verdict that led to a question, and what people said to it."""
        wanted = (row.opened_seq, row.plan_seq, row.verdict_seq)
        found = _entries(conn, row.device, wanted)
        (opened, inputs), (plan, planned), (verdict, _) = (found[seq] for seq in wanted)
        assert isinstance(opened, e.RunOpenedV1)
        assert isinstance(plan, e.PlanMade) and isinstance(verdict, e.VerdictGiven)
        answers, corrected = self._answers(conn, row)
        return Told(
            opened=opened,
            plan=plan,
            verdict=verdict,
            inputs=dict(inputs.get("inputs") or {}),
            subject=str(inputs.get("subject") or ""),
            body=planned,
            answers=answers,
            corrected=corrected,
        )

    def _answers(self, conn: Connection, row: Row[Any]) -> tuple[list[AnswerView], dict[str, Any] | None]:
        """What people said, and what the one who corrected put in the action's place."""
        views: list[AnswerView] = []
        corrected: dict[str, Any] | None = None
        rows = conn.execute(select(ANSWERS).where(ANSWERS.c.approval == row.id).order_by(ANSWERS.c.n)).all()
        for said in rows:
            words = self._words(conn, said)
            if said.answer == CORRECT:
                corrected = words.get("arguments")
            view = AnswerView(
                by=said.by,
                answer=said.answer,
                at=said.at,
                reason=str(words.get("reason") or ""),
                place=said.place,
                similar_until=said.similar_until,
                applied=said.applied_seq >= 0,
            )
            views.append(view)
        return views, corrected

    def _words(self, conn: Connection, said: Row[Any]) -> dict[str, Any]:
        """The signed answer; of one given at the device, what its entry says beside it. Empty once erased."""
        if said.decided_seq >= 0:
            envelope = (self._log.body(said.decided_seq) or {}).get("envelope") or {}
            signed: dict[str, Any] = json.loads(envelope.get("payload") or "{}")
            return signed
        return _entries(conn, said.device, (said.applied_seq,))[said.applied_seq][1]

    def _view(self, row: Row[Any], told: Told) -> ApprovalView:
        release = self._release(told.verdict.release)
        escalates_at, next_roles = self._escalation(row, told)
        return ApprovalView(
            id=row.id,
            device=row.device,
            device_name=row.device_name,
            run=row.run,
            run_id=f"{row.device}:{row.run}",
            playbook=told.opened.playbook,
            step=row.step,
            tool=told.plan.tool,
            arguments=dict(told.action.get("arguments") or {}),
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
            lanes=self.lanes(told),
            asked_at=row.asked_at,
            expires_at=row.expires_at,
            needed=row.needed,
            local=bool(row.local),
            similar_s=row.similar_s,
            level=row.level,
            escalates_at=escalates_at,
            next_roles=next_roles,
            answers=told.answers,
            state=self.state(row),
            **_settled(row, told),
        )

    # --- what releases say ------------------------------------------------------------------------------------

    def _escalation(self, row: Row[Any], told: Told) -> tuple[int, list[str]]:
        """When others may answer too, and who, as far as they may not already."""
        book = self._book(told)
        steps = book.approvals.escalate if book else []
        if row.level >= len(steps):
            return 0, []
        following = steps[row.level]
        known = json.loads(row.roles)
        more = [role for role in following.roles if role not in known]
        return row.asked_at + seconds(following.after) * 1_000_000, more or list(following.roles)

    def _book(self, told: Told) -> Playbook | None:
        release = self._release(told.opened.release)
        return release.playbooks.get(told.opened.playbook) if release else None

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


def _approvals() -> Select[Any]:
    return select(APPROVALS, DEVICES.c.name.label("device_name")).join(DEVICES, DEVICES.c.id == APPROVALS.c.device)


def _settled(row: Row[Any], told: Told) -> dict[str, Any]:
    """How a question ended, of what ``ApprovalView`` holds."""
    said = [said for said in told.answers if said.by == row.by and said.answer == row.answer]
    return {
        "void_code": row.void_code,
        "answer": row.answer,
        "by": row.by,
        "answered_at": row.answered_at,
        "answer_reason": said[-1].reason if said else "",
        "corrected": told.corrected if row.answer == CORRECT else None,
        "applied": row.applied_seq >= 0,
    }


def _entries(conn: Connection, device: str, wanted: tuple[int, ...]) -> dict[int, tuple[e.Facts, dict[str, Any]]]:
    """Facts and bodies by their place; an erased body is empty."""
    body = and_(BODIES.c.device == ENTRIES.c.device, BODIES.c.seq == ENTRIES.c.seq)
    rows = conn.execute(
        select(ENTRIES.c.seq, ENTRIES.c.data, BODIES.c.data.label("body"))
        .outerjoin(BODIES, body)
        .where(ENTRIES.c.device == device, ENTRIES.c.seq.in_(wanted))
    )
    return {row.seq: (e.read(row.data).facts, json.loads(row.body) if row.body else {}) for row in rows}
