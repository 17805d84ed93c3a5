"""How far forgetting has come: for each tombstone, which devices have confirmed, and which are still to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import select

from server.memory.access import devices_of
from server.store import Store
from server.store.memory_tables import MEMORY_DUE, MEMORY_RECEIPTS, MEMORY_TOMBSTONES
from server.store.tables import DEVICES

_SHOWN = 200


class Party(msgspec.Struct, frozen=True):
    """A device that was to erase something. ``at`` is when it wrote its receipt (µs), 0 while it has not; ``seq`` is
    that entry of its log, -1 before. ``state`` is ``active``, ``revoked``, or ``left`` where it has the scope no more:
    it was told to drop all of it."""

    device: str
    name: str
    state: str
    last_seen_at: int
    at: int
    seq: int


class TombstoneView(msgspec.Struct, frozen=True):
    """A tombstone and who has confirmed it. ``state`` is the hub's own: pending until its files hold nothing of it."""

    id: str
    kind: str
    scope: str
    item: str
    run: str
    at: int
    by: str
    reason: str
    items: int
    state: str
    parties: tuple[Party, ...]

    @property
    def waiting(self) -> int:
        """How many active devices have not confirmed."""
        return sum(1 for party in self.parties if not party.at and party.state == "active")


def tombstones(store: Store, ids: Sequence[str] = (), limit: int = _SHOWN) -> list[TombstoneView]:
    """The newest first, or those asked for."""
    wanted = select(MEMORY_TOMBSTONES).order_by(MEMORY_TOMBSTONES.c.at.desc(), MEMORY_TOMBSTONES.c.id).limit(limit)
    if ids:
        wanted = wanted.where(MEMORY_TOMBSTONES.c.id.in_(ids))
    with store.read() as conn:
        rows = conn.execute(wanted).mappings().all()
        names = [row["id"] for row in rows]
        parties: dict[str, dict[str, Party]] = {}
        due = (
            select(
                MEMORY_DUE.c.tombstone,
                DEVICES.c.id,
                DEVICES.c.name,
                DEVICES.c.state,
                DEVICES.c.last_seen_at,
                MEMORY_RECEIPTS.c.at,
                MEMORY_RECEIPTS.c.seq,
            )
            .join(DEVICES, DEVICES.c.id == MEMORY_DUE.c.device)
            .outerjoin(
                MEMORY_RECEIPTS,
                (MEMORY_RECEIPTS.c.tombstone == MEMORY_DUE.c.tombstone)
                & (MEMORY_RECEIPTS.c.device == MEMORY_DUE.c.device),
            )
            .where(MEMORY_DUE.c.tombstone.in_(names))
            .order_by(DEVICES.c.name, DEVICES.c.id)
        )
        scopes = {row["id"]: row["scope"] for row in rows}
        have = {scope: set(devices_of(conn, scope)) for scope in set(scopes.values())}
        for row in conn.execute(due):
            left = row.state == "active" and row.id not in have[scopes[row.tombstone]]
            party = Party(
                row.id,
                row.name,
                "left" if left else row.state,
                row.last_seen_at,
                row.at or 0,
                -1 if row.seq is None else row.seq,
            )
            parties.setdefault(row.tombstone, {})[row.id] = party
    return [
        TombstoneView(**{k: row[k] for k in _PLAIN}, parties=tuple(parties.get(row["id"], {}).values())) for row in rows
    ]


_PLAIN = [name for name in TombstoneView.__struct_fields__ if name != "parties"]
