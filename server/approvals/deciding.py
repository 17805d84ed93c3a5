"""Answering: who may, once each, in time, with what corrections, until as many agree as must."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from server.approvals.corrections import corrected
from server.approvals.questions import Questions
from server.approvals.views import APPROVE, CORRECT, DENY, ApprovalView, Library
from server.bus import Bus
from server.store import HubLog
from server.store.tables import ANSWERS, APPROVALS, OUTBOX
from shared import entries as e
from shared import limits
from shared.actions import Action
from shared.errors import BadInput, Conflict, Refused
from shared.release import Answer, sign


class Approvals:
    """What waits for people, and their answers to it."""

    def __init__(self, hublog: HubLog, bus: Bus, library: Library) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._questions = Questions(hublog, library)

    def waiting(self) -> list[ApprovalView]:
        """Questions that can still be answered, the oldest first."""
        return self._questions.waiting()

    def recent(self, limit: int = 50) -> list[ApprovalView]:
        """Questions that are answered, expired or void, the newest first."""
        return self._questions.recent(limit)

    def get(self, approval: str) -> ApprovalView:
        """Raises ``BadInput('approval.unknown')``."""
        return self._questions.get(approval)

    def decide(
        self,
        approval: str,
        *,
        by: str,
        roles: Sequence[str],
        answer: str,
        reason: str = "",
        corrections: Mapping[str, str] | None = None,
        similar_s: int = 0,
    ) -> None:
        """Give a person's answer. ``roles`` are theirs; ``corrections`` are new values by argument name, as text. For
        ``similar_s`` seconds a yes covers actions like this one too, where the question lets it.

        Raises ``BadInput('approval.unknown' | 'approval.answer' | 'approval.reason' | 'approval.correction')``,
        ``Refused('approval.role' | 'approval.similar' | 'approval.needs-agreement')``,
        ``Conflict('approval.used' | 'approval.same-person' | 'approval.expired' | 'approval.void')``.
        """
        reason = _checked(answer, reason)
        with self._store.read() as conn:
            row = self._questions.row(conn, approval)
            told = self._questions.told(conn, row)
            self._check_open(conn, row, by)
        role = _role(json.loads(row.roles), roles)
        _check_alone(row, answer, similar_s)
        lanes = [name for name, _ in self._questions.lanes(told)]
        instead = corrected(told.action, answer, corrections or {}, lanes)
        message = self._message(row, answer, by, role, reason, similar_s, instead)
        self._commit(message)
        for topic in ("approvals", f"device:{row.device}"):
            self._bus.publish(topic, {"approval": approval, "device": row.device})

    def _message(
        self, row: Row[Any], answer: str, by: str, role: str, reason: str, similar_s: int, instead: Action | None
    ) -> Answer:
        at = self._log.clock()
        return Answer(
            approval=row.id,
            device=row.device,
            run=row.run,
            action=row.action,
            answer=answer,
            by=by,
            role=role,
            at=at,
            reason=reason,
            corrected=instead.digest if instead else "",
            arguments=instead.arguments if instead else None,
            similar_until=at + similar_s * 1_000_000 if similar_s else 0,
        )

    def _check_open(self, conn: Connection, row: Row[Any], by: str) -> int:
        """How many have said yes so far; raises where this person's answer cannot be taken any more."""
        state = self._questions.state(row)
        if state == "answered":
            raise Conflict("approval.used", f"{row.by} answered this already", advice="see their answer")
        if state == "void":
            raise Conflict("approval.void", "the question no longer stands", advice="see the run for what came after")
        if state == "expired":
            raise Conflict("approval.expired", "the question has expired", advice="the agent will plan the run again")
        said = conn.execute(select(ANSWERS.c.by).where(ANSWERS.c.approval == row.id)).scalars().all()
        if by in said:
            raise Conflict(
                "approval.same-person",
                f"{by} has approved this, and {row.needed} different people must",
                advice="ask somebody else who may answer",
            )
        return len(said)

    def _commit(self, message: Answer) -> None:
        sealed = sign(message, self._log.key)
        facts = e.ApprovalDecided(
            approval=message.approval,
            device=message.device,
            action=message.action,
            answer=message.answer,
            corrected=message.corrected,
            by=message.by,
            similar_until=message.similar_until,
        )

        def rows(conn: Connection, written: Sequence[e.Written]) -> None:
            row = self._questions.row(conn, message.approval)
            others = self._check_open(conn, row, message.by)
            seq = written[0].entry.seq
            conn.execute(insert(ANSWERS), [_answer_row(message, seq)])
            if message.answer != APPROVE or others + 1 >= row.needed:
                conn.execute(update(APPROVALS).where(APPROVALS.c.id == row.id).values(_settled(message, seq)))
            text = msgspec.json.encode(sealed).decode()
            conn.execute(insert(OUTBOX), [{"device": message.device, "at": message.at, "envelope": text}])

        self._log.append([e.Draft(facts, bodies={"shared": {"envelope": msgspec.to_builtins(sealed)}})], rows)


def _answer_row(message: Answer, seq: int) -> dict[str, Any]:
    return {
        "approval": message.approval,
        "device": message.device,
        "answer": message.answer,
        "by": message.by,
        "corrected": message.corrected,
        "place": "hub",
        "at": message.at,
        "similar_until": message.similar_until,
        "decided_seq": seq,
    }


def _settled(message: Answer, seq: int) -> dict[str, Any]:
    return {
        "state": "answered",
        "answer": message.answer,
        "by": message.by,
        "corrected": message.corrected,
        "answered_at": message.at,
        "decided_seq": seq,
    }


def _role(asked: Sequence[str], theirs: Sequence[str]) -> str:
    """The role in which a person answers."""
    for role in asked:
        if role in theirs:
            return role
    needed = " or ".join(asked)
    raise Refused("approval.role", f"only {needed} may answer this", advice=f"ask somebody who is {needed}")


def _check_alone(row: Row[Any], answer: str, similar_s: int) -> None:
    """What one person may say for everybody: another action in its place, where nobody else is needed; that others like
    it are covered, with a plain yes, where policy says so, and no longer than it says."""
    if answer == CORRECT and row.needed > 1:
        raise Refused(
            "approval.needs-agreement",
            f"{row.needed} people must approve this, so one of them cannot change it",
            advice="deny it and say what should be done instead",
        )
    if similar_s == 0:
        return
    if answer != APPROVE or row.needed > 1 or not 0 < similar_s <= row.similar_s:
        raise Refused(
            "approval.similar",
            "this answer may not cover other actions, or not for so long",
            advice="approve this action alone, or for a shorter time",
        )


def _checked(answer: str, reason: str) -> str:
    """The reason, tidied."""
    if answer not in (APPROVE, DENY, CORRECT):
        raise BadInput("approval.answer", f"{answer[:40]!r} is no answer", advice="approve, deny or correct")
    return tidy(reason)


def tidy(reason: str) -> str:
    reason = " ".join(reason.split())
    if len(reason) > limits.REASON_CHARS:
        raise BadInput(
            "approval.reason", f"the reason has {len(reason)} characters", advice=f"use at most {limits.REASON_CHARS}"
        )
    return reason
