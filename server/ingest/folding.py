"""Runs folded as their entries come in, and the rows that follow.

Only the runs that a batch touches are folded: from a bounded cache, or from their stored entries. The fold itself is
``shared.runs``, the same code that runs the agent, so a run that acted unguarded is refused here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from server.ingest.judge import Kept
from server.store import Store
from server.store.tables import ENTRIES, RUNS
from shared import entries as e
from shared.runs import FAILED, Run, Step, fold

_CACHED = 4096


@dataclass
class Change:
    """What a batch does to runs, and to questions and orders in the order it happened. ``moved`` is each entry of a
    run with the run after it."""

    device: str
    held: int
    runs: dict[str, Run] = field(default_factory=dict)
    people: list[tuple[e.Entry, Run]] = field(default_factory=list)
    moved: list[tuple[e.Entry, Run]] = field(default_factory=list)


class Folds:
    """Folded runs of all devices, the least recently used forgotten first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str], Run] = OrderedDict()

    def change(self, device: str, held: int, fresh: list[Kept]) -> Change:
        """Fold ``fresh`` entries onto what is held. Raises ``Tampered('run.order')``; remembers nothing yet."""
        change = Change(device, held)
        for kept in fresh:
            entry = kept.entry
            if not entry.run:
                continue
            before = change.runs[entry.run] if entry.run in change.runs else self._before(device, entry.run)
            after = fold(before, entry)
            change.runs[entry.run] = after
            change.moved.append((entry, after))
            if isinstance(entry.facts, _OF_PEOPLE):
                change.people.append((entry, after))
        return change

    def keep(self, change: Change) -> None:
        """The change was committed."""
        with self._lock:
            for name, run in change.runs.items():
                self._cache[change.device, name] = run
                self._cache.move_to_end((change.device, name))
            while len(self._cache) > _CACHED:
                self._cache.popitem(last=False)

    def _before(self, device: str, name: str) -> Run | None:
        with self._lock:
            known = self._cache.get((device, name))
        if known is not None:
            return known
        with self._store.read() as conn:
            rows = conn.execute(
                select(ENTRIES.c.data).where(ENTRIES.c.device == device, ENTRIES.c.run == name).order_by(ENTRIES.c.seq)
            ).all()
        run: Run | None = None
        for row in rows:
            run = fold(run, e.read(row.data))
        return run


# What people were asked, said and ordered, and what ends a question without them.
_OF_PEOPLE = (
    e.ApprovalAskedV1,
    e.ApprovalEscalated,
    e.ApprovalAnsweredV1,
    e.ApprovalCovered,
    e.ApprovalVoided,
    e.RunOrdered,
    e.StepFailed,
    e.UndoBegun,
    e.RunClosed,
)


# --- rows ---------------------------------------------------------------------------------------------------------


def write_runs(conn: Connection, change: Change) -> None:
    new: list[dict[str, Any]] = []
    old: list[dict[str, Any]] = []
    for run in change.runs.values():
        (new if run.seq >= change.held else old).append(_run_row(change.device, run))
    if new:
        conn.execute(insert(RUNS), new)
    for row in old:
        mine = update(RUNS).where(RUNS.c.device == row.pop("device"), RUNS.c.id == row.pop("id"))
        conn.execute(mine.values(row))


def _run_row(device: str, run: Run) -> dict[str, Any]:
    shown, planned, closed = run.shown, recommended(run), run.closed
    plan = planned.plan if planned else None
    verdict = shown.verdict or (planned.verdict if planned else None)
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
        "approval": _asked(run, shown),
        "verdict": verdict.verdict if verdict else "",
        "plan_seq": planned.plan_seq if planned else -1,
        "closed_at": run.closed_at,
        "step": shown.id,
        "attention": attention(run),
        "parent": run.opened.parent,
        "dry_run": run.opened.dry_run,
        "thought_ms": sum(step.plan.latency_us for step in _thought(run) if step.plan) // 1000,
        "cost_cents": sum(max(0, step.plan.cost_cents) for step in run.steps.values() if step.plan),
        "mismatched": any(step.observed is not None and not step.observed.matches for step in run.steps.values()),
    }


def attention(run: Run) -> str:
    """Where only a person can help, and how: the most urgent first. Empty where nobody is needed, or is asked."""
    if run.in_doubt:
        return "doubt"
    if run.left:
        return "operator"
    failed = run.closed is not None and run.closed.outcome == FAILED
    return "failed" if failed and not run.dismissed else ""


_FIXED = ("playbook", "undo")  # planners that follow the playbook's words and recommend nothing


def recommended(run: Run) -> Step | None:
    """The step whose recommendation a list shows: the newest that was thought about."""
    return max(_thought(run), key=lambda step: step.plan_seq, default=None)


def _thought(run: Run) -> list[Step]:
    """The steps that were thought about."""
    return [step for step in run.steps.values() if step.plan is not None and step.plan.planner not in _FIXED]


def _asked(run: Run, shown: Step) -> str:
    """The question a list leads to: an open one, else the newest there was."""
    if shown.approval is not None:
        return shown.approval.approval
    asked = [(step.asked_at, step.approval.approval) for step in run.steps.values() if step.approval is not None]
    return max(asked, default=(0, ""))[1]
