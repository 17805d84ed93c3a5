"""Runs folded as their entries come in, and the rows that follow.

Only the runs that a batch touches are folded: from a bounded cache, or from their stored entries. The fold itself is
``shared.runs``, the same code that runs the agent, so a run that acted unguarded is refused here.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from server.ingest.judge import Kept
from server.store import Store
from server.store.tables import APPROVALS, ENTRIES, RUNS
from shared import entries as e
from shared import runs
from shared.errors import Tampered

_CACHED = 4096


@dataclass(frozen=True)
class Tracked:
    """A run, and the entry of its newest verdict."""

    run: runs.Run
    verdict_seq: int = -1


@dataclass
class Change:
    """What a batch does to runs and approvals, in the order it happened."""

    device: str
    held: int
    runs: dict[str, Tracked] = field(default_factory=dict)
    questions: list[tuple[e.Entry, Tracked]] = field(default_factory=list)


class Folds:
    """Folded runs of all devices, the least recently used forgotten first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str], Tracked] = OrderedDict()

    def change(self, device: str, held: int, fresh: list[Kept]) -> Change:
        """Fold ``fresh`` entries onto what is held. Raises ``Tampered('run.order')``; remembers nothing yet."""
        change = Change(device, held)
        for kept in fresh:
            entry = kept.entry
            if not entry.run:
                continue
            before = change.runs[entry.run] if entry.run in change.runs else self._before(device, entry.run)
            after = step(before, entry)
            change.runs[entry.run] = after
            if isinstance(entry.facts, _ASKS):
                change.questions.append((entry, after))
        return change

    def keep(self, change: Change) -> None:
        """The change was committed."""
        with self._lock:
            for run, tracked in change.runs.items():
                self._cache[change.device, run] = tracked
                self._cache.move_to_end((change.device, run))
            while len(self._cache) > _CACHED:
                self._cache.popitem(last=False)

    def _before(self, device: str, run: str) -> Tracked | None:
        with self._lock:
            known = self._cache.get((device, run))
        if known is not None:
            return known
        with self._store.read() as conn:
            rows = conn.execute(
                select(ENTRIES.c.data).where(ENTRIES.c.device == device, ENTRIES.c.run == run).order_by(ENTRIES.c.seq)
            ).all()
        tracked: Tracked | None = None
        for row in rows:
            tracked = step(tracked, e.read(row.data))
        return tracked


_ASKS = (e.ApprovalAsked, e.ApprovalAnswered, e.ApprovalVoided, e.RunClosed)


def step(before: Tracked | None, entry: e.Entry) -> Tracked:
    run = runs.fold(before.run if before else None, entry)
    if isinstance(entry.facts, e.VerdictGiven):
        return Tracked(run, entry.seq)
    return replace(before, run=run) if before else Tracked(run)


# --- rows ---------------------------------------------------------------------------------------------------------


def write_runs(conn: Connection, change: Change) -> None:
    new: list[dict[str, Any]] = []
    old: list[dict[str, Any]] = []
    for tracked in change.runs.values():
        (new if tracked.run.seq >= change.held else old).append(_run_row(change.device, tracked.run))
    if new:
        conn.execute(insert(RUNS), new)
    for row in old:
        mine = update(RUNS).where(RUNS.c.device == row.pop("device"), RUNS.c.id == row.pop("id"))
        conn.execute(mine.values(row))


def _run_row(device: str, run: runs.Run) -> dict[str, Any]:
    plan, closed = run.plan, run.closed
    return {
        "device": device,
        "id": run.id,
        "seq": run.seq,
        "playbook": run.opened.playbook,
        "release": run.opened.release,
        "opened_at": run.at,
        "status": run.status,
        "label": plan.label if plan else "",
        "confidence": plan.confidence if plan else 0,
        "planner": plan.planner if plan else "",
        "outcome": closed.outcome if closed else "",
        "code": closed.code if closed else "",
        "approval": run.approval.approval if run.approval else "",
        "verdict": run.verdict.verdict if run.verdict else "",
        "plan_seq": run.plan_seq,
        "closed_at": run.closed_at,
    }


def write_approvals(conn: Connection, change: Change) -> None:
    """Questions asked, answered and voided, in order."""
    for entry, tracked in change.questions:
        match entry.facts:
            case e.ApprovalAsked():
                _ask(conn, change.device, entry, tracked)
            case e.ApprovalAnswered():
                _apply(conn, change.device, entry)
            case e.ApprovalVoided(approval=approval, code=code):
                mine = update(APPROVALS).where(APPROVALS.c.device == change.device, APPROVALS.c.id == approval)
                conn.execute(mine.values(state="void", void_code=code))
            case e.RunClosed():
                left = update(APPROVALS).where(
                    APPROVALS.c.device == change.device, APPROVALS.c.run == entry.run, APPROVALS.c.state == "waiting"
                )
                conn.execute(left.values(state="void", void_code="run.closed"))


def _ask(conn: Connection, device: str, entry: e.Entry, tracked: Tracked) -> None:
    asked = entry.facts
    assert isinstance(asked, e.ApprovalAsked)
    if conn.execute(select(APPROVALS.c.n).where(APPROVALS.c.id == asked.approval)).first():
        raise Tampered(
            "approval.taken", "another question has this name already", advice="revoke the device and look into it"
        )
    row = {
        "device": device,
        "id": asked.approval,
        "run": entry.run,
        "step": asked.step,
        "action": asked.action,
        "roles": json.dumps(asked.roles),
        "asked_at": entry.at,
        "expires_at": asked.expires_at,
        "seq": entry.seq,
        "opened_seq": tracked.run.seq,
        "plan_seq": tracked.run.plan_seq,
        "verdict_seq": tracked.verdict_seq,
        "state": "waiting",
    }
    conn.execute(insert(APPROVALS), [row])


def _apply(conn: Connection, device: str, entry: e.Entry) -> None:
    """An answer in a device's log must be one that a person gave here: a device cannot approve its own actions."""
    said = entry.facts
    assert isinstance(said, e.ApprovalAnswered)
    row = conn.execute(select(APPROVALS).where(APPROVALS.c.device == device, APPROVALS.c.id == said.approval)).first()
    given = row is not None and (row.answer, row.corrected, row.by) == (said.answer, said.corrected, said.by)
    if row is None or not given or row.decided_seq < 0:
        raise Tampered(
            "approval.forged",
            f"no person gave the answer of entry {entry.seq} here",
            advice="revoke the device; its log is the evidence",
        )
    conn.execute(update(APPROVALS).where(APPROVALS.c.n == row.n).values(applied_seq=entry.seq))
