"""SQL on real databases, SQLite and PostgreSQL: every statement keeps its promises through kills and lost answers."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import itertools
import json
import random
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.tools import Manual, NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.sql import make
from shared.actions import Action, Value
from shared.errors import BadInput, Refused, Unavailable
from tests.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.timeout(300)

STATEMENTS: dict[str, Any] = {
    "add-note": {
        "sql": "INSERT INTO notes (customer, text) VALUES (:customer, :text) RETURNING id",
        "arguments": {"customer": {"kind": "integer"}, "text": {}},
        "effect": "reversible",
        "returns": {"id": "integer"},
        "undo": "remove-note",
        "check": "SELECT count(*) FROM notes WHERE id = :id AND customer = :customer AND text = :text",
    },
    "remove-note": {
        "sql": "DELETE FROM notes WHERE id = :id",
        "arguments": {"id": {"kind": "integer"}},
        "effect": "irreversible",
        "rows": 1,
    },
    "set-city": {
        "sql": "UPDATE customers SET city = :city WHERE id = :id",
        "arguments": {"id": {"kind": "integer"}, "city": {"required": False}},
        "effect": "reversible",
        "rows": 1,
        "before": "SELECT city AS old_city FROM customers WHERE id = :id",
        "returns": {"old_city": "text"},
        "undo": "put-city-back",
        "check": "SELECT count(*) FROM customers WHERE id = :id AND city = :city",
    },
    "put-city-back": {
        "sql": "UPDATE customers SET city = :old_city WHERE id = :id",
        "arguments": {"id": {"kind": "integer"}, "old_city": {"required": False}},
        "effect": "irreversible",
        "rows": 1,
    },
    "find-notes": {
        "sql": "SELECT id, text FROM notes WHERE customer = :customer ORDER BY id",
        "arguments": {"customer": {"kind": "integer"}},
        "effect": "read",
    },
}

# Every change is counted by the database itself, in a table that nothing takes back.
SEEN = "CREATE TABLE seen (what TEXT)"
TABLES = "CREATE TABLE customers (id INTEGER PRIMARY KEY, city TEXT)"
ROWS = "INSERT INTO customers VALUES " + ", ".join(f"({n}, 'old {n}')" for n in range(10))


class World(Protocol):
    """A database that tests look into without the tools, and can put out of reach."""

    settings: dict[str, Any]

    def query(self, sql: str) -> list[list[str]]: ...
    def leave(self) -> None: ...
    def return_(self) -> None: ...


class SqliteWorld:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "city" / "crm.sqlite3"
        self.file.parent.mkdir()
        self.settings = {"engine": "sqlite", "file": str(self.file)}
        sqlite3.connect(self.file).close()
        for sql in (
            SEEN, TABLES, ROWS,
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, text TEXT NOT NULL)",
            "CREATE TRIGGER note AFTER INSERT ON notes BEGIN INSERT INTO seen VALUES (NEW.text); END",
            "CREATE TRIGGER city AFTER UPDATE ON customers BEGIN INSERT INTO seen VALUES (NEW.city); END",
        ):  # fmt: skip
            self.query(sql)

    def query(self, sql: str) -> list[list[str]]:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as db:
            return [["" if value is None else str(value) for value in row] for row in db.execute(sql)]

    def leave(self) -> None:
        self.file.parent.rename(self.file.parent.with_name("away"))

    def return_(self) -> None:
        self.file.parent.with_name("away").rename(self.file.parent)


class PostgresWorld:
    _numbers = itertools.count()

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.database = f"crm{next(self._numbers)}"
        server.query(f"CREATE DATABASE {self.database}")
        self.settings = {
            "engine": "postgresql", "host": server.host, "port": server.port, "database": self.database,
            "user": server.user, "secret": "crm", "tls": "off", "timeout_s": 30,
        }  # fmt: skip
        self.query(
            f"""{SEEN}; {TABLES}; {ROWS};
            CREATE TABLE notes (id SERIAL PRIMARY KEY, customer INTEGER NOT NULL, text TEXT NOT NULL);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN INSERT INTO seen VALUES (NEW.text); RETURN NEW; END $$;
            CREATE FUNCTION city() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN INSERT INTO seen VALUES (NEW.city); RETURN NEW; END $$;
            CREATE TRIGGER note AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION note();
            CREATE TRIGGER city AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION city();"""
        )

    def query(self, sql: str) -> list[list[str]]:
        return self.server.query(sql, database=self.database)

    def leave(self) -> None:
        self.server.kill()

    def return_(self) -> None:
        self.server.start()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture
def sqlite_world(tmp_path: Path) -> SqliteWorld:
    return SqliteWorld(tmp_path)


@pytest.fixture
def postgres_world(server: Postgres) -> PostgresWorld:
    return PostgresWorld(server)


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


def crm(folder: Path, world: World, statements: dict[str, Any] | None = None, **more: Any) -> dict[str, Tool]:
    place = Place("crm", folder / "state", {"crm": PASSWORD}.__getitem__, lambda: 1_790_000_000_000_000)
    given = {**world.settings, "statements": STATEMENTS if statements is None else statements, **more}
    return {tool.name: tool for tool in make(place, given)}


def act(tool: str, subject: str = "s", **arguments: Value) -> Action:
    return Action(f"crm.{tool}", arguments, subject)


async def do(tools: dict[str, Tool], action: Action) -> dict[str, Any]:
    try:
        return (await tools[action.tool].send(action, action.key)).details
    finally:
        await tools[action.tool].close()


# --- promises -----------------------------------------------------------------------------------------------------


class SqlContract(ToolContract):
    """The hooks for a statement; effects are counted by triggers."""

    secrets = (PASSWORD,)
    world: World
    folder: Path
    statement = "add-note"

    def tool_named(self, name: str) -> Tool:
        return crm(self.folder, self.world)[name]

    def make_tool(self) -> Tool:
        return self.tool_named(f"crm.{self.statement}")

    def good_action(self, n: int) -> Action:
        return act("add-note", customer=n, text=f"note {n}")

    async def effects(self, action: Action | None) -> int:
        mark = action and (action.arguments.get("text") or action.arguments.get("city"))
        return len(self.world.query("SELECT what FROM seen" + (f" WHERE what = '{mark}'" if mark else "")))

    async def state(self) -> Any:
        return [self.world.query(f"SELECT * FROM {table} ORDER BY id") for table in ("customers", "notes")]

    async def spoil(self, action: Action) -> None:
        self.world.query("DELETE FROM notes; " if self.statement == "add-note" else "UPDATE customers SET city = 'x'")

    async def break_receiver(self) -> None:
        self.world.leave()

    async def mend_receiver(self) -> None:
        self.world.return_()


class OnSqlite:
    @pytest.fixture(autouse=True)
    def begin(self, tmp_path: Path, sqlite_world: SqliteWorld) -> None:
        self.folder, self.world = tmp_path, sqlite_world


class OnPostgres:
    @pytest.fixture(autouse=True)
    def begin(self, tmp_path: Path, postgres_world: PostgresWorld) -> None:
        self.folder, self.world = tmp_path, postgres_world


class _SetCity(SqlContract):
    statement = "set-city"

    def good_action(self, n: int) -> Action:
        return act("set-city", id=n, city=f"new {n}")


class _Find(SqlContract):
    statement = "find-notes"

    def good_action(self, n: int) -> Action:
        return act("find-notes", customer=n)


class TestAddNoteOnSqlite(OnSqlite, SqlContract):
    pass


class TestSetCityOnSqlite(OnSqlite, _SetCity):
    pass


class TestFindOnSqlite(OnSqlite, _Find):
    pass


class TestAddNoteOnPostgres(OnPostgres, SqlContract):
    pass


class TestSetCityOnPostgres(OnPostgres, _SetCity):
    pass


class TestFindOnPostgres(OnPostgres, _Find):
    pass


# --- what they do -------------------------------------------------------------------------------------------------


async def test_rows_are_read_as_plain_text_and_numbers(world: World, tmp_path: Path) -> None:
    for n in range(7):
        world.query(f"INSERT INTO notes (customer, text) VALUES (1, 'note {n}')")
    tools = crm(tmp_path, world, rows=5)
    told = await do(tools, act("find-notes", customer=1))
    assert told["columns"] == ["id", "text"] and told["more"] is True
    assert told["rows"] == [[n + 1, f"note {n}"] for n in range(5)]
    assert (await do(tools, act("find-notes", customer=2))) == {"columns": ["id", "text"], "rows": [], "more": False}


KINDS = """SELECT 12.50::numeric AS d, 1.5::float8 AS f, true AS b, NULL AS n, DATE '2030-07-31' AS day,
  TIMESTAMPTZ '2030-07-31 09:30:00+00' AS at, '\\xdead'::bytea AS raw, ARRAY[1, 2] AS list, '{"a": 1.5}'::jsonb AS doc,
  INTERVAL '1 day' AS span, '0e984725-c51c-4bf4-9960-e1c80e27aba0'::uuid AS id, '10.0.0.1'::inet AS host,
  'NaN'::numeric AS nan, 9223372036854775807 AS big, 'a : b -- c' AS text /* it's :no value */ -- nor ? is this
"""


async def test_every_kind_of_value_of_postgres_is_told_plainly(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    tools = crm(tmp_path, postgres_world, {"kinds": {"sql": KINDS, "effect": "read"}})
    told = await do(tools, act("kinds"))
    assert dict(zip(told["columns"], told["rows"][0], strict=True)) == {
        "d": "12.50", "f": "1.5", "b": True, "n": None, "day": "2030-07-31", "at": "2030-07-31T09:30:00+00:00",
        "raw": "2 bytes", "list": [1, 2], "doc": {"a": "1.5"}, "span": "1 day, 0:00:00",
        "id": "0e984725-c51c-4bf4-9960-e1c80e27aba0", "host": "10.0.0.1", "nan": "NaN", "big": 9223372036854775807,
        "text": "a : b -- c",
    }  # fmt: skip


async def test_a_value_is_bound_and_never_becomes_sql(world: World, tmp_path: Path) -> None:
    tools = crm(tmp_path, world)
    for text in ("'); DROP TABLE notes; --", "x', 'y", ":customer", "$1", "\\'", 'é "q" \n', "%s ?", "''"):
        await do(tools, act("add-note", customer=1, text=text))
        assert (await do(tools, act("find-notes", customer=1)))["rows"][-1][1] == text
    for wrong in ("a\0b", "\ud800"):
        with pytest.raises(BadInput) as caught:
            await tools["crm.add-note"].send(act("add-note", customer=1, text=wrong), "key")
        assert caught.value.code == "sql.value"
    with pytest.raises(BadInput):
        await do(tools, act("add-note", customer=2**63, text="x"))


async def test_a_statement_that_changes_too_much_changes_nothing(world: World, tmp_path: Path) -> None:
    statements = {
        "rename": {
            "sql": "UPDATE customers SET city = :city WHERE id < :below",
            "arguments": {"city": {}, "below": {"kind": "integer"}},
            "effect": "irreversible",
            "rows": 1,
        }
    }
    tools = crm(tmp_path, world, statements)
    action = act("rename", city="x", below=5)
    with pytest.raises(Refused) as caught:
        await do(tools, action)
    assert caught.value.code == "sql.rows"
    assert world.query("SELECT count(*) FROM customers WHERE city = 'x'") == [["0"]]
    assert await tools[action.tool].ask(action.key, action) is None
    assert (await do(tools, act("rename", city="x", below=1)))["rows"] == 1
    undo = tools["crm.rename"].undo(action, {"rows": 1, "returned": {}})
    assert isinstance(undo, Manual)


async def test_an_undo_is_done_though_the_same_was_done_before(world: World, tmp_path: Path) -> None:
    """Put back, changed again, put back again: each is an action of its own, with its own key."""
    tools = crm(tmp_path, world)
    for subject in ("one", "two"):
        action = act("set-city", subject, id=3, city="new")
        undo = tools["crm.set-city"].undo(action, await do(tools, action))
        assert isinstance(undo, Action) and undo.arguments["old_city"] == "old 3"
        assert world.query("SELECT city FROM customers WHERE id = 3") == [["new"]]
        for _ in range(2):
            await do(tools, Action(undo.tool, undo.arguments, "s"))
        assert world.query("SELECT city FROM customers WHERE id = 3") == [["old 3"]]
    world.query("UPDATE customers SET city = NULL WHERE id = 3")
    undo = tools["crm.set-city"].undo(action, await do(tools, act("set-city", "three", id=3, city="new")))
    assert isinstance(undo, Action) and "old_city" not in undo.arguments
    await do(tools, undo)
    assert world.query("SELECT count(*) FROM customers WHERE city IS NULL") == [["1"]]


async def test_what_the_database_refuses_is_told_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    statements = {
        **STATEMENTS,
        "twice": {
            "sql": "INSERT INTO customers VALUES (:id, 'x')", "arguments": {"id": {"kind": "integer"}},
            "effect": "irreversible",
        },
        "nowhere": {"sql": "SELECT * FROM no_such_table", "effect": "read"},
        "wrong": {"sql": "SELECT FROM FROM", "effect": "read"},
    }  # fmt: skip
    tools = crm(tmp_path, world, statements)
    for action in (act("twice", id=1), act("nowhere"), act("wrong")):
        for _ in range(2):  # the connection can still be used
            with pytest.raises(Refused) as caught:
                await tools[action.tool].send(action, action.key)
            assert caught.value.code == "sql.refused"
    await tools["crm.twice"].send(act("twice", id=11), "key")
    assert world.query("SELECT count(*) FROM customers") == [["11"]]
    await tools["crm.twice"].close()


async def test_a_read_cannot_change_anything(world: World, tmp_path: Path) -> None:
    """Not even where the database lets a query do it."""
    statements = {"sly": {"sql": "WITH gone AS (SELECT 1) DELETE FROM customers RETURNING id", "effect": "read"}}
    before = world.query("SELECT * FROM customers")
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await do(crm(tmp_path, world, statements), act("sly"))
        assert caught.value.code == "sql.refused"
    if isinstance(world, PostgresWorld):
        world.query("CREATE FUNCTION sly() RETURNS int LANGUAGE sql AS $$ DELETE FROM customers; SELECT 1 $$")
        with pytest.raises(Refused):
            await do(crm(tmp_path, world, {"sly": {"sql": "SELECT sly()", "effect": "read"}}), act("sly"))
    assert world.query("SELECT * FROM customers") == before


ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


async def test_a_slow_statement_is_ended(world: World, tmp_path: Path) -> None:
    statements = {
        "slow": {"sql": ENDLESS, "effect": "read"},
        "slow-write": {"sql": f"INSERT INTO customers VALUES (50, ({ENDLESS}))", "effect": "irreversible"},
    }
    tools = crm(tmp_path, world, statements, timeout_s=1)
    for action in (act("slow"), act("slow-write")):
        with pytest.raises(NotSent) as caught:
            await do(tools, action)
        assert caught.value.code == "sql.busy"
    assert world.query("SELECT count(*) FROM customers WHERE id = 50") == [["0"]]


async def test_many_rows_are_told_as_far_as_they_fit(world: World, tmp_path: Path) -> None:
    statements = {
        "wide": {
            "sql": "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000) "
            "SELECT x, substr(:text || :text, 1, :size) AS t FROM n",
            "arguments": {"text": {}, "size": {"kind": "integer"}},
            "effect": "read",
        }
    }
    tools = crm(tmp_path, world, statements, rows=1000)
    told = await do(tools, act("wide", text="x" * 4_000, size=5_000))
    assert len(told["rows"]) == 12 and told["more"] is True
    told = await do(tools, act("wide", text="x" * 4_000, size=10))
    assert len(told["rows"]) == 1_000 and told["more"] is True
    told = await do(tools, act("wide", text="x" * 9_000, size=9_000))
    assert len(told["rows"][0][1]) == 8_001 and told["rows"][0][1].endswith("…")


async def test_what_an_undo_needs_is_never_cut(world: World, tmp_path: Path) -> None:
    world.query(f"UPDATE customers SET city = '{'c' * 20_000}' WHERE id = 1")
    with pytest.raises(Refused) as caught:
        await do(crm(tmp_path, world), act("set-city", id=1, city="short"))
    assert caught.value.code == "sql.returns"
    assert world.query("SELECT length(city) FROM customers WHERE id = 1") == [["20000"]]


async def test_a_returned_value_of_another_kind_is_refused(world: World, tmp_path: Path) -> None:
    for returns in ({"id": "text"}, {"number": "integer"}, {"id": "boolean"}):
        statements = {
            "add": {
                "sql": "INSERT INTO notes (id, customer, text) VALUES (17, 1, 'x') RETURNING id",
                "effect": "irreversible", "returns": returns,
            }
        }  # fmt: skip
        with pytest.raises(Refused) as caught:
            await do(crm(tmp_path, world, statements), act("add"))
        assert caught.value.code == "sql.returns" and world.query("SELECT count(*) FROM notes") == [["0"]]


async def test_a_locked_database_is_waited_for(sqlite_world: SqliteWorld, tmp_path: Path) -> None:
    tools = crm(tmp_path, sqlite_world, timeout_s=1)
    action = act("add-note", customer=1, text="x")
    with closing(sqlite3.connect(sqlite_world.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotSent) as caught:
            await do(tools, action)
        assert caught.value.code == "sql.busy"
        other.execute("COMMIT")
    assert (await do(tools, action))["returned"] == {"id": 1}


async def test_a_damaged_file_is_told(sqlite_world: SqliteWorld, tmp_path: Path) -> None:
    sqlite_world.file.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(NotSent) as caught:
        await do(crm(tmp_path, sqlite_world), act("find-notes", customer=1))
    assert caught.value.code == "sql.unavailable"


async def test_a_file_that_nobody_made_is_not_made(sqlite_world: SqliteWorld, tmp_path: Path) -> None:
    tools = crm(tmp_path, sqlite_world, file=str(tmp_path / "none.sqlite3"))
    with pytest.raises(NotSent):
        await do(tools, act("add-note", customer=1, text="x"))
    assert not (tmp_path / "none.sqlite3").exists()


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


async def test_a_login_that_may_not_is_told_without_the_password(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    action = act("find-notes", customer=1)
    for change, code in (
        ({"user": "nobody-known"}, "sql.unavailable"),
        ({"database": "nowhere"}, "sql.refused"),
        ({"port": 1}, "sql.unavailable"),
        ({"host": "localhost", "port": 1}, "sql.unavailable"),
    ):
        with pytest.raises((NotSent, Refused)) as caught:
            await do(crm(tmp_path, postgres_world, **change), action)
        assert caught.value.code == code and PASSWORD not in str(caught.value)


async def test_a_socket_of_this_computer_needs_no_tls(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    local = {"host": "", "tls": "verify", "socket": str(postgres_world.server.socket)}
    assert (await do(crm(tmp_path, postgres_world, **local), act("add-note", customer=1, text="x")))["rows"] == 1
    with pytest.raises(NotSent) as caught:
        await do(crm(tmp_path, postgres_world, **{**local, "socket": "/no/such/socket"}), act("find-notes", customer=1))
    assert caught.value.code == "sql.unavailable"


async def test_without_its_password_nothing_is_sent(
    postgres_world: PostgresWorld, place: Callable[[str], Place]
) -> None:
    made = make(place("crm"), {**postgres_world.settings, "statements": STATEMENTS})
    with pytest.raises(NotSent) as caught:
        await do({tool.name: tool for tool in made}, act("add-note", customer=1, text="x"))
    assert caught.value.code == "secret.missing"


async def test_a_user_who_may_make_no_table_works_with_one_made_for_him(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    role = f"clerk_{postgres_world.database}"
    postgres_world.query(
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
        f"GRANT SELECT, INSERT ON notes TO {role}; GRANT INSERT ON seen TO {role};"
        f"GRANT USAGE ON notes_id_seq TO {role}"
    )
    tools = crm(tmp_path, postgres_world, user=role, keys_table="ours.done")
    action = act("add-note", customer=1, text="x")
    with pytest.raises(Refused):
        await do(tools, action)
    postgres_world.query(
        "CREATE SCHEMA ours; CREATE TABLE ours.done "
        "(key TEXT PRIMARY KEY, tool TEXT NOT NULL, made_at BIGINT NOT NULL, receipt TEXT NOT NULL);"
        f"GRANT USAGE ON SCHEMA ours TO {role}; GRANT SELECT, INSERT, UPDATE ON ours.done TO {role}"
    )
    for _ in range(2):
        assert (await do(tools, action))["rows"] == 1
    assert postgres_world.query("SELECT key, tool FROM ours.done") == [[action.key, "crm.add-note"]]


async def test_a_lock_is_waited_for_in_bounds(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    tools = crm(tmp_path, postgres_world, timeout_s=1)

    def hold() -> None:
        with pytest.raises(AssertionError, match="terminating connection"):
            postgres_world.query("BEGIN; UPDATE customers SET city = 'x' WHERE id = 1; SELECT pg_sleep(50)")

    holding = threading.Thread(target=hold)
    holding.start()
    holder = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep(50)' AND wait_event = 'PgSleep'"
    while not postgres_world.query(f"SELECT 1 {holder}"):
        time.sleep(0.02)
    with pytest.raises(NotSent) as caught:
        await do(tools, act("set-city", id=1, city="y"))
    assert caught.value.code == "sql.busy"
    postgres_world.query(f"SELECT pg_terminate_backend(pid) {holder}")
    holding.join()


async def test_connections_that_went_stale_are_replaced(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    tool = crm(tmp_path, postgres_world)["crm.add-note"]
    await tool.send(act("add-note", customer=1, text="a"), "a")
    postgres_world.leave()
    postgres_world.return_()
    await tool.send(act("add-note", customer=1, text="b"), "b")
    assert postgres_world.query("SELECT text FROM notes ORDER BY id") == [["a"], ["b"]]
    connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outrider'"
    assert postgres_world.query(connections) == [["1"]]
    await tool.close()
    assert postgres_world.query(connections) == [["0"]]


class Between:
    """A proxy before the server that sees when the commit is asked for, and calls ``at_commit``: with True once the
    server has answered it, with False before the server hears of it. The client gets no answer to it."""

    def __init__(self, server: Postgres, *, answered: bool, at_commit: Callable[[], None]) -> None:
        self._server, self._answered, self._at_commit = server, answered, at_commit
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    upstream = socket.create_connection((self._server.host, self._server.port))
                except OSError:
                    client.close()
                    continue
                silent, answered = threading.Event(), threading.Event()
                ends = (client, upstream, silent, answered)
                for work, args in ((self._up, ends), (self._down, ends)):
                    self._threads.append(threading.Thread(target=work, args=args))
                    self._threads[-1].start()

    def _up(
        self, client: socket.socket, upstream: socket.socket, silent: threading.Event, answered: threading.Event
    ) -> None:
        with client, upstream, suppress(OSError):
            while data := client.recv(65_536):
                if b"COMMIT\0" in data:
                    silent.set()
                    if self._answered:
                        upstream.sendall(data)
                        answered.wait(60)  # the server commits and answers, to nobody
                    self._at_commit()
                    client.shutdown(socket.SHUT_RDWR)
                    return
                upstream.sendall(data)

    def _down(
        self, client: socket.socket, upstream: socket.socket, silent: threading.Event, answered: threading.Event
    ) -> None:
        with suppress(OSError):
            while (data := upstream.recv(65_536)) and not silent.is_set():
                client.sendall(data)
        answered.set()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)


@pytest.mark.parametrize("answered", [True, False])
async def test_the_server_is_killed_between_the_commit_and_its_answer(
    postgres_world: PostgresWorld, tmp_path: Path, answered: bool
) -> None:
    """Nobody knows, says the tool; asked after the restart, it knows; sent again, it acts once in all."""
    between = Between(postgres_world.server, answered=answered, at_commit=postgres_world.server.kill)
    action = act("add-note", customer=1, text="once")
    tool = crm(tmp_path, postgres_world, port=between.port)["crm.add-note"]
    try:
        with pytest.raises(Unavailable) as caught:
            await tool.send(action, action.key)
        assert caught.value.code == "sql.doubt" and not isinstance(caught.value, NotSent)
        with pytest.raises(NotSent):
            await tool.ask(action.key, action)
    finally:
        await tool.close()
        between.close()
    postgres_world.return_()
    tools = crm(tmp_path, postgres_world)
    known = await tools[action.tool].ask(action.key, action)
    assert (known is not None) == answered
    receipt = await do(tools, action)
    assert known is None or known.details == receipt
    assert postgres_world.query("SELECT what FROM seen") == [["once"]]


async def test_a_server_that_is_killed_at_any_time_has_acted_once(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    source, outcomes = random.Random(3), set()
    postgres_world.query(
        "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO seen VALUES (NEW.text); PERFORM pg_sleep(0.06); RETURN NEW; END $$"
    )
    tools = crm(tmp_path, postgres_world)
    for n in range(12):
        action = act("add-note", customer=n, text=f"kill {n}")
        tool = tools[action.tool]
        await tool.send(act("add-note", customer=n, text=f"warm {n}"), f"warm {n}")
        if n == 0:  # surely too early, and the next time surely too late
            postgres_world.leave()
        sending = asyncio.ensure_future(tool.send(action, action.key))
        if n == 1:
            await asyncio.wait({sending})
        elif n > 1:
            await asyncio.sleep(source.uniform(0, 0.15))
        if n > 0:
            postgres_world.leave()
        try:
            await sending
            outcomes.add("done")
        except NotSent:
            outcomes.add("not sent")
        except Unavailable as error:
            outcomes.add(error.code)
        await asyncio.to_thread(postgres_world.return_)
        found = len(postgres_world.query(f"SELECT 1 FROM seen WHERE what = 'kill {n}'"))
        assert (await tool.ask(action.key, action) is not None) == (found == 1)
        await tool.send(action, action.key)
        assert postgres_world.query(f"SELECT what FROM seen WHERE what = 'kill {n}'") == [[f"kill {n}"]]
    await tools["crm.add-note"].close()
    assert {"done", "not sent"} <= outcomes


async def test_an_agent_that_is_killed_has_acted_once(world: World, tmp_path: Path) -> None:
    """A process with the tool in it is killed at random while it sends; a new one asks and sends again."""
    script = """
import asyncio, json, sys
from pathlib import Path
from edge_agent.tools.build import Place
from edge_agent.tools.sql import make
from shared.actions import Action

given, password, n = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tools = {t.name: t for t in make(Place("crm", Path("/nonexistent"), lambda _: password, lambda: 1), given)}
action = Action("crm.add-note", {"customer": n, "text": f"kill {n}"}, "s")
print("sending", flush=True)
asyncio.run(tools["crm.add-note"].send(action, action.key))
print("sent", flush=True)
"""
    source = random.Random(5)
    given = json.dumps({**world.settings, "statements": STATEMENTS})
    tools = crm(tmp_path, world)
    for n in range(5):
        agent = subprocess.Popen(
            [sys.executable, "-c", script, given, PASSWORD, str(n)], stdout=subprocess.PIPE, text=True
        )
        assert agent.stdout is not None and agent.stdout.readline() == "sending\n"
        time.sleep(source.uniform(0, 0.12))
        agent.kill()
        agent.communicate()
        action = act("add-note", customer=n, text=f"kill {n}")
        while (known := await tools[action.tool].ask(action.key, action)) is None:
            with suppress(NotSent):
                await tools[action.tool].send(action, action.key)
        assert (await do(tools, action)) == known.details
        assert world.query(f"SELECT what FROM seen WHERE what = 'kill {n}'") == [[f"kill {n}"]]


# --- TLS ----------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for ``name`` as a file that can be trusted, and a server's context that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file, whole = folder / "ca.pem", folder / "server.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    whole.write_bytes(private + file.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(whole)
    return file, context


class TlsFront:
    """Ends TLS before a server that has none, as PostgreSQL's protocol begins it; without a context it refuses."""

    def __init__(self, server: Postgres, context: ssl.SSLContext | None) -> None:
        self._server, self._context = server, context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.plain = b""  # what came after a refusal
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                with client, suppress(OSError):
                    assert client.recv(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"  # SSLRequest
                    if self._context is None:
                        client.sendall(b"N")
                        self.plain += client.recv(1_000)
                        continue
                    client.sendall(b"S")
                    with self._context.wrap_socket(client, server_side=True) as wrapped:
                        self._relay(wrapped)

    def _relay(self, client: ssl.SSLSocket) -> None:
        with socket.create_connection((self._server.host, self._server.port)) as upstream:

            def down() -> None:
                with suppress(OSError):
                    while data := upstream.recv(65_536):
                        client.sendall(data)

            thread = threading.Thread(target=down)
            thread.start()
            with suppress(OSError):
                while data := client.recv(65_536):
                    upstream.sendall(data)
            upstream.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


@pytest.mark.parametrize(
    ("name", "trusted", "speaks", "works"),
    [
        ("127.0.0.1", True, True, True),
        ("127.0.0.1", False, True, False),  # nobody vouches for it
        ("127.0.0.2", True, True, False),  # it is another's
        ("127.0.0.1", True, False, False),  # it would go on in the clear
    ],
)
async def test_the_server_proves_who_it_is_before_it_gets_the_password(
    postgres_world: PostgresWorld, tmp_path: Path, name: str, trusted: bool, speaks: bool, works: bool
) -> None:
    file, context = certificate(tmp_path, name)
    front = TlsFront(postgres_world.server, context if speaks else None)
    more = {"tls": "verify", "port": front.port, **({"ca": str(file)} if trusted else {})}
    tools = crm(tmp_path, postgres_world, **more)
    try:
        if works:
            assert (await do(tools, act("add-note", customer=1, text="x")))["rows"] == 1
        else:
            with pytest.raises(NotSent) as caught:
                await do(tools, act("add-note", customer=1, text="x"))
            assert caught.value.code == "sql.unavailable" and front.plain == b""
    finally:
        front.close()


# --- settings -----------------------------------------------------------------------------------------------------

ADD = STATEMENTS["add-note"]
LITE = {"engine": "sqlite", "file": "/srv/crm.sqlite3"}
POST = {"engine": "postgresql", "host": "127.0.0.1", "database": "crm", "user": "u", "tls": "off"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({**LITE, "file": "crm.sqlite3"}, "sql.setting"),
        ({**LITE, "rows": 0}, "sql.setting"),
        ({**LITE, "timeout_s": 0}, "sql.setting"),
        ({**LITE, "keys_table": "keys; DROP TABLE notes"}, "sql.setting"),
        ({**POST, "host": ""}, "sql.setting"),
        ({**POST, "user": ""}, "sql.setting"),
        ({**POST, "socket": "/run/x"}, "sql.setting"),
        ({**POST, "host": "db.city.example"}, "sql.setting"),  # the password in the clear
        ({**POST, "tls": "verify", "ca": "/no/such/file"}, "sql.setting"),
        ({**POST, "password": "open"}, "tools.setting"),
        ({**POST, "engine": "mysql"}, "tools.setting"),
        ({**POST, "tls": "maybe"}, "tools.setting"),
    ],
)
def test_wrong_settings_give_no_tools(change: dict[str, Any], code: str, place: Callable[[str], Place]) -> None:
    with pytest.raises(BadInput) as caught:
        make(place("crm"), {"statements": STATEMENTS, **change})
    assert caught.value.code == code and "crm" in caught.value.where


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ({"sql": "DELETE FROM notes; DROP TABLE notes", "effect": "irreversible"}, "more than one"),
        ({"sql": "DROP TABLE notes", "effect": "irreversible"}, "begins with none"),
        ({"sql": "ATTACH 'x' AS y", "effect": "irreversible"}, "begins with none"),
        ({"sql": "PRAGMA writable_schema = 1", "effect": "read"}, "begins with none"),
        ({"sql": "-- SELECT\nDELETE FROM notes", "effect": "read"}, "begins with none"),
        ({"sql": "", "effect": "read"}, "begins with none"),
        ({"sql": "SELECT 'open", "effect": "read"}, "not closed"),
        ({"sql": "SELECT ?", "effect": "read"}, "a value is written :name"),
        ({"sql": "SELECT $1", "effect": "read"}, "a value is written :name"),
        ({"sql": "SELECT :a", "effect": "read"}, ":a is not declared"),
        ({"sql": "SELECT 1", "effect": "read", "arguments": {"a": {}}}, "a is declared and stands nowhere"),
        ({"sql": "SELECT ':a'", "effect": "read", "arguments": {"a": {}}}, "stands nowhere"),
        ({"sql": "SELECT 1", "effect": "read", "undo": "add-note"}, "a read has no"),
        ({"sql": "SELECT :undoes", "effect": "read", "arguments": {"undoes": {}}}, "is no name for a value"),
        ({"sql": "SELECT :Aa", "effect": "read", "arguments": {"Aa": {}}}, "is no name for a value"),
        ({**ADD, "undo": ""}, "undo must name"),
        ({**ADD, "undo": "none"}, "there is no statement"),
        ({**ADD, "undo": "find-notes"}, "there is no statement"),
        ({**ADD, "effect": "irreversible"}, "undo must not be given"),
        ({**ADD, "returns": {}, "check": ""}, "needs id (integer)"),
        ({**ADD, "returns": {"id": "text"}}, "needs id (integer)"),
        ({**ADD, "returns": {"id": "integer", "text": "text"}}, "under one name"),
        ({**ADD, "check": "SELECT :other"}, ":other is not declared"),
        ({**ADD, "before": "DELETE FROM notes"}, "begins with none"),
    ],
)
def test_a_wrong_statement_gives_no_tools(statement: dict[str, Any], said: str, place: Callable[[str], Place]) -> None:
    with pytest.raises(BadInput) as caught:
        make(place("crm"), {**LITE, "statements": {**STATEMENTS, "new": statement}})
    assert caught.value.code == "sql.statement" and said in caught.value.message
    assert caught.value.where == "tools.toml [crm.statements.new]"


def test_a_name_that_no_playbook_can_say_is_refused(place: Callable[[str], Place]) -> None:
    with pytest.raises(BadInput) as caught:
        make(place("crm"), {**LITE, "statements": {"add_note": {"sql": "SELECT 1", "effect": "read"}}})
    assert re.search("lower-case", caught.value.message)


def test_the_driver_is_imported_when_it_is_needed() -> None:
    script = """
import sys
from pathlib import Path
from edge_agent.tools.build import Place
from edge_agent.tools.sql import make

given = {"engine": "postgresql", "host": "127.0.0.1", "database": "crm", "user": "u", "statements": {}}
make(Place("crm", Path("/nonexistent"), str, lambda: 1), given)
print([name for name in sys.modules if name.partition(".")[0] in ("pg8000", "scramp", "sqlite3")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
