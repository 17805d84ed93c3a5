"""PostgreSQL, through pg8000: pure Python, BSD, one wheel for all systems. Imported when the first statement is run.

psycopg was weighed: faster, and a native library of ten megabytes under the LGPL; an agent runs a few statements a
minute. Some connections are kept between transactions; one that has gone stale is found out when a transaction begins
on it, before anything was sent.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.tools.sql.database import Database, Result, Run, away, busy, doubt, refused
from edge_agent.tools.sql.statements import Query
from shared.errors import OutriderError

if TYPE_CHECKING:
    from pg8000.native import Connection

_ASK_TLS = struct.pack("!ii", 8, 80_877_103)  # PostgreSQL's SSLRequest
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


@dataclass
class _Link:
    """A connection, and its socket: the driver does not surely close it when the other side is gone."""

    driver: Connection
    wire: socket.socket

    def close(self) -> None:
        with suppress(*_broken()):
            self.driver.close()
        with suppress(OSError):
            if self.wire.fileno() != -1:
                os.close(self.wire.detach())


class Postgres(Database):
    """One database of a server."""

    def __init__(self, address: Address, keys: str, timeout_s: float) -> None:
        super().__init__(keys)
        self._address = address
        self._keys = keys
        self._timeout_s = timeout_s
        self._idle: list[_Link] = []
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Run]:
        link, sound = self._begun(writes=writes), False
        try:
            yield _runner(link.driver, writes=writes)
            with _telling(committing=writes):
                link.driver.execute_simple("COMMIT")
            sound = True
        except OutriderError as error:
            sound = error.code not in ("sql.unavailable", "sql.doubt") and _rolled_back(link.driver)
            raise
        finally:
            self._give(link, sound=sound)

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
        for link in idle:
            link.close()

    def _begun(self, *, writes: bool) -> _Link:
        """A connection with a transaction begun on it. Nothing that this raises has changed anything."""
        limit = int(self._timeout_s * 1000)
        begin = f"BEGIN {'READ WRITE' if writes else 'READ ONLY'}; SET LOCAL statement_timeout = {limit}; "
        begin += f"SET LOCAL lock_timeout = {limit}; SET LOCAL idle_in_transaction_session_timeout = {2 * limit}; "
        begin += "SET LOCAL synchronous_commit = on"
        while True:
            with self._lock:
                link = self._idle.pop() if self._idle else None
            kept = link is not None
            try:
                link = link or self._connected()
                link.driver.execute_simple(begin)
            except _broken() as error:
                if link is not None:
                    link.close()
                if not kept:
                    raise _told(error, committing=False) from error
            else:
                return link

    def _connected(self) -> _Link:
        from pg8000.native import Connection

        at = self._address
        password = at.password() if at.password else None
        # The server ends a statement at its limit; the connection's own is for a server that answers no more.
        wire = _wire(at, 2 * self._timeout_s + 5)
        try:
            driver = Connection(
                at.user, database=at.database, password=password, application_name="outrider", sock=wire,
                ssl_context=False,  # the wire has its own; ``None`` would try TLS and trust anybody
            )  # fmt: skip
        except BaseException:
            with suppress(OSError):
                if wire.fileno() != -1:
                    os.close(wire.detach())
            raise
        return _Link(driver, wire)

    def _give(self, link: _Link, *, sound: bool) -> None:
        with self._lock:
            if sound and len(self._idle) < _IDLE:
                self._idle.append(link)
                return
        link.close()


def _wire(at: Address, timeout_s: float) -> socket.socket:
    """A socket to the server, within TLS where the address says so. Raises ``OSError``."""
    if at.unix_socket:
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        wire = socket.create_connection((at.host, at.port), timeout_s)
    try:
        wire.settimeout(timeout_s)
        if at.unix_socket:
            wire.connect(at.unix_socket)
            return wire
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if at.tls is None:
            return wire
        wire.sendall(_ASK_TLS)
        if wire.recv(1) != b"S":  # not a byte more: what follows must be TLS
            raise ConnectionRefusedError("the server speaks no TLS")
        return at.tls.wrap_socket(wire, server_hostname=at.host)
    except BaseException:
        wire.close()
        raise


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
