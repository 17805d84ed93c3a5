"""Writing the database's files anew: what may go wrong, and that it is told as ours."""

from __future__ import annotations

import sqlite3

import pytest

from server.store import Store, database
from server.store.tables import META
from shared.errors import Unavailable


def test_somebody_who_reads_for_ever_is_told_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_CHECKPOINT_TRIES", 2)
    reader = sqlite3.connect(store.home / "hub.db", isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        with store.write() as conn:
            conn.execute(META.insert(), [{"name": "x", "value": "1"}])
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
