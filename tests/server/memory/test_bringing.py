"""A file of items is brought in: each where it belongs, judged like a device's, weighed before, and once."""

from __future__ import annotations

import msgspec
import pytest

from shared import limits
from shared.codec import b64
from shared.errors import BadInput
from shared.memory import Edit, Item
from shared.memory.exchange import Exported, to_lines, to_markdown
from shared.memory.item import item_id
from tests.server.memory.conftest import Room
from tests.shared.memory.hostile import Draft

RED = "team/red"


def lines(*items: Exported) -> bytes:
    return b"".join(to_lines(items))


def fates(room: Room, data: bytes, who: str = "ada", *, weigh: bool = False) -> list[tuple[str, str]]:
    work = room.memory.bringing.weigh if weigh else room.memory.bringing.bring
    return [(row.where, row.code or row.does) for row in work(data, "items.jsonl", who)]


@pytest.fixture
def team(room: Room) -> Room:
    """Ada writes what the red team remembers; bo only reads it."""
    for person, role in (("ada", "writer"), ("bo", "reader")):
        room.join(f"computer of {person}", person)
        room.memory.grant(RED, f"user:{person}", role, "clara")
    return room


def test_an_export_comes_in_with_its_history_and_once(team: Room) -> None:
    desk = team.join("desk", "ada")
    name = desk.note("The depot opens at seven.", RED)
    first = Exported(name, desk.item(name), tuple(desk.chunks[name]))
    desk.edit(name, Edit(text="The depot opens at eight."))
    both = Exported(name, desk.item(name), tuple(desk.chunks[name]))
    assert fates(team, lines(first), weigh=True) == [("line 1", "new")]
    assert team.memory.items.count() == 0, "weighing keeps nothing"
    assert fates(team, lines(first)) == [("line 1", "new")] and fates(team, lines(first)) == [("line 1", "known")]
    assert fates(team, lines(both)) == [("line 1", "more")] and fates(team, lines(both)) == [("line 1", "known")]
    assert team.memory.items.get(RED, name).text == "The depot opens at eight."
    assert [version.by for version in team.memory.items.history(RED, name)] == [desk.id, desk.id]
    assert {who for who, _ in team.memory.items.senders(RED, name).values()} == {"file:ada"}
    assert team.pull(desk, RED)[-1].records[-1].item == name, "devices get it like anything else"


def test_what_is_written_by_hand_comes_in_under_a_name_of_what_it_says(team: Room) -> None:
    text = b'---\nkind: "note"\nscope: "team/red"\n---\n\nShip on Mondays.\n'
    assert fates(team, text) == [("item 1", "new")] and fates(team, text) == [("item 1", "known")]
    (view,) = team.memory.items.list()
    assert (view.text, view.source) == ("Ship on Mondays.", "items.jsonl"), "where it was known from is the file"
    own = "".join(to_markdown([Exported("", Item("note", "Mine.", "me"))])).encode()
    assert fates(team, own, "bo") == [("item 1", "new")]
    assert {view.scope for view in team.memory.items.list()} == {RED, "person/bo"}


def test_one_bad_line_costs_itself(team: Room) -> None:
    good = Exported("mem_" + "1" * 24, Item("note", "good", "me", scope=RED))
    rest = [
        b"not an item",
        lines(Exported("mem_" + "2" * 24, Item("note", "x", "me", scope="device"))),
        lines(Exported("mem_" + "3" * 24, Item("note", "x", "me", scope="team/blue"))),
        lines(Exported("mem_" + "4" * 24, msgspec.structs.replace(good.item, kind="rumour"))),
        lines(good),
    ]
    data = b"\n".join([lines(good).strip(), *(line.strip() for line in rest)])
    expected = ["new", "memory.import", "memory.other-scope", "memory.role", "memory.import", "memory.import"]
    assert fates(team, data, weigh=True) == [(f"line {n}", fate) for n, fate in enumerate(expected, 1)]
    assert [fate for _, fate in fates(team, data)] == expected
    assert [view.item for view in team.memory.items.list()] == [good.id]
    assert fates(team, lines(good), "bo") == [("line 1", "memory.role")], "who only reads brings nothing in"


def test_hostile_and_misplaced_histories_are_refused(team: Room) -> None:
    desk = team.join("desk", "ada")
    bad, astray = desk.note("x", RED), desk.note("y", "person")
    spoilt = Draft.of(desk.chunks[bad][0])
    chunk = spoilt.without(spoilt.columns[0][0]).built()
    data = lines(Exported(bad, desk.item(bad), (chunk,))) + lines(
        Exported(astray, msgspec.structs.replace(desk.item(astray), scope=RED), tuple(desk.chunks[astray]))
    )
    first, second = team.memory.bringing.weigh(data, "x.jsonl", "ada")
    assert first.code.startswith("memory.hostile.") and second.code == "memory.other-scope"
    assert [row.code for row in team.memory.bringing.bring(data, "x.jsonl", "ada")] == [first.code, second.code]
    assert team.memory.items.count() == 0


def test_what_was_forgotten_stays_forgotten(team: Room) -> None:
    item = Item("note", "The code is 4711.", "me", scope=RED)
    data = lines(Exported(item_id(item), item))
    assert fates(team, data) == [("line 1", "new")]
    team.memory.erasure.item(RED, item_id(item), "ada")
    assert fates(team, data, weigh=True) == fates(team, data) == [("line 1", "memory.erased")]
    assert team.memory.items.count() == 0


def test_many_items_take_several_pushes(team: Room) -> None:
    items = [Exported(f"mem_{n:024x}", Item("note", f"number {n}", "me", scope=RED)) for n in range(300)]
    assert {fate for _, fate in fates(team, lines(*items))} == {"new"}
    assert team.memory.items.count() == 300
    long = Exported("mem_" + "f" * 24, items[0].item, tuple([b"x"] * (limits.MEMORY_BATCH + 1)))
    assert fates(team, lines(long)) == [("line 1", "memory.batch")], "a history longer than a push"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no item"),
        (b"# A letter\n", "before the first item"),
        (b"\xff\xfe", "not UTF-8"),
        (b" " * (limits.MEMORY_IMPORT_BYTES + 1), "more than 8 MB"),
        (b"{}\n" * (limits.MEMORY_IMPORT_ITEMS + 1), "more than 5000"),
        (b'{"form":1,"id":"x","item":{},"changes":["' + b64(b"x").encode() + b'"]', None),
    ],
)
def test_a_file_that_is_none_is_told(team: Room, data: bytes, said: str | None) -> None:
    if said is None:
        assert fates(team, data) == [("line 1", "memory.import")]
        return
    with pytest.raises(BadInput, match=said) as caught:
        team.memory.bringing.weigh(data, "x", "ada")
    assert caught.value.code == "memory.import"
