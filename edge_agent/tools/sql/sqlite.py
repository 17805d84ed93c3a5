"""SQLite: one file on this computer, a connection for each transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from edge_agent.tools.sql.database import Database, Result, Run, away, busy, doubt, refused
from edge_agent.tools.sql.statements import Query
from shared.errors import OutriderError

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT}
_AWAY = {
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
}  # fmt: skip


class Sqlite(Database):
    """The file must be there: a database that nobody made is a mistake in ``tools.toml``."""

    def __init__(self, file: Path, keys: str, timeout_s: float) -> None:
        super().__init__(keys)
        self._uri = f"{file.absolute().as_uri()}?mode=rw"
        self._keys = keys
        self._timeout_s = timeout_s

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Run]:
        try:
            connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, timeout=self._timeout_s)
        except sqlite3.Error as error:
            raise _told(error, writes=writes, committing=False) from error
        with closing(connection) as db:
            ends = time.monotonic() + self._timeout_s
            db.set_progress_handler(lambda: time.monotonic() > ends, 10_000)
            committing = False
            try:
                db.execute("PRAGMA foreign_keys=ON")
                db.execute("PRAGMA synchronous=FULL")
                db.execute("PRAGMA trusted_schema=OFF")
                if not writes:
                    db.execute("PRAGMA query_only=ON")
                db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                yield _runner(db)
                committing = writes
                db.execute("COMMIT")
            except sqlite3.Error as error:
                raise _told(error, writes=writes, committing=committing) from error
            finally:
                with suppress(sqlite3.Error):  # a transaction that is still open ends with the connection
                    if db.in_transaction:
                        db.execute("ROLLBACK")

    def prepare(self, run: Run) -> None:
        run(Query((self._table,), ()), {})

    def prepared(self, run: Run) -> bool:
        query = Query(("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ", ""), ("keys",))
        return bool(run(query, {"keys": self._keys}).rows)


def _runner(db: sqlite3.Connection) -> Run:
    def run(query: Query, values: Mapping[str, object], most: int | None = None) -> Result:
        wanted = {name: values.get(name) for name in query.names}
        with closing(db.execute(query.write(), wanted)) as cursor:
            rows = cursor.fetchall() if most is None else cursor.fetchmany(most)
            columns = [column[0] for column in cursor.description or ()]
            return Result(columns, rows, cursor.rowcount if cursor.rowcount >= 0 else len(rows))

    return run


def _told(error: sqlite3.Error, *, writes: bool, committing: bool) -> OutriderError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_READONLY and not writes:  # a query that would change something
        return refused(str(error), error)
    if code in _BUSY:  # a commit that met a lock was not made
        return busy(str(error))
    if committing and code == sqlite3.SQLITE_IOERR:
        return doubt(str(error), error)
    return away(str(error)) if code in _AWAY else refused(str(error), error)
