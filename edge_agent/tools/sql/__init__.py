"""SQL: named statements that ``tools.toml`` declares, run on SQLite or PostgreSQL. A plan gives values, never SQL.

    [crm]
    kind = "sql"
    engine = "postgresql"
    host = "db.city.example"
    database = "crm"
    user = "outrider"
    secret = "crm-db"

    [crm.statements.find-customer]
    sql = "SELECT id, name FROM customers WHERE name = :name"
    arguments = {name = {}}
    effect = "read"

gives ``crm.find-customer``; see ``statements`` for those that change something. Each of them acts once a key and can be
asked, because the key is committed with the effect (``database``). Reads run in read-only transactions, and all of them
within ``timeout_s`` and ``rows``.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import msgspec

from edge_agent.tools import Argument, Effect, Kind, Manual, NotSent, Receipt, Risk, Tool, build, check_arguments
from edge_agent.tools.build import Place
from edge_agent.tools.sql.database import TEXT_BYTES, Database, Details, Run, plain
from edge_agent.tools.sql.statements import UNDOES, Given, Statement, judge
from shared.actions import Action
from shared.codec import canonical
from shared.errors import BadInput, Refused, Unavailable

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?")
_HERE = ("127.0.0.1", "::1", "localhost")
_MAX = 2**63


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``file`` is SQLite's; ``host`` to ``socket`` are PostgreSQL's. ``tls`` may be ``off`` only on this computer."""

    engine: Literal["sqlite", "postgresql"]
    statements: dict[str, Given]
    file: str = ""
    host: str = ""
    port: int = 5432
    database: str = ""
    user: str = ""
    secret: str = ""
    tls: Literal["verify", "off"] = "verify"
    ca: str = ""
    socket: str = ""
    keys_table: str = "outrider_keys"
    rows: int = 100
    timeout_s: int = 10


def make(place: Place, given: dict[str, Any]) -> list[Tool]:
    """A tool for each statement. Raises ``BadInput``: ``tools.setting``, ``sql.setting``, ``sql.statement``."""
    wanted = build.settings(Settings, place, given)
    where = f"tools.toml [{place.name}]"
    if not 1 <= wanted.rows <= 1_000 or not 1 <= wanted.timeout_s <= 600 or not _TABLE.fullmatch(wanted.keys_table):
        _bad("rows is 1 to 1000, timeout_s 1 to 600, keys_table a plain name", where)
    statements = judge(place.name, wanted.statements)
    database = _sqlite(wanted, where) if wanted.engine == "sqlite" else _postgres(wanted, place, where)
    return [_tool(place, database, statement, wanted) for statement in statements.values()]


def _sqlite(wanted: Settings, where: str) -> Database:
    if not Path(wanted.file).is_absolute() or "\0" in wanted.file:
        _bad('sqlite needs file = "/absolute/path"', where)
    from edge_agent.tools.sql.sqlite import Sqlite

    return Sqlite(Path(wanted.file), wanted.keys_table, wanted.timeout_s)


def _postgres(wanted: Settings, place: Place, where: str) -> Database:
    from edge_agent.tools.sql.postgres import Address, Postgres

    if not wanted.database or not wanted.user or bool(wanted.host) == bool(wanted.socket):
        _bad("postgresql needs database, user, and either host or socket", where)
    context = None
    if wanted.tls == "verify" and not wanted.socket:
        try:
            context = ssl.create_default_context(cafile=wanted.ca or None)
        except (OSError, ssl.SSLError) as error:
            raise BadInput("sql.setting", f"ca: {error}", advice="name a file of certificates", where=where) from error
    elif not wanted.socket and wanted.host not in _HERE:
        _bad("tls = 'off' sends the password in the clear: only for 127.0.0.1", where)
    password = (lambda: _secret(place, wanted.secret)) if wanted.secret else None
    address = Address(wanted.host, wanted.port, wanted.database, wanted.user, password, context, wanted.socket)
    return Postgres(address, wanted.keys_table, wanted.timeout_s)


def _secret(place: Place, name: str) -> str:
    try:
        return place.secret(name)
    except Unavailable as error:  # nothing was sent, and the engine may know it
        raise NotSent(error.code, error.message, advice=error.advice, where=error.where) from error


def _tool(place: Place, database: Database, statement: Statement, wanted: Settings) -> Tool:
    if statement.given.effect == "read":
        return Reading(place, database, statement, wanted)
    kind = Changing if statement.check else Unchecked
    return kind(place, database, statement, wanted)


class _Sql(Tool):
    """What all statements share."""

    effect: Effect
    idempotent = True

    def __init__(self, place: Place, database: Database, statement: Statement, wanted: Settings) -> None:
        self.name = f"{place.name}.{statement.name}"
        self.about = statement.given.about or f"Run the statement {statement.name}."
        self.effect: Effect = statement.given.effect
        self.risk: Risk = statement.given.risk
        self.arguments: dict[str, Argument] = statement.arguments
        self.timeout_s = 3.0 * wanted.timeout_s + 20
        self._table = place.name
        self._now = place.now
        self._rows = wanted.rows
        self._database = database
        self._statement = statement

    def _values(self, action: Action) -> dict[str, Any]:
        check_arguments(self, action)
        return {name: _bound(value, name, self.name) for name, value in action.arguments.items() if name != UNDOES}

    async def close(self) -> None:
        await asyncio.to_thread(self._database.close)


class Reading(_Sql):
    """A statement that only reads."""

    askable = False

    async def send(self, action: Action, key: str) -> Receipt:
        values = self._values(action)
        return Receipt(await asyncio.to_thread(self._database.read, self._statement.query, values, self._rows))


class Changing(_Sql):
    """A statement that changes something, with a ``check`` that reads it back."""

    askable = True

    async def send(self, action: Action, key: str) -> Receipt:
        values = self._values(action)

        def act(run: Run) -> Details:
            return self._act(run, values)

        return Receipt(await asyncio.to_thread(self._database.once, key, self.name, self._now(), act))

    async def ask(self, key: str, action: Action) -> Receipt | None:
        known = await asyncio.to_thread(self._database.known, key)
        return None if known is None else Receipt(known)

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        check = self._statement.check
        assert check is not None
        values = {**self._values(action), **receipt["returned"]}
        found = await asyncio.to_thread(self._database.read, check, values, 1)
        first = found["rows"][0][0] if found["rows"] and found["rows"][0] else None
        return first not in (None, False, 0, "", "0", "f", "false"), {"check": first}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        given = self._statement.given
        if not given.undo:
            return super().undo(action, receipt)
        # Each undo is an action of its own, though another may have the same values: its key must be another, too.
        known = {**action.arguments, **receipt["returned"], UNDOES: action.key}
        values = {name: known[name] for name in self._statement.undo if known.get(name) is not None}
        return Action(f"{self._table}.{given.undo}", values, action.subject)

    def _act(self, run: Run, values: dict[str, Any]) -> Details:
        """Within the transaction: whatever is refused here undoes all of it."""
        statement = self._statement
        told: dict[str, Any] = {}
        if statement.before:
            before = run(statement.before, values)
            if len(before.rows) != 1:
                raise Refused("sql.rows", f"{len(before.rows)} rows stand before it, not one", advice="name one row")
            told.update(zip(before.columns, before.rows[0], strict=True))
        result = run(statement.query, values)
        if statement.given.rows is not None and result.count != statement.given.rows:
            raise Refused(
                "sql.rows",
                f"it would change {result.count} rows, not {statement.given.rows}",
                advice="check the values",
            )
        if result.rows:
            told.update(zip(result.columns, result.rows[0], strict=True))
        returned = {name: _returned(told, name, kind) for name, kind in statement.given.returns.items()}
        receipt = {"rows": result.count, "returned": returned}
        canonical(receipt)
        return receipt


class Unchecked(Changing):
    """The same without a ``check``: nothing reads the outcome back."""

    reads_back: ClassVar[bool] = False

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        return True, {}


def _bound(value: Any, name: str, where: str) -> Any:
    """An argument as the database takes it: decimals as text, lists and objects as JSON."""
    if isinstance(value, list | dict):
        return canonical(value).decode()
    if isinstance(value, int) and not -_MAX <= value < _MAX:
        raise BadInput("sql.value", f"{name} is beyond 64 bits", advice="send a smaller number", where=where)
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)):
        raise BadInput("sql.value", f"{name} has a sign that no text holds", advice="send plain text", where=where)
    return value


def _returned(told: dict[str, Any], name: str, kind: Kind) -> Any:
    if name not in told:
        raise Refused("sql.returns", f"no column {name} came back", advice="correct returns, or the statement")
    value = plain(told[name], cut=False)
    if isinstance(told[name], bytes | bytearray | memoryview) or len(canonical(value)) > TEXT_BYTES // 4:
        raise Refused("sql.returns", f"{name} is too much for a receipt", advice="return a number that stands for it")
    if kind == "boolean" and value in (0, 1):  # SQLite has no other
        value = bool(value)
    if kind == "decimal" and isinstance(value, int):
        value = str(value)
    wanted = {"text": str, "decimal": str, "integer": int, "boolean": bool, "list": list, "object": dict}[kind]
    if value is not None and (not isinstance(value, wanted) or (kind == "integer" and isinstance(value, bool))):
        raise Refused("sql.returns", f"{name} came back as no {kind}", advice="correct returns, or the statement")
    return value


def _bad(said: str, where: str) -> NoReturn:
    raise BadInput("sql.setting", said, advice="see docs/reference/tools.md", where=where)
