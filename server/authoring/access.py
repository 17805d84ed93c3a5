"""People's tokens for programs: what lets `outrider release` speak for somebody without their password.

A token is its owner's, for a few purposes (``scopes``), and ends. It never lends more than its owner may do: whoever
uses one has the owner's roles of that moment, and only for the scopes. What needs a person's own decision (signing off,
publishing) has no scope, so no stolen token can do it. Making and revoking one is in the hub's log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from server.store import HubLog
from server.store.authoring_tables import ACCESS_TOKENS
from server.store.tables import USERS
from server.users import User
from shared.entries import AccessIssued, AccessRevoked, Draft, Written
from shared.errors import BadInput, Refused

READ, WRITE = "workspace:read", "workspace:write"
SCOPES = {READ: "read the workspace and check files", WRITE: "save new versions of the workspace"}
SHORTEST_S, LONGEST_S = 60, 366 * 24 * 3600
MOST = 20  # of one person, that have not ended
_LABEL_CHARS = 100
_NOTED_US = 60_000_000  # when a token was used is written down once a minute


@dataclass(frozen=True)
class AccessToken:
    """A token, without its secret. Times are microseconds since 1970 UTC, 0 for never."""

    id: str
    user: str
    label: str
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int
    revoked_at: int
    used_at: int


class Access:
    """The tokens of one hub's people."""

    def __init__(self, hublog: HubLog) -> None:
        self._log = hublog
        self._store = hublog.store

    def issue(
        self, user: str, *, scopes: Sequence[str], seconds: int, label: str = "", by: str
    ) -> tuple[str, AccessToken]:
        """A new token of ``user`` (told this once) and what is kept of it; ``by`` is who asks.

        Raises ``BadInput('access.scopes' | 'access.time' | 'access.label' | 'access.user')``,
        ``Refused('access.too-many')``.
        """
        _check(scopes, seconds, label)
        token = f"oat_{self._log.random(32).hex()}"
        id_ = f"acc_{self._log.random(12).hex()}"
        wanted = [scope for scope in SCOPES if scope in scopes]
        expires_at = self._log.clock() + seconds * 1_000_000

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            now = written[0].entry.at
            if conn.execute(select(USERS.c.name).where(USERS.c.name == user)).first() is None:
                raise BadInput("access.user", f"there is no user {user}", advice="see the people of this hub")
            live = select(func.count()).select_from(ACCESS_TOKENS).where(ACCESS_TOKENS.c.user == user, *_live(now))
            if conn.execute(live).scalar_one() >= MOST:
                raise Refused("access.too-many", f"{user} has {MOST} tokens", advice="revoke some of them")
            row = {"id": id_, "token_sha256": _hash(token), "user": user, "label": label, "scopes": json.dumps(wanted)}
            conn.execute(insert(ACCESS_TOKENS), [row | {"created_at": now, "expires_at": expires_at}])

        self._log.append([Draft(AccessIssued(id_, user, wanted, expires_at, by))], rows)
        return token, self.get(id_)

    def get(self, id_: str) -> AccessToken:
        """Raises ``BadInput('access.unknown')``."""
        with self._store.read() as conn:
            row = conn.execute(select(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == id_)).first()
        if row is None:
            raise BadInput("access.unknown", "there is no such token", advice="see the list of tokens")
        return _shown(row)

    def list(self, user: str = "") -> Sequence[AccessToken]:
        """Every token, or those of a person; newest first."""
        asked = select(ACCESS_TOKENS).order_by(ACCESS_TOKENS.c.created_at.desc(), ACCESS_TOKENS.c.id)
        if user:
            asked = asked.where(ACCESS_TOKENS.c.user == user)
        with self._store.read() as conn:
            return [_shown(row) for row in conn.execute(asked)]

    def revoke(self, id_: str, *, by: str, admin: bool = False) -> None:
        """End a token now; one's own, or as an administrator anybody's. Again is no error.

        Raises ``BadInput('access.unknown')``, ``Refused('access.other')``.
        """
        token = self.get(id_)
        if token.user != by and not admin:
            raise Refused("access.other", "that token is somebody else's", advice="ask them, or an administrator")
        if token.revoked_at:
            return

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            at = written[0].entry.at
            conn.execute(update(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == id_).values(revoked_at=at))

        self._log.append([Draft(AccessRevoked(id_, by))], rows)

    def use(self, token: str, scope: str) -> User:
        """Whose token it is, with the roles they have now. Raises ``Refused('access.token' | 'access.scope')``: an
        unknown, revoked and ended token are one to whoever holds it."""
        now = self._log.clock()
        with self._store.read() as conn:
            row = conn.execute(
                select(ACCESS_TOKENS, USERS.c.roles, USERS.c.added_at)
                .join(USERS, USERS.c.name == ACCESS_TOKENS.c.user)
                .where(ACCESS_TOKENS.c.token_sha256 == _hash(token), *_live(now))
            ).first()
        if row is None:
            raise Refused("access.token", "that token opens nothing", advice="make one in the console, under Releases")
        if scope not in json.loads(row.scopes):
            raise Refused("access.scope", f"the token is not for {scope}", advice=f"make one that may {SCOPES[scope]}")
        if now - row.used_at > _NOTED_US:
            with self._store.write() as conn:
                conn.execute(update(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == row.id).values(used_at=now))
        return User(row.user, tuple(json.loads(row.roles)), row.added_at)


def _live(now: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ACCESS_TOKENS.c.revoked_at == 0, ACCESS_TOKENS.c.expires_at > now


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _shown(row: Row[tuple[object, ...]]) -> AccessToken:
    known = dict(row._mapping)
    del known["token_sha256"]
    return AccessToken(**known | {"scopes": tuple(json.loads(known["scopes"]))})


def _check(scopes: Sequence[str], seconds: int, label: str) -> None:
    if not scopes or any(scope not in SCOPES for scope in scopes):
        raise BadInput("access.scopes", "choose what the token is for", advice=f"known are {', '.join(SCOPES)}")
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise BadInput("access.time", "a token lives between a minute and a year", advice="choose a time between")
    if len(label) > _LABEL_CHARS or not label.isprintable():
        raise BadInput("access.label", "the label is too long or odd", advice=f"use {_LABEL_CHARS} plain characters")
