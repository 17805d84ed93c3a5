"""What ``outrider audit`` reads and writes: whole logs to verify, proofs of one entry to make and to check.

``shared.audit`` and ``shared.proof`` judge them; nothing here trusts the agent.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.config import Home
from edge_agent.database import connect
from edge_agent.identity import load_identity, load_key
from edge_agent.journal import LogReader, read_head
from shared import proof
from shared.audit import Mark, Report, Row, verify
from shared.entries import Body
from shared.errors import BadInput, OutriderError, Tampered
from shared.keys import PublicKey, vkey
from shared.tlog import open_checkpoint

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
    """This device's log, against its own key, its hub's, and the copy of its newest checkpoint beside it."""
    identity = load_identity(home)
    own = load_key(home.keys / "log.key").public
    head = read_head(home.log)  # first: a running agent adds to the log before it writes this
    report = _verify(home.log, identity.hub, identity.hub_public)
    if report.error is None and report.key != own.text:
        report.bad_entry = 0
        report.error = Tampered("log.key", "the log names another key than this device's", advice="restore the log")
    if report.error is None:
        with contextlib.suppress(BadInput, Tampered):  # none, or torn by a power cut: it tells nothing
            earlier = open_checkpoint(head, identity.origin, own)
            if earlier.size > report.entries or (earlier.size == report.entries and earlier.root.hex() != report.root):
                report.bad_entry = report.entries
                report.error = Tampered(
                    "log.cut",
                    f"the log had {earlier.size} entries, by the checkpoint kept beside it",
                    advice="newer entries were removed, or the file was restored from an older copy",
                )
    return _plain(report)


def verify_file(path: Path, hub: str = "", hub_key: str = "") -> dict[str, Any]:
    if not path.is_file():
        raise BadInput("audit.file", f"there is no file {path}", advice="name a log.sqlite3")
    return _plain(_verify(path, hub, PublicKey.from_text(hub_key) if hub_key else None))


def prove(home: Home, seq: int, *, body: bool = False) -> tuple[bytes, dict[str, Any]]:
    """The file that proves one entry of this device's log, and what goes with it, JSON-plain.

    It stands on the first checkpoint with the entry that the hub countersigned, or on the newest where there is none.
    ``body`` puts the entry's shared body and its salt into it; the private one never leaves the device.
    """
    identity = load_identity(home)
    with contextlib.closing(LogReader(home.log)) as log:
        if not 0 <= seq < log.size:
            raise BadInput(
                "audit.entry", f"there is no entry {seq}", advice=f"name one from 0 to {log.size - 1}: its seq"
            )
        _, entry = next(log.raw(seq))
        cosigned, newest = log.cosigned(seq), log.newest()
        assert newest is not None
        bodies = _shared_body(log, seq) if body else {}
        data = proof.make(entry, seq, log.node, cosigned[1] if cosigned else newest[1], bodies)
    own = proof.Verifier(load_key(home.keys / "log.key").public, identity.origin)
    hub = proof.Verifier(identity.hub_public, identity.hub)
    shown = proof.check(data, own, hub if cosigned else None)  # what does not hold is not handed out
    return data, _proved(shown) | {
        "key": own.key.text,
        "log_vkey": vkey(own.name, own.key),
        "witness_key": hub.key.text,
        "witness_vkey": vkey(hub.name, hub.key, proof.WITNESS),
    }


def _shared_body(log: LogReader, seq: int) -> dict[str, Body]:
    found = log.raw_body(seq, "shared")
    if found is None:
        raise BadInput("audit.no-body", f"entry {seq} has no shared body, or it was erased", advice="leave out --body")
    return {"shared": found}


def check_file(path: Path, log_key: str, witness_key: str = "") -> dict[str, Any]:
    """A proof, judged by public keys alone; ``error`` is ``None`` when it holds."""
    log = proof.read_verifier(log_key)
    witness = proof.read_verifier(witness_key, proof.WITNESS) if witness_key else None
    try:
        with path.open("rb") as file:
            data = file.read(proof.MOST_BYTES + 1)
    except OSError as error:
        raise BadInput("audit.file", f"{path}: {error.strerror}", advice="name a file made by audit prove") from error
    try:
        return _proved(proof.check(data, log, witness)) | {"error": None}
    except OutriderError as error:
        return {"error": {"code": error.code, "message": error.message, "advice": error.advice}}


def _proved(shown: proof.Proved) -> dict[str, Any]:
    return {
        "origin": shown.origin,
        "index": shown.index,
        "size": shown.size,
        "root": shown.root.hex(),
        "witness": shown.witness,
        "cosigned_at": shown.cosigned_at,
        "entry": msgspec.to_builtins(shown.entry),
        "bodies": {name: json.loads(body.data) for name, body in shown.bodies.items()},
    }


def _verify(path: Path, hub: str, hub_key: PublicKey | None) -> Report:
    try:
        with contextlib.closing(connect(path, writable=False)) as db:
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
