"""Stops: what people have pressed and not let go, for one device, one playbook, one tool or the whole fleet.

A press is an entry of the hub's log and a row, in one transaction; from then on it is part of the signed ``Stop`` of
every device that it covers. That message is always the whole set under a version that rises, so that a device which was
away learns what is so now, and not what it missed. The version is the place of the newest entry that concerns the
device: pressing something for another device leaves it as it is.

The set is kept in memory, because every pull carries it and a press must reach thousands of connections at once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from server.bus import Bus
from server.store import HubLog
from server.store.tables import DEVICES, SWITCHES
from shared import limits
from shared.entries import Draft, Switch, SwitchPressed, SwitchReleased, Written
from shared.errors import BadInput, Conflict, Refused
from shared.keys import Envelope
from shared.release import Stop, sign

TOPIC = "stops"
KINDS = ("fleet", "device", "playbook", "tool")
REASONS = {
    "wrong": "It does the wrong things",
    "tool": "A tool or the system behind it misbehaves",
    "security": "Somebody may have got in",
    "drill": "A drill",
    "other": "Another reason",
}
ROLES = ("admin", "safety")  # who may press and let go
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
_SHOWN = 200


@dataclass(frozen=True)
class SwitchView:
    """A stop as people see it. Times are microseconds since 1970 UTC; ``released_at`` is 0 while it is in force."""

    id: str
    kind: str
    name: str
    by: str
    at: int
    reason_code: str
    note: str
    released_by: str
    released_at: int
    released_note: str
    version: int  # a device that has this version of its stops, or a later one, obeys


class SwitchOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator orders: ``act`` is ``press``, ``release`` or ``list`` and says which other fields count."""

    act: str
    kind: str = ""
    name: str = ""
    reason: str = ""
    note: str = ""
    switch: str = ""


@dataclass(frozen=True)
class _State:
    """What is in force, and the newest change (place in the log, time) of each thing that was ever stopped.
    ``sealed`` keeps what was signed of it."""

    in_force: tuple[Switch, ...]
    newest: dict[tuple[str, str], tuple[int, int]]
    common: tuple[int, int]
    sealed: dict[str, Envelope] = field(default_factory=dict)


class Switches:
    """All stops of one hub. ``names`` are those that playbooks and tools have in what is published, by kind."""

    def __init__(self, hublog: HubLog, bus: Bus, *, names: Callable[[], dict[str, list[str]]]) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._names = names
        self._changing = threading.Lock()
        self._state = self._load()

    # --- what devices are told ------------------------------------------------------------------------------------

    def stop(self, device: str) -> Envelope | None:
        """All that is stopped for a device, signed; ``None`` where nothing that concerns it was ever pressed. Reads no
        disk and may be called in the event loop."""
        state = self._state
        version, at = max(state.common, state.newest.get(("device", device), (0, 0)))
        if not version:
            return None
        sealed = state.sealed.get(device)
        if sealed is None:
            held = [one for one in state.in_force if one.kind != "device" or one.name == device]
            sealed = sign(Stop(device=device, at=at, version=version, switches=held), self._log.key)
            state.sealed[device] = sealed
        return sealed

    # --- what people see and do -----------------------------------------------------------------------------------

    def in_force(self) -> list[SwitchView]:
        """The newest first."""
        return self._views(SWITCHES.c.released_seq < 0)

    def past(self) -> list[SwitchView]:
        """Those that were let go, the newest first."""
        return self._views(SWITCHES.c.released_seq >= 0)

    def covering(self, kind: str, name: str) -> Switch | None:
        """The stop of exactly this, or of the fleet, where one is in force."""
        wanted = (("fleet", ""), (kind, name))
        return next((one for one in self._state.in_force if (one.kind, one.name) in wanted), None)

    def press(self, kind: str, name: str = "", *, by: str, reason: str, note: str = "") -> SwitchView:
        """Stop it now. The caller has checked that ``by`` may (``ROLES``).

        Raises ``BadInput('switch.kind' | 'switch.name' | 'switch.reason' | 'switch.note' | 'device.unknown')``,
        ``Conflict('switch.pressed')`` and ``Refused('switch.too-many')``.
        """
        _check(kind, name, reason)
        note = _tidy(note)
        id_ = f"sw-{self._log.random(8).hex()}"
        facts = SwitchPressed(switch=id_, kind=kind, name=name, by=by, reason_code=reason)

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            self._check_new(conn, kind, name)
            entry = written[0].entry
            row = {"id": id_, "kind": kind, "name": name, "by": by, "at": entry.at, "reason_code": reason}
            conn.execute(insert(SWITCHES), [row | {"pressed_seq": entry.seq}])

        self._change(Draft(facts, bodies={"shared": {"note": note}}), rows, kind, name)
        return self._views(SWITCHES.c.id == id_)[0]

    def release(self, switch: str, *, by: str, note: str = "") -> SwitchView:
        """Let it go on. Raises ``BadInput('switch.unknown' | 'switch.note')`` and ``Conflict('switch.released')``."""
        note = _tidy(note)
        found = self._views(SWITCHES.c.id == switch)
        if not found:
            raise BadInput("switch.unknown", f"there is no stop {switch[:40]!r}", advice="see the list of stops")
        one = found[0]

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            entry = written[0].entry
            values = {"released_by": by, "released_at": entry.at, "released_seq": entry.seq}
            standing = update(SWITCHES).where(SWITCHES.c.id == switch, SWITCHES.c.released_seq < 0)
            if conn.execute(standing.values(values)).rowcount != 1:
                raise Conflict("switch.released", "it was let go already", advice="nothing is left to do")

        draft = Draft(SwitchReleased(switch=switch, by=by), bodies={"shared": {"note": note}})
        self._change(draft, rows, one.kind, one.name)
        return self._views(SWITCHES.c.id == switch)[0]

    def carry_out(self, order: SwitchOrder, by: str) -> dict[str, Any]:
        """For the hub's operator; JSON-plain values to show. A press says whether what it stops is ``known``: it is in
        force all the same, as a device may have a tool that no playbook uses, but the name may also be misspelt.
        Raises also ``BadInput('switch.order')``."""
        match order.act:
            case "press":
                done = vars(self.press(order.kind, order.name, by=by, reason=order.reason, note=order.note))
                return done | {"known": order.name in self._names().get(order.kind, [order.name])}
            case "release":
                return vars(self.release(order.switch, by=by, note=order.note))
            case "list":
                return {"stops": [vars(one) for one in self.in_force()]}
        raise BadInput("switch.order", f"{order.act[:40]!r} is no order", advice="bring both to the same release")

    # --- within ---------------------------------------------------------------------------------------------------

    def _change(self, draft: Draft, rows: Any, kind: str, name: str) -> None:
        with self._changing:  # so that what is read back is never older than what was read before
            self._log.append([draft], rows)
            self._state = self._load()
        self._bus.publish(TOPIC, {"device": name if kind == "device" else ""})

    def _check_new(self, conn: Connection, kind: str, name: str) -> None:
        standing = conn.execute(select(SWITCHES.c.kind, SWITCHES.c.name).where(SWITCHES.c.released_seq < 0)).all()
        if (kind, name) in [(row.kind, row.name) for row in standing]:
            raise Conflict("switch.pressed", "it is stopped already", advice="nothing is left to do")
        if kind == "device" and conn.execute(select(DEVICES.c.id).where(DEVICES.c.id == name)).first() is None:
            raise BadInput("device.unknown", f"there is no device {name[:80]!r}", advice="see the list of devices")
        narrow = sum(row.kind in ("playbook", "tool") for row in standing)
        if kind in ("playbook", "tool") and narrow >= limits.SWITCHES:
            raise Refused(
                "switch.too-many", f"{narrow} playbooks and tools are stopped", advice="stop the whole fleet instead"
            )

    def _load(self) -> _State:
        with self._store.read() as conn:
            found = conn.execute(select(SWITCHES).order_by(SWITCHES.c.n)).all()
        in_force, newest = [], dict[tuple[str, str], tuple[int, int]]()
        for row in found:
            ended = row.released_seq >= 0
            change = (row.released_seq + 1, row.released_at) if ended else (row.pressed_seq + 1, row.at)
            newest[row.kind, row.name] = max(change, newest.get((row.kind, row.name), change))
            if not ended:
                in_force.append(Switch(row.id, row.kind, row.name, row.by, row.at, row.reason_code))
        common = max((change for (kind, _), change in newest.items() if kind != "device"), default=(0, 0))
        return _State(tuple(in_force), newest, common)

    def _views(self, which: Any) -> list[SwitchView]:
        with self._store.read() as conn:
            found = conn.execute(select(SWITCHES).where(which).order_by(SWITCHES.c.n.desc()).limit(_SHOWN)).all()
        return [self._view(row) for row in found]

    def _view(self, row: Row[Any]) -> SwitchView:
        return SwitchView(
            id=row.id,
            kind=row.kind,
            name=row.name,
            by=row.by,
            at=row.at,
            reason_code=row.reason_code,
            note=self._note(row.pressed_seq),
            released_by=row.released_by,
            released_at=row.released_at,
            released_note=self._note(row.released_seq),
            version=row.pressed_seq + 1,
        )

    def _note(self, seq: int) -> str:
        body = self._log.body(seq) if seq >= 0 else None
        return str(body["note"]) if body is not None else ""


def _check(kind: str, name: str, reason: str) -> None:
    if kind not in KINDS:
        raise BadInput("switch.kind", f"{kind[:40]!r} cannot be stopped", advice=f"use one of {', '.join(KINDS)}")
    fits = _NAME.fullmatch(name) and len(name) <= limits.SWITCH_NAME_CHARS
    if (kind == "fleet") != (name == "") or (name and not fits):
        advice = "the fleet has no name" if kind == "fleet" else f"give the {kind}'s name or id"
        raise BadInput("switch.name", f"{name[:40]!r} names no {kind}", advice=advice)
    if reason not in REASONS:
        raise BadInput("switch.reason", "no reason was given", advice=f"use one of {', '.join(REASONS)}")


def _tidy(note: str) -> str:
    note = " ".join(note.split())
    if len(note) > limits.REASON_CHARS:
        raise BadInput(
            "switch.note", f"the note has {len(note)} characters", advice=f"use at most {limits.REASON_CHARS}"
        )
    return note
