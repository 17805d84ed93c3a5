"""SQLite as the agent uses it: durable when it writes, harmless when it only reads, its errors in our words."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from shared.errors import Conflict, OutriderError, Tampered, Unavailable

# Pages in the write-ahead log before they are folded into the file: SQLite's own default, about 4 MB.
FOLD_PAGES = 1000


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection with the durability the log promises, or one that cannot write."""
    if writable:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "secure_delete=ON",
                f"wal_autocheckpoint={FOLD_PAGES}",
            ):
                db.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            db.close()
            raise
        return db
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)


def unreadable(path: Path, error: sqlite3.Error) -> OutriderError:
    """Why a file cannot be read: it is damaged, it is no database, or it is held by somebody."""
    if _kind(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _busy(path)
    return Tampered(
        "log.unreadable",
        f"{path} cannot be read: {error}",
        advice="copy the folder before anything else, check the disk, restore from a backup",
    )


def unwritable(path: Path, error: sqlite3.Error) -> OutriderError:
    """Why a commit failed; it changed nothing."""
    match _kind(error):
        case sqlite3.SQLITE_FULL:
            return Unavailable(
                "log.disk-full", f"the disk of {path} is full", advice="free some space; nothing was lost"
            )
        case sqlite3.SQLITE_READONLY:
            return _read_only(path)
        case sqlite3.SQLITE_CANTOPEN if not os.access(path.parent, os.W_OK):
            return _read_only(path)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _busy(path)
        case sqlite3.SQLITE_CONSTRAINT:
            return Conflict(
                "log.other-writer",
                f"something else has written to {path}: {error}",
                advice="let one agent write to a log: stop the other one, then start this one again",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return unreadable(path, error)
    said = f"{path}: {error}"
    return Unavailable("log.write", said, advice="check the disk, and what this user may use of it; nothing was lost")


def _kind(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error is Python's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _read_only(path: Path) -> Unavailable:
    return Unavailable("log.read-only", f"{path} cannot be written", advice="mount it writable, check its owner")


def _busy(path: Path) -> Unavailable:
    return Unavailable(
        "log.busy", f"{path} is held by another program", advice="close whatever else has it open; nothing was lost"
    )
