"""Whose device it is: what a device that was nobody's remembered moves into the scope of the person it now belongs to.

The feed of the person goes on; the device, which has counted in a feed of its own so far, is given the person's numbers
with the last of its own added, so that its cursor stands before the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from server.memory.access import is_person, lock_scope, person_scope
from server.memory.rows import delete_items
from server.store import HubLog
from server.store.memory_tables import (
    MEMORY_ERASED,
    MEMORY_HOLDS,
    MEMORY_INDEXED,
    MEMORY_ITEMS,
    MEMORY_RECORDS,
    MEMORY_SCOPES,
    MEMORY_TOMBSTONES,
    MEMORY_VECTORS,
    MEMORY_WORDS,
)
from server.store.tables import DEVICES
from shared.entries import Draft, MemoryGranted, Written
from shared.errors import BadInput, Conflict
from shared.memory.feed import STEWARD


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
        base = _move(conn, old, new)
        conn.execute(update(DEVICES).where(DEVICES.c.id == device).values(person=person, person_base=base))

    log.append([Draft(MemoryGranted(new, f"device:{device}", STEWARD, by))], rows)
    return new


def _move(conn: Connection, old: str, new: str) -> int:
    """Take the records of one feed into another, behind what it has; the number of the last one that it had."""
    seq, size = lock_scope(conn, new)
    base, _ = lock_scope(conn, old)
    _agree(conn, old, new)
    have = set(conn.execute(select(MEMORY_RECORDS.c.item, MEMORY_RECORDS.c.hash).where(MEMORY_RECORDS.c.scope == new)))
    theirs = select(MEMORY_RECORDS).where(MEMORY_RECORDS.c.scope == old).order_by(MEMORY_RECORDS.c.seq)
    moved: set[str] = set()
    for row in conn.execute(theirs).mappings().all():
        if (row["item"], row["hash"]) in have:
            continue
        seq, size = seq + 1, size + len(row["data"])
        moved.add(row["item"])
        conn.execute(insert(MEMORY_RECORDS), [dict(row) | {"scope": new, "seq": seq}])
    conn.execute(update(MEMORY_SCOPES).where(MEMORY_SCOPES.c.scope == new).values(seq=seq, size=size))
    _move_items(conn, old, new, moved)
    for table in (MEMORY_HOLDS, MEMORY_TOMBSTONES):
        conn.execute(update(table).where(table.c.scope == old).values(scope=new))
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
