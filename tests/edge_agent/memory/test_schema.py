"""The database's form: made new, brought up from the one before in one step, refused when it is from the future."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.memory import Memory, Query, items, schema
from shared.codec import hex_sha256
from shared.errors import Refused
from shared.memory import Edit, Item, item_id
from shared.memory.document import Document
from shared.memory.vector import Embedding

# As the agent made it before there was a form 2, to the letter.
FORM_1 = """
CREATE TABLE IF NOT EXISTS item (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, scope TEXT NOT NULL, source TEXT NOT NULL, text TEXT NOT NULL,
    label TEXT NOT NULL, expires_at INTEGER NOT NULL, sha256 TEXT NOT NULL, document BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_kind ON item (kind, scope);
CREATE TABLE IF NOT EXISTS vector (id TEXT PRIMARY KEY, model TEXT NOT NULL, scale INTEGER NOT NULL, data BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS self (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (id UNINDEXED, text, tokenize = 'porter unicode61');
"""
ROOF = Item(kind="decision", text="New roof", source="past.csv row 1", fields={"lane": "express"}, tags=["roof"])
LONG = Item(kind="document", text="A long one. " * 200, source="x", scope="device")
DECK = Item(kind="note", text="Deck behind the house", source="y", scope="team/permits", expires_at=100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite3"


def old(path: Path, *made: Item) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(FORM_1)
        db.execute("INSERT INTO self VALUES ('actor', ?)", (bytes(16),))
        for item in made:
            name, document = item_id(item), Document.create(item, bytes(16), at=0, by="").save()
            row = (name, item.kind, item.scope, item.source, item.text, item.fields.get("lane", ""), item.expires_at)
            db.execute("INSERT INTO item VALUES (?,?,?,?,?,?,?,?,?)", (*row, hex_sha256(document), document))
            db.execute("INSERT INTO words VALUES (?, ?)", (name, item.text))
            db.execute("INSERT INTO vector VALUES (?, 'm', 7, ?)", (name, bytes([9] * 8)))


def test_the_form_before_is_taken_over_whole(path: Path) -> None:
    old(path, ROOF, LONG, DECK)
    with closing(Memory(path)) as memory:
        assert memory.count() == 3
        for item in (ROOF, LONG, DECK):
            assert memory.get(item_id(item)) == item
        assert [kept.label for kept in memory.recall(["decision"], "person", "m", 0)] == ["express"]
        assert memory.recall(["decision"], "person", "m", 0)[0].vector == Embedding(bytes([9] * 8), 7)
        assert [kept.text for kept in memory.search("roofs")] == ["New roof"]
        assert [found.kept.text for found in memory.search(Query("deck"), now=99)] == [DECK.text]
        assert memory.search(Query("deck"), now=100) == []
        assert {name.partition("#")[0] for name, _ in memory.without_vector("m", 9)} == {item_id(LONG)}
        assert memory.unsent() == {"person": 1, "team/permits": 1}
        assert memory.add([ROOF, DECK]) == (0, 2)
        assert memory.edit(item_id(ROOF), Edit(text="New roof, same pitch"), at=1, by="user:ada")
        assert memory.get(item_id(ROOF)).text == "New roof, same pitch"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema.FORM,)
        assert db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'words%'").fetchall() == []


def test_what_cannot_be_read_is_set_aside_and_the_rest_kept(path: Path) -> None:
    old(path, ROOF, DECK)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE item SET document = ? WHERE id = ?", (b"no document", item_id(ROOF)))
    with closing(Memory(path)) as memory:
        assert [kept.text for kept in memory.items()] == [DECK.text]
        assert [(lost.item, lost.code) for lost in memory.aside()] == [(item_id(ROOF), "memory.document")]


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old(path, ROOF, DECK)

    def broken(*_: object, **__: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(items.Items, "_derive", broken)
        with pytest.raises(Exception, match="full"):
            Memory(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM item WHERE document IS NOT NULL").fetchone() == (2,)
        assert db.execute("PRAGMA user_version").fetchone() == (0,)
    with closing(Memory(path)) as memory:
        assert memory.count() == 2


def test_a_newer_form_is_refused_and_left_alone(path: Path) -> None:
    Memory(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {schema.FORM + 1}")
    before = path.read_bytes()
    with pytest.raises(Refused) as caught:
        Memory(path)
    assert caught.value.code == "memory.newer"
    assert "update" in caught.value.advice
    assert path.read_bytes() == before


def test_what_is_deleted_is_overwritten_and_commits_are_synced(path: Path) -> None:
    with closing(Memory(path)) as memory:
        assert memory._all("PRAGMA secure_delete") == [(1,)]
        assert memory._all("PRAGMA synchronous") == [(2,)]
        assert memory._all("PRAGMA journal_mode") == [("wal",)]
