"""The database under sessions: its tables, its transactions, and the wiping of what was erased.

SQLite may leave copies of a row in the unused part of a page when it moves it, so an erasure ends with the file written
anew. That it has to be is noted in the erasure's own transaction: a kill in between costs nothing but doing it at the
next start.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.database import connect
from shared.errors import Unavailable

_FORM = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, scope TEXT NOT NULL, run TEXT NOT NULL,
    opened_at INTEGER NOT NULL, touched_at INTEGER NOT NULL, folded INTEGER NOT NULL, summarised INTEGER NOT NULL,
    told TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turn (session TEXT NOT NULL, n INTEGER NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL,
    subject TEXT NOT NULL, at INTEGER NOT NULL, tokens INTEGER NOT NULL, erased INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (session, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sentence (session TEXT NOT NULL, turn INTEGER NOT NULL, start INTEGER NOT NULL,
    stop INTEGER NOT NULL, PRIMARY KEY (session, turn, start)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS artefact (session TEXT NOT NULL, turn INTEGER NOT NULL, kind TEXT NOT NULL,
    place TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (session, turn, kind, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS artefact_place ON artefact (kind, place);
CREATE TABLE IF NOT EXISTS dirty (one INTEGER PRIMARY KEY);
"""


class Base:
    """One open database. Its methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises ``Unavailable('session.storage')``."""
        self._path = path
        self._lock = threading.RLock()
        with self._errors():
            self._db = connect(path, writable=True)
            self._db.execute("PRAGMA temp_store=MEMORY")
            self._db.executescript(f"{_SCHEMA}PRAGMA user_version={_FORM};")
        with contextlib.suppress(Unavailable):  # somebody reads it now: the next erasure wipes for this one too
            self._wipe()

    def close(self) -> None:
        self._db.close()

    def _soil(self, db: sqlite3.Connection, gone: int) -> None:
        if gone:
            db.execute("INSERT INTO dirty SELECT COALESCE(MAX(one), 0) + 1 FROM dirty")

    def _wipe(self) -> None:
        """Write the file anew where something was erased, so that no page keeps a copy; then empty the log beside.
        Raises ``Unavailable('session.busy')`` where a reader holds the log: nothing is clean before this has worked."""
        with self._lock, self._errors():
            (seen,) = self._db.execute("SELECT MAX(one) FROM dirty").fetchone()
            if seen is None:
                return
            self._db.execute("VACUUM")
            row = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if row[0]:
                raise Unavailable(
                    "session.busy", f"{self._path} is read by another program", advice="close it; it is tried again"
                )
            # What another process erased meanwhile has a higher number, and is still to be wiped.
            self._db.execute("DELETE FROM dirty WHERE one <= ?", (seen,))
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._lock, self._errors():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Unavailable(
                "session.storage",
                f"{self._path}: {error}",
                advice="check the disk and its free space; nothing was lost",
            ) from error
