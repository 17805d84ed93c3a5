"""The engine and its transactions.

SQLite in WAL with ``synchronous=FULL`` unless a database URL says otherwise. Reads take a snapshot; writes are taken
one at a time (``BEGIN IMMEDIATE`` under a process lock), because the hub has one writer and an in-memory tree beside it
that must move exactly when the transaction does. SQL stays portable; what SQLite alone needs is in this file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Boolean, Connection, Engine, Integer, create_engine, event, insert, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Session

import server.store.authoring_tables
import server.store.model_tables
import server.store.replay_tables  # noqa: F401 - its tables, and those of the lines before, are made with the others
from server.store.memory_tables import ERASABLE
from server.store.migrations import SCHEMA_VERSION, STEPS, migrate
from server.store.tables import META, METADATA
from shared.errors import Conflict, OutriderError, Unavailable

_NAMES = frozenset(("scope", "item", "device", "model"))  # columns of text that nobody wrote, and that are looked up


class Store:
    """The hub's database at ``HOME/hub.db``, or at ``url``. Open it once per process; close it at the end."""

    def __init__(self, home: Path, url: str | None = None) -> None:
        self.home = home
        self.url = url or f"sqlite:///{home / 'hub.db'}"
        self.writing = threading.RLock()  # held for a whole write; by whoever keeps state beside the rows, longer
        self._engine = _engine(self.url)
        self._writer = self._engine.execution_options(outrider_write=True)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        with self.write() as conn:
            METADATA.create_all(conn)
            if self._engine.dialect.name == "postgresql":
                _take_no_samples(conn)
            found = conn.execute(select(META.c.value).where(META.c.name == "schema")).scalar()
            if found is None:
                conn.execute(insert(META), [{"name": "schema", "value": str(SCHEMA_VERSION)}])
            elif found in map(str, STEPS):
                migrate(conn, int(found))
                conn.execute(update(META).where(META.c.name == "schema").values(value=str(SCHEMA_VERSION)))
            elif found != str(SCHEMA_VERSION):
                raise Conflict(
                    "store.schema",
                    f"the database has schema {found}, this software knows {SCHEMA_VERSION}",
                    advice="run the version of this software that wrote it, or upgrade",
                    where=self.url,
                )

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database."""
        with _explained(self.url), self._engine.connect() as conn:
            yield conn

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """The one write transaction: committed when the block ends, rolled back when it raises. Never nested."""
        with self.writing, _explained(self.url), self._writer.begin() as conn:
            yield conn

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """An ORM session over a read snapshot, for plain CRUD reads."""
        with _explained(self.url), Session(self._engine) as session:
            yield session

    def scrub(self) -> None:
        """Write the database's files anew, without anything that was deleted. Deleting alone is not enough: SQLite's
        ``secure_delete`` overwrites what is freed, but a page that was split keeps copies of what it had, and the
        write-ahead log keeps old pages. PostgreSQL's tables are rewritten too; what its own write-ahead log and
        everybody's backups still hold is theirs to expire. Writers wait meanwhile."""
        with self.writing, _explained(self.url), self._engine.connect() as conn:
            if self._engine.dialect.name == "sqlite":
                _scrub_sqlite(conn)
            else:
                conn.commit()
                loose = conn.execution_options(isolation_level="AUTOCOMMIT")
                for table in ERASABLE:
                    loose.exec_driver_sql(f"VACUUM FULL {table.name}")

    def close(self) -> None:
        self._engine.dispose()


def _scrub_sqlite(conn: Connection) -> None:
    raw: Any = conn.connection.driver_connection
    raw.execute("VACUUM")
    # Whoever still reads the old pages keeps the log from being emptied; they are waited for as any lock is.
    if raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise Unavailable("store.busy", "something reads the database on and on", advice="it is tried again by itself")


def _take_no_samples(conn: Connection) -> None:
    """PostgreSQL keeps samples of columns for its planner (``pg_statistic``), where no erasure reaches them: it is told
    to take none of what people wrote. Done once for a database."""
    known = "SELECT 1 FROM pg_attribute WHERE attrelid = 'memory_items'::regclass AND attname = 'text'"
    if conn.exec_driver_sql(f"{known} AND attstattarget = 0").first():
        return
    quoted = conn.dialect.identifier_preparer.quote
    for table in ERASABLE:
        for column in table.columns:
            if not isinstance(column.type, Integer | Boolean) and column.name not in _NAMES:
                conn.exec_driver_sql(f"ALTER TABLE {table.name} ALTER {quoted(column.name)} SET STATISTICS 0")


def _engine(url: str) -> Engine:
    engine = create_engine(url, pool_size=8, max_overflow=56, pool_timeout=30)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: sqlite3 would not open one for a SELECT
    for pragma in (
        "busy_timeout=10000",  # first: the others may meet a lock
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",  # what is erased is overwritten, not only unlinked
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("outrider_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn a database failure into one of our errors; everything of ours passes as it is."""
    try:
        yield
    except OutriderError:
        raise
    except (SQLAlchemyError, sqlite3.Error) as error:
        said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        if "disk is full" in said:
            raise Unavailable(
                "store.disk-full", "the hub's disk is full", advice="free some space; nothing was lost", where=url
            ) from error
        raise Unavailable(
            "store.failed", f"the database failed: {said}", advice="check the disk and the database", where=url
        ) from error
