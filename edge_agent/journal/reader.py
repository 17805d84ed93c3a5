"""Reading a log. What is read is what was written, or an error: every entry is held against its leaf in the tree, and
every body against its entry. A damaged page is met here and not by a run that acts on it.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.database import connect, unreadable
from edge_agent.journal import schema
from shared import limits
from shared.entries import Body, Entry, read
from shared.errors import BadInput, OutriderError, Tampered, Unavailable
from shared.keys import split_note
from shared.protocol import Sent
from shared.tlog import Frontier, leaf_hash, parse_checkpoint

_BODY = {
    "shared": "SELECT data, tree, shared_salt, shared FROM entry WHERE seq = ? AND shared IS NOT NULL",
    "private": "SELECT data, tree, private_salt, private FROM entry WHERE seq = ? AND private IS NOT NULL",
}


class _Committed(msgspec.Struct):
    bodies: dict[str, str]


_COMMITTED = msgspec.json.Decoder(_Committed)

Mark = tuple[int, bytes, bytes | None]
"""A checkpoint: its size, the signed note, and the same with the hub's cosignature or ``None``."""


class LogReader:
    """Read a log, from any process. Unknown, malformed or changed entries raise."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise Unavailable(
                "log.missing", f"there is no log at {path}", advice="join a hub first: outrider agent join"
            )
        self._path = path
        try:
            self._db = connect(path, writable=False)
        except sqlite3.Error as error:
            raise unreadable(path, error) from error
        try:
            schema.check(self._db)
            self._db.execute("SELECT 1 FROM entry LIMIT 1")
        except sqlite3.Error as error:
            self._db.close()
            raise unreadable(path, error) from error
        except OutriderError:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _rows(self, sql: str, *values: Any) -> Iterator[Any]:
        try:
            for row in self._db.execute(sql, values):  # noqa: UP028 - that would close a cursor after its database
                yield row
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error

    def _one(self, sql: str, *values: Any) -> Any:
        return next(self._rows(sql, *values), None)

    # --- entries --------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return int(self._one("SELECT COALESCE(MAX(seq) + 1, 0) FROM entry")[0])

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Entries in order; ``Tampered('log.corrupt')`` where one is missing or is not what was written."""
        end = self.size
        for seq, data, tree in self._rows("SELECT seq, data, tree FROM entry WHERE seq >= ? ORDER BY seq", start):
            if seq != start:
                raise _corrupt(f"entry {start} is missing")
            yield _entry(seq, data, tree)
            start += 1
        if start < end:
            raise _corrupt(f"entry {start} is missing")

    def of_types(self, *types: str) -> Iterator[Entry]:
        """Entries about the device itself (of no run) of some types, oldest first."""
        sql = "SELECT seq, data, tree FROM entry WHERE type = ? AND opened IS NULL ORDER BY seq"
        for row in heapq.merge(*(self._rows(sql, name) for name in types)):
            yield _entry(*row)

    def raw(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Positions and exact bytes, unjudged."""
        yield from self._rows("SELECT seq, data FROM entry WHERE seq >= ? ORDER BY seq", start)

    def run_entries(self, run: str) -> list[Entry]:
        """A run's entries in order; none where it was never opened here."""
        rows = self._rows(
            "SELECT seq, data, tree FROM entry WHERE opened = (SELECT opened FROM run WHERE id = ?) ORDER BY seq", run
        )
        return [_of_run(run, _entry(*row)) for row in rows]

    def has_run(self, run: str) -> Entry | None:
        """The entry that opened a run, if it was ever opened here."""
        row = self._one("SELECT seq, data, tree FROM entry WHERE seq = (SELECT opened FROM run WHERE id = ?)", run)
        return _of_run(run, _entry(*row)) if row else None

    def newest_runs(self, limit: int) -> list[str]:
        """The names of the runs that were opened last, newest first."""
        return [row[0] for row in self._rows("SELECT id FROM run ORDER BY opened DESC LIMIT ?", limit)]

    def answered(self, most: int) -> list[str]:
        """The runs in which people answered lately, the latest first: at most so many, and of the newest entries."""
        sql = (
            "SELECT run FROM entry WHERE seq > ? AND type = 'approval.answered'"
            " GROUP BY run ORDER BY MAX(seq) DESC LIMIT ?"
        )
        return [run for (run,) in self._rows(sql, self.size - limits.ANSWERS_LOOKED_FOR, most)]

    # --- bodies ---------------------------------------------------------------------------------------------------

    def body(self, seq: int, name: str = "shared") -> dict[str, Any] | None:
        """A body's JSON, or ``None`` when it was erased or never written."""
        found = self.raw_body(seq, name)
        if found is None:
            return None
        value = json.loads(found.data)
        return value if isinstance(value, dict) else None

    def raw_body(self, seq: int, name: str) -> Body | None:
        row = self._one(_BODY[name], seq) if name in _BODY else None
        if row is None:
            return None
        data, tree, salt, text = row
        _hold(seq, data, tree)
        return _body(seq, data, name, salt, text)

    # --- the tree and its checkpoints -----------------------------------------------------------------------------

    def checkpoints(self) -> Iterator[Mark]:
        """Every checkpoint, oldest first: as many as commits. ``newest`` and ``cosigned`` give the last one."""
        yield from self._rows(
            "SELECT seq + 1, e.note, c.note FROM entry e LEFT JOIN cosigned c ON c.size = seq + 1"
            " WHERE e.note IS NOT NULL ORDER BY seq"
        )

    def newest(self) -> Mark | None:
        """The checkpoint of the whole log; ``None`` for an empty one."""
        row = self._one(
            "SELECT seq + 1, e.note, c.note FROM entry e LEFT JOIN cosigned c ON c.size = seq + 1"
            " ORDER BY seq DESC LIMIT 1"
        )
        if row is not None and not isinstance(row[1], bytes):
            raise _corrupt("the newest entries have no checkpoint")
        return row if row is None else (row[0], row[1], row[2])

    def cosigned(self, beyond: int | None = None) -> tuple[int, bytes] | None:
        """The newest checkpoint the hub countersigned, as (size, note with its cosignature); with ``beyond``, the
        first one of more than so many entries."""
        if beyond is None:
            row = self._one("SELECT size, note FROM cosigned ORDER BY size DESC LIMIT 1")
        else:
            row = self._one("SELECT size, note FROM cosigned WHERE size > ? ORDER BY size LIMIT 1", beyond)
        if row is not None and not isinstance(row[1], bytes):
            raise _corrupt("a countersigned checkpoint is damaged")
        return (row[0], row[1]) if row else None

    def cosigned_size(self) -> int:
        """How many entries the hub has countersigned."""
        return int(self._one("SELECT COALESCE(MAX(size), 0) FROM cosigned")[0])

    def node(self, level: int, index: int) -> bytes:
        seq = ((index + 1) << level) - 1
        row = self._one("SELECT substr(tree, ?, 32) FROM entry WHERE seq = ?", level * 32 + 1, seq)
        if row is None or not isinstance(row[0], bytes) or len(row[0]) != 32:
            raise _corrupt(f"tree node {level}/{index} is missing")
        return row[0]

    def root_at(self, size: int) -> bytes:
        """The root that the first ``size`` entries have, by the nodes kept."""
        return Frontier.load(size, self.node).root()

    # --- what goes to the hub -------------------------------------------------------------------------------------

    def batch(self, start: int) -> tuple[list[Sent], bytes] | None:
        """Entries from ``start`` to a later checkpoint, and that checkpoint; ``None`` when there is nothing newer.

        A batch ends where a commit ended, because only there is a signature. It holds at most ``BATCH_ENTRIES`` entries
        and about ``BATCH_BYTES`` bytes, and at least one whole commit.
        """
        sent: list[Sent] = []
        best: tuple[int, bytes] | None = None
        weight = 0
        rows = self._rows(
            "SELECT seq, data, tree, note, shared_salt, shared FROM entry WHERE seq >= ? ORDER BY seq LIMIT ?",
            start,
            limits.BATCH_ENTRIES,
        )
        for place, (seq, data, tree, note, salt, text) in enumerate(rows, start):
            _hold(place, data, tree)
            if seq != place:
                raise _corrupt(f"entry {place} is missing")
            body = _body(seq, data, "shared", salt, text) if text is not None else None
            weight += len(data) + (len(body.data.encode()) if body else 0)
            if best is not None and weight > limits.BATCH_BYTES:
                break
            sent.append(Sent(data.decode(), body))
            if note is not None:
                best = (len(sent), note)
        if best is None:
            if sent:
                raise _corrupt(f"no checkpoint covers entry {start}")
            return None
        return sent[: best[0]], best[1]

    # --- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self, fold: int) -> tuple[int, bytes] | None:
        """The newest state kept by version ``fold`` of the fold, as (entries folded, data); ``None`` without one.

        A state of more entries than the log has, of another history, or damaged, is not there.
        """
        rows = self._rows(
            "SELECT size, root, data FROM snapshot WHERE fold = ? AND size <= ? ORDER BY size DESC", fold, self.size
        )
        for size, root, data in rows:
            if isinstance(data, bytes) and isinstance(root, bytes) and self._fits(size, root, data):
                return size, data[32:]
        return None

    def _fits(self, size: int, root: bytes, data: bytes) -> bool:
        row = self._one("SELECT note FROM entry WHERE seq = ?", size - 1)
        if row is None or not isinstance(row[0], bytes) or data[:32] != leaf_hash(data[32:]):
            return False
        try:
            return parse_checkpoint(split_note(row[0])[0]).root == root == self.root_at(size)
        except (BadInput, Tampered):
            return False


def _hold(seq: int, data: object, tree: object) -> None:
    if not isinstance(data, bytes) or not isinstance(tree, bytes) or leaf_hash(data) != tree[:32]:
        raise _corrupt(f"entry {seq} is not what was written")


def _entry(seq: int, data: bytes, tree: bytes) -> Entry:
    _hold(seq, data, tree)
    entry = read(data)
    if entry.seq != seq:
        raise _corrupt(f"entry {entry.seq} stands at {seq}")
    return entry


def _of_run(run: str, entry: Entry) -> Entry:
    if entry.run != run:
        raise _corrupt(f"entry {entry.seq} is of another run")
    return entry


def _body(seq: int, data: bytes, name: str, salt: object, text: object) -> Body:
    """The body beside an entry whose bytes were checked; it must be the one they commit to."""
    if isinstance(salt, str) and isinstance(text, str):
        body = Body(salt, text)
        with contextlib.suppress(ValueError, BadInput):  # no salt at all
            if body.hash() == _COMMITTED.decode(data).bodies.get(name):
                return body
    raise _corrupt(f"the {name} body of entry {seq} is not what was written")


def _corrupt(said: str) -> Tampered:
    return Tampered(
        "log.corrupt",
        said,
        advice="do not delete it: copy the folder, run `outrider audit verify --device`, restore from a backup",
    )
