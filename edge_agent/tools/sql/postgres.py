"""PostgreSQL, through pg8000: pure Python, BSD, one wheel for all systems. Imported when the first statement is run.

psycopg was weighed: faster, and a native library of ten megabytes under the LGPL; an agent runs a few statements a
minute. Some connections are kept between transactions; one that has gone stale is found out when a transaction begins
on it, before anything was sent.
"""

from __future__ import annotations

import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.tools.sql.database import Database, Result, Run, away, busy, doubt, refused
from edge_agent.tools.sql.statements import Query
from shared.errors import OutriderError

if TYPE_CHECKING:
    from pg8000.native import Connection

_IDLE = 2  # connections kept
_MAKING = 0x6F757472  # a lock of this number is held while the table of keys is made
_BUSY = {"40001", "40P01", "55P03", "57014", "25P03"}  # serialization, deadlock, lock or statement timeout
_REFUSED = {
    "0A",
    "21",
    "22",
    "23",
    "25",
    "26",
    "2B",
    "34",
    "38",
    "39",
    "3D",
    "3F",
    "42",
    "44",
    "P0",
}  # the caller's doing


@dataclass(frozen=True)
class Address:
    """Where the server is. ``tls`` is a context that verifies, or ``None`` on this very computer."""

    host: str
    port: int
    database: str
    user: str
    password: Callable[[], str] | None
    tls: ssl.SSLContext | None
    unix_socket: str = ""


class Postgres(Database):
    """One database of a server."""

    def __init__(self, address: Address, keys: str, timeout_s: float) -> None:
        super().__init__(keys)
        self._address = address
        self._keys = keys
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Run]:
        connection, sound = self._begun(writes=writes), False
        try:
            yield _runner(connection, writes=writes)
            with _telling(committing=writes):
                connection.execute_simple("COMMIT")
            sound = True
        except OutriderError as error:
            sound = error.code not in ("sql.unavailable", "sql.doubt") and _rolled_back(connection)
            raise
        finally:
            self._give(connection, sound=sound)

    def prepare(self, run: Run) -> None:
        if not self.prepared(run):
            # Two that make it at once would meet in the catalogue: the second waits for the first one's commit.
            run(Query((f"SELECT pg_advisory_xact_lock({_MAKING})",), ()), {})
            run(Query((self._table,), ()), {})

    def prepared(self, run: Run) -> bool:
        found = run(Query(("SELECT to_regclass(", "::text) IS NOT NULL"), ("keys",)), {"keys": self._keys})
        return bool(found.rows[0][0])

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            _closed(connection)

    def _begun(self, *, writes: bool) -> Connection:
        """A connection with a transaction begun on it. Nothing that this raises has changed anything."""
        limit = int(self._timeout_s * 1000)
        begin = f"BEGIN {'READ WRITE' if writes else 'READ ONLY'}; SET LOCAL statement_timeout = {limit}; "
        begin += f"SET LOCAL lock_timeout = {limit}; SET LOCAL idle_in_transaction_session_timeout = {2 * limit}; "
        begin += "SET LOCAL synchronous_commit = on"
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            kept = connection is not None
            try:
                if connection is None:
                    connection = self._connected()
                connection.execute_simple(begin)
            except _broken() as error:
                if connection is not None:
                    _closed(connection)
                if not kept:
                    raise _told(error, committing=False) from error
            else:
                return connection

    def _connected(self) -> Connection:
        from pg8000.native import Connection

        at = self._address
        password = at.password() if at.password else None
        where: dict[str, Any] = {"unix_sock": at.unix_socket} if at.unix_socket else {"host": at.host, "port": at.port}
        # The server ends a statement at its limit; the connection's own is for a server that answers no more.
        limit = 2 * self._timeout_s + 5
        return Connection(
            at.user, database=at.database, password=password, ssl_context=at.tls, timeout=limit,
            application_name="outrider", **where,
        )  # fmt: skip

    def _give(self, connection: Connection, *, sound: bool) -> None:
        with self._lock:
            if sound and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        _closed(connection)


def _runner(connection: Connection, *, writes: bool) -> Run:
    def run(query: Query, values: Mapping[str, object], most: int | None = None) -> Result:
        sql, wanted = query.write("$"), query.values(values)
        with _telling(committing=False):
            if most is not None and not writes:  # a cursor, so that no more is sent than is told
                connection.execute_unnamed(f"DECLARE told NO SCROLL CURSOR FOR {sql}", wanted)
                found = connection.execute_simple(f"FETCH {most} FROM told")
            else:
                found = connection.execute_unnamed(sql, wanted)
        rows = [tuple(row) for row in found.rows or ()]
        return Result([column["name"] for column in found.columns or ()], rows, found.row_count)

    return run


@contextmanager
def _telling(*, committing: bool) -> Iterator[None]:
    try:
        yield
    except _broken() as error:
        raise _told(error, committing=committing) from error


def _broken() -> tuple[type[Exception], ...]:
    """What pg8000 raises: its own errors, those of the network, and what it stumbles over in a cut-off answer."""
    from pg8000.exceptions import Error

    return (Error, OSError, EOFError, struct.error, KeyError, IndexError, ValueError, AttributeError)


def _told(error: Exception, *, committing: bool) -> OutriderError:
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else None
    if fields is None:  # the connection, not the database
        cause = error.__cause__ or error
        said = f"{type(cause).__name__}: {cause}"
        return doubt(said, error) if committing else away(said)
    code, said = str(fields.get("C", "")), f"{fields.get('M', '')} ({fields.get('C', '')})"
    if code in _BUSY:
        return busy(said)
    if code[:2] in _REFUSED:
        return refused(said, error)
    return doubt(said, error) if committing else away(said)


def _rolled_back(connection: Connection) -> bool:
    try:
        connection.execute_simple("ROLLBACK")
    except _broken():
        return False
    return True


def _closed(connection: Connection) -> None:
    with suppress(*_broken()):
        connection.close()
