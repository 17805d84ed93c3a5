"""The record: what all devices did, read back for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, FromClause, Row, Select, and_, exists, func, select

from server.ingest.views import Counts, RunView, Story, StoryEntry
from server.store import Store
from server.store.tables import APPROVALS, BODIES, CHECKPOINTS, DEVICES, ENTRIES, RUNS
from shared import entries as e
from shared import runs
from shared.errors import BadInput, Conflict
from shared.policy import ALLOW, DENY

_MOST = 500
_STORY = 2_000  # entries of one run that are shown


class Record:
    """Reads only; every answer is of one moment."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def runs(
        self,
        device: str | None = None,
        status: str | None = None,
        label: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[RunView]:
        """Runs, the newest first. Go on with ``before`` = the last one's ``row``."""
        query = _runs().order_by(RUNS.c.n.desc()).limit(max(1, min(limit, _MOST)))
        for column, wanted in ((RUNS.c.device, device), (RUNS.c.status, status), (RUNS.c.label, label)):
            if wanted is not None:
                query = query.where(column == wanted)
        if before is not None:
            query = query.where(RUNS.c.n < before)
        with self._store.read() as conn:
            return [_view(row) for row in conn.execute(query)]

    def run(self, run: str) -> Story:
        """The story of a run, by ``DEVICE:RUN``, or by the run's name alone while only one device has it.

        Raises ``BadInput('run.unknown')`` or ``Conflict('run.ambiguous')``.
        """
        device, _, name = run.rpartition(":")
        query = _runs().where(RUNS.c.id == name).limit(2)
        if device:
            query = query.where(RUNS.c.device == device)
        with self._store.read() as conn:
            rows = conn.execute(query).all()
            if not rows:
                raise BadInput("run.unknown", f"there is no run {run[:80]!r}", advice="see the list of runs")
            if len(rows) > 1:
                raise Conflict("run.ambiguous", f"several devices have a run {name}", advice="ask for DEVICE:RUN")
            row = rows[0]
            return _story(_view(row), conn.execute(_chain(row.device, row.id)).all())

    def counts(self) -> Counts:
        was_asked = exists().where(APPROVALS.c.device == RUNS.c.device, APPROVALS.c.run == RUNS.c.id)
        asked = select(APPROVALS.c.device, APPROVALS.c.run).distinct().subquery()
        still = (APPROVALS.c.state == "waiting", APPROVALS.c.expires_at > self._clock())
        denied = (RUNS.c.verdict == DENY, RUNS.c.status != "held", ~was_asked)
        with self._store.read() as conn:
            by_status = _tally(conn, RUNS.c.status)
            total = sum(by_status.values())
            return Counts(
                devices=_count(conn, _how_many(DEVICES).where(DEVICES.c.state == "active")),
                entries=_count(conn, select(func.coalesce(func.sum(DEVICES.c.held), 0))),
                runs=total,
                open=total - by_status.get("closed", 0),
                waiting=_count(conn, _how_many(APPROVALS).where(*still)),
                alone=_count(conn, _how_many(RUNS).where(RUNS.c.verdict == ALLOW, ~was_asked)),
                asked=_count(conn, _how_many(asked)),
                denied=_count(conn, _how_many(RUNS).where(*denied)),
                by_status=by_status,
                by_label=_tally(conn, RUNS.c.label),
                by_outcome=_tally(conn, RUNS.c.outcome),
                by_planner=_tally(conn, RUNS.c.planner),
            )


def _how_many(rows: FromClause) -> Select[Any]:
    return select(func.count()).select_from(rows)


def _count(conn: Connection, query: Select[Any]) -> int:
    return int(conn.execute(query).scalar_one())


def _tally(conn: Connection, column: Any) -> dict[str, int]:
    found = conn.execute(select(column, func.count()).where(column != "").group_by(column).order_by(column))
    return {str(name): int(number) for name, number in found}


def _runs() -> Select[Any]:
    """Runs with their device's name and the body that holds their subject."""
    opened = and_(BODIES.c.device == RUNS.c.device, BODIES.c.seq == RUNS.c.seq)
    return (
        select(RUNS, DEVICES.c.name.label("device_name"), BODIES.c.data.label("opened"))
        .join(DEVICES, DEVICES.c.id == RUNS.c.device)
        .outerjoin(BODIES, opened)
    )


def _view(row: Row[Any]) -> RunView:
    subject = json.loads(row.opened).get("subject", "") if row.opened else ""
    return RunView(
        id=f"{row.device}:{row.id}",
        device=row.device,
        device_name=row.device_name,
        playbook=row.playbook,
        opened_at=row.opened_at,
        status=row.status,
        label=row.label,
        confidence=row.confidence,
        planner=row.planner,
        outcome=row.outcome,
        approval=row.approval,
        subject=subject if isinstance(subject, str) else "",
        seq=row.seq,
        run=row.id,
        code=row.code,
        release=row.release,
        closed_at=row.closed_at,
        row=row.n,
    )


def _chain(device: str, run: str) -> Select[Any]:
    """A run's entries with their bodies and the first checkpoint that covers each."""
    later = CHECKPOINTS.alias()
    covering = (
        select(func.min(later.c.size))
        .where(later.c.device == ENTRIES.c.device, later.c.size > ENTRIES.c.seq)
        .correlate(ENTRIES)
        .scalar_subquery()
    )
    body = and_(BODIES.c.device == ENTRIES.c.device, BODIES.c.seq == ENTRIES.c.seq)
    checkpoint = and_(CHECKPOINTS.c.device == ENTRIES.c.device, CHECKPOINTS.c.size == covering)
    return (
        select(ENTRIES.c.data, BODIES.c.data.label("body"), CHECKPOINTS.c.size, CHECKPOINTS.c.cosigned_at)
        .outerjoin(BODIES, body)
        .outerjoin(CHECKPOINTS, checkpoint)
        .where(ENTRIES.c.device == device, ENTRIES.c.run == run)
        .order_by(ENTRIES.c.seq)
        .limit(_STORY)
    )


def _story(view: RunView, rows: Any) -> Story:
    run: runs.Run | None = None
    told: list[StoryEntry] = []
    for row in rows:
        entry = e.read(row.data)
        run = runs.fold(run, entry)
        told.append(
            StoryEntry(
                seq=entry.seq,
                at=entry.at,
                type=entry.type,
                facts=msgspec.to_builtins(entry.facts),
                body=None if row.body is None else json.loads(row.body),
                erased=row.body is None and "shared" in entry.bodies,
                checkpoint_size=row.size,
                cosigned_at=row.cosigned_at,
            )
        )
    assert run is not None  # a run row exists only beside its entries
    return Story(run, view, told)
