"""The people who may sign in, what they may do, and their sessions.

Passwords are kept as argon2id hashes, session cookies as SHA-256 hashes. An unknown name costs as much time as a wrong
password. Roles are plain names that playbooks refer to (``clerk``); ``admin`` may act on devices and releases.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, delete, insert, select

from server.store import HubLog
from server.store.tables import SESSIONS, USERS
from server.throttle import Throttle
from shared.entries import Draft, UserAdded, Written
from shared.errors import BadInput, Conflict, Refused

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SHORTEST, _LONGEST = 8, 1024


@dataclass(frozen=True)
class User:
    name: str
    roles: tuple[str, ...]
    added_at: int


@dataclass(frozen=True)
class SignedIn:
    """A live session. ``csrf`` must come back with every form it sends."""

    user: User
    csrf: str
    expires_at: int


class Users:
    """Sign-in against the store. ``session_seconds`` is how long a session lives, whatever it does."""

    def __init__(self, hublog: HubLog, *, session_seconds: int = 12 * 3600) -> None:
        self._log = hublog
        self._store = hublog.store
        self._session_us = session_seconds * 1_000_000
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(hublog.random(32).hex())
        self._by_name = Throttle(10, 300, hublog.clock, code="user.throttled")
        self._by_client = Throttle(50, 300, hublog.clock, code="user.throttled")
        self._hashing = threading.BoundedSemaphore(2)  # each takes 64 MB; a burst of sign-ins must not take more

    def add(self, name: str, password: str, roles: Sequence[str]) -> None:
        """Raises ``BadInput('user.name' | 'user.password' | 'user.roles')`` or ``Conflict('user.exists')``."""
        check_user(name, password, roles)
        with self._hashing:
            hashed = self._hasher.hash(password)

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            if conn.execute(select(USERS.c.name).where(USERS.c.name == name)).first():
                raise Conflict("user.exists", f"there is a user {name} already", advice="choose another name")
            row = {"name": name, "password": hashed, "roles": json.dumps(list(roles)), "added_at": written[0].entry.at}
            conn.execute(insert(USERS), [row])

        self._log.append([Draft(UserAdded(user=name, roles=list(roles)))], rows)

    def list(self) -> list[User]:
        with self._store.read() as conn:
            found = conn.execute(select(USERS.c.name, USERS.c.roles, USERS.c.added_at).order_by(USERS.c.name))
            return [User(row.name, tuple(json.loads(row.roles)), row.added_at) for row in found]

    def verify(self, name: str, password: str, *, client: str = "") -> User:
        """The user, if the password is theirs; else ``Refused('user.credentials' | 'user.throttled')``.

        ``client`` is where the attempt comes from (an address), and is throttled too.
        """
        keys = [(self._by_name, name[:64])] + ([(self._by_client, client)] if client else [])
        for throttle, key in keys:
            throttle.check(key)
        with self._store.read() as conn:
            row = conn.execute(select(USERS).where(USERS.c.name == name)).first()
        with self._hashing:
            right = self._matches(row.password if row else self._nobody, password[: _LONGEST + 1])
        if row is None or not right:
            for throttle, key in keys:
                throttle.fail(key)
            raise Refused("user.credentials", "the name or the password is wrong", advice="try again")
        self._by_name.forget(name[:64])
        return User(row.name, tuple(json.loads(row.roles)), row.added_at)

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerifyMismatchError, InvalidHashError):
            return False

    def create_session(self, user: User) -> tuple[str, SignedIn]:
        """A new cookie value (given once, kept hashed) and its session, for a user who was verified just now."""
        token, now = self._log.random(32).hex(), self._log.clock()
        session = SignedIn(user, self._log.random(32).hex(), now + self._session_us)
        row = {
            "token_sha256": _hash(token),
            "user": user.name,
            "csrf": session.csrf,
            "created_at": now,
            "expires_at": session.expires_at,
        }
        with self._store.write() as conn:
            conn.execute(delete(SESSIONS).where(SESSIONS.c.expires_at <= now))
            conn.execute(insert(SESSIONS), [row])
        return token, session

    def session(self, token: str) -> SignedIn | None:
        """The session of a cookie's value; ``None`` when there is none, or it has ended."""
        with self._store.read() as conn:
            row = conn.execute(
                select(SESSIONS.c.csrf, SESSIONS.c.expires_at, USERS.c.name, USERS.c.roles, USERS.c.added_at)
                .join(USERS, USERS.c.name == SESSIONS.c.user)
                .where(SESSIONS.c.token_sha256 == _hash(token), SESSIONS.c.expires_at > self._log.clock())
            ).first()
        if row is None:
            return None
        return SignedIn(User(row.name, tuple(json.loads(row.roles)), row.added_at), row.csrf, row.expires_at)

    def end_session(self, token: str) -> None:
        """Sign out. An unknown cookie is no error."""
        with self._store.write() as conn:
            conn.execute(delete(SESSIONS).where(SESSIONS.c.token_sha256 == _hash(token)))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def check_user(name: str, password: str, roles: Sequence[str]) -> None:
    """What ``add`` checks before it looks at the store."""
    if not _NAME.fullmatch(name):
        raise BadInput("user.name", f"{name!r} cannot name a user", advice="use lower-case letters, digits and . _ @ -")
    if not _SHORTEST <= len(password) <= _LONGEST:
        raise BadInput(
            "user.password",
            f"a password has {_SHORTEST} to {_LONGEST} characters",
            advice="choose a longer one: four unrelated words do",
        )
    if not roles or len(set(roles)) != len(roles) or not all(_ROLE.fullmatch(role) for role in roles):
        raise BadInput("user.roles", f"{roles} are not roles", advice="give each once, for example clerk or admin")
