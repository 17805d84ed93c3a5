"""Legal holds: what one covers neither expires nor is erased, here and on every device, until it is lifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection, insert, select, update

from server.bus import Bus
from server.memory.access import devices_of, wire_name
from server.store import HubLog
from server.store.memory_tables import MEMORY_HOLDS
from server.store.tables import OUTBOX
from shared.entries import Draft, MemoryHeld, MemoryUnheld, Written
from shared.errors import BadInput, Conflict, Refused
from shared.memory.feed import Hold, is_item, is_reason, seal_hold


class HoldView(msgspec.Struct, frozen=True):
    """A hold, standing or lifted. It covers ``item``, or the whole scope where that is empty. Times are µs."""

    id: str
    scope: str
    item: str
    by: str
    reason: str
    at: int
    lifted_by: str
    lifted_at: int


def held(conn: Connection, scope: str, items: Sequence[str]) -> str:
    """A hold that covers one of these items of a scope, or all of it; empty where there is none."""
    standing = select(MEMORY_HOLDS).where(MEMORY_HOLDS.c.scope == scope, MEMORY_HOLDS.c.lifted_at == 0)
    names = set(items)
    return next((row.id for row in conn.execute(standing) if not row.item or row.item in names), "")


def refuse_held(hold: str) -> Refused:
    return Refused(
        "memory.held", f"the legal hold {hold} covers it", advice="lift the hold first, if whoever asked for it agrees"
    )


class Holds:
    """Puts holds on and lifts them; each is an entry of the hub's log, and a message to the devices."""

    def __init__(self, hublog: HubLog, bus: Bus) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus

    def list(self, scope: str = "") -> list[HoldView]:
        """Standing holds first, then the newest."""
        wanted = select(MEMORY_HOLDS).order_by(MEMORY_HOLDS.c.lifted_at != 0, MEMORY_HOLDS.c.at.desc())
        with self._store.read() as conn:
            rows = conn.execute(wanted.where(MEMORY_HOLDS.c.scope == scope) if scope else wanted).mappings()
            return [HoldView(**row) for row in rows]

    def hold(self, scope: str, item: str, by: str, reason: str) -> str:
        """Hold an item, or a whole scope where ``item`` is empty; the hold's id. ``reason`` is a code: it stands
        in the log. Raises ``BadInput('memory.unknown' | 'memory.hold')``."""
        if not scope or (item and not is_item(item)):
            raise BadInput(
                "memory.unknown", "that names no item and no scope", advice="name a scope, and an item of it"
            )
        if not is_reason(reason):
            raise BadInput("memory.hold", "the reason is no code", advice="use small letters, digits, . and -")
        hold = Hold(f"hld_{self._log.random(12).hex()}", wire_name(scope), item, True, self._log.clock(), by, reason)
        row = {"id": hold.id, "scope": scope, "item": item, "by": by, "reason": reason, "at": hold.at}

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            conn.execute(insert(MEMORY_HOLDS), [row | {"lifted_by": "", "lifted_at": 0}])

        self._send(scope, hold, Draft(MemoryHeld(hold.id, scope, item, by, reason)), rows)
        return hold.id

    def lift(self, hold: str, by: str) -> None:
        """Raises ``Conflict('memory.unheld')`` where no such hold stands."""
        with self._store.read() as conn:
            row = conn.execute(select(MEMORY_HOLDS).where(MEMORY_HOLDS.c.id == hold)).first()
        if row is None:
            raise _unheld(hold)
        at = self._log.clock()

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            standing = update(MEMORY_HOLDS).where(MEMORY_HOLDS.c.id == hold, MEMORY_HOLDS.c.lifted_at == 0)
            if conn.execute(standing.values(lifted_by=by, lifted_at=at)).rowcount != 1:
                raise _unheld(hold)

        said = Hold(hold, wire_name(row.scope), row.item, False, at, by, row.reason)
        self._send(row.scope, said, Draft(MemoryUnheld(hold, by)), rows)

    def catch_up(self, scope: str, devices: Sequence[str]) -> None:
        """Tell devices that are new to a scope of the holds that stand in it."""
        with self._store.write() as conn:
            standing = (MEMORY_HOLDS.c.scope == scope, MEMORY_HOLDS.c.lifted_at == 0)
            for row in conn.execute(select(MEMORY_HOLDS).where(*standing).order_by(MEMORY_HOLDS.c.at)).all():
                said = Hold(row.id, wire_name(scope), row.item, True, row.at, row.by, row.reason)
                self._post(conn, said, devices)

    def _send(
        self, scope: str, hold: Hold, draft: Draft, rows: Callable[[Connection, Sequence[Written]], None]
    ) -> None:
        told: list[str] = []

        def with_messages(conn: Connection, written: Sequence[Written]) -> None:
            rows(conn, written)
            told.extend(devices_of(conn, scope))
            self._post(conn, hold, told)

        self._log.append([draft], with_messages)
        self._bus.publish("memory", {"scope": scope, "items": [hold.item] if hold.item else [], "erased": []})
        for device in told:
            self._bus.publish(f"device:{device}", {"hold": hold.id})

    def _post(self, conn: Connection, hold: Hold, devices: Sequence[str]) -> None:
        text = msgspec.json.encode(seal_hold(hold, self._log.key)).decode()
        rows = [{"device": device, "at": self._log.clock(), "envelope": text} for device in devices]
        if rows:
            conn.execute(insert(OUTBOX), rows)


def _unheld(hold: str) -> Conflict:
    return Conflict("memory.unheld", f"no hold {hold[:40]!r} stands", advice="see the list of holds")
