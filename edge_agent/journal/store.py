"""The one connection that writes a log. Every method is one transaction: it is done and on the disk, or it raised."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edge_agent.database import FOLD_PAGES, connect, unwritable
from edge_agent.journal import schema
from edge_agent.journal.files import reserve, sync_folder
from edge_agent.journal.schema import Row
from shared.errors import Conflict, OutriderError, Unavailable
from shared.keys import split_note
from shared.tlog import leaf_hash, parse_checkpoint

_SMALL = 8  # rows that go in by one statement, which is a transaction by itself
_LARGE = 64
_SNAPSHOTS = 2
_BUSY = 16  # commits after which a log is worth making room for
_PAGE = 4096
_FOLD_AT = FOLD_PAGES * 9 // 10  # before SQLite does it in the middle of a commit
_RUNS = 4096  # ids of runs kept in memory


def _create(path: Path) -> None:
    """An empty log under another name, then under its own: a file that is there is a log, whenever the power fails."""
    new = path.with_name(path.name + "-new")
    try:
        new.unlink(missing_ok=True)
        with contextlib.closing(connect(new, writable=True)) as db:
            schema.prepare(db)
        new.replace(path)
        sync_folder(path.parent)
    except sqlite3.Error as error:
        raise unwritable(path, error) from error
    except OSError as error:
        raise Unavailable("log.write", f"{path}: {error.strerror}", advice="check the disk, and its owner") from error


class Store:
    """Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._commits = 0
        self._asked = False
        self._pages = 0  # about as many stand in the write-ahead log
        self._runs: dict[str, int] = {}
        if not path.exists():
            _create(path)
        try:
            self._db = connect(path, writable=True)
        except sqlite3.Error as error:
            raise unwritable(path, error) from error
        try:
            schema.prepare(self._db)
            self._db.execute("SELECT 1 FROM entry LIMIT 1").fetchall()  # now the write-ahead log is there too
        except sqlite3.Error as error:
            self._db.close()
            raise unwritable(path, error) from error
        except OutriderError:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def opened(self, run: str) -> int | None:
        """Where a run began, if it did."""
        found = self._runs.get(run)
        if found is None:
            row = self._db.execute("SELECT opened FROM run WHERE id = ?", (run,)).fetchone()
            if row is None:
                return None
            found = self._remember(run, row[0])
        return found

    def _remember(self, run: str, opened: int) -> int:
        if len(self._runs) >= _RUNS:
            self._runs.clear()
        self._runs[run] = opened
        return opened

    def insert(self, rows: Sequence[Row], opened: Mapping[str, int], cosigned: Sequence[tuple[int, bytes]]) -> None:
        """Entries, the runs they open, and cosignatures, in one commit."""
        if 0 < len(rows) <= _SMALL and not opened and not cosigned:
            self._put(rows)
        else:
            with self._transaction():
                for begin in range(0, len(rows), _LARGE):
                    self._put(rows[begin : begin + _LARGE])
                if opened:
                    self._db.executemany("INSERT INTO run VALUES (?, ?)", opened.items())
                for size, note in cosigned:
                    self._cosign(size, note)
        for run, seq in opened.items():
            self._remember(run, seq)
        self._commits += 1
        self._pages += (
            2 + len(opened) + sum(len(row[4]) + len(row[8] or "") + len(row[10] or "") for row in rows) // _PAGE
        )

    def _put(self, rows: Sequence[Row]) -> None:
        """By one statement: each step of SQLite lets other threads run first, and they may take their time."""
        if len(rows) in (_LARGE, *range(1, _SMALL + 1)):
            self._db.execute(schema.insert(len(rows)), [value for row in rows for value in row])
        else:
            self._db.executemany(schema.insert(1), rows)

    def _cosign(self, size: int, note: bytes) -> None:
        found = self._db.execute(
            "INSERT OR REPLACE INTO cosigned SELECT seq + 1, ? FROM entry WHERE seq = ? AND note IS NOT NULL",
            (note, size - 1),
        )
        if found.rowcount != 1:
            raise Conflict("log.no-checkpoint", f"there is no checkpoint of {size} entries", advice="sync again")

    def keep(self, size: int, fold: int, data: bytes) -> None:
        """A snapshot, if a checkpoint of its size is in the log; of the older ones only the newest stays."""
        row = self._db.execute("SELECT note FROM entry WHERE seq = ? AND note IS NOT NULL", (size - 1,)).fetchone()
        if row is None:
            return
        root = parse_checkpoint(split_note(row[0])[0]).root
        with self._transaction():
            self._db.execute("DELETE FROM snapshot WHERE size > (SELECT MAX(seq) + 1 FROM entry)")
            kept = (size, fold, root, leaf_hash(data) + data)
            self._db.execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?)", kept)
            newest = "SELECT size FROM snapshot ORDER BY size DESC LIMIT ?"
            self._db.execute(f"DELETE FROM snapshot WHERE size NOT IN ({newest})", (_SNAPSHOTS,))  # noqa: S608 - constant

    def erase(self, run: str) -> int:
        """The bodies of a run's entries, with their salts, out of the file and its write-ahead log; the entries stay.
        Returns how many entries had any. Raises ``Unavailable('log.busy')`` where somebody reads the old pages: the
        bodies are gone then, and asking again empties the write-ahead log too."""
        with self._transaction():
            gone = self._db.execute(
                "UPDATE entry SET shared_salt = NULL, shared = NULL, private_salt = NULL, private = NULL"
                " WHERE opened = (SELECT opened FROM run WHERE id = ?) AND (shared IS NOT NULL OR private IS NOT NULL)",
                (run,),
            ).rowcount
        if self.fold():
            raise Unavailable(
                "log.busy", f"{self._path} is held by another program", advice="close it; the erasure is tried again"
            )
        return gone

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")

    def due(self) -> bool:
        """Whether there is something to tidy before a commit has to do it. True once, until it is done."""
        if self._asked or (self._pages < _FOLD_AT and self._commits != _BUSY):
            return False
        self._asked = True
        return True

    def tidy(self) -> None:
        """Between commits: make room for a log that turns out to be busy; fold what has gathered into the file."""
        self._asked = False
        if self._commits == _BUSY:
            self._commits += 1
            reserve(self._path)
        if self._pages >= _FOLD_AT:
            self._pages = 0
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def fold(self) -> bool:
        """Bring all that stands in the write-ahead log into the file itself; true where a reader prevents it."""
        return bool(self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0])
