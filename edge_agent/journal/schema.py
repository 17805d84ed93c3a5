"""The tables of a log, and how a log in an older form is brought to this one.

One row is one entry with all that belongs to it, so that a commit is one INSERT and touches one end of the file:

- ``tree`` holds the tree nodes that the entry completed, 32 bytes each, from its leaf upwards. The node (level, index)
  is what entry ``((index + 1) << level) - 1`` completed at that level.
- ``note`` is the signed checkpoint, in the last entry of each commit.
- ``opened`` is where the entry's run began. Ids of runs are random, and an index over them would touch a page for every
  run at work; runs that work now began lately, and stand together.

``run`` says where each run began. ``cosigned`` holds what the hub countersigned. ``snapshot`` is derived, and may be
deleted at any time. The views ``checkpoint`` and ``body`` show the same rows to people and to scripts.
"""

from __future__ import annotations

import sqlite3

from shared.errors import Tampered, Unavailable
from shared.keys import split_note
from shared.tlog import Frontier, leaf_hash, parse_checkpoint

VERSION = 1  # PRAGMA user_version; 0 is an empty file, or the first form, which had a table of nodes

_TABLES = """
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY, run TEXT NOT NULL, opened INTEGER, type TEXT NOT NULL, data BLOB NOT NULL,
    tree BLOB NOT NULL, note BLOB, shared_salt TEXT, shared TEXT, private_salt TEXT, private TEXT
);
CREATE INDEX entry_run ON entry (opened) WHERE opened IS NOT NULL;
CREATE INDEX entry_type ON entry (type) WHERE opened IS NULL;
CREATE TABLE run (id TEXT PRIMARY KEY, opened INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cosigned (size INTEGER PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE snapshot (size INTEGER PRIMARY KEY, fold INTEGER NOT NULL, root BLOB NOT NULL, data BLOB NOT NULL);
CREATE VIEW checkpoint AS
    SELECT seq + 1 AS size, e.note AS note, c.note AS cosigned FROM entry e LEFT JOIN cosigned c ON c.size = e.seq + 1
    WHERE e.note IS NOT NULL;
CREATE VIEW body AS
    SELECT seq, 'shared' AS name, shared_salt AS salt, shared AS data FROM entry WHERE shared IS NOT NULL UNION ALL
    SELECT seq, 'private', private_salt, private FROM entry WHERE private IS NOT NULL;
"""

_FIRST_FORM = """
SELECT e.seq, e.run, e.type, CAST(e.data AS BLOB), c.note, s.salt, s.data, p.salt, p.data, c.cosigned
FROM first_entry e LEFT JOIN first_checkpoint c ON c.size = e.seq + 1
LEFT JOIN first_body s ON s.seq = e.seq AND s.name = 'shared'
LEFT JOIN first_body p ON p.seq = e.seq AND p.name = 'private' ORDER BY e.seq
"""

# seq, run, opened, type, data, tree, note, and salt and text of the shared and of the private body
Row = tuple[int, str, int | None, str, bytes, bytes, bytes | None, str | None, str | None, str | None, str | None]
COLUMNS = 11


def insert(rows: int) -> str:
    """The statement that puts in so many entries."""
    return f"INSERT INTO entry VALUES {', '.join([_MARKS] * rows)}"  # noqa: S608 - only question marks are put in


_MARKS = f"({', '.join('?' * COLUMNS)})"


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def check(db: sqlite3.Connection) -> None:
    """Raise unless a reader of this version can read the log."""
    found = version(db)
    if found > VERSION:
        raise _newer(found)
    if found < VERSION:
        raise Unavailable(
            "log.older",
            f"the log has the form {found} of an older version",
            advice="start the agent once: it brings the log to today's form, and changes no entry",
        )


def prepare(db: sqlite3.Connection) -> None:
    """Create the tables, or bring an older log to this form in one transaction; its entries' bytes stay as they are."""
    found = version(db)
    if found > VERSION:
        raise _newer(found)
    if found == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if version(db) < VERSION:  # nobody else was here first
            _create(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _create(db: sqlite3.Connection) -> None:
    old = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'node'").fetchone() is not None
    if old:
        for index in ("entry_run", "entry_type"):
            db.execute(f"DROP INDEX IF EXISTS {index}")
        for table in ("entry", "body", "checkpoint"):
            db.execute(f"ALTER TABLE {table} RENAME TO first_{table}")
    for statement in _TABLES.strip().split(";\n"):
        db.execute(statement)
    if old:
        _carry_over(db)
    db.execute(f"PRAGMA user_version = {VERSION}")


def _carry_over(db: sqlite3.Connection) -> None:
    """The rows of the first form. The tree is computed anew, and must come to the root that was signed last."""
    db.execute("INSERT INTO run SELECT run, MIN(seq) FROM first_entry WHERE run <> '' GROUP BY run")
    db.execute("INSERT INTO cosigned SELECT size, cosigned FROM first_checkpoint WHERE cosigned IS NOT NULL")
    tree, note, statement = Frontier(), None, insert(1)
    for seq, run, type_, data, note, *bodies, _ in db.execute(_FIRST_FORM):
        opened = db.execute("SELECT opened FROM run WHERE id = ?", (run,)).fetchone() if run else None
        nodes = b"".join(tree.grow(leaf_hash(data)))
        db.execute(statement, (seq, run, opened[0] if opened else None, type_, data, nodes, note, *bodies))
    if tree.size and (note is None or parse_checkpoint(split_note(note)[0]).root != tree.root()):
        raise Tampered(
            "log.corrupt",
            "the newest checkpoint does not fit the entries",
            advice="do not delete it: copy the folder, run `outrider audit verify --device`, restore from a backup",
        )
    for table in ("first_entry", "first_body", "first_checkpoint", "node"):
        db.execute(f"DROP TABLE {table}")


def _newer(found: int) -> Unavailable:
    said = f"the log has form {found}, this software knows {VERSION}"
    return Unavailable("log.newer", said, advice="update this software; nothing was changed")
