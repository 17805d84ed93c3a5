"""What SQLite leaves behind is found, and only that."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.memory.wipe import Pages, Traces


def left_behind(path: Path) -> tuple[list[str], list[str]]:
    """A database with rows deleted, and those of them (and not) whose words still stand in the file."""
    chance = random.Random(3)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "secure_delete = ON"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("CREATE TABLE item (n INTEGER PRIMARY KEY, text TEXT)")
        words = ["".join(chance.choices("abcdefghij", k=14)) for _ in range(2_000)]
        more = " and more"
        db.execute("BEGIN")
        rows = ((n, word + more * chance.randrange(24)) for n, word in enumerate(words))
        db.executemany("INSERT INTO item VALUES (?, ?)", rows)
        grown = [(more * chance.randrange(30), n) for n in chance.sample(range(2_000), 800)]
        db.executemany("UPDATE item SET text = text || ? WHERE n = ?", grown)
        gone = chance.sample(words, 800)
        db.executemany("DELETE FROM item WHERE n = ?", ((words.index(word),) for word in gone))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    left = [word for word in gone if word.encode() in data]
    return left, [word for word in gone if word not in left]


def found(path: Path, word: str) -> bool:
    traces = Traces()
    traces.add([], [word])
    pages = Pages(path)
    try:
        return traces.found_in(pages)
    finally:
        pages.close()


def test_a_copy_in_the_unused_part_of_a_page_is_found(tmp_path: Path) -> None:
    left, clean = left_behind(tmp_path / "db")
    assert left, "this SQLite leaves nothing behind any more: then the search for it can go"
    assert all(found(tmp_path / "db", word) for word in left)
    assert not any(found(tmp_path / "db", word) for word in clean[:50])
    with closing(sqlite3.connect(tmp_path / "db")) as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (still,) = db.execute("SELECT substr(text, 1, 14) FROM item LIMIT 1").fetchone()
    assert not any(found(tmp_path / "db", word) for word in left)
    assert not found(tmp_path / "db", still)  # what is in use is not left behind


@pytest.mark.parametrize("page", [512, 1024, 4096, 65536])
def test_pages_of_any_size_are_read(tmp_path: Path, page: int) -> None:
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {page}")
        db.execute("CREATE TABLE t (a TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 300,)] * 300)
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    data = bytearray((tmp_path / "db").read_bytes())
    assert len(data) == pages * page
    assert not found(tmp_path / "db", "leftover")
    last = next(at for at in range(len(data) - page, 0, -page) if data[at] == 0x0D)
    middle = last + 8 + 2 * int.from_bytes(data[last + 3 : last + 5], "big")
    data[middle : middle + 8] = b"leftover"
    (tmp_path / "db").write_bytes(data)
    assert found(tmp_path / "db", "leftover") or int.from_bytes(data[last + 5 : last + 7], "big") < middle + 8


def test_too_much_to_look_for_counts_as_found(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db")) as db:
        db.execute("CREATE TABLE t (a TEXT)")
    traces = Traces()
    traces.add(["".join(f"{n:012}" for n in range(2_000))], [])
    pages = Pages(tmp_path / "db")
    assert traces.found_in(pages)
    pages.close()
