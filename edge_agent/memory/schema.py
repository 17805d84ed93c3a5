"""The tables of ``memory.sqlite3``, and how a database of an older form becomes one of this form.

The truth is ``chunk``: every change of every item, exactly as it was made. ``item`` and ``tag`` hold what an item says
now, ``posting`` and ``indexed`` the words to find it by, ``vector`` what it means; all four can be made again.

``feed`` is how far each scope was pulled, ``tombstone`` what was asked to be forgotten (``pending`` until the receipt
is in the log), ``gone`` the items whose changes are refused for ever, ``hold`` what may not be erased, ``aside`` what
was not taken and why, ``wish`` what this device asks the hub to forget.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shared.errors import Refused

FORM = 2

_TABLES = """
CREATE TABLE item (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    text TEXT NOT NULL, label TEXT NOT NULL, subject TEXT NOT NULL, sensitivity TEXT NOT NULL,
    confidence INTEGER NOT NULL, valid_from INTEGER NOT NULL, expires_at INTEGER NOT NULL, made_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL, pinned INTEGER NOT NULL, sha256 TEXT NOT NULL, embedded TEXT NOT NULL
);
CREATE INDEX item_kind ON item (kind, scope);
CREATE INDEX item_scope ON item (scope);
CREATE INDEX item_changed ON item (changed_at);
CREATE INDEX item_embedded ON item (embedded);
CREATE INDEX item_subject ON item (subject) WHERE subject <> '';
CREATE INDEX item_expires ON item (expires_at) WHERE expires_at <> 0;
CREATE TABLE tag (n INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (tag, n)) WITHOUT ROWID;
CREATE INDEX tag_of ON tag (n);
CREATE TABLE chunk (
    k INTEGER PRIMARY KEY, item TEXT NOT NULL, scope TEXT NOT NULL, hash BLOB NOT NULL, data BLOB NOT NULL,
    sent INTEGER NOT NULL
);
CREATE UNIQUE INDEX chunk_hash ON chunk (item, hash);
CREATE INDEX chunk_outbox ON chunk (scope, item, k) WHERE sent = 0;
CREATE INDEX chunk_unsent ON chunk (hash) WHERE sent = 0;
CREATE TABLE posting (
    word TEXT NOT NULL, n INTEGER NOT NULL, hits INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (word, n)
) WITHOUT ROWID;
CREATE TABLE indexed (n INTEGER PRIMARY KEY, words TEXT NOT NULL, size INTEGER NOT NULL);
CREATE TABLE vector (
    n INTEGER NOT NULL, part INTEGER NOT NULL, model TEXT NOT NULL, scale INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (n, part)
) WITHOUT ROWID;
CREATE TABLE feed (scope TEXT PRIMARY KEY, cursor INTEGER NOT NULL, role TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tombstone (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, scope TEXT NOT NULL, item TEXT NOT NULL, subject TEXT NOT NULL,
    salt TEXT NOT NULL, run TEXT NOT NULL, at INTEGER NOT NULL, "by" TEXT NOT NULL, reason TEXT NOT NULL,
    state TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstone_wide ON tombstone (kind) WHERE kind <> 'item';
CREATE TABLE gone (
    item TEXT NOT NULL, scope TEXT NOT NULL, tombstone TEXT NOT NULL, PRIMARY KEY (item, scope)
) WITHOUT ROWID;
CREATE TABLE hold (
    id TEXT PRIMARY KEY, scope TEXT NOT NULL, item TEXT NOT NULL, at INTEGER NOT NULL, "by" TEXT NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE aside (
    item TEXT NOT NULL, hash TEXT NOT NULL, scope TEXT NOT NULL, code TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (item, hash)
) WITHOUT ROWID;
CREATE TABLE wish (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, scope TEXT NOT NULL, item TEXT NOT NULL, subject TEXT NOT NULL,
    salt TEXT NOT NULL, run TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE self (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO self VALUES ('items', 0), ('size', 0), ('count', 0), ('dirty', 0);
"""


def form(db: sqlite3.Connection, path: Path) -> int:
    """The form of the open database: 0 for an empty one. Raises ``Refused('memory.newer')`` for one of the future."""
    number = int(db.execute("PRAGMA user_version").fetchone()[0])
    if number > FORM:
        raise Refused(
            "memory.newer",
            f"memory was written by a newer agent (form {number}, this one knows {FORM})",
            advice="update this agent, or put back the memory from before the update",
            where=str(path),
        )
    if number == 0 and db.execute("SELECT 1 FROM sqlite_master WHERE name = 'item'").fetchone():
        return 1
    return number


def make(db: sqlite3.Connection) -> None:
    """Make the tables, inside the caller's transaction."""
    for statement in _TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {FORM}")


def put_away(db: sqlite3.Connection) -> tuple[list[tuple[str, bytes, str]], dict[str, tuple[str, int, bytes]]]:
    """Take everything out of a database of form 1 and drop its tables, inside the caller's transaction: the (id,
    document, sha256) of its items, and vectors (model, scale, data) by id."""
    items = [(row[0], bytes(row[1]), row[2]) for row in db.execute("SELECT id, document, sha256 FROM item ORDER BY id")]
    vectors = {
        row[0]: (row[1], row[2], bytes(row[3])) for row in db.execute("SELECT id, model, scale, data FROM vector")
    }
    for table in ("item", "vector", "words", "self"):
        db.execute(f"DROP TABLE IF EXISTS {table}")
    return items, vectors
