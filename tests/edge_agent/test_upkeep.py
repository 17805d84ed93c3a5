"""Housekeeping on the real stores: what is over goes, sessions become items, and forgetting reaches what was said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.memory import Memory
from edge_agent.memory.replica import Replica
from edge_agent.sessions import Artefact, Sessions
from edge_agent.upkeep import EVERY_S, FIRST_S, Done, Upkeep, forget_in_sessions, tokens
from shared.entries import MemoryErased
from shared.errors import OutriderError, Unavailable
from shared.keys import SigningKey
from shared.memory import Item
from shared.memory.feed import Hold, Tombstone, subject_digest
from shared.memory.rules import MemoryRules, read_rules
from shared.protocol import Recall, Recalled
from tests.system.opened import Opened

DAY = 86_400_000_000
NOW = 1_795_000_000_000_000
RULES = read_rules(
    "memory: 1\nexpire: [{kinds: [note], after: 90d}]\nsessions: {summarise: 7d, expire: 30d}\n", "memory.yaml"
)
SALT = "5a" * 32


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.rules = RULES
        self.troubles: list[OutriderError] = []
        self.memory = Memory(folder / "memory.sqlite3")
        self.sessions = Sessions(folder / "sessions.sqlite3", count=tokens)
        self.upkeep = Upkeep(
            self.memory, self.sessions, lambda: self.rules, now=lambda: self.now, trouble=self.troubles.append
        )

    def note(self, text: str, scope: str = "device", *, age: int = 0, kind: str = "note", expires_at: int = 0) -> str:
        item = Item(kind, text, "test", scope=scope, expires_at=expires_at)
        return self.memory.write(item, at=NOW - age * DAY, by="mara")

    def said(self, session: str, text: str, *, scope: str = "device", age: int = 0, **more: object) -> None:
        at = NOW - age * DAY
        self.sessions.open(session, scope=scope, at=at)
        self.sessions.add(session, "user", text, at=at, **more)  # type: ignore[arg-type]  # what ``add`` takes

    def raw(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.sessions.close()
    made.memory.close()


def test_what_is_over_goes_here_and_what_is_shared_waits_for_the_hub(rig: Rig) -> None:
    rig.note("Quaggaold must go.", age=91)
    rig.note("Quaggaown has its own time.", kind="fact", expires_at=NOW)
    young, fact = rig.note("young", age=89), rig.note("a fact", kind="fact", age=400)
    shared = rig.note("shared", "person", age=91)
    soon = rig.note("shared, with its own time", "team/x", expires_at=NOW - 1)
    rig.memory.add([Item("note", "an import: nobody knows how old it is", "file", scope="device")])
    assert rig.upkeep.once() == Done(expired=2)
    left = {kept.id for kept in rig.memory.items()}
    assert left > {young, fact, shared, soon} and len(left) == 5
    assert b"Quagga" not in rig.raw()
    assert rig.upkeep.once() == Done()


def test_what_is_over_is_not_said_any_more_either(rig: Rig) -> None:
    id = rig.note("The code of the gate is Quagga.", age=91)
    rig.said("talk", "Quagga opens the gate.", artefacts=[Artefact("item", id, "ab" * 32)])
    rig.said("talk", "The weather is fine today.")
    assert rig.upkeep.once() == Done(expired=1)
    assert [turn.text for turn in rig.sessions.turns("talk")] == ["", "The weather is fine today."]
    assert b"Quagga" not in rig.raw()


def test_a_legal_hold_keeps_items_and_sessions(rig: Rig) -> None:
    held, other = rig.note("held", age=99), rig.note("other", age=99)
    rig.said("talk", "We decided that the wall stays.", age=40, artefacts=[Artefact("item", held, "ab" * 32)])
    rig.said("team", "We decided that the gate goes.", age=40, scope="team/x")
    rig.memory.put_hold(Hold("hld_" + "a" * 24, "device", held, True, NOW, "clara", "court"))
    rig.memory.put_hold(Hold("hld_" + "b" * 24, "team/x", "", True, NOW, "clara", "court"))
    assert rig.upkeep.once() == Done(expired=1, summarised=2)
    assert rig.memory.count() == 3 and other not in {kept.id for kept in rig.memory.items()}
    assert len(rig.sessions.newest()) == 2
    rig.memory.put_hold(Hold("hld_" + "a" * 24, "device", held, False, NOW, "clara", "court"))
    assert rig.upkeep.once() == Done(expired=1, ended=1)
    rig.memory.put_hold(Hold("hld_" + "b" * 24, "team/x", "", False, NOW, "clara", "court"))
    assert rig.upkeep.once() == Done(ended=1) and rig.sessions.newest() == []


def test_a_rested_session_becomes_items_once_and_then_goes(rig: Rig) -> None:
    rig.said("talk", "We decided that the roof is slate.", age=8, scope="person")
    rig.said("live", "We decided nothing yet.", age=6)
    assert rig.upkeep.once() == Done(summarised=1)
    (made,) = rig.memory.items()
    assert (made.kind, made.scope, made.source) == ("summary", "person", "session talk")
    assert rig.memory.get(made.id).valid_from == NOW - 8 * DAY
    assert rig.upkeep.once() == Done()
    rig.now += 23 * DAY
    assert rig.upkeep.once() == Done(summarised=1, ended=1)
    assert [one.id for one in rig.sessions.newest()] == ["live"]
    assert rig.memory.count() == 2


def test_a_cut_between_the_item_and_its_note_makes_no_second_item(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.said("talk", "We decided that the roof is slate.", age=8)

    def cut(*given: object) -> None:
        raise Unavailable("session.storage", "cut off", advice="x")

    with monkeypatch.context() as patched:
        patched.setattr(rig.sessions, "summarised", cut)
        with pytest.raises(Unavailable):
            rig.upkeep.once()
    assert rig.memory.count() == 1
    assert rig.upkeep.once() == Done(summarised=1)
    assert rig.memory.count() == 1


def test_a_scope_that_may_only_be_read_keeps_its_session_and_no_other(rig: Rig) -> None:
    rig.memory.set_feeds({"team/x": "reader"})
    rig.said("team", "We decided that the gate goes.", age=40, scope="team/x")
    rig.said("talk", "We decided that the roof is slate.", age=8)
    assert rig.upkeep.once() == Done(summarised=1)
    assert [error.code for error in rig.troubles] == ["memory.reader"]
    assert len(rig.sessions.newest()) == 2


def test_without_its_rules_nothing_ends(rig: Rig) -> None:
    rig.note("old", age=99)
    rig.said("talk", "We decided that the roof is slate.", age=40)

    def rules() -> MemoryRules:
        raise Unavailable("release.none", "it cannot be read", advice="x")

    upkeep = Upkeep(rig.memory, rig.sessions, rules, now=lambda: NOW, trouble=rig.troubles.append)
    with pytest.raises(Unavailable):
        upkeep.once()
    assert rig.memory.count() == 1 and len(rig.sessions.turns("talk")) == 1


async def test_it_comes_back_every_hour_whatever_goes_wrong(rig: Rig) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise asyncio.CancelledError
        if len(waited) == 2:
            rig.note("old", age=99)

    def rules() -> MemoryRules:
        if len(waited) == 1:
            raise Unavailable("release.none", "it cannot be read", advice="x")
        return RULES

    upkeep = Upkeep(rig.memory, rig.sessions, rules, now=lambda: NOW, trouble=rig.troubles.append, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await upkeep.run()
    assert waited == [FIRST_S, EVERY_S, EVERY_S]
    assert [error.code for error in rig.troubles] == ["release.none"] and rig.memory.count() == 0


# --- tombstones ---------------------------------------------------------------------------------------------------


def stone(kind: str, scope: str, **more: str) -> Tombstone:
    parts = {"item": "", "subject": "", "salt": "", "run": ""} | more
    return Tombstone(id="tmb_" + "0" * 24, kind=kind, scope=scope, at=NOW, by="eve", reason="asked", **parts)


def test_sessions_are_clean_before_the_receipt_is_made(rig: Rig) -> None:
    obeyed: list[str] = []

    def outside(one: Tombstone) -> None:
        forget_in_sessions(rig.sessions, rig.memory, one)
        obeyed.append(one.id)

    hub = SigningKey(b"h" * 32)
    replica = Replica(rig.memory, Opened(), hub.public, now=lambda: NOW, outside=outside)
    ada = rig.memory.write(
        Item("contact", "Quagga Byron, Mill Lane", "test", scope="person", subject="Ada"), at=NOW - 1, by="m"
    )
    rig.said("talk", "She lives in Quagga Lane.", artefacts=[Artefact("item", ada, "ab" * 32)])
    rig.said("talk", "Quagga calls at nine.", subject="ada")
    rig.said("team", "Ada calls the team at nine.", subject="ada", scope="team/x")
    rig.said("talk", "The weather is fine today.")
    asked = stone("subject", "person", subject=subject_digest("Ada", SALT), salt=SALT)
    rig.memory.take("person", [], [asked], 1, now=NOW)
    reader_holds_it = rig.sessions._wipe
    rig.sessions._wipe = _busy  # type: ignore[method-assign]  # somebody reads the file just now
    with pytest.raises(Unavailable):
        replica.report()
    assert obeyed == [] and [one.id for one in rig.memory.pending()] == [asked.id], "no receipt yet"
    rig.sessions._wipe = reader_holds_it  # type: ignore[method-assign]  # and now nobody
    report = replica.report()
    assert report is not None
    assert [draft.facts for draft in report.drafts] == [MemoryErased(tombstones=[asked.id], items=0)]
    assert b"Quagga" not in rig.raw()
    assert [bool(turn.text) for turn in rig.sessions.turns("talk")] == [False, False, True]
    assert rig.sessions.turns("team")[0].text, "a person's tombstone does not reach a team's session"


def _busy() -> None:
    raise Unavailable("session.busy", "read elsewhere", advice="x")


def test_a_scope_that_is_taken_away_takes_its_sessions_along(rig: Rig) -> None:
    hub = SigningKey(b"h" * 32)
    replica = Replica(
        rig.memory,
        Opened(),
        hub.public,
        now=lambda: NOW,
        outside=lambda one: None,
        dropped=lambda scope: _count(rig.sessions.erase_of(scope=scope)),
    )
    rig.said("team", "Quagga is the team's word.", scope="team/x")
    rig.said("talk", "The weather is fine today.")
    for roles in ({"person": "steward", "team/x": "writer"}, {"person": "steward"}):
        replica.news()
        assert isinstance(replica.next(), Recall)
        replica.answer(Recalled(dict(roles), "", [], 0, False))
    assert [one.id for one in rig.sessions.newest()] == ["talk"]
    assert b"Quagga" not in rig.raw()


def _count(gone: int) -> None:
    assert gone == 1


def test_tokens_are_counted_alike_and_not_too_few() -> None:
    assert [tokens(text) for text in ("", "a", "four", "ä" * 3, "\ud800")] == [0, 1, 2, 2, 1]


def test_a_summary_that_may_quote_what_is_forgotten_goes_too(rig: Rig) -> None:
    rig.memory.set_feeds({"person": "steward"})
    code, other = rig.note("The code is Quagga.", "person"), rig.note("The roof is slate.", "person")
    for name, text, item in (
        ("one", "We decided that Quagga opens it.", code),
        ("two", "We decided that the roof stays slate.", other),
    ):
        rig.said(name, text, scope="person", age=8, artefacts=[Artefact("item", item, "")])
    assert rig.upkeep.once() == Done(summarised=2)
    asked = stone("item", "person", item=code)
    rig.memory.take("person", [], [asked], 1, now=NOW)
    assert rig.memory.obey(asked) == 1
    forget_in_sessions(rig.sessions, rig.memory, asked)
    forget_in_sessions(rig.sessions, rig.memory, asked)
    rig.memory.truncate()
    assert sorted(kept.kind for kept in rig.memory.items()) == ["note", "summary"]
    assert b"Quagga" not in rig.raw()
    (wish,) = rig.memory.wishes()
    assert (wish.kind, wish.scope, wish.reason) == ("item", "person", "quoted")
