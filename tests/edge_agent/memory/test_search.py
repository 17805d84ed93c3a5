"""Search: what is let in, in which order, and why; the same as if every item had been looked at one by one."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_agent.memory import Memory, Query, Why
from edge_agent.memory import vectors as vectors_module
from shared.memory import Edit, Item
from shared.memory.vector import Embedding

WIDTH = 64


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    made = Memory(tmp_path / "memory.sqlite3")
    yield made
    made.close()


def put(memory: Memory, text: str, vector: int | None = None, *, at: int = 1, **more: object) -> str:
    item = Item(**({"kind": "note", "text": text, "source": "x"} | more))  # type: ignore[arg-type]
    id = memory.write(item, at=at, by="user:ada")
    if vector is not None:
        memory.put_vectors("m", [(id, toward(vector))])
    return id


def toward(place: int, other: int | None = None) -> Embedding:
    """A vector along one axis, or half-way between two."""
    values = bytearray(WIDTH)
    values[place] = 100
    if other is not None:
        values[other] = 100
    return Embedding(bytes(values), round(1e9 / (100 * (1 if other is None else 2**0.5))))


def ids(memory: Memory, query: Query, now: int = 50, vector: Embedding | None = None) -> list[str]:
    return [found.kept.id for found in memory.search(query, now=now, vector=vector, model="m")]


def test_results_say_why_they_matched(memory: Memory) -> None:
    both = put(memory, "The roof of the garage", 3, tags=["roof"], pinned=True)
    meant = put(memory, "Shingles are to be replaced", 3)
    put(memory, "Office furniture", 9)
    found = memory.search(Query("garage roofs", limit=2), now=1, vector=toward(3), model="m")
    assert [one.kept.id for one in found] == [both, meant]
    assert found[0].why == Why(words=("garage", "roofs"), similarity=1000, tags=(), pinned=True)
    assert found[1].why == Why(words=(), similarity=1000)
    assert found[0].score == 1000 and found[1].score == 500
    (tagged,) = memory.search(Query("roof", tags=["roof"]), now=1)
    assert tagged.why == Why(words=("roof",), tags=("roof",), pinned=True)
    assert memory.search(Query("garage"), now=1)[0].why.similarity is None


def test_each_filter_keeps_to_what_it_says(memory: Memory) -> None:
    plain = put(memory, "deck one", at=10)
    team = put(memory, "deck two", at=20, scope="team/a", tags=["x", "y"])
    fact = put(memory, "deck three", at=30, kind="fact", subject="Ada", tags=["x"])
    old = put(memory, "deck four", at=40, expires_at=45)
    every = {plain, team, fact}
    for vector in (None, toward(1)):
        if vector is not None:
            memory.put_vectors("m", [(id, toward(1)) for id in (plain, team, fact, old)])
        assert set(ids(memory, Query("deck"), vector=vector)) == every
        assert set(ids(memory, Query("deck", include_expired=True), vector=vector)) == every | {old}
        assert set(ids(memory, Query("deck"), now=44, vector=vector)) == every | {old}
        assert ids(memory, Query("deck", scopes=["team/a"]), vector=vector) == [team]
        assert set(ids(memory, Query("deck", scopes=["team/a", "person"]), vector=vector)) == every
        assert ids(memory, Query("deck", scopes=["team/none"]), vector=vector) == []
        assert ids(memory, Query("deck", kinds=["fact"]), vector=vector) == [fact]
        assert set(ids(memory, Query("deck", tags=["x"]), vector=vector)) == {team, fact}
        assert ids(memory, Query("deck", tags=["x", "y"]), vector=vector) == [team]
        assert ids(memory, Query("deck", subject="Ada"), vector=vector) == [fact]
        assert set(ids(memory, Query("deck", since=20), vector=vector)) == {team, fact}
        assert set(ids(memory, Query("deck", since=20, until=30), vector=vector)) == {team}
        assert len(ids(memory, Query("deck", limit=1), vector=vector)) == 1


def test_an_empty_question_lists_pinned_items_and_then_the_newest(memory: Memory) -> None:
    first, second = put(memory, "one", at=10), put(memory, "two", at=20)
    pinned = put(memory, "three", at=5, pinned=True)
    assert ids(memory, Query("")) == [pinned, second, first]
    assert ids(memory, Query("  ", limit=1)) == [pinned]


def test_an_item_without_a_vector_is_found_by_its_words(memory: Memory) -> None:
    with_one, without = put(memory, "roof", 1), put(memory, "roof")
    assert set(ids(memory, Query("roof"), vector=toward(2))) == {with_one, without}


def test_fields_and_subjects_are_searched_and_texts_count_more(memory: Memory) -> None:
    field = put(memory, "Call about garden work", fields={"company": "Greenleaf"})
    text = put(memory, "Greenleaf garden work call")
    assert ids(memory, Query("greenleaf")) == [text, field]


def test_what_changes_is_found_as_it_is_now(memory: Memory) -> None:
    id = put(memory, "The gate is green", 1)
    other = put(memory, "unlike", 5)
    assert ids(memory, Query("zzz", limit=1), vector=toward(1)) == [id]
    memory.put_vectors("m", [(id, toward(2))])
    assert ids(memory, Query("zzz", limit=1), vector=toward(2)) == [id]
    memory.edit(id, Edit(text="The gate is red"), at=2, by="user:ada")  # its vector is not that of this text
    assert ids(memory, Query("zzz"), vector=toward(2)) == [other]
    memory.put_vectors("m", [(id, toward(7))])
    assert ids(memory, Query("zzz", limit=1), vector=toward(7)) == [id]
    memory.edit(id, Edit(kind="fact"), at=3, by="user:ada")
    assert ids(memory, Query("zzz", kinds=["note"]), vector=toward(7)) == [other]
    memory.erase([id])
    assert ids(memory, Query("gate"), vector=toward(7)) == [other]


def test_vectors_of_another_model_are_not_compared(memory: Memory) -> None:
    put(memory, "roof", 1)
    (found,) = memory.search(Query("roof"), now=1, vector=toward(1), model="another")
    assert found.why.similarity is None


def test_a_vector_of_another_width_finds_nothing(memory: Memory) -> None:
    put(memory, "roof", 1)
    assert ids(memory, Query("roof"), vector=toward(1))
    assert memory.search(Query("zzz"), now=1, vector=Embedding(b"\x01" * 8, 10**8), model="m") == []


def test_a_long_item_is_as_near_as_its_nearest_passage(memory: Memory) -> None:
    long = put(memory, "word. " * 600)
    names = [name for name, _ in memory.without_vector("m", 9)]
    memory.put_vectors("m", [(name, toward(place)) for place, name in enumerate(names)])
    short = put(memory, "short", 20)
    found = memory.search(Query("zzz", limit=2), now=1, vector=toward(2), model="m")
    assert [one.kept.id for one in found] == [long, short]
    assert [one.why.similarity for one in found] == [1000, 0]


def test_another_process_is_noticed(memory: Memory, tmp_path: Path) -> None:
    put(memory, "one", 1)
    assert len(ids(memory, Query("zzz"), vector=toward(1))) == 1
    with closing(Memory(tmp_path / "memory.sqlite3")) as other:
        put(other, "two", 1)
    assert len(ids(memory, Query("zzz"), vector=toward(1))) == 2


@pytest.mark.parametrize("prefilter", [50, 10**6])
def test_it_is_as_if_every_item_had_been_looked_at(
    memory: Memory, prefilter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "PREFILTER", prefilter)
    monkeypatch.setattr(vectors_module, "_RESCORED", 60)
    chance = np.random.default_rng(1)
    points = chance.standard_normal((300, WIDTH)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    scopes = ("person", "team/a", "team/b")
    memory.add([Item(kind="note", text=f"n{n}", source=str(n), scope=scopes[n % 3]) for n in range(300)])
    by_id = {kept.id: int(kept.source) for kept in memory.items(limit=300)}
    memory.put_vectors("m", [(id, small(points[n])) for id, n in by_id.items()])
    for _ in range(10):
        wanted = chance.standard_normal(WIDTH).astype(np.float32)
        wanted /= np.linalg.norm(wanted)
        scope = random.Random(1).choice(scopes)
        near = np.argsort(-(points @ wanted))
        exact = [int(n) for n in near if scopes[n % 3] == scope][:5]
        found = ids(memory, Query("zzz", scopes=[scope], limit=5), vector=small(wanted))
        assert len({by_id[id] for id in found} & set(exact)) >= 4


def small(vector: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Embedding:
    peak = float(np.abs(vector).max())
    return Embedding(np.rint(vector * (127 / peak)).astype(np.int8).tobytes(), round(peak / 127 * 1e9))


def test_common_words_do_not_hide_rare_ones(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.memory.words._MOST_POSTINGS", 20)
    memory.add([Item(kind="note", text=f"permit revision {n}", source=str(n)) for n in range(120)])
    rare = put(memory, "the zeppelin hangar of a permit", scope="team/a")
    assert ids(memory, Query("permit revision zeppelin", limit=1)) == [rare]
    assert len(ids(memory, Query("permit revision"))) == 20
    assert ids(memory, Query("permit", scopes=["team/a"])) == [rare]


LIGHT = """
import sys
from pathlib import Path
from edge_agent.memory import Memory, Query
from shared.memory.vector import Embedding
memory = Memory(Path(sys.argv[1]))
assert len(memory.search(Query("roof"), now=1)) == 1
assert len(memory.search("roof")) == 1
memory.put_vectors("m", [(memory.items()[0].id, Embedding(b"1" * 8, 1))])
print([name for name in ("numpy", "automerge") if name in sys.modules])
"""


@pytest.mark.system
def test_searching_by_words_loads_neither_numpy_nor_automerge(memory: Memory, tmp_path: Path) -> None:
    put(memory, "roof")
    memory.close()
    path = str(tmp_path / "memory.sqlite3")
    done = subprocess.run([sys.executable, "-c", LIGHT, path], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
