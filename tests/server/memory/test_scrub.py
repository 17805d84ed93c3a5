"""Writing the database's files anew: what may go wrong, and that it is told as ours."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

import pytest

from server.bus import Bus
from server.memory import Memory
from server.store import HubLog, Store, make_home
from server.store.tables import META
from shared.errors import Unavailable
from shared.memory import Item
from shared.memory.bench import Bench
from tests.postgres import Postgres
from tests.server.conftest import Clock


def test_somebody_who_reads_for_ever_is_told_of(store: Store) -> None:
    reader = sqlite3.connect(store.home / "hub.db", isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        with store.write() as conn:
            conn.execute(META.insert(), [{"name": "x", "value": "1"}])
        with store.read() as conn:
            conn.exec_driver_sql("PRAGMA busy_timeout=50")
        with pytest.raises(Unavailable) as caught:
            store.scrub()
        assert caught.value.code == "store.busy"
    finally:
        reader.close()
    store.scrub()
    assert (store.home / "hub.db-wal").stat().st_size == 0


def test_somebody_who_writes_for_ever_is_told_of(store: Store) -> None:
    writer = sqlite3.connect(store.home / "hub.db", isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        with store.read() as conn:
            conn.exec_driver_sql("PRAGMA busy_timeout=50")
        with pytest.raises(Unavailable) as caught:
            store.scrub()
        assert caught.value.code == "store.failed"
    finally:
        writer.close()


def test_postgresql_keeps_no_sample_of_what_was_erased(tmp_path: Path, postgres: Postgres, bench: Bench) -> None:
    name = f"hub_{secrets.token_hex(6)}"
    postgres.query(f"CREATE DATABASE {name}")
    make_home(tmp_path / "hub", "City of Example", secrets.token_bytes)
    where = f"{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}/{name}"
    store = Store(tmp_path / "hub", f"postgresql+pg8000://{where}")
    memory = Memory(HubLog(store, clock=Clock(), random=secrets.token_bytes), Bus(), bench)
    notes = [Item("note", f"the code of door {n} is zq{n}zq", "x", subject=f"Zoe{n}") for n in range(20)]
    ids = [memory.items.create(note, "person/ada", "user:ada") for note in notes]
    postgres.query("ANALYZE", database=name)  # as the server does by itself now and then
    assert postgres.query("SELECT count(*) FROM pg_stats WHERE tablename = 'memory_items'", database=name) != [["0"]]
    assert b"zq7zq" in _files(postgres, name) and b"Zoe7" in _files(postgres, name)
    for id in ids:
        memory.erasure.item("person/ada", id, "ada")
    memory.finish()
    store.close()
    assert b"zq7zq" not in _files(postgres, name) and b"Zoe7" not in _files(postgres, name)


def _files(postgres: Postgres, name: str) -> bytes:
    return b"".join(path.read_bytes() for path in postgres.files(name).iterdir() if path.is_file())
