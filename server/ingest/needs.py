"""What in a run only a person can settle, in the words its device wrote beside the entries."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, select

from server.ingest.views import Need
from server.store.tables import BODIES, ENTRIES
from shared import entries as e
from shared.codec import parse
from shared.errors import OutriderError
from shared.keys import Envelope
from shared.release import Answer
from shared.runs import DONE, FAILED, UNDO, Run, Step

JSON = dict[str, Any]
_TELLING = ("intent.doubted", "undo.left", "step.failed", "result.recorded")


def needs(conn: Connection, device: str, run: Run) -> list[Need]:
    """The doubts, what is left to do by hand, and why the run failed if nobody has laid that to rest."""
    dead = run.closed is not None and run.closed.outcome == FAILED and not run.dismissed
    if not (dead or run.in_doubt or run.left):
        return []
    told = _Told(conn, device, run)
    found = [told.doubt(step) for step in run.in_doubt] + [told.left(step) for step in run.left]
    return [*found, told.failure(_culprit(run))] if dead else found


def _culprit(run: Run) -> Step | None:
    """The step that a failed run's code came from, as far as that can be told."""
    ended = [step for step in run.steps.values() if not step.id.startswith(UNDO)]
    wrong = [(step.end[1] == _code(run), step.at, step) for step in ended if step.end and step.end[0] != DONE]
    return max(wrong, key=lambda found: found[:2], default=(False, 0, None))[2]


def _code(run: Run) -> str:
    return run.closed.code if run.closed is not None else ""


class _Told:
    """The newest telling entry of each step of one run, and bodies by their place."""

    def __init__(self, conn: Connection, device: str, run: Run) -> None:
        self._conn, self._device, self._run = conn, device, run
        body = and_(BODIES.c.device == ENTRIES.c.device, BODIES.c.seq == ENTRIES.c.seq)
        rows = conn.execute(
            select(ENTRIES.c.data, BODIES.c.data.label("body"))
            .outerjoin(BODIES, body)
            .where(ENTRIES.c.device == device, ENTRIES.c.run == run.id, ENTRIES.c.type.in_(_TELLING))
            .order_by(ENTRIES.c.seq)
        )
        self._last: dict[tuple[str, str], tuple[int, JSON]] = {}
        for row in rows:
            entry = e.read(row.data)
            step: str = entry.facts.step  # type: ignore[attr-defined]  # each of these types has one
            self._last[entry.type, step] = (entry.at, json.loads(row.body) if row.body else {})

    def doubt(self, step: Step) -> Need:
        at, _ = self._last.get(("intent.doubted", step.id), (step.at, {}))
        action = self._action(step)
        return Need(
            kind="doubt",
            step=step.id,
            at=at,
            tool=step.intent.tool if step.intent else "",
            arguments=action.get("arguments") or {},
            subject=_text(action, "subject"),
            key=step.intent.key if step.intent else "",
        )

    def left(self, step: Step) -> Need:
        at, body = self._last.get(("undo.left", step.id.removeprefix(UNDO)), (step.at, {}))
        steps = body.get("steps")
        words = [word for word in steps if isinstance(word, str)] if isinstance(steps, list) else []
        return Need(
            kind="operator",
            step=step.id,
            at=at,
            code=step.code,
            tool=_text(body, "tool"),
            subject=_text(body, "subject"),
            words=words,
        )

    def failure(self, step: Step | None) -> Need:
        if step is None:
            return Need(kind="failed", step="", at=self._run.closed_at, code=_code(self._run))
        kind = "step.failed" if step.status == "failed" else "result.recorded"
        _, body = self._last.get((kind, step.id), (0, {}))
        said = body.get("receipt") if kind == "result.recorded" else body
        words = [_text(said, name) for name in ("message", "advice")] if isinstance(said, dict) else []
        return Need(
            kind="failed",
            step=step.id,
            at=self._run.closed_at,
            code=_code(self._run),
            tool=step.plan.tool if step.plan else "",
            words=[word for word in words if word],
        )

    def _action(self, step: Step) -> JSON:
        """The action in force: the planner's, with a person's arguments where they put others."""
        planned = self._body(step.plan_seq).get("action")
        action: JSON = planned if isinstance(planned, dict) else {}
        if step.corrected_seq < 0:
            return action
        try:
            envelope = msgspec.convert(self._body(step.corrected_seq).get("envelope"), Envelope)
            answer = parse(envelope.payload, Answer, code="signed.form", what="the answer")
        except (msgspec.ValidationError, OutriderError):
            return {}
        return action | {"arguments": answer.arguments or {}}

    def _body(self, seq: int) -> JSON:
        found = self._conn.execute(
            select(BODIES.c.data).where(BODIES.c.device == self._device, BODIES.c.seq == seq)
        ).scalar()
        body: JSON = json.loads(found) if found else {}
        return body


def _text(body: JSON, name: str) -> str:
    found = body.get(name)
    return found if isinstance(found, str) else ""
