"""Forgetting: an item, all about a subject, a whole scope, the bodies of a run. Then nothing of it is left but proof.

In order: (1) one transaction writes the entry ``memory.tombstoned``, the signed tombstone as the next record of its
feeds, and the marks that refuse late changes, and deletes every row; (2) the database's files are written anew without
what was deleted (``Store.scrub``), because deleting alone leaves copies in pages and in the write-ahead log; (3) the
tombstone is done. A hub that stopped in between begins again at (2). Devices erase when the tombstone reaches them, and
say so in their logs; those receipts are kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, Select, delete, insert, select, update

from server.memory.access import Place, devices_of, lock_scope, places, stone_record, wire_name
from server.memory.expiry import expired
from server.memory.feeds import Changed
from server.memory.holds import held, refuse_held
from server.memory.rows import delete_items, in_parts
from server.memory.runs import delete_bodies, settled
from server.store import HubLog
from server.store.memory_tables import (
    MEMORY_DUE,
    MEMORY_ERASED,
    MEMORY_ITEMS,
    MEMORY_RECORDS,
    MEMORY_SCOPES,
    MEMORY_TOMBSTONES,
)
from server.store.tables import DEVICES
from shared.entries import Draft, MemoryTombstoned, Written
from shared.errors import Refused
from shared.memory.feed import (
    ITEM,
    PERSON,
    RUN,
    SCOPE,
    STEWARD,
    SUBJECT,
    WRITER,
    Tombstone,
    check_tombstone,
    may,
    new_tombstone_id,
    seal_tombstone,
    subject_digest,
)
from shared.memory.rules import MemoryRules
from shared.protocol import Forget, Forgotten

PENDING, DONE = "pending", "done"
_EXPIRED = "expired"
_AT_ONCE = 200  # items that expire in one commit


@dataclass(frozen=True)
class Wanted:
    """What is to be forgotten. ``scope`` is as the hub names it, empty for every one."""

    kind: str
    scope: str
    item: str = ""
    subject: str = ""
    salt: str = ""
    run: str = ""


@dataclass(frozen=True)
class _Target:
    """A tombstone to be, and what it takes from here."""

    stone: Tombstone
    wanted: Wanted
    items: dict[str, list[str]]  # by scope


class Erasure:
    """``tell`` is told of each commit."""

    def __init__(self, hublog: HubLog, tell: Callable[[Changed], None]) -> None:
        self._log = hublog
        self._store = hublog.store
        self._tell = tell

    # --- asking -----------------------------------------------------------------------------------------------

    def forget(self, device: str, asked: Forget) -> Forgotten:
        """What a device asks for its person. Raises ``Refused('memory.scope' | 'memory.role' | 'memory.held' |
        'memory.run-open')``, ``BadInput('memory.tombstone')``."""
        with self._store.read() as conn:
            place = places(conn, device).get(asked.scope)
            person = conn.execute(select(DEVICES.c.person).where(DEVICES.c.id == device)).scalar()
            if place is not None and conn.execute(_by_id(asked.id)).first():
                return Forgotten(asked.id)
        scope = _allowed(place, asked)
        wanted = Wanted(asked.kind, scope, asked.item, asked.subject, asked.salt, asked.run)
        self._erase([wanted], person or f"device:{device}", asked.reason, asked.id)
        return Forgotten(asked.id)

    def item(self, scope: str, item: str, by: str, reason: str = "asked") -> str:
        """Forget one item; the tombstone's id. ``scope`` is as the hub names it, here and below."""
        return self._erase([Wanted(ITEM, scope, item=item)], by, reason)[0]

    def subject(self, name: str, by: str, reason: str = "asked", scope: str = "") -> str:
        """Forget everything about somebody, in one scope or everywhere, also on devices."""
        salt = self._log.random(32).hex()
        return self._erase([Wanted(SUBJECT, scope, subject=subject_digest(name, salt), salt=salt)], by, reason)[0]

    def scope(self, scope: str, by: str, reason: str = "asked") -> str:
        return self._erase([Wanted(SCOPE, scope)], by, reason)[0]

    def run(self, run: str, by: str, reason: str = "asked", scope: str = "") -> str:
        """Erase the bodies of a closed run's entries; the entries stay, and the logs still verify."""
        return self._erase([Wanted(RUN, scope, run=run)], by, reason)[0]

    def expire(self, rules: MemoryRules) -> int:
        """Forget items whose time is past, by their own word or by these rules, and that no hold covers; how many.
        There may be more: again, until there are none."""
        with self._store.read() as conn:
            past = expired(conn, rules, self._log.clock(), _AT_ONCE)
        if past:
            self._erase([Wanted(ITEM, scope, item=item) for scope, item in past], "hub", _EXPIRED)
        return len(past)

    # --- doing ------------------------------------------------------------------------------------------------

    def _erase(self, wanted: Sequence[Wanted], by: str, reason: str, name: str = "") -> list[str]:
        """Make tombstones and delete what they name, in one commit."""
        with self._store.writing:  # what is counted here must be what is deleted below
            targets = [self._target(one, by, reason, name) for one in wanted]
            feeds: set[str] = set()

            def rows(conn: Connection, written: Sequence[Written]) -> None:
                for target in targets:
                    feeds.update(self._carry_out(conn, target))

            self._log.append([Draft(_facts(target)) for target in targets], rows)
        for scope in sorted(feeds):
            gone = tuple(item for target in targets for item in target.items.get(scope, ()))
            self._tell(Changed(scope, erased=gone))
        return [target.stone.id for target in targets]

    def _target(self, wanted: Wanted, by: str, reason: str, name: str) -> _Target:
        with self._store.read() as conn:
            at = self._log.clock()
            found, newest = _covered(conn, wanted)
            stone = Tombstone(
                id=name or new_tombstone_id(self._log.random),
                kind=wanted.kind,
                scope=wire_name(wanted.scope),
                item=wanted.item,
                subject=wanted.subject,
                salt=wanted.salt,
                run=wanted.run,
                # Not before what it erases, whose makers' clocks may be ahead: so that everybody erases the same.
                at=max(at, newest),
                by=by,
                reason=reason,
            )
            check_tombstone(stone)
            for scope, items in found.items() or ((wanted.scope, [wanted.item]),):
                hold = held(conn, scope, items)
                if hold:
                    raise refuse_held(hold)
            if wanted.kind == RUN:
                settled(conn, wanted.run, devices_of(conn, wanted.scope))
        return _Target(stone, wanted, found)

    def _carry_out(self, conn: Connection, target: _Target) -> set[str]:
        """One tombstone's rows; the feeds that it came to."""
        stone, wanted = target.stone, target.wanted
        envelope = msgspec.json.encode(seal_tombstone(stone, self._log.key)).decode()
        row = msgspec.structs.asdict(stone) | {"scope": wanted.scope, "state": PENDING, "envelope": envelope}
        row["items"] = sum(map(len, target.items.values()))
        devices = devices_of(conn, wanted.scope)
        feeds = {wanted.scope} if wanted.scope else _all_feeds(conn, devices)
        for scope in sorted(feeds):
            seq, _ = lock_scope(conn, scope)
            delete_items(conn, scope, target.items.get(scope, []))
            _mark(conn, scope, target)
            record = stone_record(scope, seq + 1, wanted.item, stone.id, stone.at)
            conn.execute(insert(MEMORY_RECORDS), [record])
            conn.execute(update(MEMORY_SCOPES).where(MEMORY_SCOPES.c.scope == scope).values(seq=seq + 1))
        conn.execute(insert(MEMORY_TOMBSTONES), [row])
        if devices:
            conn.execute(insert(MEMORY_DUE), [{"tombstone": stone.id, "device": device} for device in devices])
        if wanted.kind == RUN:
            delete_bodies(conn, wanted.run, devices)
        return feeds

    def finish(self) -> int:
        """Let no byte of what was erased be left in the database's files; how many tombstones that finished. Also what
        an earlier process left unfinished."""
        pending = select(MEMORY_TOMBSTONES.c.id).where(MEMORY_TOMBSTONES.c.state == PENDING)
        with self._store.read() as conn:
            waiting = list(conn.execute(pending).scalars())
        if not waiting:
            return 0
        self._store.scrub()
        with self._store.write() as conn:
            for part in in_parts(waiting):
                conn.execute(update(MEMORY_TOMBSTONES).where(MEMORY_TOMBSTONES.c.id.in_(part)).values(state=DONE))
        return len(waiting)


def _allowed(place: Place | None, asked: Forget) -> str:
    """The hub's name of the scope, where the device may forget that there."""
    if place is None:
        raise Refused("memory.scope", "this device has no such scope", advice="ask the hub's operator for a role in it")
    needed = WRITER if asked.kind == ITEM else STEWARD
    if not may(place.role, needed) or (asked.kind == RUN and asked.scope != PERSON):
        raise Refused("memory.role", f"only a {needed} may forget that here", advice="ask a steward of the scope")
    return place.scope


def _by_id(name: str) -> Select[str]:
    return select(MEMORY_TOMBSTONES.c.id).where(MEMORY_TOMBSTONES.c.id == name)


def _facts(target: _Target) -> MemoryTombstoned:
    stone = target.stone
    return MemoryTombstoned(
        tombstone=stone.id,
        kind=stone.kind,
        scope=target.wanted.scope,
        item=stone.item,
        subject=stone.subject,
        run=stone.run,
        items=sum(map(len, target.items.values())),
        by=stone.by,
        reason=stone.reason,
    )


def _covered(conn: Connection, wanted: Wanted) -> tuple[dict[str, list[str]], int]:
    """The items that are here and to be erased, by scope, and the newest time at which one says it was begun."""
    wide = select(MEMORY_ITEMS.c.scope, MEMORY_ITEMS.c.item, MEMORY_ITEMS.c.subject, MEMORY_ITEMS.c.first_at)
    if wanted.scope:
        wide = wide.where(MEMORY_ITEMS.c.scope == wanted.scope)
    if wanted.kind == ITEM:
        wide = wide.where(MEMORY_ITEMS.c.item == wanted.item)
    elif wanted.kind == RUN:
        return {}, 0
    found: dict[str, list[str]] = {}
    newest = 0
    same: dict[str, bool] = {}
    for row in conn.execute(wide.order_by(MEMORY_ITEMS.c.item)):
        if wanted.kind == SUBJECT:
            if row.subject not in same:
                same[row.subject] = bool(row.subject) and subject_digest(row.subject, wanted.salt) == wanted.subject
            if not same[row.subject]:
                continue
        found.setdefault(row.scope, []).append(row.item)
        newest = max(newest, row.first_at)
    return found, newest


def _all_feeds(conn: Connection, devices: Sequence[str]) -> set[str]:
    """Every feed there is, and those that devices have but did not use yet."""
    feeds = set(conn.execute(select(MEMORY_SCOPES.c.scope)).scalars())
    for device in devices:
        feeds.update(place.scope for place in places(conn, device).values())
    return feeds


def _mark(conn: Connection, scope: str, target: _Target) -> None:
    """Refuse these items from now on; also one that has not come yet."""
    items = {*target.items.get(scope, ()), *([target.wanted.item] if target.wanted.item else [])}
    for part in in_parts(sorted(items)):
        conn.execute(delete(MEMORY_ERASED).where(MEMORY_ERASED.c.scope == scope, MEMORY_ERASED.c.item.in_(part)))
        conn.execute(
            insert(MEMORY_ERASED),
            [{"scope": scope, "item": item, "tombstone": target.stone.id} for item in part],
        )
