"""Whose device it is: what a device that was nobody's remembered moves into the scope of the person it now belongs to.

The feed of the person goes on; the device, which has counted in a feed of its own so far, is given the person's numbers
with the last of its own added, so that its cursor stands before the first of them. What was forgotten about somebody in
either feed is forgotten in both. That a device forgot all it had is its own affair: it must have done so before, and
the person's other devices do not hear of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from server.memory.access import is_person, lock_scope, person_scope
from server.memory.erasure import PENDING
from server.memory.feeds import envelope_of, stone_of
from server.memory.judging import covers
from server.memory.rows import delete_items
from server.store import HubLog
from server.store.memory_tables import (
    MEMORY_ERASED,
    MEMORY_HOLDS,
    MEMORY_INDEXED,
    MEMORY_ITEMS,
    MEMORY_RECEIPTS,
    MEMORY_RECORDS,
    MEMORY_SCOPES,
    MEMORY_TOMBSTONES,
    MEMORY_VECTORS,
    MEMORY_WORDS,
)
from server.store.tables import DEVICES
from shared.entries import Draft, MemoryGranted, Written
from shared.errors import BadInput, Conflict
from shared.memory.feed import SCOPE, STEWARD, SUBJECT


def own(log: HubLog, device: str, person: str, by: str) -> str:
    """Say whose device this is, once; the person's scope, as the hub names it. Raises ``BadInput('device.unknown' |
    'memory.member')``, ``Conflict('memory.owner')``."""
    if not is_person(person):
        raise BadInput(
            "memory.member", f"{person[:40]!r} names nobody", advice="use the name that somebody signs in with"
        )
    old, new = person_scope(device, ""), person_scope(device, person)

    def rows(conn: Connection, written: Sequence[Written]) -> None:
        row = conn.execute(select(DEVICES).where(DEVICES.c.id == device)).first()
        if row is None:
            raise BadInput("device.unknown", f"there is no device {device[:80]!r}", advice="see the list of devices")
        if row.person or row.state != "active":
            raise Conflict(
                "memory.owner",
                f"{row.name} is {row.person}'s already" if row.person else f"{row.name} was let go",
                advice="to hand it to somebody else, revoke it and let it join again",
            )
        _check_confirmed(conn, old, device)
        base = _move(conn, old, new)
        conn.execute(update(DEVICES).where(DEVICES.c.id == device).values(person=person, person_base=base))

    log.append([Draft(MemoryGranted(new, f"device:{device}", STEWARD, by))], rows)
    return new


def _move(conn: Connection, old: str, new: str) -> int:
    """Take the records of one feed into another, behind what it has; the number of the last one that it had."""
    seq, size = lock_scope(conn, new)
    base, _ = lock_scope(conn, old)
    _agree(conn, old, new)
    alone = set(conn.execute(_whole(old)).scalars())
    have = set(conn.execute(select(MEMORY_RECORDS.c.item, MEMORY_RECORDS.c.hash).where(MEMORY_RECORDS.c.scope == new)))
    theirs = select(MEMORY_RECORDS).where(MEMORY_RECORDS.c.scope == old).order_by(MEMORY_RECORDS.c.seq)
    moved: set[str] = set()
    for row in conn.execute(theirs).mappings().all():
        if (row["item"], row["hash"]) in have or row["hash"] in alone:
            continue
        seq, size = seq + 1, size + len(row["data"])
        moved.add(row["item"])
        conn.execute(insert(MEMORY_RECORDS), [dict(row) | {"scope": new, "seq": seq}])
    conn.execute(update(MEMORY_SCOPES).where(MEMORY_SCOPES.c.scope == new).values(seq=seq, size=size))
    _move_items(conn, old, new, moved)
    for table in (MEMORY_HOLDS, MEMORY_TOMBSTONES):
        theirs_too = table.c.id.not_in(sorted(alone))
        conn.execute(update(table).where(table.c.scope == old, theirs_too).values(scope=new))
    for gone in (
        MEMORY_RECORDS,
        MEMORY_ITEMS,
        MEMORY_VECTORS,
        MEMORY_WORDS,
        MEMORY_INDEXED,
        MEMORY_ERASED,
        MEMORY_SCOPES,
    ):
        conn.execute(delete(gone).where(gone.c.scope == old))
    return base


def _agree(conn: Connection, old: str, new: str) -> None:
    """What was forgotten in either feed is forgotten in both."""
    gone = {scope: _erased(conn, scope) for scope in (old, new)}
    for scope, other in ((old, new), (new, old)):
        delete_items(conn, scope, sorted(gone[other]))
    rows = [
        {"scope": new, "item": item, "tombstone": stone}
        for item, stone in sorted(gone[old].items())
        if item not in gone[new]
    ]
    if rows:
        conn.execute(insert(MEMORY_ERASED), rows)
    for scope, other in ((old, new), (new, old)):
        _forget_as_in(conn, scope, other, new)


def _forget_as_in(conn: Connection, scope: str, other: str, new: str) -> None:
    """Tombstones of subjects, and those of all that the person had, reach what comes beside them now."""
    kinds = (SUBJECT, SCOPE) if other == new else (SUBJECT,)
    stands = (MEMORY_TOMBSTONES.c.scope == other, MEMORY_TOMBSTONES.c.kind.in_(kinds))
    found = conn.execute(select(MEMORY_TOMBSTONES.c.envelope).where(*stands)).scalars()
    stones = [stone_of(envelope_of(text)) for text in found]
    items = select(MEMORY_ITEMS.c.item, MEMORY_ITEMS.c.subject, MEMORY_ITEMS.c.first_at)
    gone: dict[str, str] = {}
    for item, subject, first_at in conn.execute(items.where(MEMORY_ITEMS.c.scope == scope)).all() if stones else ():
        found_by = [stone.id for stone in stones if covers(stone, subject, first_at)]
        if found_by:
            gone[item] = found_by[0]
    if gone:
        delete_items(conn, scope, sorted(gone))
        known = _erased(conn, new)
        rows = [{"scope": new, "item": item, "tombstone": stone} for item, stone in gone.items() if item not in known]
        conn.execute(insert(MEMORY_ERASED), rows)
        again = MEMORY_TOMBSTONES.c.id.in_(sorted(set(gone.values())))  # the files are to be cleaned once more
        conn.execute(update(MEMORY_TOMBSTONES).where(again).values(state=PENDING))


def _whole(scope: str) -> Select[str]:
    """The tombstones of all that a feed had."""
    return select(MEMORY_TOMBSTONES.c.id).where(MEMORY_TOMBSTONES.c.scope == scope, MEMORY_TOMBSTONES.c.kind == SCOPE)


def _check_confirmed(conn: Connection, old: str, device: str) -> None:
    receipts = select(MEMORY_RECEIPTS.c.tombstone).where(MEMORY_RECEIPTS.c.device == device)
    if conn.execute(_whole(old).where(MEMORY_TOMBSTONES.c.id.not_in(receipts))).first():
        raise Conflict(
            "memory.owner",
            "the device has not yet confirmed that it forgot what it had",
            advice="wait until it has been connected, and try again",
        )


def _erased(conn: Connection, scope: str) -> dict[str, str]:
    found = select(MEMORY_ERASED.c.item, MEMORY_ERASED.c.tombstone).where(MEMORY_ERASED.c.scope == scope)
    return dict(conn.execute(found).all())


def _move_items(conn: Connection, old: str, new: str, moved: set[str]) -> None:
    """An item that only one of them has moves as it is. One that both have is given all its changes as its base, so
    that it is made anew with the next one."""
    both = set(conn.execute(select(MEMORY_ITEMS.c.item).where(MEMORY_ITEMS.c.scope == new)).scalars())
    for item in sorted(moved & both):
        at = (MEMORY_RECORDS.c.scope == new, MEMORY_RECORDS.c.item == item, MEMORY_RECORDS.c.data != b"")
        parts = list(conn.execute(select(MEMORY_RECORDS.c.data).where(*at).order_by(MEMORY_RECORDS.c.seq)).scalars())
        values = {"base": b"".join(parts), "changes": len(parts), "size": sum(map(len, parts))}
        conn.execute(
            update(MEMORY_ITEMS).where(MEMORY_ITEMS.c.scope == new, MEMORY_ITEMS.c.item == item).values(values)
        )
    theirs = select(MEMORY_ITEMS.c.item).where(MEMORY_ITEMS.c.scope == new)
    conn.execute(
        update(MEMORY_ITEMS).where(MEMORY_ITEMS.c.scope == old, MEMORY_ITEMS.c.item.not_in(theirs)).values(scope=new)
    )
    newest = select(MEMORY_RECORDS.c.item, func.max(MEMORY_RECORDS.c.seq)).where(MEMORY_RECORDS.c.scope == new)
    for item, seq in conn.execute(newest.group_by(MEMORY_RECORDS.c.item)).all():
        at_item = (MEMORY_ITEMS.c.scope == new, MEMORY_ITEMS.c.item == item)
        conn.execute(update(MEMORY_ITEMS).where(*at_item).values(seq=seq))
