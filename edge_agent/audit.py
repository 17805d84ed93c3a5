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

# CAST: in a file from elsewhere, SQLite may hold anything in any column.
_ENTRIES = (
    "SELECT CAST(seq AS INTEGER), CAST(COALESCE(data, '') AS BLOB), CAST(COALESCE(hash, '') AS BLOB) FROM entry"
    " LEFT JOIN node ON level = 0 AND idx = seq ORDER BY seq"
)
_BODIES = (
    "SELECT CAST(seq AS INTEGER), CAST(name AS TEXT), CAST(COALESCE(salt, '') AS TEXT),"
    " CAST(COALESCE(data, '') AS TEXT) FROM body ORDER BY seq, name"
)
_MARKS = (
    "SELECT CAST(size AS INTEGER), CAST(COALESCE(note, '') AS BLOB), CAST(cosigned AS BLOB) FROM checkpoint"
    " ORDER BY size"
)


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
            marks = [Mark(*row) for row in db.execute(_MARKS)]
            return verify(_rows(db), marks, hub=hub, hub_key=hub_key)
    except sqlite3.Error as error:
        raise BadInput("audit.file", f"{path}: {error}", advice="name a log.sqlite3 that is whole") from error


def _rows(db: sqlite3.Connection) -> Iterator[Row]:
    """Entries in order, each with the bodies still there. Two cursors in step, so that memory stays flat."""
    bodies = db.execute(_BODIES)
    ahead = next(bodies, None)
    for seq, data, leaf in db.execute(_ENTRIES):
        found: dict[str, Body] = {}
        while ahead is not None and ahead[0] <= seq:
            found[ahead[1]] = Body(ahead[2], ahead[3])
            ahead = next(bodies, None)
        yield Row(data, found, leaf)


def _plain(report: Report) -> dict[str, Any]:
    plain = dict(vars(report))
    error: OutriderError | None = report.error
    if error is not None:
        plain["error"] = {"code": error.code, "message": error.message, "advice": error.advice}
    return plain
