"""Tokens that open one document each: made by a steward, kept hashed, with an end, and revocable at once.

A browser cannot send headers with a WebSocket, so the token stands in its address, and whoever has the address may do
what the token allows. Therefore a token is for one document and one role; it names the web pages that may use it
(``origins``; none means programs outside browsers only); and it ends. Making and revoking one is in the hub's log.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, Row, func, insert, select, update

from server.bus import Bus
from server.store import HubLog
from server.store.memory_tables import MEMORY_DOORS
from shared.entries import Draft, MemoryGranted, Written
from shared.errors import BadInput, Refused
from shared.memory.feed import READER, STEWARD, WRITER, is_item, is_team, may
from shared.memory.repo import names

PATH = "/memory/sync"  # where clients come in, with ``?token=``; ``server.web`` knows it too
SHORTEST_S, LONGEST_S = 60, 366 * 24 * 3600
MOST = 50  # tokens of one document that have not ended
_ORIGINS = 20
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LABEL_CHARS = 100
_NOTED_US = 60_000_000  # when a token was used is written down once a minute


class Keeper(Protocol):
    """What is asked of the hub's memory."""

    def chunks(self, scope: str, item: str) -> list[bytes]: ...

    def role(self, scope: str, member: str) -> str: ...


@dataclass(frozen=True)
class Door:
    """A token, without its secret. Times are microseconds since 1970 UTC, 0 for never. ``member`` is what the feed and
    the log call whoever comes in by it."""

    id: str
    scope: str
    item: str
    role: str
    origins: tuple[str, ...]
    label: str
    by: str
    created_at: int
    expires_at: int
    revoked_at: int
    used_at: int

    @property
    def member(self) -> str:
        return f"door:{self.id}"

    @property
    def topic(self) -> str:
        """Where the bus tells that it was revoked."""
        return f"door:{self.id}"


class Doors:
    """The tokens of one hub."""

    def __init__(self, hublog: HubLog, bus: Bus, memory: Keeper) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._memory = memory

    def issue(
        self,
        scope: str,
        item: str,
        *,
        role: str,
        origins: Sequence[str] = (),
        seconds: int,
        label: str = "",
        by: str,
        operator: bool = False,
    ) -> tuple[str, Door]:
        """A new token (told this once) and what is kept of it. ``by`` is the steward; ``operator`` says that the hub's
        own machine asks, which is nobody's member.

        Raises ``Refused('door.steward' | 'door.too-many')`` or ``BadInput('door.item' | 'door.role' | 'door.origins' |
        'door.time' | 'door.label')``.
        """
        self._check_steward(scope, by, operator)
        _check(role, origins, seconds, label)
        if not is_team(scope) or not is_item(item) or not self._memory.chunks(scope, item):
            raise BadInput("door.item", "there is no such document in that team", advice="name a team's own item")
        token = f"odt_{self._log.random(32).hex()}"
        id_ = f"dor_{self._log.random(12).hex()}"
        row = {
            "id": id_,
            "token_sha256": _hash(token),
            "scope": scope,
            "item": item,
            "role": role,
            "origins": json.dumps(list(dict.fromkeys(origins))),
            "label": label,
            "by": by,
        }

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            now = written[0].entry.at
            live = (MEMORY_DOORS.c.revoked_at == 0, MEMORY_DOORS.c.expires_at > now)
            counted = select(func.count()).select_from(MEMORY_DOORS).where(MEMORY_DOORS.c.item == item, *live)
            if conn.execute(counted).scalar_one() >= MOST:
                raise Refused("door.too-many", f"the document has {MOST} tokens", advice="revoke some of them")
            conn.execute(insert(MEMORY_DOORS), [row | {"created_at": now, "expires_at": now + seconds * 1_000_000}])

        self._log.append([Draft(MemoryGranted(scope=scope, member=f"door:{id_}", role=role, by=by))], rows)
        return token, self.get(id_)

    def get(self, id_: str) -> Door:
        """Raises ``BadInput('door.unknown')``."""
        with self._store.read() as conn:
            row = conn.execute(select(MEMORY_DOORS).where(MEMORY_DOORS.c.id == id_)).first()
        if row is None:
            raise BadInput("door.unknown", "there is no such token", advice="see outrider hub door list")
        return _door(row)

    def list(self, scope: str = "", item: str = "") -> Sequence[Door]:
        """Every token, newest first; those of a scope or an item."""
        asked = select(MEMORY_DOORS).order_by(MEMORY_DOORS.c.created_at.desc(), MEMORY_DOORS.c.id)
        if scope:
            asked = asked.where(MEMORY_DOORS.c.scope == scope)
        if item:
            asked = asked.where(MEMORY_DOORS.c.item == item)
        with self._store.read() as conn:
            return [_door(row) for row in conn.execute(asked)]

    def of(self, scope: str, item: str, steward: str) -> Sequence[Door]:
        """The tokens of a document, for one of its team's stewards. Raises ``Refused('door.steward')``."""
        self._check_steward(scope, steward, False)
        return self.list(scope, item)

    @staticmethod
    def url(item: str) -> str:
        """What a client gives to ``repo.find``."""
        return names.document_url(item)

    @staticmethod
    def path(token: str) -> str:
        """What a client connects to, behind the hub's address."""
        return f"{PATH}?token={token}"

    def revoke(self, id_: str, *, by: str, operator: bool = False) -> None:
        """End a token now; whoever came in by it is let go. Again is no error. Raises ``BadInput('door.unknown')`` or
        ``Refused('door.steward')``."""
        door = self.get(id_)
        self._check_steward(door.scope, by, operator)
        if door.revoked_at:
            return

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            now = written[0].entry.at
            conn.execute(update(MEMORY_DOORS).where(MEMORY_DOORS.c.id == id_).values(revoked_at=now))

        self._log.append([Draft(MemoryGranted(scope=door.scope, member=door.member, role="", by=by))], rows)
        self._bus.publish(door.topic, {"revoked": True})

    def open(self, token: str, origins: Sequence[str]) -> Door:
        """Who comes with ``token`` from a page of ``origins`` (what the request named; none from outside a browser).

        Raises ``Refused('door.token' | 'door.revoked' | 'door.expired' | 'door.origin')``.
        """
        now = self._log.clock()
        with self._store.read() as conn:
            row = conn.execute(select(MEMORY_DOORS).where(MEMORY_DOORS.c.token_sha256 == _hash(token))).first()
        if row is None:
            raise Refused("door.token", "that token opens nothing", advice="ask a steward of the team for one")
        door = _door(row)
        self.check(door)
        if len(origins) > 1 or any(origin not in door.origins for origin in origins):
            raise Refused(
                "door.origin",
                f"the token is not for pages of {', '.join(origins)[:200]}",
                advice="have one made that names this origin",
            )
        if now - door.used_at > _NOTED_US:
            with self._store.write() as conn:
                conn.execute(update(MEMORY_DOORS).where(MEMORY_DOORS.c.id == door.id).values(used_at=now))
        return door

    def check(self, door: Door) -> None:
        """Whether a token still stands. Raises ``Refused('door.revoked' | 'door.expired')``."""
        current = self.get(door.id)
        if current.revoked_at:
            raise Refused("door.revoked", "the token was revoked", advice="ask a steward of the team for another")
        if current.expires_at <= self._log.clock():
            raise Refused("door.expired", "the token has ended", advice="ask a steward of the team for another")

    def _check_steward(self, scope: str, by: str, operator: bool) -> None:
        if not operator and not may(self._memory.role(scope, f"user:{by}"), STEWARD):
            raise Refused("door.steward", "only a steward of the team may do that", advice="ask one of them")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _door(row: Row[tuple[object, ...]]) -> Door:
    known = dict(row._mapping)
    del known["token_sha256"]
    return Door(**known | {"origins": tuple(json.loads(known["origins"]))})


def _check(role: str, origins: Sequence[str], seconds: int, label: str) -> None:
    if role not in (READER, WRITER):
        raise BadInput("door.role", f"{role[:40]!r} is no role of a token", advice=f"use {READER} or {WRITER}")
    if len(origins) > _ORIGINS or not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise BadInput(
            "door.origins",
            "an origin is not as browsers name it, or there are too many",
            advice="write https://name or https://name:port, small letters, nothing behind",
        )
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise BadInput("door.time", "a token lives between a minute and a year", advice="choose a time between")
    if len(label) > _LABEL_CHARS or not label.isprintable():
        raise BadInput("door.label", "the label is too long or odd", advice=f"keep to {_LABEL_CHARS} plain characters")
