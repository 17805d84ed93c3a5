"""Forgetting: the bytes are gone from every file, whatever happens in between, and what was forgotten stays away."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.memory import Memory, Query
from edge_agent.memory.forgetting import covers
from shared.errors import Unavailable
from shared.memory import Edit, Item
from shared.memory.feed import Hold, Tombstone, subject_digest
from shared.memory.vector import Embedding

SALT = "5a" * 32
SECRETS = ("Zebedee Quarkington", "zebede", "quarkington", "Kettlebrook", "+49 171 5550123", "Xylophonist")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    made = Memory(tmp_path / "memory.sqlite3")
    yield made
    made.close()


def secret(memory: Memory, scope: str = "team/site", at: int = 10) -> str:
    """An item with a secret in every part of it, one of them in its history only."""
    item = Item(
        kind="contact",
        text="Zebedee Quarkington lives in Kettlebrook",
        source="call with Zebedee Quarkington",
        scope=scope,
        fields={"phone": "+49 171 5550123", "lane": "Xylophonist"},
        tags=["Xylophonist"],
        subject="Zebedee Quarkington",
    )
    id = memory.write(item, at=at, by="user:ada")
    memory.edit(id, Edit(text="Zebedee Quarkington lives elsewhere"), at=at + 1, by="user:ada")
    memory.put_vectors("m", [(id, Embedding(b"SecretVectorOfQ!", 1))])
    return id


def found(folder: Path) -> dict[str, list[str]]:
    """Which secrets stand in which files."""
    held = {path.name: path.read_bytes().lower() for path in folder.iterdir() if path.is_file()}
    secrets = [*SECRETS, "SecretVectorOfQ!"]
    return {name: hits for name, data in held.items() if (hits := [s for s in secrets if s.lower().encode() in data])}


def stone(kind: str, scope: str = "team/site", *, at: int = 100, **more: str) -> Tombstone:
    parts = {"item": "", "subject": "", "salt": "", "run": ""} | more
    return Tombstone(
        id="tmb_" + os.urandom(12).hex(), kind=kind, scope=scope, at=at, by="user:ada", reason="asked", **parts
    )


def obeyed(memory: Memory, one: Tombstone) -> int | None:
    memory.take(one.scope or "person", [], [one], 1, now=one.at)
    done = memory.obey(one)
    memory.truncate()
    memory.settle([one.id])
    return done


def test_an_erased_item_is_in_no_file(memory: Memory, tmp_path: Path) -> None:
    other = memory.write(Item(kind="note", text="The gate is green", source="x"), at=1, by="user:ada")
    id = secret(memory)
    assert memory.search(Query("quarkington"), now=1, vector=Embedding(b"SecretVectorOfQ!", 1), model="m")
    assert found(tmp_path)
    assert memory.erase([id, "mem_none"]) == 1
    assert found(tmp_path) == {}
    assert memory._matrix is not None and not memory._matrix._values.any()
    assert memory.search(Query("quarkington"), now=1, vector=Embedding(b"SecretVectorOfQ!", 1), model="m") == []
    assert [kept.id for kept in memory.items()] == [other]
    for table in ("chunk", "tag", "vector", "indexed"):
        assert memory._all(f"SELECT COUNT(*) FROM {table}") == [(0 if table in ("tag", "vector") else 1,)]


@pytest.mark.parametrize(
    ("which", "scope", "more"),
    [
        ("item", "team/site", {}),
        ("scope", "team/site", {}),
        ("scope", "", {}),
        ("subject", "team/site", {"salt": SALT, "subject": subject_digest("  ZEBEDEE quarkington", SALT)}),
        ("subject", "", {"salt": SALT, "subject": subject_digest("Zebedee Quarkington", SALT)}),
    ],
)
def test_a_tombstone_is_obeyed(memory: Memory, tmp_path: Path, which: str, scope: str, more: dict[str, str]) -> None:
    id = secret(memory)
    kept = memory.write(Item(kind="note", text="The gate is green", source="x"), at=200, by="user:ada")
    one = stone(which, scope, **(more | ({"item": id} if which == "item" else {})))
    assert obeyed(memory, one) == 1
    assert found(tmp_path) == {}
    assert memory.pending() == [] and memory.refused(id, "team/site")
    assert [left.id for left in memory.items()] == [kept]


def test_a_run_is_forgotten_with_what_was_learned_from_it(memory: Memory) -> None:
    for source in ("run run_a", "run run_a step 2", "run run_ab", "about run run_a"):
        memory.write(Item(kind="note", text=f"from {source}", source=source, scope="team/site"), at=1, by="run run_a")
    assert obeyed(memory, stone("run", run="run_a")) == 2
    assert {kept.source for kept in memory.items()} == {"run run_ab", "about run run_a"}


@pytest.mark.parametrize(
    ("kind", "stone_scope", "scope", "reaches"),
    [
        ("subject", "person", "device", True),
        ("run", "person", "device", True),
        ("scope", "person", "device", False),
        ("item", "person", "device", False),
        ("subject", "team/a", "device", False),
        ("subject", "team/a", "team/b", False),
        ("subject", "", "team/b", True),
        ("scope", "", "device", True),
    ],
)
def test_how_far_a_tombstone_reaches(kind: str, stone_scope: str, scope: str, reaches: bool) -> None:
    assert covers(stone(kind, stone_scope), scope) is reaches


def test_a_scope_forgotten_may_be_used_again(memory: Memory) -> None:
    secret(memory, at=10)
    later = memory.write(Item(kind="note", text="after it", source="x", scope="team/site"), at=101, by="user:ada")
    assert obeyed(memory, stone("scope")) == 1
    assert [kept.id for kept in memory.items()] == [later]


def test_a_subject_forgotten_is_not_learned_from_old_changes(memory: Memory, tmp_path: Path) -> None:
    one = stone("subject", salt=SALT, subject=subject_digest("Zebedee Quarkington", SALT))
    with closing(Memory(tmp_path / "other.sqlite3")) as other:
        id = secret(other)
        late = other.outbox("team/site")
    (tmp_path / "other.sqlite3").unlink()
    obeyed(memory, one)
    taken = memory.take("team/site", late, [], 2, now=300)
    assert taken.items == [] and {lost.code for lost in taken.refused} == {"memory.erased"}
    assert memory.count() == 0 and memory.chunks(id) is None
    memory.erase([])
    assert found(tmp_path) == {}


def test_a_hold_keeps_what_it_covers_until_it_is_lifted(memory: Memory, tmp_path: Path) -> None:
    id = secret(memory)
    memory.edit(id, Edit(expires_at=50), at=20, by="user:ada")
    hold = Hold("hld_1", "team/site", "", True, 1, "user:eve", "lawsuit")
    memory.put_hold(hold)
    one = stone("item", item=id)
    assert obeyed(memory, one) is None
    assert memory.erase([id]) == 0
    assert memory.expired(1000) == []
    assert memory.holds() == [hold] and memory.pending() == []
    assert memory.get(id)
    memory.put_hold(Hold("hld_1", "team/site", "", False, 2, "user:eve", "lawsuit"))
    assert memory.expired(49) == [] and memory.expired(50) == [id]
    assert memory.pending() == [one] and memory.holds() == []
    assert memory.obey(one) == 1
    memory.truncate()
    assert found(tmp_path) == {}


def test_a_scope_taken_away_is_in_no_file(memory: Memory, tmp_path: Path) -> None:
    secret(memory)
    memory.set_feeds({"team/site": "writer"})
    assert memory.drop_scope("team/site") == (1, 2)
    assert found(tmp_path) == {}


def test_nothing_is_left_behind_where_rows_have_moved(memory: Memory, tmp_path: Path) -> None:
    """SQLite leaves copies behind when it spreads rows over pages anew: with enough rows some are met here."""
    chance = random.Random(7)

    def name() -> str:
        return "zq" + "".join(chance.choice("abcdefghij") for _ in range(12))

    marks: dict[str, str] = {}
    for _ in range(6):
        made = []
        for _ in range(100):
            mark = name()
            item = Item(kind="note", text=f"{mark} {' '.join(name()[:6] for _ in range(5))}", source=mark, tags=[mark])
            made.append(item)
        memory.add(made)
        marks |= {kept.id: kept.source for kept in memory.items(limit=10_000) if kept.id not in marks}
    for id in chance.sample(sorted(marks), 60):
        memory.edit(id, Edit(text=marks[id] + " more" * chance.randrange(200)), at=5, by="user:ada")
    gone = chance.sample(sorted(marks), 80)
    for begin in range(0, len(gone), 8):
        memory.erase(gone[begin : begin + 8])
        data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert [id for id in gone[: begin + 8] if marks[id].encode() in data] == []
    assert memory.count() == 600 - 80
    assert memory.search(Query(marks[sorted(set(marks) - set(gone))[0]]), now=0)


def test_a_copy_left_in_an_unused_part_of_the_file_goes_too(memory: Memory, tmp_path: Path) -> None:
    """As the one before, but with the copy put there by hand, so that it is there in every version of SQLite."""
    other = memory.write(Item(kind="note", text="The gate is green", source="x"), at=1, by="user:ada")
    id = secret(memory)
    memory.take("team/site", [], [one := stone("item", item=id)], 1, now=1)
    assert memory.obey(one) == 1
    memory._fold()
    path = tmp_path / "memory.sqlite3"
    data = bytearray(path.read_bytes())
    page = next(at for at in range(4096, len(data), 4096) if data[at] == 0x0D and data[at + 3 : at + 5] == b"\x00\x01")
    data[page + 100 : page + 119] = b"Zebedee Quarkington"
    path.write_bytes(data)
    memory.truncate()
    assert found(tmp_path) == {}
    assert memory.get(other).text == "The gate is green"


def test_who_was_stopped_before_the_file_was_clean_rewrites_it(memory: Memory, tmp_path: Path) -> None:
    id = secret(memory)
    one = stone("item", item=id)
    memory.take("team/site", [], [one], 1, now=1)
    assert memory.obey(one) == 1
    memory.close()
    with closing(Memory(tmp_path / "memory.sqlite3")) as again:
        assert again.pending() == [one]
        assert again.obey(one) == 0
        again.truncate()
        assert found(tmp_path) == {}
        again.settle([one.id])
        assert again.pending() == []


def test_a_reader_elsewhere_delays_it_and_nothing_more(memory: Memory, tmp_path: Path) -> None:
    id = secret(memory)
    with closing(sqlite3.connect(tmp_path / "memory.sqlite3", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM item").fetchall()
        memory._db.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(Unavailable) as caught:
            memory.erase([id])
        assert caught.value.code == "memory.busy"
        assert memory.count() == 0
    memory.truncate()
    assert found(tmp_path) == {}


KILLED = """
import sys, os, signal
from pathlib import Path
from edge_agent.memory import Memory
memory = Memory(Path(sys.argv[1]))
point, count = sys.argv[2], 0
def trace(sql):
    if sql.startswith(point):
        os.kill(os.getpid(), signal.SIGKILL)
memory._db.set_trace_callback(trace)
for stone in memory.pending():
    memory.obey(stone)
memory.truncate()
memory.settle([stone.id for stone in memory.pending()])
"""


@pytest.mark.system
@pytest.mark.parametrize(
    "point",
    [
        "DELETE FROM posting",
        "DELETE FROM item",
        "DELETE FROM chunk",
        "COMMIT",
        "PRAGMA wal_checkpoint",
        "UPDATE tombstone",
    ],
)
def test_a_kill_in_the_middle_only_means_doing_it_again(memory: Memory, tmp_path: Path, point: str) -> None:
    id = secret(memory)
    one = stone("item", item=id)
    memory.take("team/site", [], [one], 1, now=1)
    path = str(tmp_path / "memory.sqlite3")
    memory.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, path, point], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with closing(Memory(Path(path))) as again:
        (left,) = again.pending()
        again.obey(left)
        again.truncate()
        assert found(tmp_path) == {}
        again.settle([left.id])
        assert again.pending() == [] and again.count() == 0
        assert again.refused(id, "team/site")
