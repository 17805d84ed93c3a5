"""Whose memory is whose: the scopes of each device, the members of a team's scope, and whose device a device is.

A device names its scopes ``person`` and ``team/NAME``; the hub keeps the feed of a person as ``person/USER``, so that
nobody can ask for another's. A device that is nobody's has a feed of its own, ``person/device:ID``, which moves into
the person's once the operator says whose it is. Every grant is an entry of the hub's log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Delete, delete, func, insert, or_, select

from server.store import HubLog
from server.store.memory_tables import (
    MEMORY_HOLDS,
    MEMORY_ITEMS,
    MEMORY_MEMBERS,
    MEMORY_RECORDS,
    MEMORY_SCOPES,
    MEMORY_TOMBSTONES,
)
from server.store.tables import DEVICES, USERS
from shared.entries import Draft, MemoryGranted, Written
from shared.errors import BadInput, Conflict
from shared.memory.feed import PERSON, ROLES, STEWARD, is_team, may

_USER = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Place:
    """A scope as one device has it: its name at the hub, the device's role, and what is added to the feed's numbers."""

    scope: str
    role: str
    base: int = 0


@dataclass(frozen=True)
class Member:
    """Somebody with a role in a team's scope. ``member`` is ``user:NAME`` or ``device:ID``."""

    scope: str
    member: str
    role: str
    by: str
    at: int


@dataclass(frozen=True)
class ScopeView:
    """A scope for people to look at. ``held`` says that a hold stands on all of it."""

    scope: str
    items: int
    size: int
    seq: int
    members: tuple[Member, ...]
    held: bool


def places(conn: Connection, device: str) -> dict[str, Place]:
    """The scopes of a device, by the names that it gives them; none once it is not active."""
    row = conn.execute(
        select(DEVICES.c.person, DEVICES.c.person_base).where(DEVICES.c.id == device, DEVICES.c.state == "active")
    ).first()
    if row is None:
        return {}
    found = {PERSON: Place(person_scope(device, row.person), STEWARD, row.person_base)}
    mine = [f"device:{device}"] + ([f"user:{row.person}"] if row.person else [])
    grants = select(MEMORY_MEMBERS.c.scope, MEMORY_MEMBERS.c.role).where(MEMORY_MEMBERS.c.member.in_(mine))
    for scope, role in conn.execute(grants.order_by(MEMORY_MEMBERS.c.scope)):
        known = found.get(scope)
        if known is None or may(role, known.role):
            found[scope] = Place(scope, role)
    return found


def person_scope(device: str, person: str) -> str:
    return f"{PERSON}/{person}" if person else f"{PERSON}/device:{device}"


def wire_name(scope: str) -> str:
    """What devices call a scope of the hub."""
    return PERSON if scope.startswith(f"{PERSON}/") else scope


def devices_of(conn: Connection, scope: str) -> list[str]:
    """The active devices that have a scope; all of them where it is empty."""
    active = select(DEVICES.c.id).where(DEVICES.c.state == "active").order_by(DEVICES.c.id)
    if not scope:
        return list(conn.execute(active).scalars())
    owner = scope.removeprefix(f"{PERSON}/")
    if owner != scope:
        if owner.startswith("device:"):
            alone = active.where(DEVICES.c.id == owner.removeprefix("device:"), DEVICES.c.person == "")
            return list(conn.execute(alone).scalars())
        return list(conn.execute(active.where(DEVICES.c.person == owner)).scalars())
    members = list(conn.execute(select(MEMORY_MEMBERS.c.member).where(MEMORY_MEMBERS.c.scope == scope)).scalars())
    users = [m.removeprefix("user:") for m in members if m.startswith("user:")]
    devices = [m.removeprefix("device:") for m in members if m.startswith("device:")]
    theirs = active.where(or_(DEVICES.c.person.in_(users), DEVICES.c.id.in_(devices)))
    return list(conn.execute(theirs).scalars())


class Access:
    """Grants, and who has which scope."""

    def __init__(self, hublog: HubLog) -> None:
        self._log = hublog
        self._store = hublog.store

    def places(self, device: str) -> dict[str, Place]:
        with self._store.read() as conn:
            return places(conn, device)

    def devices(self, scope: str) -> list[str]:
        with self._store.read() as conn:
            return devices_of(conn, scope)

    def role(self, scope: str, member: str) -> str:
        """The role of ``user:NAME`` or ``device:ID`` in a scope as the hub names it; empty for none."""
        if scope == f"{PERSON}/{member.removeprefix('user:')}" and member.startswith("user:"):
            return STEWARD
        with self._store.read() as conn:
            if member.startswith("device:"):
                mine = places(conn, member.removeprefix("device:")).values()
                return next((place.role for place in mine if place.scope == scope), "")
            at = (MEMORY_MEMBERS.c.scope == scope, MEMORY_MEMBERS.c.member == member)
            return conn.execute(select(MEMORY_MEMBERS.c.role).where(*at)).scalar() or ""

    def scopes(self) -> list[ScopeView]:
        """Every scope that has records or members, by name."""
        with self._store.read() as conn:
            rows = {row.scope: row for row in conn.execute(select(MEMORY_SCOPES))}
            found = conn.execute(select(MEMORY_MEMBERS).order_by(MEMORY_MEMBERS.c.scope, MEMORY_MEMBERS.c.member))
            members = [Member(row.scope, row.member, row.role, row.by, row.at) for row in found]
            whole = select(MEMORY_HOLDS.c.scope).where(MEMORY_HOLDS.c.lifted_at == 0, MEMORY_HOLDS.c.item == "")
            held = set(conn.execute(whole).scalars())
            counted = select(MEMORY_ITEMS.c.scope, func.count()).group_by(MEMORY_ITEMS.c.scope)
            items: dict[str, int] = dict(conn.execute(counted).all())
        return [
            ScopeView(
                scope=scope,
                items=items.get(scope, 0),
                size=rows[scope].size if scope in rows else 0,
                seq=rows[scope].seq if scope in rows else 0,
                members=tuple(member for member in members if member.scope == scope),
                held=scope in held,
            )
            for scope in sorted({*rows, *(member.scope for member in members)})
        ]

    def grant(self, scope: str, member: str, role: str, by: str) -> None:
        """Give a member a role in a team's scope, instead of any it had. Raises ``BadInput('memory.role' |
        'memory.team' | 'memory.member')``."""
        if role not in ROLES:
            raise BadInput("memory.role", f"{role[:40]!r} is no role", advice=f"use {', '.join(ROLES)}")
        self._check_team(scope)

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            _check_member(conn, member)
            conn.execute(_of(scope, member))
            row = {"scope": scope, "member": member, "role": role, "by": by, "at": written[0].entry.at}
            conn.execute(insert(MEMORY_MEMBERS), [row])

        self._log.append([Draft(MemoryGranted(scope, member, role, by))], rows)

    def revoke(self, scope: str, member: str, by: str) -> None:
        """Take a member's role away. Its devices drop the scope when they next ask. Raises
        ``Conflict('memory.member')`` where it has none."""
        self._check_team(scope)

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            if conn.execute(_of(scope, member)).rowcount != 1:
                raise Conflict("memory.member", f"{member[:80]} has no role in {scope}", advice="nothing is left to do")

        self._log.append([Draft(MemoryGranted(scope, member, "", by))], rows)

    def owner(self, device: str) -> str:
        """Whose device it is, empty for nobody's."""
        with self._store.read() as conn:
            return conn.execute(select(DEVICES.c.person).where(DEVICES.c.id == device)).scalar() or ""

    @staticmethod
    def _check_team(scope: str) -> None:
        if not is_team(scope):
            raise BadInput("memory.team", f"{scope[:80]!r} is no team's scope", advice="use team/NAME")


def lock_scope(conn: Connection, scope: str) -> tuple[int, int]:
    """Number and size of a feed, whose row is locked until the transaction ends: nobody else can number a record."""
    at = select(MEMORY_SCOPES.c.seq, MEMORY_SCOPES.c.size).where(MEMORY_SCOPES.c.scope == scope).with_for_update()
    row = conn.execute(at).first()
    if row is not None:
        return int(row.seq), int(row.size)
    # A feed that begins takes with it what was forgotten everywhere before.
    everywhere = select(MEMORY_TOMBSTONES.c.id, MEMORY_TOMBSTONES.c.at).where(MEMORY_TOMBSTONES.c.scope == "")
    stones = conn.execute(everywhere.order_by(MEMORY_TOMBSTONES.c.at, MEMORY_TOMBSTONES.c.id)).all()
    conn.execute(insert(MEMORY_SCOPES), [{"scope": scope, "seq": len(stones), "size": 0}])
    for seq, stone in enumerate(stones, 1):
        conn.execute(insert(MEMORY_RECORDS), [stone_record(scope, seq, "", stone.id, stone.at)])
    return len(stones), 0


def stone_record(scope: str, seq: int, item: str, tombstone: str, at: int) -> dict[str, object]:
    """The row that a tombstone has in a feed."""
    named = {"item": item, "hash": tombstone, "data": b"", "device": "hub"}
    return {"scope": scope, "seq": seq, "at": at} | named


def is_person(name: str) -> bool:
    """Whether somebody can be called that."""
    return _USER.fullmatch(name) is not None


def _of(scope: str, member: str) -> Delete:
    return delete(MEMORY_MEMBERS).where(MEMORY_MEMBERS.c.scope == scope, MEMORY_MEMBERS.c.member == member)


def _check_member(conn: Connection, member: str) -> None:
    """Only who is known here is given anything: a misspelt name is told at once."""
    sort, _, name = member.partition(":")
    if sort == "user":
        signs_in = select(USERS.c.name).where(USERS.c.name == name)
        owns = select(DEVICES.c.person).where(DEVICES.c.person == name)
        known = bool(name) and (conn.execute(signs_in).first() or conn.execute(owns).first()) is not None
    else:
        device = select(DEVICES.c.id).where(DEVICES.c.id == name)
        known = sort == "device" and conn.execute(device).first() is not None
    if not known:
        raise BadInput("memory.member", f"{member[:80]!r} is nobody here", advice="use user:NAME or device:ID")
