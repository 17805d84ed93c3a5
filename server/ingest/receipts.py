"""What batches of entries mean for what was forgotten: devices confirm it in their logs, and late bodies stay away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from server.ingest.judge import Kept
from server.store.memory_tables import MEMORY_RECEIPTS, MEMORY_TOMBSTONES
from shared.entries import Entry, MemoryErased

_RUN = "run"


def write_receipts(conn: Connection, device: str, entries: Sequence[Entry]) -> None:
    """Keep the device's word on the tombstones that its entries name, the first time it gives it."""
    said: dict[str, Entry] = {}
    for entry in entries:
        if isinstance(entry.facts, MemoryErased):
            for name in entry.facts.tombstones:
                said.setdefault(name, entry)
    if not said:
        return
    real = select(MEMORY_TOMBSTONES.c.id).where(MEMORY_TOMBSTONES.c.id.in_(said))
    given = select(MEMORY_RECEIPTS.c.tombstone).where(
        MEMORY_RECEIPTS.c.device == device, MEMORY_RECEIPTS.c.tombstone.in_(said)
    )
    new = set(conn.execute(real).scalars()) - set(conn.execute(given).scalars())
    rows = [{"tombstone": name, "device": device, "seq": said[name].seq, "at": said[name].at} for name in sorted(new)]
    if rows:
        conn.execute(insert(MEMORY_RECEIPTS), rows)


def not_erased(conn: Connection, fresh: Sequence[Kept], bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bodies without those of runs that were forgotten before they came."""
    runs = {kept.entry.run for kept in fresh if kept.entry.run and kept.body is not None}
    if not runs:
        return bodies
    at = (MEMORY_TOMBSTONES.c.kind == _RUN, MEMORY_TOMBSTONES.c.run.in_(runs))
    gone = set(conn.execute(select(MEMORY_TOMBSTONES.c.run).where(*at)).scalars())
    late = {kept.entry.seq for kept in fresh if kept.entry.run in gone}
    return [body for body in bodies if body["seq"] not in late]
