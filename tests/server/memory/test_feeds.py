"""Push and pull: what is kept, in which order it is read, and who may."""

from __future__ import annotations

import secrets
import threading

import pytest

from server.memory.feeds import Changed
from shared import limits
from shared.codec import unb64
from shared.errors import BadInput
from shared.memory.document import Document
from shared.memory.feed import Change, Record, change, change_hash
from shared.memory.item import Edit
from shared.protocol import Recall, Recalled, Remember
from tests.server.memory.conftest import Room, Writer


def codes(room: Room, writer: Writer, *names: str, scope: str = "person") -> list[str]:
    return [one.code for one in room.push(writer, *names, scope=scope).refused]


def records(answers: list[Recalled]) -> list[Record]:
    return [record for answer in answers for record in answer.records]


def test_what_one_device_remembers_comes_to_the_other_of_the_same_person(room: Room) -> None:
    laptop, phone = room.join("laptop", "mara"), room.join("phone", "mara")
    name = laptop.note("The roof of PA-1 is slate.")
    laptop.edit(name, Edit(add_tags=["roof"]))
    room.store_all(laptop, name)
    answers = room.pull(phone)
    assert answers[-1].scopes == {"person": "steward"}
    assert [(r.seq, r.item) for r in records(answers)] == [(1, name), (2, name)]
    there = Document.load([unb64(r.data, what="t") for r in records(answers)]).item()
    assert there == laptop.item(name) and there.tags == ["roof"]
    assert records(room.pull(phone)) == []
    assert records(room.pull(room.join("stranger", "otto"))) == []
    assert records(room.pull(room.join("nobodys"))) == []


def test_a_new_device_of_the_same_person_gets_everything(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    names = [laptop.note(f"Note {n}") for n in range(5)]
    room.store_all(laptop, *names)
    late = room.join("tablet", "mara")
    assert [r.item for r in records(room.pull(late))] == names


def test_what_a_device_remembered_before_it_was_somebodys_moves_with_it(room: Room) -> None:
    laptop, old = room.join("laptop", "mara"), room.join("old")
    mine, theirs = laptop.note("On the laptop."), [old.note("Before."), old.note("Before, too.")]
    room.store_all(laptop, mine)
    room.store_all(old, *theirs)
    room.pull(old)
    assert old.cursors == {"person": 2}
    room.memory.own(old.id, "mara", "clara")
    got = records(room.pull(old))
    assert {r.item for r in got} == {mine, *theirs} and [r.seq for r in got] == [3, 4, 5]
    assert {r.item for r in records(room.pull(laptop))} == {mine, *theirs}
    assert room.memory.access.owner(old.id) == "mara"
    old.edit(theirs[0], Edit(text="Before, and edited."))
    room.store_all(old, theirs[0])
    assert [r.item for r in records(room.pull(laptop))] == [theirs[0]]
    assert {scope.scope for scope in room.memory.access.scopes()} == {"person/mara"}


def test_an_item_that_both_had_is_one_afterwards(room: Room) -> None:
    laptop, old = room.join("laptop", "mara"), room.join("old")
    name = laptop.note("Imported on both.")
    old.chunks[name] = list(laptop.chunks[name])
    old.edit(name, Edit(add_tags=["old"]))
    laptop.edit(name, Edit(add_tags=["laptop"]))
    room.store_all(laptop, name)
    room.store_all(old, name)
    room.memory.own(old.id, "mara", "clara")
    assert len(room.memory.chunks("person/mara", name)) == 3
    old.edit(name, Edit(confidence=900))
    room.store_all(old, name)
    assert room.memory.items.get("person/mara", name).tags == ["laptop", "old"]


def test_sending_it_again_changes_nothing(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("Once.")
    room.store_all(laptop, name)
    room.store_all(laptop, name)
    twice = room.memory.remember(laptop.id, Remember("person", laptop.all(name) * 2))
    assert set(twice.stored) == {change_hash(laptop.chunks[name][0])} and twice.refused == []
    assert len(room.memory.chunks("person/mara", name)) == 1


def test_edits_made_apart_meet_at_the_hub(room: Room) -> None:
    laptop, phone = room.join("laptop", "mara"), room.join("phone", "mara")
    name = laptop.note("The gate is green.")
    room.store_all(laptop, name)
    phone.chunks[name] = list(laptop.chunks[name])
    laptop.edit(name, Edit(add_tags=["a"], sensitivity="private"))
    phone.edit(name, Edit(add_tags=["b"], sensitivity="public"))
    room.store_all(laptop, name)
    assert room.memory.items.get("person/mara", name).conflicts == 0
    room.store_all(phone, name)
    view = room.memory.items.get("person/mara", name)
    assert view.tags == ["a", "b"] and view.conflicts == 1 and view.changes == 3
    assert [c.field for c in room.memory.items.conflicts("person/mara", name)] == ["sensitivity"]


def test_a_change_that_comes_before_what_it_builds_on_is_for_later(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("First.")
    laptop.edit(name, Edit(text="Second."))
    early = room.memory.remember(laptop.id, Remember("person", [change(name, laptop.chunks[name][1])]))
    assert [one.code for one in early.refused] == ["memory.early"]
    back = room.memory.remember(laptop.id, Remember("person", laptop.all(name)[::-1]))
    assert len(back.stored) == 2 and back.refused == []
    assert room.memory.items.get("person/mara", name).text == "Second."


# --- roles --------------------------------------------------------------------------------------------------------


def test_roles_hold_on_push_and_pull(room: Room) -> None:
    writer, reader, stranger = room.join("w", "mara"), room.join("r", "otto"), room.join("s", "zoe")
    team = "team/permits"
    room.memory.grant(team, "user:mara", "writer", "clara")
    room.memory.grant(team, f"device:{reader.id}", "reader", "clara")
    name = writer.note("Slate needs a review.", team)
    room.store_all(writer, name, scope=team)
    got = room.pull(reader, "person", team)
    assert got[-1].scopes == {"person": "steward", team: "reader"} and [r.item for r in records(got)] == [name]
    own = reader.note("I may not.", team)
    assert codes(room, reader, own, scope=team) == ["memory.role"]
    other = stranger.note("Nor I.", team)
    assert codes(room, stranger, other, scope=team) == ["memory.scope"]
    denied = room.pull(stranger, "person", team)[-1]
    assert denied.records == [] and denied.scopes == {"person": "steward"}
    room.memory.revoke(team, f"device:{reader.id}", "clara")
    assert room.pull(reader, "person", team)[-1].scopes == {"person": "steward"}
    room.memory.revoke(team, "user:mara", "clara")
    assert codes(room, writer, name, scope=team) == ["memory.scope"]


def test_nobody_reaches_another_persons_scope_by_its_name_at_the_hub(room: Room) -> None:
    mara, otto = room.join("w", "mara"), room.join("o", "otto")
    room.store_all(mara, mara.note("Mine."))
    for scope in ("person/mara", f"person/device:{mara.id}", "team/", ""):
        assert room.memory.recall(otto.id, Recall({scope: 0})).records == []
        assert codes(room, otto, otto.note("Yours.", "person"), scope=scope) == ["memory.scope"]


def test_a_revoked_device_has_no_scopes(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    room.store_all(laptop, laptop.note("Here."))
    room.devices.revoke(laptop.id, "clara")
    assert room.memory.recall(laptop.id, Recall({"person": 0})) == Recalled({}, "", [], 0, False)
    assert codes(room, laptop, laptop.note("Gone.")) == ["memory.scope"]


def test_an_item_is_only_taken_in_the_scope_it_says_it_is_of(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    room.memory.grant("team/permits", "user:mara", "writer", "clara")
    assert codes(room, laptop, laptop.note("Private.", "person"), scope="team/permits") == ["memory.other-scope"]
    assert codes(room, laptop, laptop.note("Here only.", "device")) == ["memory.other-scope"]


# --- hostile ------------------------------------------------------------------------------------------------------


def test_one_bad_item_refuses_only_its_own_changes(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    good = [laptop.note(f"Good {n}") for n in range(3)]
    bad = laptop.note("Bad.")
    broken = bytearray(laptop.chunks[bad][0])
    broken[-1] ^= 1
    laptop.chunks[bad] = [bytes(broken)]
    done = room.push(laptop, good[0], bad, good[1], good[2])
    assert [one.item for one in done.refused] == [bad]
    assert done.refused[0].code.startswith("memory.hostile")
    assert len(done.stored) == 3
    assert {r.item for r in records(room.pull(laptop))} == set(good)


@pytest.mark.parametrize("data", ["", "AAAA", "no base64", "A" * 4_000])
def test_what_is_no_change(room: Room, data: str) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("Good.")
    done = room.memory.remember(laptop.id, Remember("person", [Change(f"mem_{'0' * 24}", data), *laptop.all(name)]))
    assert len(done.stored) == 1 and len(done.refused) == 1


def test_a_push_has_bounds(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    one = laptop.all(laptop.note("x"))[0]
    for changes in ([], [one] * (limits.MEMORY_BATCH + 1), [Change(one.item, "A" * limits.MEMORY_BATCH_BYTES)] * 2):
        with pytest.raises(BadInput) as caught:
            room.memory.remember(laptop.id, Remember("person", changes))
        assert caught.value.code == "memory.batch"
    odd = room.memory.remember(laptop.id, Remember("person", [Change("mem_x", one.data)]))
    assert [r.code for r in odd.refused] == ["memory.change"]


def test_a_full_item_and_a_full_scope(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("x")
    room.store_all(laptop, name)
    laptop.edit(name, Edit(text="y"))
    monkeypatch.setattr(limits, "MEMORY_ITEM_CHANGES", 1)
    assert codes(room, laptop, name) == ["memory.item-full"]
    monkeypatch.undo()
    monkeypatch.setattr(limits, "MEMORY_SCOPE_BYTES", 200)
    assert codes(room, laptop, laptop.note("z")) == ["memory.full"]


def test_an_item_has_only_so_many_edits_that_nobody_merged(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    laptop, other = room.join("laptop", "mara"), room.join("other", "mara")
    name = laptop.note("x")
    room.store_all(laptop, name)
    begun = list(laptop.chunks[name])
    monkeypatch.setattr(limits, "MEMORY_ITEM_HEADS", 3)
    apart = []
    for n in range(4):
        document = Document.load(begun, secrets.token_bytes(16))
        apart.append(document.edit(Edit(add_tags=[f"t{n}"]), at=laptop.clock(), by="a"))
    forks = [chunk for chunk in apart if chunk is not None]
    done = room.memory.remember(laptop.id, Remember("person", [change(name, chunk) for chunk in forks]))
    assert done.stored == [] and {one.code for one in done.refused} == {"memory.forked"}
    sound = laptop.note("y")
    done = room.memory.remember(
        laptop.id, Remember("person", [*laptop.all(sound), *(change(name, c) for c in forks[:3])])
    )
    assert len(done.stored) == 4 and done.refused == []
    waits = Remember("person", [change(name, forks[3])])
    assert [one.code for one in room.memory.remember(laptop.id, waits).refused] == ["memory.forked"]
    other.chunks[name] = [*begun, *forks[:3]]
    other.edit(name, Edit(text="All of them."))
    room.store_all(other, name)
    assert room.memory.remember(laptop.id, waits).refused == []
    assert room.memory.items.get("person/mara", name).tags == ["t0", "t1", "t2", "t3"]


# --- order --------------------------------------------------------------------------------------------------------


def test_pulls_are_bounded_and_go_on(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    laptop, phone = room.join("laptop", "mara"), room.join("phone", "mara")
    names = [laptop.note(f"Note {n} " + secrets.token_hex(200)) for n in range(9)]
    room.store_all(laptop, *names)
    monkeypatch.setattr(limits, "MEMORY_RECORDS", 4)
    answers = room.pull(phone)
    assert [len(a.records) for a in answers] == [4, 4, 1]
    assert [r.seq for r in records(answers)] == list(range(1, 10))
    monkeypatch.setattr(limits, "MEMORY_BATCH_BYTES", 100)
    phone.cursors.clear()
    assert [len(a.records) for a in room.pull(phone)] == [1] * 9


def test_scopes_are_read_one_at_a_time(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    for team in ("team/a", "team/b"):
        room.memory.grant(team, "user:mara", "writer", "clara")
        room.store_all(laptop, laptop.note(team, team), scope=team)
    room.store_all(laptop, laptop.note("mine"))
    answers = room.pull(laptop, "person", "team/a", "team/b")
    assert [a.scope for a in answers] == ["person", "team/a", "team/b"]
    assert [a.more for a in answers] == [True, True, False]
    assert room.memory.recall(laptop.id, Recall({})).scopes == {
        "person": "steward",
        "team/a": "writer",
        "team/b": "writer",
    }


def test_no_reader_skips_what_several_write_at_once(room: Room) -> None:
    """Readers run beside writers; what a reader has read up to N is everything up to N."""
    writers = [room.join(f"w{n}", "mara") for n in range(3)]
    reader = room.join("reader", "mara")
    rounds = 6
    done = threading.Event()
    seen: list[int] = []
    failed: list[BaseException] = []

    def write(writer: Writer) -> None:
        try:
            for n in range(rounds):
                room.store_all(writer, *(writer.note(f"{writer.id} {n} {m}") for m in range(3)))
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failed.append(error)

    def read() -> None:
        while True:
            last = done.is_set()
            seen.extend(r.seq for r in records(room.pull(reader)))
            if last:
                return

    threads = [threading.Thread(target=write, args=(writer,)) for writer in writers]
    watching = threading.Thread(target=read)
    for thread in (*threads, watching):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watching.join()
    assert failed == []
    assert seen == list(range(1, 3 * rounds * 3 + 1))


def test_whoever_watches_is_told_after_the_commit(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    told: list[Changed] = []
    room.memory.watch(told.append)
    name = laptop.note("x")
    room.store_all(laptop, name)
    assert told == [Changed("person/mara", (name,))]
