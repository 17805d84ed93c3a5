"""The files adapter's own record: what each key changed, and every content that was ever replaced or trashed.

``changes.sqlite3`` holds one row a key, ``kept/`` the former contents by their SHA-256. Both stand in the adapter's
private state folder, and nothing here deletes: a person who wants the space back empties ``kept/`` by hand, and gives
up undoing what is older.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from edge_agent.database import connect
from edge_agent.tools import NotSent
from shared.codec import canonical, hex_sha256, parse
from shared.errors import Refused, Unavailable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (
    key TEXT PRIMARY KEY, phase TEXT NOT NULL, at INTEGER NOT NULL, change TEXT NOT NULL
) STRICT
"""


class Former(msgspec.Struct, frozen=True):
    """What stood at a path: the SHA-256 under which it is kept, its permission bits, and when it was modified."""

    sha256: str
    mode: int
    modified_ns: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the disk, as it is recorded before it is made.

    ``op``: ``put`` leaves ``latter`` at ``path``, ``remove`` nothing, ``move`` takes what is at ``path`` to ``target``.
    ``former`` is what ``path`` had. ``made`` are folders made for it, ``tidy`` folders to remove afterwards if empty.
    ``mark`` is the inode that tells afterwards whether it happened, ``receipt`` what is told of it.
    """

    op: str
    path: str
    target: str = ""
    former: Former | None = None
    latter: str = ""
    made: list[str] = []
    tidy: list[str] = []
    mark: str = ""
    receipt: dict[str, object] = {}


class Entry(msgspec.Struct, frozen=True):
    """``phase``: ``planned`` (folders may have been made), ``begun`` (it may have happened), ``done``."""

    phase: str
    change: Change


class Book:
    """The open ledger. Every ``write`` is on the disk when it returns."""

    def __init__(self, db: sqlite3.Connection, kept: Path) -> None:
        self._db = db
        self._kept = kept

    def find(self, key: str) -> Entry | None:
        row = self._db.execute("SELECT phase, change FROM changes WHERE key = ?", (key,)).fetchone()
        return Entry(row[0], parse(row[1], Change, code="files.ledger", what="a change")) if row else None

    def write(self, key: str, phase: str, change: Change, at: int) -> None:
        self._db.execute(
            "INSERT INTO changes VALUES (:key, :phase, :at, :change)"
            " ON CONFLICT (key) DO UPDATE SET phase = excluded.phase, change = excluded.change",
            {"key": key, "phase": phase, "at": at, "change": canonical(change).decode()},
        )

    def keep(self, content: bytes) -> str:
        """Store a content durably, once; its SHA-256."""
        name = hex_sha256(content)
        path = self._kept / name
        if path.exists():
            return name
        passing = self._kept / f"{name}.part"
        with passing.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        passing.rename(path)
        sync_folder(self._kept)
        return name

    def kept(self, sha256: str) -> bytes:
        try:
            content = (self._kept / sha256).read_bytes()
        except OSError as error:
            raise Refused(
                "files.kept", f"the former content is not kept any more: {error.strerror}", advice="put it back by hand"
            ) from error
        if hex_sha256(content) != sha256:
            raise Refused("files.kept", "the kept content is damaged", advice="put it back by hand")
        return content


class Ledger:
    """``changes.sqlite3`` and ``kept/`` in ``folder``, which is made at the first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def held(self) -> Iterator[Book]:
        """The ledger, for one caller at a time: other threads and processes wait here."""
        import fcntl  # Windows has none; there, ``Roots`` refuses before anything comes here

        try:
            kept = self._folder / "kept"
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unreadable(self._folder, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                db = connect(self._folder / "changes.sqlite3", writable=True)
            except sqlite3.Error as error:
                raise _unreadable(self._folder, error) from error
            with closing(db):
                try:
                    db.execute(_SCHEMA)
                except sqlite3.Error as error:
                    raise _unreadable(self._folder, error) from error
                yield Book(db, kept)
        finally:
            os.close(lock)


def _unreadable(folder: Path, error: Exception) -> NotSent:
    return NotSent("files.ledger", f"the record of changes: {error}", advice="check the disk", where=str(folder))


@contextmanager
def reaching(where: str, *, begun: bool) -> Iterator[None]:
    """Errors of the disk and of the ledger in our words: before a change was begun nothing happened, after it nobody
    knows until it is looked at again."""
    try:
        yield
    except sqlite3.Error as error:
        if begun:
            raise Unavailable("files.ledger", f"{where}: {error}", advice="check the disk, then ask again") from error
        raise NotSent("files.ledger", f"{where}: {error}", advice="check the disk") from error
    except OSError as error:
        if begun:
            raise Unavailable("files.doubt", f"{where}: {error.strerror}", advice="check the disk, then ask") from error
        raise NotSent("files.unreachable", f"{where}: {error.strerror}", advice="check the disk and owner") from error


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
