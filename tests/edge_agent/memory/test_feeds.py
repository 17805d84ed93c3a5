"""Memory as a replica: what goes out, what comes in, in any order and any number of times."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.memory import Feed, Memory, Wish
from shared.memory import Edit, Item
from shared.memory.feed import Change, Rejected, Tombstone, change, change_hash, chunk_of

NOTE = Item(kind="note", text="The gate is green", source="hand", scope="team/site")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Memory, Memory]]:
    with closing(Memory(tmp_path / "one.sqlite3")) as one, closing(Memory(tmp_path / "two.sqlite3")) as two:
        yield one, two


def written(memory: Memory, edits: int = 3) -> str:
    id = memory.write(NOTE, at=1, by="user:ada")
    for number in range(edits):
        memory.edit(id, Edit(fields={f"f{number}": "x"}), at=2 + number, by="user:ada")
    return id


def sent_of(memory: Memory, id: str) -> list[Change]:
    return [one for one in memory.outbox("team/site") if one.item == id]


def hashes(changes: list[Change]) -> list[str]:
    return [change_hash(chunk_of(one)) for one in changes]


def test_the_changes_of_an_item_go_out_together(pair: tuple[Memory, Memory]) -> None:
    one, _ = pair
    ids = [written(one, 0) for _ in range(4)]
    for id in ids:
        one.edit(id, Edit(text="The gate is red"), at=9, by="user:ada")
    sent = one.outbox("team/site")
    assert [change.item for change in sent] == [id for id in sorted(ids) for _ in range(2)]
    for id in ids:
        assert hashes(sent_of(one, id)) == [version.hash for version in one.history(id)]


def test_the_outbox_goes_out_oldest_first_and_empties(pair: tuple[Memory, Memory]) -> None:
    one, _ = pair
    id = written(one)
    sent = one.outbox("team/site")
    assert hashes(sent) == [version.hash for version in one.history(id)]
    assert one.outbox("team/site", 2) == sent[:2]
    assert one.outbox("team/site", 9, 1) == sent[:1]
    assert one.outbox("team/site", 9, len(sent[0].data) + len(sent[1].data)) == sent[:2]
    assert one.unsent() == {"team/site": 4}
    one.mark_sent(hashes(sent[:2]))
    assert one.outbox("team/site") == sent[2:]
    one.mark_sent([*hashes(sent), "0" * 64])
    assert one.outbox("team/site") == [] and one.unsent() == {}


def test_what_is_for_this_device_alone_is_never_in_an_outbox(pair: tuple[Memory, Memory]) -> None:
    one, _ = pair
    id = one.write(Item(kind="note", text="x", source="x", scope="device"), at=1, by="user:ada")
    one.edit(id, Edit(text="y"), at=2, by="user:ada")
    one.add([Item(kind="note", text="z", source="x", scope="device")])
    assert one.outbox("device") == [] and one.unsent() == {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_any_order_any_number_of_times_makes_the_same_item(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("any")
    with ExitStack() as opened:
        one, two, three = (opened.enter_context(closing(Memory(folder / f"{n}.sqlite3"))) for n in range(3))
        id = written(one, chance.randrange(4))
        two.take("team/site", one.outbox("team/site"), [], 1, now=9)
        one.edit(id, Edit(text="The gate is red", add_tags=["a"]), at=20, by="user:ada")
        two.edit(id, Edit(text="The old gate is green", remove_tags=["a"], kind="fact"), at=21, by="user:bob")
        every = one.outbox("team/site") + two.outbox("team/site")
        for memory in (one, two, three):
            mixed = every + chance.choices(every, k=3)
            chance.shuffle(mixed)
            cuts = sorted(chance.choices(range(len(mixed)), k=3))
            for begin, end in zip([0, *cuts], [*cuts, len(mixed)], strict=True):
                assert memory.take("team/site", mixed[begin:end], [], end, now=30).refused == []
        assert one.get(id) == two.get(id) == three.get(id)
        assert one.get(id).text == "The old gate is red"
        assert len({memory.kept(id).sha256 for memory in (one, two, three)}) == 1
        assert three.unsent() == {} and len(three.search("gate")) == 1
        assert one.unsent() == {} and two.unsent() == {}  # what came back from the hub is known to be there


def test_changes_wait_for_those_they_were_made_upon(pair: tuple[Memory, Memory]) -> None:
    one, two = pair
    id = written(one, 2)
    first, second, third = one.outbox("team/site")
    assert two.take("team/site", [third], [], 3, now=9).items == [id]
    assert two.count() == 0 and two.search("gate") == []
    assert two.chunks(id) == ("team/site", [chunk_of(third)])
    two.take("team/site", [first], [], 4, now=9)
    assert two.get(id).fields == {}
    two.take("team/site", [second], [], 5, now=9)
    assert two.get(id) == one.get(id)
    assert two.feeds() == {"team/site": Feed(5, "")}


def test_a_bad_change_harms_no_other_item(pair: tuple[Memory, Memory]) -> None:
    one, two = pair
    good, bad = written(one, 0), written(one, 0)
    (made,) = sent_of(one, bad)
    broken = bytearray(chunk_of(made))
    broken[40] ^= 1
    odd = change(bad, bytes(broken))
    taken = two.take("team/site", [odd, *sent_of(one, good)], [], 7, now=9)
    assert taken.items == [good]
    assert [(lost.item, lost.hash) for lost in taken.refused] == [(bad, change_hash(bytes(broken)))]
    assert two.feeds()["team/site"].cursor == 7
    assert two.chunks(bad) is None
    assert two.aside() == taken.refused
    assert two.take("team/site", [made], [], 8, now=9).items == [bad]


def test_a_change_for_an_item_of_another_scope_is_refused(pair: tuple[Memory, Memory]) -> None:
    one, two = pair
    id = written(one, 0)
    two.take("team/site", one.outbox("team/site"), [], 1, now=9)
    one.edit(id, Edit(text="stolen"), at=5, by="user:eve")
    taken = two.take("team/other", sent_of(one, id)[1:], [], 1, now=9)
    assert [lost.code for lost in taken.refused] == ["memory.other-scope"]
    assert two.get(id) == NOTE
    fresh = one.write(NOTE, at=6, by="user:eve")
    taken = two.take("team/other", sent_of(one, fresh), [], 2, now=9)
    assert [(lost.item, lost.code) for lost in taken.refused] == [(fresh, "memory.other-scope")]


def test_what_the_hub_refuses_leaves_with_all_that_was_built_on_it(pair: tuple[Memory, Memory]) -> None:
    one, _ = pair
    id = written(one, 0)
    one.mark_sent(hashes(one.outbox("team/site")))
    first = one.edit(id, Edit(text="The gate is red"), at=5, by="user:ada")
    second = one.edit(id, Edit(text="The gate is red and new"), at=6, by="user:ada")
    assert first and second
    left = one.set_aside({first: "memory.hostile.value"}, now=7)
    assert left == sorted(
        [Rejected(id, first, "memory.hostile.value"), Rejected(id, second, "memory.hostile.value")],
        key=lambda r: r.hash,
    )
    assert one.get(id) == NOTE and one.search("red") == []
    assert one.unsent() == {}
    assert one.set_aside({first: "again"}, now=8) == []
    alone = written(one, 0)
    (version,) = one.history(alone)
    assert len(one.set_aside({version.hash: "memory.forbidden"}, now=9)) == 1
    assert one.count() == 1 and one.chunks(alone) is None


def test_scopes_come_and_are_taken_away(pair: tuple[Memory, Memory]) -> None:
    one, _ = pair
    assert one.set_feeds({"person": "steward", "team/site": "writer"}) == []
    one.take("team/site", [], [], 12, now=1)
    assert one.feeds() == {"person": Feed(0, "steward"), "team/site": Feed(12, "writer")}
    shared, own = written(one), one.write(Item(kind="note", text="mine", source="x"), at=1, by="user:ada")
    assert one.set_feeds({"person": "steward"}) == ["team/site"]
    assert one.get(shared) and one.feeds()["team/site"].cursor == 12
    assert one.drop_scope("team/site") == (1, 4)
    assert one.feeds() == {"person": Feed(0, "steward")}
    assert [kept.id for kept in one.items()] == [own]
    assert one.drop_scope("team/site") == (0, 0)


def test_the_cursor_moves_with_what_it_counts_or_not_at_all(pair: tuple[Memory, Memory]) -> None:
    one, two = pair
    written(one, 0)
    with pytest.raises(RuntimeError):
        two.take("team/site", interrupted(one.outbox("team/site")), [], 1, now=9)
    assert two.feeds() == {} and two.count() == 0


def interrupted(changes: list[Change]) -> Iterator[Change]:
    yield from changes
    raise RuntimeError("the power went")


def test_a_late_change_of_a_forgotten_item_is_refused(pair: tuple[Memory, Memory]) -> None:
    one, two = pair
    id = written(one, 1)
    first, second = one.outbox("team/site")
    stone = Tombstone("tmb_" + "0" * 24, "item", "team/site", id, "", "", "", 5, "user:ada", "asked")
    assert two.take("team/site", [first], [stone], 3, now=9).refused[0].code == "memory.erased"
    assert two.take("team/site", [second], [], 4, now=9).refused[0].code == "memory.erased"
    assert two.refused(id, "team/site") and not two.refused(id, "person")
    assert two.pending() == [stone]
    assert two.count() == 0


def test_wishes_stay_until_they_are_answered(pair: tuple[Memory, Memory]) -> None:
    one, _ = pair
    later = Wish("tmb_" + "1" * 24, "item", "person", item="mem_" + "0" * 24, at=2)
    sooner = Wish("tmb_" + "2" * 24, "scope", "team/site", at=1)
    for wish in (later, sooner, later):
        one.wish(wish)
    assert one.wishes() == [sooner, later]
    one.wish_done(sooner.id)
    assert one.wishes() == [later]


def test_listeners_hear_what_is_new_to_the_hub_and_what_came_from_it(pair: tuple[Memory, Memory]) -> None:
    one, two = pair
    heard: list[str] = []
    one.listen(lambda: heard.append("one"))
    two.listen(lambda: heard.append("two"))
    written(one, 0)
    two.take("team/site", one.outbox("team/site"), [], 1, now=9)
    one.wish(Wish("tmb_" + "1" * 24, "item", "person", item="mem_" + "0" * 24))
    assert heard == ["one", "two", "one"]
    version = one.version
    one.mark_sent(hashes(one.outbox("team/site")))
    one.take("team/site", [], [], 2, now=9)
    one.set_feeds({"team/site": "writer"})
    assert heard == ["one", "two", "one"] and one.version == version
