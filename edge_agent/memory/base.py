"""The database under memory: opened, made or migrated, and changed in transactions by one thread at a time."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edge_agent.database import connect
from edge_agent.memory import actor, schema
from edge_agent.memory.moves import Moves
from edge_agent.memory.words import Words
from shared.errors import OutriderError, Refused, Unavailable

SELF = "UPDATE self SET value = ? WHERE name = ?"


class Base:
    """One open database. Its methods may be called from any thread."""

    def __init__(self, path: Path, *, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """Open or make memory. Raises ``Refused('memory.newer')``, ``Unavailable('memory.storage')``."""
        self._path = path
        self._random = random
        self._lock = threading.RLock()
        self._changes = 0
        self._listeners: list[Callable[[], None]] = []
        with ExitStack() as opened:
            try:
                self._db = connect(path, writable=True)
                opened.callback(self._db.close)
                self._words = Words()
                opened.callback(self._words.close)
                self._beside = actor.Beside(path)
                opened.callback(self._beside.close)
                self._begin()
            except sqlite3.Error as error:
                raise failed(path, error) from error
            self._closing = opened.pop_all()

    def close(self) -> None:
        self._closing.close()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each commit of this process that changed items or left something to tell the hub, in
        the thread that made it."""
        self._listeners.append(listener)

    def new_actor(self) -> None:
        """Make changes under a new name from now on; for a memory put back from a backup."""
        with self._change() as db:
            self._name(db)

    @property
    def version(self) -> int:
        """Grows with every change of items or vectors since it was opened, by this process or another."""
        return self._changes + int(self._all("PRAGMA data_version")[0][0])

    def _begin(self) -> None:
        """Bring the database to this form, and give it an actor where it needs one."""
        if schema.form(self._db, self._path) != schema.FORM:
            with self._change(counted=False) as db:
                match schema.form(db, self._path):  # again: another process may have been faster
                    case 0:
                        schema.make(db)
                    case 1:
                        self._migrate(db)
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        beside = self._beside.read()
        if actor.stale(actor.read(self._db), beside):
            self.new_actor()

    def _migrate(self, db: sqlite3.Connection) -> None:
        raise NotImplementedError

    def _name(self, db: sqlite3.Connection) -> None:
        db.execute("INSERT OR REPLACE INTO self VALUES ('actor', ?)", (self._random(actor.BYTES),))

    @contextmanager
    def _change(self, *, counted: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction. What changed in it reaches the caches after the commit."""
        with self._lock:
            moves = self._moves = Moves()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                if counted:
                    self._db.execute("UPDATE self SET value = value + 1 WHERE name = 'count'")
                said = actor.read(self._db) if counted else None
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._undo()
                raise failed(self._path, error) from error
            except BaseException:
                self._undo()
                raise
            self._changes += moves.any
            if said is not None:
                self._beside.write(*said)
            self._moved(moves)
        if moves.rows or moves.gone or moves.asked:
            for listener in self._listeners:
                listener()

    def _moved(self, moves: Moves) -> None:
        """What a commit changed, for whoever keeps a cache."""

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Several statements that see one state."""
        with self._lock:
            try:
                self._db.execute("BEGIN")
                yield self._db
            except sqlite3.Error as error:
                raise failed(self._path, error) from error
            finally:
                self._undo()

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise failed(self._path, error) from error


def failed(path: Path, error: sqlite3.Error) -> OutriderError:
    if "full" in str(error):
        return Unavailable(
            "memory.disk-full", f"the disk of {path} is full", advice="free some space; nothing was lost"
        )
    if "locked" in str(error) or "busy" in str(error):
        return Unavailable("memory.busy", f"{path} is used by another program", advice="try again in a moment")
    return Unavailable("memory.storage", f"{path}: {error}", advice="check the disk, restore memory from a backup")


def erased() -> Refused:
    return Refused("memory.erased", "this item was forgotten for good", advice="write it anew if it may be known again")
