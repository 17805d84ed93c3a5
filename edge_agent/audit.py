"""Reading a log file for ``outrider audit verify``. ``shared.audit`` judges it; nothing here trusts the agent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from edge_agent.config import Home
from edge_agent.database import connect
from edge_agent.identity import load_identity, load_key
from shared.audit import Mark, Report, Row, verify
from shared.entries import Body
from shared.errors import BadInput, OutriderError, Tampered
from shared.keys import PublicKey

# CAST: in a file from elsewhere, SQLite may hold anything in any column. One row is an entry, the hash of its leaf as
# kept, and its bodies; the first form of a log had tables of their own for the latter.
_ENTRIES = (
    "SELECT CAST(COALESCE(data, '') AS BLOB), CAST(substr(COALESCE(tree, ''), 1, 32) AS BLOB),"
    " CAST(shared_salt AS TEXT), CAST(shared AS TEXT), CAST(private_salt AS TEXT), CAST(private AS TEXT)"
    " FROM entry ORDER BY seq"
)
_FIRST_ENTRIES = (
    "SELECT CAST(COALESCE(e.data, '') AS BLOB), CAST(COALESCE(hash, '') AS BLOB),"
    " CAST(s.salt AS TEXT), CAST(s.data AS TEXT), CAST(p.salt AS TEXT), CAST(p.data AS TEXT)"
    " FROM entry e LEFT JOIN node ON level = 0 AND idx = e.seq"
    " LEFT JOIN body s ON s.seq = e.seq AND s.name = 'shared'"
    " LEFT JOIN body p ON p.seq = e.seq AND p.name = 'private' ORDER BY e.seq"
)
_NOTES = "SELECT seq + 1, CAST(note AS BLOB) FROM entry WHERE note IS NOT NULL ORDER BY seq"
_FIRST_NOTES = "SELECT size, CAST(COALESCE(note, '') AS BLOB) FROM checkpoint ORDER BY size"
_COSIGNED = "SELECT size, CAST(COALESCE(note, '') AS BLOB) FROM cosigned ORDER BY size"
_FIRST_COSIGNED = "SELECT size, CAST(cosigned AS BLOB) FROM checkpoint WHERE cosigned IS NOT NULL ORDER BY size"


def verify_device(home: Home) -> dict[str, Any]:
    """This device's log, against its own key and its hub's."""
    identity = load_identity(home)
    report = _verify(home.log, identity.hub, identity.hub_public)
    own = load_key(home.keys / "log.key").public.text
    if report.error is None and report.key != own:
        report.bad_entry = 0
        report.error = Tampered("log.key", "the log names another key than this device's", advice="restore the log")
    return _plain(report)


def verify_file(path: Path, hub: str = "", hub_key: str = "") -> dict[str, Any]:
    if not path.is_file():
        raise BadInput("audit.file", f"there is no file {path}", advice="name a log.sqlite3")
    return _plain(_verify(path, hub, PublicKey.from_text(hub_key) if hub_key else None))


def _verify(path: Path, hub: str, hub_key: PublicKey | None) -> Report:
    try:
        with closing(connect(path, writable=False)) as db:
            db.execute("BEGIN")  # one view of all tables, however much a running agent adds meanwhile
            first = db.execute("SELECT 1 FROM pragma_table_info('entry') WHERE name = 'tree'").fetchone() is None
            entries, notes, cosigned = (
                (_FIRST_ENTRIES, _FIRST_NOTES, _FIRST_COSIGNED) if first else (_ENTRIES, _NOTES, _COSIGNED)
            )
            marks = _marks(db.execute(notes), db.execute(cosigned))
            return verify(_rows(db.execute(entries)), marks, hub=hub, hub_key=hub_key)
    except sqlite3.Error as error:
        raise BadInput("audit.file", f"{path}: {error}", advice="name a log.sqlite3 that is whole") from error


def _rows(found: Iterator[tuple[bytes, bytes, str | None, str | None, str | None, str | None]]) -> Iterator[Row]:
    """Entries in order, each with the bodies still there."""
    for data, leaf, shared_salt, shared, private_salt, private in found:
        bodies = {}
        if shared is not None:
            bodies["shared"] = Body(shared_salt or "", shared)
        if private is not None:
            bodies["private"] = Body(private_salt or "", private)
        yield Row(data, bodies, leaf)


def _marks(notes: Iterator[tuple[int, bytes]], cosigned: Iterator[tuple[int, bytes]]) -> Iterator[Mark]:
    """Checkpoints by size, each with its countersigned copy. Two cursors in step, so that memory stays flat. A
    countersigned one that has lost its own is a checkpoint still."""
    other = next(cosigned, None)
    for size, note in notes:
        while other is not None and other[0] < size:
            yield Mark(other[0], other[1], other[1])
            other = next(cosigned, None)
        if other is not None and other[0] == size:
            yield Mark(size, note, other[1])
            other = next(cosigned, None)
        else:
            yield Mark(size, note)
    while other is not None:
        yield Mark(other[0], other[1], other[1])
        other = next(cosigned, None)


def _plain(report: Report) -> dict[str, Any]:
    plain = dict(vars(report))
    error: OutriderError | None = report.error
    if error is not None:
        plain["error"] = {"code": error.code, "message": error.message, "advice": error.advice}
    return plain
