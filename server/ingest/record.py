"""The record: what all devices did, read back for people."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, FromClause, Row, Select, and_, case, exists, func, select, tuple_

from server.ingest.needs import needs
from server.ingest.views import Counts, Day, Needing, RunView, Story, StoryEntry
from server.store import Store
from server.store.tables import APPROVALS, BODIES, CHECKPOINTS, DEVICES, ENTRIES, RUNS
from shared import entries as e
from shared.errors import BadInput, Conflict
from shared.policy import ALLOW, DENY
from shared.runs import Run, fold

_MOST = 500
_STORY = 400  # entries of one run that are shown at once
_CHILDREN = 50
_KEPT = 128  # folded runs
_DAY = 86_400_000_000  # µs


class Record:
    """Reads only; every answer is of one moment."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._folded = _Folded()

    def runs(
        self,
        device: str | None = None,
        status: str | None = None,
        label: str | None = None,
        attention: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[RunView]:
        """Runs, the newest first. Go on with ``before`` = the last one's ``row``."""
        query = _runs().order_by(RUNS.c.n.desc()).limit(max(1, min(limit, _MOST)))
        asked = ((RUNS.c.device, device), (RUNS.c.status, status), (RUNS.c.label, label), (RUNS.c.attention, attention))
        for column, wanted in asked:
            if wanted is not None:
                query = query.where(column == wanted)
        if before is not None:
            query = query.where(RUNS.c.n < before)
        with self._store.read() as conn:
            return [_view(row) for row in conn.execute(query)]

    def run(self, run: str, before: int | None = None) -> Story:
        """The story of a run, by ``DEVICE:RUN``, or by the run's name alone while only one device has it; of a long one
        the newest entries, or the newest of those before the entry ``before``.

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
            folded = self._folded.run(conn, row.device, row.id)
            newest = conn.execute(_chain(row.device, row.id, before)).all()
            children = _runs().where(RUNS.c.device == row.device, RUNS.c.parent == row.id).order_by(RUNS.c.n.desc())
            entries = [_told(entry) for entry in reversed(newest)]
            return Story(
                run=folded,
                view=_view(row),
                entries=entries,
                left_out=_earlier(conn, row, entries[0].seq) if len(entries) == _STORY else 0,
                complete=before is None,
                needs=needs(conn, row.device, folded),
                children=[_view(child) for child in conn.execute(children.limit(_CHILDREN))],
            )

    def named(self, runs: Collection[tuple[str, str]]) -> dict[str, RunView]:
        """The runs of these devices and names, by ``DEVICE:RUN``."""
        wanted = tuple_(RUNS.c.device, RUNS.c.id).in_(list(runs))
        with self._store.read() as conn:
            views = [_view(row) for row in conn.execute(_runs().where(wanted))]
        return {view.id: view for view in views}

    def needing(self, attention: str, limit: int = 50) -> list[Needing]:
        """Runs that need a person for ``doubt``, ``operator`` or ``failed``, the newest first, and for what."""
        query = _runs().where(RUNS.c.attention == attention).order_by(RUNS.c.n.desc()).limit(max(1, min(limit, _MOST)))
        with self._store.read() as conn:
            return [
                Needing(_view(row), needs(conn, row.device, self._folded.run(conn, row.device, row.id)))
                for row in conn.execute(query).all()
            ]

    def attention(self) -> dict[str, int]:
        """How many runs need a person, by what for."""
        with self._store.read() as conn:
            return _tally(conn, RUNS.c.attention)

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
                attention=_tally(conn, RUNS.c.attention),
            )

    def days(self, number: int) -> list[Day]:
        """The last ``number`` days and how their runs were decided, the oldest first and today last."""
        last = self._clock() // _DAY
        first = last - number + 1
        kind = case(
            (RUNS.c.approval != "", "asked"),
            (RUNS.c.outcome == "done", "alone"),
            (RUNS.c.outcome == "denied", "denied"),
            else_="other",
        )
        day = RUNS.c.opened_at // _DAY
        counted = select(day, kind, func.count()).where(RUNS.c.opened_at >= first * _DAY).group_by(day, kind)
        found: dict[int, dict[str, int]] = {}
        with self._store.read() as conn:
            for at, name, runs in conn.execute(counted):
                found.setdefault(at, {})[name] = runs
        return [Day(at * _DAY, **found.get(at, {})) for at in range(first, last + 1)]


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
        step=row.step,
        attention=row.attention,
        parent=row.parent,
        dry_run=bool(row.dry_run),
    )


class _Folded:
    """Runs folded from what is stored, kept and taken further, the least recently read forgotten first: the page of a
    run with thousands of entries is fetched anew whenever one is added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[int, Run]] = OrderedDict()

    def run(self, conn: Connection, device: str, name: str) -> Run:
        with self._lock:
            seq, run = self._kept.get((device, name), (-1, None))
        fresh = select(ENTRIES.c.seq, ENTRIES.c.data).where(
            ENTRIES.c.device == device, ENTRIES.c.run == name, ENTRIES.c.seq > seq
        )
        for row in conn.execute(fresh.order_by(ENTRIES.c.seq)):
            seq, run = row.seq, fold(run, e.read(row.data))
        assert run is not None  # a run row exists only beside its entries
        with self._lock:
            self._kept[device, name] = (seq, run)
            self._kept.move_to_end((device, name))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return run


def _chain(device: str, run: str, before: int | None) -> Select[Any]:
    """A run's newest entries, with their bodies and the first checkpoint that covers each."""
    later = CHECKPOINTS.alias()
    covering = (
        select(func.min(later.c.size))
        .where(later.c.device == ENTRIES.c.device, later.c.size > ENTRIES.c.seq)
        .correlate(ENTRIES)
        .scalar_subquery()
    )
    body = and_(BODIES.c.device == ENTRIES.c.device, BODIES.c.seq == ENTRIES.c.seq)
    checkpoint = and_(CHECKPOINTS.c.device == ENTRIES.c.device, CHECKPOINTS.c.size == covering)
    chain = (
        select(ENTRIES.c.data, BODIES.c.data.label("body"), CHECKPOINTS.c.size, CHECKPOINTS.c.cosigned_at)
        .outerjoin(BODIES, body)
        .outerjoin(CHECKPOINTS, checkpoint)
        .where(ENTRIES.c.device == device, ENTRIES.c.run == run)
        .order_by(ENTRIES.c.seq.desc())
        .limit(_STORY)
    )
    return chain if before is None else chain.where(ENTRIES.c.seq < before)


def _earlier(conn: Connection, row: Row[Any], seq: int) -> int:
    mine = _how_many(ENTRIES).where(ENTRIES.c.device == row.device, ENTRIES.c.run == row.id, ENTRIES.c.seq < seq)
    return _count(conn, mine)


def _told(row: Row[Any]) -> StoryEntry:
    entry = e.read(row.data)
    return StoryEntry(
        seq=entry.seq,
        at=entry.at,
        type=entry.type,
        facts=msgspec.to_builtins(entry.facts),
        body=None if row.body is None else json.loads(row.body),
        erased=row.body is None and "shared" in entry.bodies,
        checkpoint_size=row.size,
        cosigned_at=row.cosigned_at,
    )
