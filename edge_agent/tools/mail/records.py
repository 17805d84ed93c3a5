"""What this adapter did under which key, written down before and after: a small SQLite file in its own folder.

A record is ``started`` before the one command that changes anything, on the disk, and ``done`` after the server's
answer; when the server says no it is taken out again. So no record means that nothing was changed under that key, and
a record that stayed ``started`` means that nobody knows: the agent or the connection died in between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_agent.database import connect
from edge_agent.tools import NotSent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key TEXT PRIMARY KEY, tool TEXT NOT NULL, state TEXT NOT NULL, at INTEGER NOT NULL, details TEXT NOT NULL
)
"""


class Record(msgspec.Struct, frozen=True):
    """``at`` is when it was started (µs since 1970 UTC); ``details`` JSON-plain: what ``start`` was given and, once it
    is done, what ``finish`` was given."""

    state: Literal["started", "done"]
    at: int
    details: dict[str, Any]


class Records:
    """The records of one table of ``tools.toml``. Every method raises ``NotSent('mail.record')`` when the file cannot
    be read or written; nothing was recorded then."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "mail.sqlite3"

    def get(self, key: str) -> Record | None:
        with self._open() as db:
            row = db.execute("SELECT state, at, details FROM records WHERE key = ?", (key,)).fetchone()
        return Record(row[0], row[1], msgspec.json.decode(row[2])) if row else None

    def start(self, key: str, tool: str, at: int, details: dict[str, Any]) -> None:
        """On the disk when this returns."""
        with self._open() as db:
            row = (key, tool, "started", at, msgspec.json.encode(details).decode())
            db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", row)

    def finish(self, key: str, tool: str, at: int, details: dict[str, Any]) -> None:
        """It is done; ``at`` counts only where it was never started, because it was found done."""
        with self._open() as db:
            row = (key, tool, "done", at, msgspec.json.encode(details).decode())
            then = "UPDATE SET state = excluded.state, details = excluded.details"
            db.execute(f"INSERT INTO records VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO {then}", row)  # noqa: S608 - a constant

    def forget(self, key: str) -> None:
        """The server said no: nothing was changed."""
        with self._open() as db:
            db.execute("DELETE FROM records WHERE key = ?", (key,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db: sqlite3.Connection | None = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = connect(self._file, writable=True)
            db.execute(_SCHEMA)
            yield db
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            raise NotSent(
                "mail.record", f"{self._file}: {error}", advice="check the disk and the folder's owner"
            ) from error
        finally:
            if db is not None:
                db.close()
