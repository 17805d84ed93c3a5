"""Items: written, edited, brought back; who may write; long ones and their vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.memory import Memory
from edge_agent.memory.passages import passages
from shared.errors import BadInput, Refused, Tampered
from shared.memory import Edit, Item, item_id
from shared.memory.feed import Tombstone
from shared.memory.vector import Embedding

NOTE = Item(kind="note", text="The gate is green", source="hand", tags=["gate"], subject="Ada")
BY = {"by": "user:ada"}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    made = Memory(tmp_path / "memory.sqlite3")
    yield made
    made.close()


def test_an_item_is_written_edited_and_brought_back(memory: Memory) -> None:
    id = memory.write(NOTE, at=10, by="user:ada")
    assert memory.get(id) == NOTE
    version = memory.edit(id, Edit(text="The gate is red", add_tags=["fence"], pinned=True), at=20, by="run run_1")
    assert version is not None
    assert memory.edit(id, Edit(text="The gate is red"), at=30, by="user:ada") is None
    kept = memory.kept(id)
    assert (kept.text, kept.pinned, kept.changed_at) == ("The gate is red", True, 20)
    assert [kept.id for kept in memory.search("red gate")] == [id]
    assert memory.search("green") == []
    first, second = memory.history(id)
    assert (first.at, first.by, second.hash, second.by) == (10, "user:ada", version, "run run_1")
    assert memory.document(id).item_at(first.hash) == NOTE
    assert memory.restore(id, first.hash, at=40, by="user:ada") is not None
    assert memory.get(id) == NOTE
    assert memory.search("red") == []
    assert len(memory.history(id)) == 3
    assert memory.restore(id, first.hash, at=50, by="user:ada") is None
    assert memory.conflicts(id) == []


def test_the_hash_of_an_item_is_that_of_its_versions(memory: Memory) -> None:
    id = memory.write(NOTE, at=10, **BY)
    before = memory.kept(id).sha256
    memory.edit(id, Edit(confidence=500), at=20, **BY)
    assert memory.kept(id).sha256 != before


def test_hand_written_items_with_the_same_words_are_two(memory: Memory) -> None:
    assert memory.write(NOTE, at=1, **BY) != memory.write(NOTE, at=1, **BY)
    assert memory.count() == 2
    with pytest.raises(BadInput) as caught:
        memory.write(NOTE, at=1, id=memory.items()[0].id, **BY)
    assert caught.value.code == "memory.exists"


@pytest.mark.parametrize(
    ("edit", "code"),
    [(Edit(text=""), "memory.item"), (Edit(kind="gossip"), "memory.item"), (Edit(confidence=2000), "memory.item")],
)
def test_an_edit_out_of_bounds_changes_nothing(memory: Memory, edit: Edit, code: str) -> None:
    id = memory.write(NOTE, at=1, **BY)
    with pytest.raises(BadInput) as caught:
        memory.edit(id, edit, at=2, **BY)
    assert caught.value.code == code
    assert memory.get(id) == NOTE
    assert len(memory.history(id)) == 1


def test_unknown_items_and_versions(memory: Memory) -> None:
    id = memory.write(NOTE, at=1, **BY)
    for ask in (memory.get, memory.kept, memory.history):
        with pytest.raises(BadInput, match="there is no item mem_none"):
            ask("mem_none")
    with pytest.raises(BadInput) as caught:
        memory.edit("mem_none", Edit(text="x"), at=1, **BY)
    assert caught.value.code == "memory.unknown"
    with pytest.raises(BadInput) as caught:
        memory.restore(id, "0" * 64, at=1, **BY)
    assert caught.value.code == "memory.version"


def test_who_may_only_read_does_not_write(memory: Memory) -> None:
    item = Item(kind="brand-rule", text="No exclamation marks", source="x", scope="team/brand")
    id = memory.write(item, at=1, **BY)
    memory.set_feeds({"team/brand": "reader", "person": "steward"})
    for attempt in (
        lambda: memory.write(item, at=2, **BY),
        lambda: memory.edit(id, Edit(text="x"), at=2, **BY),
        lambda: memory.add([Item(kind="note", text="y", source="x", scope="team/brand")]),
    ):
        with pytest.raises(Refused) as caught:
            attempt()
        assert caught.value.code == "memory.reader"
    memory.write(NOTE, at=2, **BY)
    memory.set_feeds({"team/brand": "writer", "person": "steward"})
    assert memory.edit(id, Edit(text="x"), at=3, **BY)


def test_a_change_missing_on_disk_is_noticed(memory: Memory) -> None:
    id = memory.write(NOTE, at=1, **BY)
    memory.edit(id, Edit(text="The gate is red"), at=2, **BY)
    with memory._change() as db:
        db.execute("DELETE FROM chunk WHERE k = (SELECT MAX(k) FROM chunk)")
    with pytest.raises(Tampered) as caught:
        memory.get(id)
    assert caught.value.code == "memory.document"


def test_listeners_hear_of_each_commit_and_of_no_failure(memory: Memory) -> None:
    heard: list[int] = []
    memory.listen(lambda: heard.append(memory.count()))
    memory.write(NOTE, at=1, **BY)
    memory.add([NOTE, Item(kind="note", text="another", source="x")])
    with pytest.raises(BadInput):
        memory.add([Item(kind="gossip", text="x", source="y")])
    assert heard == [1, 3]


def test_an_erased_item_is_not_written_again(memory: Memory) -> None:
    id = item_id(NOTE)
    stone = Tombstone("tmb_" + "0" * 24, "item", "person", id, "", "", "", 5, "user:ada", "asked")
    memory.take("person", [], [stone], 1, now=6)
    with pytest.raises(Refused) as caught:
        memory.write(NOTE, at=7, id=id, **BY)
    assert caught.value.code == "memory.erased"
    assert memory.add([NOTE]) == (0, 1)
    assert memory.count() == 0


# --- long items and their vectors -----------------------------------------------------------------------------------

LONG = Item(kind="document", text=" ".join(f"sentence {n} of it." for n in range(300)), source="x")


def test_each_passage_of_a_long_item_is_embedded(memory: Memory) -> None:
    id = memory.write(LONG, at=1, **BY)
    short = memory.write(NOTE, at=1, **BY)
    parts = passages(LONG.text)
    assert "".join(parts) == LONG.text and len(parts) > 4 and max(map(len, parts)) <= 1000
    seen: dict[str, str] = {}
    while missing := memory.without_vector("m", 3):
        assert len(missing) <= 3
        seen |= missing
        memory.put_vectors("m", [(name, Embedding(bytes([len(text) % 100] * 8), 1)) for name, text in missing])
    assert seen == {id: parts[0], short: NOTE.text} | {f"{id}#{n}": parts[n] for n in range(1, len(parts))}
    assert len(memory.without_vector("other", 100)) == len(parts) + 1
    memory.edit(id, Edit(confidence=1), at=2, **BY)
    assert memory.without_vector("m", 9) == []
    memory.edit(id, Edit(text="short now"), at=3, **BY)
    assert memory.without_vector("m", 9) == [(id, "short now")]


def test_vectors_of_what_went_meanwhile_are_dropped(memory: Memory) -> None:
    memory.put_vectors("m", [("mem_none", Embedding(b"\x01" * 8, 1)), ("mem_none#3", Embedding(b"\x01" * 8, 1))])
    assert memory._all("SELECT COUNT(*) FROM vector") == [(0,)]


@pytest.mark.parametrize("text", ["", "x", "x" * 1000, "x" * 1001, "x" * 2500, "word " * 900, "a.\n\n" * 700])
def test_passages_are_the_text(text: str) -> None:
    parts = passages(text)
    assert "".join(parts) == text
    assert len(parts) == 1 or all(0 < len(part) <= 1000 for part in parts)
