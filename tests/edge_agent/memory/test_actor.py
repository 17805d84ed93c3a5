"""Two databases never make changes under one name, also where one of them was put back from a backup."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.memory import Memory
from shared.memory import Edit, Item

NOTE = Item(kind="note", text="The gate is green", source="hand")


def actors(memory: Memory, id: str) -> list[str]:
    return [version.actor for version in memory.history(id)]


def copied(path: Path, to: Path) -> None:
    """A copy as a backup program makes it: what the file holds, and what its log holds."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite3"


def test_it_keeps_its_name_over_restarts(path: Path) -> None:
    with closing(Memory(path)) as memory:
        id = memory.write(NOTE, at=1, by="user:ada")
    for at in (2, 3):
        with closing(Memory(path)) as memory:
            memory.edit(id, Edit(text=f"The gate is green since {at}"), at=at, by="user:ada")
            assert len(set(actors(memory, id))) == 1


def test_a_memory_put_back_takes_another_name(path: Path, tmp_path: Path) -> None:
    with closing(Memory(path)) as memory:
        id = memory.write(NOTE, at=1, by="user:ada")
        copied(path, tmp_path / "backup")
        memory.edit(id, Edit(text="The gate is red"), at=2, by="user:ada")
        lost = memory.outbox("person")
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup", path)
    with closing(Memory(path)) as memory:
        memory.edit(id, Edit(text="The gate is blue"), at=3, by="user:ada")
        first, second = actors(memory, id)
        assert first != second
        # What was lost comes back by the feed, and nothing clashes.
        taken = memory.take("person", lost, [], 1, now=4)
        assert taken.refused == []
        assert len(memory.history(id)) == 3
        assert len({(version.actor, version.seq) for version in memory.history(id)}) == 3


def test_a_copy_in_another_home_takes_another_name(path: Path, tmp_path: Path) -> None:
    with closing(Memory(path)) as memory:
        id = memory.write(NOTE, at=1, by="user:ada")
    other = tmp_path / "other" / "memory.sqlite3"
    other.parent.mkdir()
    copied(path, other)
    with closing(Memory(other)) as memory:
        memory.edit(id, Edit(text="The gate is red"), at=2, by="user:ada")
        assert len(set(actors(memory, id))) == 2


@pytest.mark.parametrize("said", [b"", b"nonsense", b"\xff" * 60, b"00" * 16, b"00" * 16 + b" 5"])
def test_a_file_that_says_nothing_of_use_costs_a_name_and_no_more(path: Path, said: bytes) -> None:
    with closing(Memory(path)) as memory:
        id = memory.write(NOTE, at=1, by="user:ada")
    path.with_name(path.name + "-actor").write_bytes(said)
    with closing(Memory(path)) as memory:
        memory.edit(id, Edit(text="The gate is red"), at=2, by="user:ada")
        assert len(set(actors(memory, id))) == 2
    with closing(Memory(path)) as memory:
        memory.edit(id, Edit(text="The gate is blue"), at=3, by="user:ada")
        assert len(set(actors(memory, id))) == 2


def test_two_processes_at_once_share_the_name(path: Path) -> None:
    with closing(Memory(path)) as one, closing(Memory(path)) as two:
        id = one.write(NOTE, at=1, by="user:ada")
        two.edit(id, Edit(text="The gate is red"), at=2, by="user:ada")
        one.edit(id, Edit(text="The gate is blue"), at=3, by="user:ada")
        assert [(v.seq, v.at) for v in two.history(id)] == [(1, 1), (2, 2), (3, 3)]
        assert len(set(actors(one, id))) == 1


def test_a_new_name_can_be_asked_for(path: Path) -> None:
    with closing(Memory(path)) as memory:
        id = memory.write(NOTE, at=1, by="user:ada")
        memory.new_actor()
        memory.edit(id, Edit(text="The gate is red"), at=2, by="user:ada")
        assert len(set(actors(memory, id))) == 2
