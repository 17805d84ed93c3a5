"""A database that acts once a key: the key is written in the effect's own transaction, so both are there or neither.

The keys stand in a table of ours (``outrider_keys`` unless told) in the same database, with the receipt that was given.
A key that is sent twice, even at once, finds the first one's row: the database itself makes the second wait.

What an error means depends on when it came. Before the commit was asked for, the transaction is gone and nothing
happened. When the answer to the commit is lost, nobody knows, until the key is looked up.
"""

from __future__ import annotations

import datetime
import decimal
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from edge_agent.tools import NotSent
from edge_agent.tools.sql.statements import Query, parse
from shared.codec import canonical
from shared.errors import Refused, Unavailable

TEXT_BYTES = 64_000  # of rows in one answer
_CELL = 8_000  # characters of one value


@dataclass(frozen=True)
class Result:
    """What a statement gave: the names of columns, the rows, and how many it changed or found."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    count: int


# Runs a query with values by name, within a transaction; at most so many rows where told.
Run = Callable[..., Result]
Details = dict[str, Any]


class Database(ABC):
    """One database. Its methods block: call them in a thread."""

    def __init__(self, keys: str) -> None:
        def of(sql: str) -> Query:
            return parse("keys", sql.replace("KEYS", keys), {"SELECT", "INSERT", "UPDATE"})  # a name that was judged

        self._find = of("SELECT receipt FROM KEYS WHERE key = :key")
        self._claim = of("INSERT INTO KEYS VALUES (:key, :tool, :at, '') ON CONFLICT DO NOTHING")
        self._tell = of("UPDATE KEYS SET receipt = :receipt WHERE key = :key")
        self._table = (
            f"CREATE TABLE IF NOT EXISTS {keys} "
            "(key TEXT PRIMARY KEY, tool TEXT NOT NULL, made_at BIGINT NOT NULL, receipt TEXT NOT NULL)"
        )

    @abstractmethod
    def transaction(self, *, writes: bool) -> AbstractContextManager[Run]:
        """Everything run in it takes effect at its end, or nothing does where anything was raised. Raises ``Refused``
        and ``NotSent`` for what did not happen, ``Unavailable('sql.doubt')`` where the commit's answer was lost."""

    @abstractmethod
    def prepare(self, run: Run) -> None:
        """See to it that the table of keys is there."""

    @abstractmethod
    def prepared(self, run: Run) -> bool:
        """Whether the table of keys is there."""

    def close(self) -> None:  # noqa: B027 - not all of them keep connections
        """Let go of connections."""

    def once(self, key: str, tool: str, at: int, act: Callable[[Run], Details]) -> Details:
        """Do ``act`` and remember its receipt; of a key that was done before, only the receipt."""
        with self.transaction(writes=True) as run:
            self.prepare(run)
            if run(self._claim, {"key": key, "tool": tool, "at": at}).count == 0:
                return _receipt(run(self._find, {"key": key}))
            receipt = act(run)
            run(self._tell, {"key": key, "receipt": canonical(receipt).decode()})
            return receipt

    def known(self, key: str) -> Details | None:
        """The receipt of a key that was done."""
        with self.transaction(writes=False) as run:
            found = run(self._find, {"key": key}) if self.prepared(run) else None
            return _receipt(found) if found and found.rows else None

    def read(self, query: Query, values: Mapping[str, object], most: int) -> Details:
        """Rows, as far as they fit: ``more`` says that there are others."""
        with self.transaction(writes=False) as run:
            result = run(query, values, most=most + 1)
        rows: list[list[Any]] = []
        size = 0
        for row in result.rows[:most]:
            told = [plain(value) for value in row]
            size += len(canonical(told))
            if size > TEXT_BYTES:
                break
            rows.append(told)
        if result.rows and not rows:
            raise Refused("sql.too-large", "one row is more than an answer holds", advice="select fewer columns")
        return {"columns": result.columns, "rows": rows, "more": len(rows) < len(result.rows)}


def _receipt(found: Result) -> Details:
    try:
        receipt = json.loads(found.rows[0][0])
    except (IndexError, TypeError, ValueError) as error:
        raise doubt("the receipt of this key cannot be read", error) from error
    return dict(receipt)


def plain(value: Any, *, cut: bool = True) -> Any:
    """A value as it is told: no floats, no bytes, and nothing longer than a person reads where it may be ``cut``."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value if len(value) <= _CELL or not cut else value[:_CELL] + "…"
    if isinstance(value, float):
        value = decimal.Decimal(repr(value))
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(bytes(value))} bytes"
    if isinstance(value, list | tuple):
        return [plain(item, cut=cut) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item, cut=cut) for name, item in value.items()}
    return plain(str(value), cut=cut)  # identifiers, addresses, intervals


def refused(said: str, error: Exception | None) -> Refused:
    return Refused("sql.refused", f"the database refused it: {said}", advice="correct the values or the statement")


def busy(said: str) -> NotSent:
    return NotSent("sql.busy", f"the database is busy: {said}", advice="it is tried again; else raise timeout_s")


def away(said: str) -> NotSent:
    return NotSent("sql.unavailable", f"the database is out of reach: {said}", advice="check address, login and disk")


def doubt(said: str, error: Exception | None) -> Unavailable:
    return Unavailable("sql.doubt", f"nobody knows whether it was committed: {said}", advice="ask for the key again")
