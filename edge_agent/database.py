"""SQLite as the agent uses it: durable when it writes, harmless when it only reads, its errors in our words."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from shared.errors import OutriderError, Tampered, Unavailable


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection with the durability the log promises, or one that cannot write."""
    if writable:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA secure_delete=ON")
    else:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)
    return db


def unreadable(path: Path, error: sqlite3.Error) -> Tampered:
    """The log's file is damaged, or is no log."""
    return Tampered(
        "log.unreadable",
        f"{path} cannot be read: {error}",
        advice="copy the folder before anything else, check the disk, restore from a backup",
    )


def unwritable(path: Path, error: sqlite3.Error) -> OutriderError:
    """Why a commit failed; it changed nothing."""
    said = str(error)
    if "full" in said:
        return Unavailable("log.disk-full", f"the disk of {path} is full", advice="free some space; nothing was lost")
    if "readonly" in said or ("unable to open" in said and not os.access(path.parent, os.W_OK)):
        return Unavailable("log.read-only", f"{path} cannot be written", advice="mount it writable, check its owner")
    if "malformed" in said or "not a database" in said or "corrupt" in said:
        return unreadable(path, error)
    return Unavailable("log.write", f"{path}: {said}", advice="check the disk; nothing was lost")
