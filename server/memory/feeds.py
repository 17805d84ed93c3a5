"""The feeds: changes come in, are judged, and take their place; devices read on from where they are.

A push is (1) held to its bounds and its scope's roles, (2) compared with what is stored and what was forgotten, (3)
judged item by item in a worker process, together with what is stored of the item, (4) held to what the hub knows and
the worker does not: the scope it says it is of, tombstones of subjects, room, and (5) written in one transaction, which
locks the feed, looks again at what may have changed meanwhile, and numbers the records. Sending it again is harmless.
One bad change refuses what it is part of and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, update

from server.bus import Bus
from server.memory.access import Place, devices_of, lock_scope, places, wire_name
from server.memory.judging import Draft, Incoming, Known, Outcome, Screener, decide, read_changes
from server.memory.rows import in_parts
from server.store import HubLog
from server.store.memory_tables import (
    MEMORY_ERASED,
    MEMORY_ITEMS,
    MEMORY_RECORDS,
    MEMORY_SCOPES,
    MEMORY_TOMBSTONES,
)
from shared import limits
from shared.codec import b64, parse
from shared.errors import Unavailable
from shared.keys import Envelope
from shared.memory.feed import SCOPE, SUBJECT, WRITER, Change, Record, Rejected, Tombstone, may
from shared.protocol import Recall, Recalled, Remember, Remembered

_HUB = "hub"
SCOPE_FULL = "memory.full"
NO_SCOPE = "memory.scope"
NO_ROLE = "memory.role"


@dataclass(frozen=True)
class Changed:
    """What a commit did to a scope (as the hub names it): items with news, and items that are no more."""

    scope: str
    items: tuple[str, ...] = ()
    erased: tuple[str, ...] = ()


Watcher = Callable[[Changed], None]


class Feeds:
    """Push and pull. Blocking; any number of threads."""

    def __init__(self, hublog: HubLog, bus: Bus, screener: Screener) -> None:
        self._store = hublog.store
        self._clock = hublog.clock
        self._bus = bus
        self._screener = screener
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Be told after each commit, in the thread that made it. It must be quick, and may not fail."""
        self._watchers.append(watcher)

    # --- up ---------------------------------------------------------------------------------------------------

    def remember(self, device: str, asked: Remember) -> Remembered:
        """A device's push. Raises ``BadInput('memory.batch')``, ``Unavailable('memory.*' | 'store.*')``; everything
        else is said of single changes."""
        incoming, refused = read_changes(asked.changes)
        with self._store.read() as conn:
            place = places(conn, device).get(asked.scope)
        code = _barred(place)
        if place is None or code:
            return Remembered(asked.scope, [], [*refused, *_all(incoming, code)])
        outcome = self._push(place.scope, incoming, device, lambda conn: _barred(places(conn, device).get(asked.scope)))
        return Remembered(asked.scope, outcome.stored, [*refused, *outcome.refused])

    def push(self, scope: str, changes: Sequence[Change], by: str = _HUB) -> Remembered:
        """Changes that were made at the hub itself, or came by another door; the caller has seen to the right to make
        them. ``scope`` is as the hub names it."""
        incoming, refused = read_changes(changes)
        outcome = self._push(scope, incoming, by, lambda _conn: "")
        return Remembered(scope, outcome.stored, [*refused, *outcome.refused])

    def weigh(self, scope: str, changes: Sequence[Change]) -> Outcome:
        """What ``push`` would do, and nothing is done."""
        incoming, refused = read_changes(changes)
        with self._store.read() as conn:
            known = self._known(conn, scope, incoming)
            stones = _stones(conn, scope)
        outcome = decide(wire_name(scope), incoming, known, stones, self._screener)
        outcome.refused[:0] = refused
        return outcome

    def _push(self, scope: str, incoming: Incoming, by: str, barred: Callable[[Connection], str]) -> Outcome:
        if not incoming:
            return Outcome()
        with self._lock_of(scope):
            with self._store.read() as conn:
                known = self._known(conn, scope, incoming)
                stones = _stones(conn, scope)
            outcome = decide(wire_name(scope), incoming, known, stones, self._screener)
            if outcome.drafts:
                self._commit(scope, outcome, by, barred)
        if outcome.drafts:
            self.tell(Changed(scope, tuple(draft.item for draft in outcome.drafts)), besides=by)
        return outcome

    def _known(self, conn: Connection, scope: str, incoming: Incoming) -> dict[str, Known]:
        rows: dict[str, RowMapping] = {}
        erased: set[str] = set()
        have: dict[str, set[str]] = {}
        for part in in_parts(incoming):
            mine = (MEMORY_ITEMS.c.scope == scope, MEMORY_ITEMS.c.item.in_(part))
            rows |= {row["item"]: row for row in conn.execute(_STATE.where(*mine)).mappings()}
            gone = select(MEMORY_ERASED.c.item).where(MEMORY_ERASED.c.scope == scope, MEMORY_ERASED.c.item.in_(part))
            erased |= set(conn.execute(gone).scalars())
            hashes = [name for item in part for name in incoming[item]]
            for names in in_parts(hashes):
                at = (
                    MEMORY_RECORDS.c.scope == scope,
                    MEMORY_RECORDS.c.item.in_(part),
                    MEMORY_RECORDS.c.hash.in_(names),
                )
                for item, name in conn.execute(select(MEMORY_RECORDS.c.item, MEMORY_RECORDS.c.hash).where(*at)):
                    have.setdefault(item, set()).add(name)
        return {
            item: Known(
                base=bytes(rows[item]["base"]) if item in rows else b"",
                have=frozenset(have.get(item, ())),
                changes=rows[item]["changes"] if item in rows else 0,
                size=rows[item]["size"] if item in rows else 0,
                first_at=rows[item]["first_at"] if item in rows else 0,
                conflicts=rows[item]["conflicts"] if item in rows else 0,
                erased=item in erased,
            )
            for item in incoming
        }

    def _commit(self, scope: str, outcome: Outcome, by: str, barred: Callable[[Connection], str]) -> None:
        now = self._clock()
        with self._store.write() as conn:
            code = barred(conn)
            seq, size = lock_scope(conn, scope)
            code = code or (SCOPE_FULL if size + _size(outcome.drafts) > limits.MEMORY_SCOPE_BYTES else "")
            if code:
                _take_back(outcome, code)
                return
            _check_unmoved(conn, scope, outcome.drafts)
            records = []
            for draft in outcome.drafts:
                for name, data in draft.records:
                    seq += 1
                    records.append(
                        {
                            "scope": scope,
                            "seq": seq,
                            "item": draft.item,
                            "hash": name,
                            "data": data,
                            "device": by,
                            "at": now,
                        }
                    )
                draft.row["seq"] = seq
            conn.execute(insert(MEMORY_RECORDS), records)
            _write_items(conn, scope, outcome.drafts)
            at = MEMORY_SCOPES.c.scope == scope
            conn.execute(update(MEMORY_SCOPES).where(at).values(seq=seq, size=size + _size(outcome.drafts)))

    def tell(self, changed: Changed, *, besides: str = "") -> None:
        """Hints to whoever is there: the devices of the scope, the pages, and this process's own caches."""
        for watcher in self._watchers:
            watcher(changed)
        told = {"scope": changed.scope, "items": list(changed.items[:64]), "erased": list(changed.erased[:64])}
        self._bus.publish("memory", told)
        with self._store.read() as conn:
            devices = devices_of(conn, changed.scope)
        for device in devices:
            if device != besides:
                self._bus.publish(f"device:{device}", {"memory": True})

    # --- down -------------------------------------------------------------------------------------------------

    def recall(self, device: str, asked: Recall) -> Recalled:
        """Records of the first scope that has any beyond its cursor."""
        self._begin(device)
        with self._store.read() as conn:
            mine = places(conn, device)
            roles = {name: place.role for name, place in mine.items()}
            wanted = {name: cursor for name, cursor in sorted(asked.cursors.items()) if name in mine}
            behind = [name for name, cursor in wanted.items() if _newest(conn, mine[name]) > cursor]
            if not behind:
                return Recalled(roles, "", [], 0, False)
            name, place = behind[0], mine[behind[0]]
            records, cursor, more = _read_on(conn, place, wanted[name])
        return Recalled(roles, name, records, cursor, more or len(behind) > 1)

    def _begin(self, device: str) -> None:
        """A feed that nobody wrote to yet still has what was forgotten everywhere: a device may hold it unsent."""
        everywhere = select(MEMORY_TOMBSTONES.c.id).where(MEMORY_TOMBSTONES.c.scope == "").limit(1)
        with self._store.read() as conn:
            if conn.execute(everywhere).first() is None:
                return
            names = [place.scope for place in places(conn, device).values()]
            begun = set(conn.execute(select(MEMORY_SCOPES.c.scope).where(MEMORY_SCOPES.c.scope.in_(names))).scalars())
        new = [name for name in names if name not in begun]
        if new:
            with self._store.write() as conn:
                for name in new:
                    lock_scope(conn, name)

    def chunks(self, scope: str, item: str, skip: int = 0) -> list[bytes]:
        """The changes of an item in the order of the feed, from the one numbered ``skip`` on; none where there is no
        such item."""
        at = (MEMORY_RECORDS.c.scope == scope, MEMORY_RECORDS.c.item == item, MEMORY_RECORDS.c.data != b"")
        with self._store.read() as conn:
            found = conn.execute(select(MEMORY_RECORDS.c.data).where(*at).order_by(MEMORY_RECORDS.c.seq).offset(skip))
            return [bytes(data) for data in found.scalars()]

    def _lock_of(self, scope: str) -> threading.Lock:
        with self._lock:
            return self._busy.setdefault(scope, threading.Lock())


_STATE = select(
    MEMORY_ITEMS.c.item,
    MEMORY_ITEMS.c.base,
    MEMORY_ITEMS.c.changes,
    MEMORY_ITEMS.c.size,
    MEMORY_ITEMS.c.first_at,
    MEMORY_ITEMS.c.conflicts,
)


def _barred(place: Place | None) -> str:
    """Why nothing may be pushed there; empty where it may."""
    if place is None:
        return NO_SCOPE
    return "" if may(place.role, WRITER) else NO_ROLE


def _all(incoming: Incoming, code: str) -> list[Rejected]:
    return [Rejected(item, name, code) for item, chunks in incoming.items() for name in chunks]


def _size(drafts: Sequence[Draft]) -> int:
    return sum(draft.size for draft in drafts)


def _take_back(outcome: Outcome, code: str) -> None:
    """Nothing that was going to be stored is."""
    for draft in outcome.drafts:
        names = [name for name, _ in draft.records]
        outcome.stored = [name for name in outcome.stored if name not in set(names)]
        outcome.refuse(draft.item, names, code)
    outcome.drafts = []


def _stones(conn: Connection, scope: str) -> list[Tombstone]:
    """Tombstones that may cover items which are not here yet: of the scope, of subjects in it, of subjects anywhere."""
    at = (MEMORY_TOMBSTONES.c.scope.in_((scope, "")), MEMORY_TOMBSTONES.c.kind.in_((SCOPE, SUBJECT)))
    found = conn.execute(select(MEMORY_TOMBSTONES.c.envelope).where(*at)).scalars()
    return [stone_of(envelope_of(text)) for text in found]


def envelope_of(text: str) -> Envelope:
    return parse(text, Envelope, code="envelope.form", what="a stored tombstone")


def stone_of(envelope: Envelope) -> Tombstone:
    return parse(envelope.payload, Tombstone, code="memory.tombstone", what="a stored tombstone")


def _check_unmoved(conn: Connection, scope: str, drafts: Sequence[Draft]) -> None:
    """What was judged must still be so: another process of the hub may have stored or forgotten something."""
    for part in in_parts(draft.item for draft in drafts):
        gone = (MEMORY_ERASED.c.scope == scope, MEMORY_ERASED.c.item.in_(part))
        at = (MEMORY_ITEMS.c.scope == scope, MEMORY_ITEMS.c.item.in_(part))
        erased = conn.execute(select(func.count()).select_from(MEMORY_ERASED).where(*gone)).scalar()
        counts = dict(conn.execute(select(MEMORY_ITEMS.c.item, MEMORY_ITEMS.c.changes).where(*at)).all())
        names = set(part)
        moved = [d.item for d in drafts if d.item in names and counts.get(d.item, 0) != d.known.changes]
        if erased or moved:
            raise Unavailable("store.moved", "an item changed meanwhile", advice="send the changes again")


def _write_items(conn: Connection, scope: str, drafts: Sequence[Draft]) -> None:
    new = [{"scope": scope, "item": draft.item} | draft.row for draft in drafts if not draft.known.changes]
    if new:
        conn.execute(insert(MEMORY_ITEMS), new)
    old = [
        {"of": draft.item} | {f"new_{k}": v for k, v in draft.row.items()} for draft in drafts if draft.known.changes
    ]
    if old:
        mine = update(MEMORY_ITEMS).where(MEMORY_ITEMS.c.scope == scope, MEMORY_ITEMS.c.item == bindparam("of"))
        names = [name.removeprefix("new_") for name in old[0] if name != "of"]
        conn.execute(mine.values({name: bindparam(f"new_{name}") for name in names}), old)


def _newest(conn: Connection, place: Place) -> int:
    """The number that a device has for the newest record of a feed."""
    at = MEMORY_SCOPES.c.scope == place.scope
    seq = conn.execute(select(MEMORY_SCOPES.c.seq).where(at)).scalar()
    return 0 if seq is None else int(seq) + place.base


def _read_on(conn: Connection, place: Place, cursor: int) -> tuple[list[Record], int, bool]:
    """Records beyond a cursor, the cursor after them, and whether there are more."""
    newest = _newest(conn, place) - place.base
    after = max(0, cursor - place.base)
    beyond = (MEMORY_RECORDS.c.scope == place.scope, MEMORY_RECORDS.c.seq > after, MEMORY_RECORDS.c.seq <= newest)
    sizes = conn.execute(
        select(MEMORY_RECORDS.c.seq, func.length(MEMORY_RECORDS.c.data))
        .where(*beyond)
        .order_by(MEMORY_RECORDS.c.seq)
        .limit(limits.MEMORY_RECORDS + 1)
    ).all()
    last, room, taken = after, limits.MEMORY_BATCH_BYTES, 0
    for seq, size in sizes[: limits.MEMORY_RECORDS]:
        room -= size * 4 // 3 + 4
        if taken and room < 0:
            break
        last, taken = seq, taken + 1
    more = taken < len(sizes)
    rows = conn.execute(
        select(MEMORY_RECORDS.c.seq, MEMORY_RECORDS.c.item, MEMORY_RECORDS.c.hash, MEMORY_RECORDS.c.data)
        .where(*beyond, MEMORY_RECORDS.c.seq <= last)
        .order_by(MEMORY_RECORDS.c.seq)
    ).all()
    stones = _envelopes(conn, [row.hash for row in rows if not row.data])
    records = [
        Record(row.seq + place.base, row.item, b64(row.data))
        if row.data
        else Record(row.seq + place.base, row.item, tombstone=stones[row.hash])
        for row in rows
    ]
    return records, (last if more else newest) + place.base, more


def _envelopes(conn: Connection, ids: Sequence[str]) -> dict[str, Envelope]:
    found: dict[str, Envelope] = {}
    for part in in_parts(ids):
        at = MEMORY_TOMBSTONES.c.id.in_(part)
        rows = conn.execute(select(MEMORY_TOMBSTONES.c.id, MEMORY_TOMBSTONES.c.envelope).where(at))
        found |= {row.id: envelope_of(row.envelope) for row in rows}
    return found
