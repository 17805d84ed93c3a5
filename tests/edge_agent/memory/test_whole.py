"""Memory gone through item by item: out into files, in from them, and over by the rules."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.memory import Memory
from edge_agent.memory.whole import brought, dated, exported, merge_of, twice
from shared.errors import BadInput
from shared.memory import Edit, Item
from shared.memory.duplicates import duplicates
from shared.memory.exchange import to_lines, to_markdown
from shared.memory.feed import Hold, Tombstone
from shared.memory.rules import Dated, MemoryRules

NOW = 1_790_000_000_000_000


def test_items_go_out_with_their_histories_and_come_back_once(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with closing(Memory(tmp_path / "m.sqlite3")) as memory, closing(Memory(tmp_path / "there" / "m.sqlite3")) as other:
        id = memory.write(Item("note", "The depot opens at seven.", "me"), at=NOW, by="ann")
        memory.edit(id, Edit(text="The depot opens at eight."), at=NOW + 1, by="omar")
        items = list(exported(memory, [id, "mem_" + "0" * 24]))
        assert [one.id for one in items] == [id] and len(items[0].chunks) == 2
        lines, plain = b"".join(to_lines(items)), "".join(to_markdown(items)).encode()
        assert brought(other, "items.jsonl", lines, "") == (1, 0) and brought(other, "items.jsonl", lines, "") == (0, 1)
        assert [version.by for version in other.history(id)] == ["ann", "omar"]
        assert brought(other, "items.md", plain, "") == (0, 1)
        assert brought(other, "past.csv", b"description,lane\nReroof,express\n", "team/permits") == (1, 0)
        assert other.scopes() == {"person": 1, "team/permits": 1}
        assert sorted((one.id == id, one.changed_at) for one in dated(other, NOW))[-1] == (True, NOW + 1)


@pytest.mark.parametrize("name", ["x.jsonl", "x.md", "x.csv"])
def test_a_file_that_is_not_text_is_told(tmp_path: Path, name: str) -> None:
    with closing(Memory(tmp_path / "m.sqlite3")) as memory:
        with pytest.raises(BadInput, match="memory.import") as caught:
            brought(memory, name, b"\xff\xfe", "person")
        assert name in str(caught.value) and memory.scopes() == {}


def test_tombstones_say_how_far_they_are_obeyed(tmp_path: Path) -> None:
    with closing(Memory(tmp_path / "m.sqlite3")) as memory:
        ids = [memory.write(Item("note", f"Number {n}.", "me"), at=NOW, by="ann") for n in range(3)]
        stones = [
            Tombstone(f"tomb_{n}", "item", "person", id, "", "", "", NOW + n, "user:ann", "asked")
            for n, id in enumerate(ids)
        ]
        memory.put_hold(Hold("hold_1", "person", ids[2], True, NOW, "mara", "litigation"))
        memory.take("person", [], stones, 1, now=NOW)
        memory.obey(stones[1])
        memory.obey(stones[2])
        told = [(stone.id, state, items) for stone, state, items in memory.tombstones(10)]
        assert told == [("tomb_2", "held", 1), ("tomb_1", "obeyed", 1), ("tomb_0", "pending", 1)]
        memory.settle(["tomb_1"])
        assert [state for _, state, _ in memory.tombstones(2)] == ["held", "done"]


def test_what_is_there_twice_is_found_without_opening_every_document(tmp_path: Path) -> None:
    with closing(Memory(tmp_path / "m.sqlite3")) as memory:
        says = [
            "The depot opens at seven in the morning.",
            "The depot opens at seven in the morning!",
            "Another thing.",
        ]
        ids = [
            memory.write(Item("note", text, "me", fields={"n": str(n)}, tags=[f"t{n}"]), at=NOW + n, by="ann")
            for n, text in enumerate(says)
        ]
        memory.write(Item("note", says[0], "me", expires_at=NOW), at=NOW, by="ann")
        light, rules = dated(memory, NOW), MemoryRules()
        assert sorted(one.id for one in light) == sorted(ids) and not any(one.item.fields for one in light)
        (found,) = twice(memory, light, rules)
        (expected,) = duplicates([Dated(id, memory.get(id), memory.kept(id).changed_at) for id in ids], rules)
        assert found == expected and found.merged.tags == ["t0", "t1"] and found.losses
        assert merge_of(memory, [found.keep, *found.drop], rules) == [found]
        memory.erase(found.drop)
        assert list(twice(memory, light, rules)) == merge_of(memory, [found.keep, *found.drop], rules) == []
