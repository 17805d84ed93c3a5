"""What syncing decides, message by message, on a real memory and against the hub's own words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.memory.feeds import Wish
from edge_agent.memory.replica import Replica
from edge_agent.memory.store import Memory
from shared.entries import MemoryErased, MemoryRefused
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from shared.keys import SigningKey
from shared.memory import Item
from shared.memory.document import Document
from shared.memory.feed import Record, Rejected, Tombstone, change, change_hash, seal_tombstone
from shared.memory.item import Edit
from shared.protocol import Forget, Forgotten, Message, Recall, Recalled, Remember, Remembered, refusal
from tests.system.opened import Opened

HUB, OTHER = SigningKey(b"h" * 32), SigningKey(b"o" * 32)
AT = 1_795_000_000_000_000
MEM = "mem_" + "a" * 24
ROLES = {"person": "steward", "team/red": "writer"}


class Rig:
    """A device's memory with its replica, which can be opened again as after a kill."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "memory.sqlite3"
        self.outside: list[str] = []
        self.open()

    def open(self) -> None:
        self.memory = Memory(self.path)
        self.replica = Replica(
            self.memory,
            Opened(),
            HUB.public,
            now=lambda: AT,
            outside=lambda stone: self.outside.append(stone.kind),
        )

    def again(self) -> None:
        self.memory.close()
        self.open()

    def meet(self, **roles: str) -> None:
        """The first two questions: which scopes there are, and what is in them."""
        found = {name.replace("team_", "team/"): role for name, role in roles.items()} or ROLES
        assert self.ask() == Recall({})
        assert self.say(Recalled(found, "", [], 0, False)) == []
        assert self.ask() == Recall(dict.fromkeys(found, 0))
        assert self.say(Recalled(found, "", [], 0, False)) == []

    def ask(self) -> Message | None:
        return self.replica.next()

    def say(self, message: Message) -> list[OutriderError]:
        return self.replica.answer(message)

    def come(self, *records: Record, scope: str = "team/red", more: bool = False) -> None:
        """News arrives."""
        self.replica.news()
        assert isinstance(self.ask(), Recall)
        self.say(Recalled(ROLES, scope, list(records), records[-1].seq, more))

    def facts(self) -> list[object]:
        report = self.replica.report()
        return [draft.facts for draft in report.drafts] if report else []


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.memory.close()


def theirs(text: str = "no signs above the door", scope: str = "team/red", **said: str) -> Document:
    item = Item(kind="note", text=text, source="them", scope=scope, **said)
    return Document.create(item, b"t" * 16, at=AT - 5_000_000, by="them")


def record(seq: int, chunk: bytes, item: str = MEM) -> Record:
    return Record(seq, item, change(item, chunk).data)


def stone(kind: str = "item", scope: str = "team/red", item: str = MEM, key: SigningKey = HUB, run: str = "") -> Record:
    made = Tombstone("tmb_" + "b" * 24, kind, scope, item, "", "", run, AT, "mara", "asked")
    return Record(9, item, tombstone=seal_tombstone(made, key))


def mine(rig: Rig, text: str = "green is the new red", scope: str = "team/red") -> tuple[str, str]:
    name = rig.memory.write(Item(kind="note", text=text, source="me", scope=scope), at=AT, by="ada")
    return name, rig.memory.history(name)[-1].hash


# --- coming ---------------------------------------------------------------------------------------------------------


def test_what_comes_is_kept_and_shown_and_the_cursor_moves_with_it(rig: Rig) -> None:
    rig.meet()
    document = theirs()
    first = document.changes()
    edit = document.edit(Edit(add_tags=["door"]), at=AT, by="them")
    assert edit is not None
    rig.come(record(4, first[0]), record(7, edit))
    assert rig.memory.get(MEM).tags == ["door"]
    assert rig.memory.feeds()["team/red"].cursor == 7
    rig.again()
    assert rig.ask() == Recall({"person": 0, "team/red": 7}), "after a restart it goes on from there"


def test_one_bad_record_keeps_no_other_away(rig: Rig) -> None:
    rig.meet()
    good, other = theirs(), theirs("closed on Mondays", scope="person")
    broken = bytearray(good.changes()[0])
    broken[-1] ^= 1
    rig.come(
        record(1, bytes(broken), "mem_" + "c" * 24),
        record(2, other.changes()[0], "mem_" + "d" * 24),
        record(3, good.changes()[0]),
    )
    assert [kept.id for kept in rig.memory.items()] == [MEM]
    assert rig.memory.feeds()["team/red"].cursor == 3
    codes = {fact.item[4]: fact.code for fact in rig.facts() if isinstance(fact, MemoryRefused)}
    assert codes == {"c": "memory.hostile.checksum", "d": "memory.other-scope"}


def test_more_is_asked_for_at_once_and_records_never_go_back(rig: Rig) -> None:
    rig.meet()
    chunk = theirs().changes()[0]
    rig.come(record(2, chunk), more=True)
    assert rig.ask() == Recall({"person": 0, "team/red": 2})
    with pytest.raises(BadInput, match="link.order"):
        rig.say(Recalled(ROLES, "team/red", [record(2, chunk)], 2, False))
    rig.replica.begin()
    assert isinstance(rig.ask(), Recall)
    with pytest.raises(BadInput, match="link.order"):
        rig.say(Recalled(ROLES, "team/blue", [], 0, False))
    with pytest.raises(BadInput, match="link.order"):
        rig.say(Recalled(ROLES, "", [], 0, False)), "nothing was asked"


def test_a_worker_that_does_not_start_leaves_the_feed_where_it_is(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.meet()

    def gone(*_: object) -> None:
        raise Unavailable("memory.scratch", "no worker", advice="install it")

    monkeypatch.setattr(Opened, "batch", gone)
    with pytest.raises(Unavailable):
        rig.come(record(1, theirs().changes()[0]))
    assert rig.memory.feeds()["team/red"].cursor == 0
    assert rig.facts() == []


def test_a_scope_taken_away_goes_with_everything_and_the_unsent_is_told_of(rig: Rig) -> None:
    rig.meet()
    rig.come(record(1, theirs().changes()[0]))
    mine(rig, "a secret of the red team")
    rig.replica.news()
    rig.ask()
    rig.say(Recalled({"person": "steward"}, "", [], 0, False))
    report = rig.replica.report()
    assert report is not None and rig.memory.count() == 2, "first the log is told of what was never sent"
    (fact,) = (draft.facts for draft in report.drafts)
    assert isinstance(fact, MemoryRefused) and (fact.scope, fact.code) == ("team/red", "memory.scope")
    rig.replica.reported(report)
    assert rig.memory.items() == [] and list(rig.memory.feeds()) == ["person"]
    assert b"secret of the red" not in b"".join(path.read_bytes() for path in rig.path.parent.iterdir())


# --- going ----------------------------------------------------------------------------------------------------------


def test_what_was_written_goes_until_the_hub_has_it(rig: Rig) -> None:
    rig.meet()
    name, made = mine(rig)
    sent = rig.ask()
    assert isinstance(sent, Remember) and [one.item for one in sent.changes] == [name]
    rig.again()
    rig.replica._behind = False
    assert rig.ask() == sent, "no answer came: it is sent again"
    assert rig.say(Remembered("team/red", [made], [])) == []
    assert rig.ask() is None
    mine(rig, "never leaves", scope="device")
    assert rig.ask() is None


def test_what_is_refused_for_good_leaves_the_item_and_is_told_of(rig: Rig) -> None:
    rig.meet()
    rig.come(record(1, theirs().changes()[0]))
    bad = rig.memory.edit(MEM, Edit(add_tags=["bad"]), at=AT, by="ada")
    after = rig.memory.edit(MEM, Edit(add_tags=["after"]), at=AT, by="ada")
    assert bad and after
    rig.ask()
    rig.say(Remembered("team/red", [], [Rejected(MEM, bad, "memory.item-full")]))
    assert rig.memory.get(MEM).tags == []
    told = {fact.hash: fact.code for fact in rig.facts() if isinstance(fact, MemoryRefused)}
    assert told == {bad: "memory.item-full", after: "memory.item-full"}
    assert rig.ask() is None


def test_what_may_be_taken_later_waits_and_other_scopes_go_on(rig: Rig) -> None:
    rig.meet()
    name, _ = mine(rig)
    other, _ = mine(rig, "mine alone", scope="person")
    first = rig.ask()
    assert isinstance(first, Remember)
    rig.say(Remembered(first.scope, [], [Rejected(first.changes[0].item, change_hash_of(first), "memory.role")]))
    second = rig.ask()
    assert isinstance(second, Remember) and {first.scope, second.scope} == {"person", "team/red"}
    rig.say(refusal(Unavailable("memory.worker", "busy", advice="wait")))
    assert rig.ask() is None and rig.replica.waiting
    rig.replica.retry()
    assert isinstance(rig.ask(), Recall), "the roles may have changed"
    assert {item.id for item in rig.memory.items()} == {name, other}


def change_hash_of(message: Remember) -> str:
    from shared.memory.feed import chunk_of

    return change_hash(chunk_of(message.changes[0]))


def test_a_reader_sends_nothing(rig: Rig) -> None:
    rig.meet()
    mine(rig)
    rig.memory.set_feeds({"person": "steward", "team/red": "reader"})
    assert rig.ask() is None
    assert rig.memory.unsent() == {"team/red": 1}


# --- forgetting -----------------------------------------------------------------------------------------------------


def test_a_tombstone_is_obeyed_and_its_receipt_repeated_until_it_is_in_the_log(rig: Rig) -> None:
    rig.meet()
    rig.come(record(1, theirs().changes()[0]))
    rig.come(stone())
    assert rig.facts() == [MemoryErased(tombstones=["tmb_" + "b" * 24], items=1)]
    assert b"above the door" not in b"".join(path.read_bytes() for path in rig.path.parent.iterdir())
    rig.again()  # killed before the log had it
    report = rig.replica.report()
    assert report is not None and report.stones == ["tmb_" + "b" * 24]
    rig.replica.reported(report)
    rig.again()
    assert rig.facts() == []
    rig.come(record(12, theirs().changes()[0]))
    assert rig.memory.items() == []
    assert [fact.code for fact in rig.facts() if isinstance(fact, MemoryRefused)] == ["memory.erased"]


def test_an_editor_whose_clock_is_behind_makes_nothing_older(rig: Rig) -> None:
    """A tombstone of a scope spares what was begun after it; hub and devices must agree on when that was."""
    rig.meet()
    document = theirs()
    late = AT - 10_000_000
    edit = document.edit(Edit(add_tags=["late"]), at=late, by="slow")
    assert edit is not None
    rig.come(record(1, document.changes()[0]), record(2, edit))
    mine_too, _ = mine(rig)
    rig.memory.edit(mine_too, Edit(add_tags=["late"]), at=late, by="slow")
    made = Tombstone("tmb_" + "b" * 24, "scope", "team/red", "", "", "", "", AT - 7_000_000, "mara", "asked")
    rig.come(Record(9, "", tombstone=seal_tombstone(made, HUB)))
    assert rig.facts() == [MemoryErased(tombstones=[made.id], items=0)]
    assert {item.id for item in rig.memory.items()} == {MEM, mine_too}


@pytest.mark.parametrize("bad", ["key", "scope"])
def test_a_tombstone_that_the_hub_did_not_sign_for_this_scope_is_noted_and_not_obeyed(rig: Rig, bad: str) -> None:
    rig.meet()
    rig.come(record(1, theirs().changes()[0]))
    rig.come(stone(key=OTHER) if bad == "key" else stone(scope="person"))
    (fact,) = rig.facts()
    assert isinstance(fact, MemoryRefused)
    assert fact.code == ("envelope.signature" if bad == "key" else "memory.tombstone")
    assert rig.memory.get(MEM).text == "no signs above the door"


def test_the_bodies_of_a_run_are_erased_outside(rig: Rig) -> None:
    rig.meet()
    run = stone("run", "person", item="", run="run_" + "e" * 24)
    rig.come(run, scope="person")
    assert [type(fact) for fact in rig.facts()] == [MemoryErased]
    assert rig.outside == ["run"]


def test_a_killed_erasure_without_a_tombstone_is_cleaned_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = mine(rig, "only on this device", scope="device")
    with monkeypatch.context() as killed:
        killed.setattr(Memory, "truncate", lambda self: None)
        rig.memory.erase([name])
    wal = rig.path.with_name(rig.path.name + "-wal")
    assert b"only on this device" in wal.read_bytes()
    assert rig.facts() == []
    assert b"only on this device" not in wal.read_bytes() + rig.path.read_bytes()


def test_a_wish_is_asked_until_it_is_answered(rig: Rig) -> None:
    rig.meet()
    wishes = [Wish(f"tmb_{digit * 24}", "item", "team/red", MEM, at=at) for at, digit in enumerate("123")]
    for wish in wishes:
        rig.memory.wish(wish)
    asked = rig.ask()
    assert isinstance(asked, Forget) and asked.id == wishes[0].id
    (told,) = rig.say(refusal(Refused("memory.role", "not yours", advice="ask a steward")))
    assert told.code == "memory.role"
    asked = rig.ask()
    assert isinstance(asked, Forget) and asked.id == wishes[1].id
    rig.say(refusal(Unavailable("store.busy", "busy", advice="wait")))
    asked = rig.ask()
    assert isinstance(asked, Forget) and asked.id == wishes[2].id
    rig.say(Forgotten(asked.id))
    assert isinstance(rig.ask(), Recall), "the tombstone is on its way"
    assert [wish.id for wish in rig.memory.wishes()] == [wishes[1].id]
