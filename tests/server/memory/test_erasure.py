"""Forgetting at the hub: no byte is left in its files, nothing comes back, holds hold, and devices confirm."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sqlalchemy import select

from server.memory import Memory
from server.memory.items import Asked
from server.store import Store
from server.store.memory_tables import (
    MEMORY_INDEXED,
    MEMORY_TOMBSTONES,
    MEMORY_VECTORS,
    MEMORY_WORDS,
)
from shared import entries as e
from shared.entries import Draft
from shared.errors import BadInput, Conflict, Refused
from shared.memory.bench import Bench
from shared.memory.document import Document
from shared.memory.feed import Tombstone, open_hold, open_tombstone, subject_digest
from shared.memory.item import Edit
from shared.memory.rules import read_rules
from shared.protocol import Forget, Forgotten
from tests.server.memory.conftest import Room, Writer

REASON = "asked"


def tmb() -> str:
    return f"tmb_{secrets.token_hex(12)}"


def ask(
    kind: str, scope: str = "person", *, item: str = "", subject: str = "", run: str = "", name: str = ""
) -> Forget:
    salt = secrets.token_hex(32) if subject else ""
    digest = subject_digest(subject, salt) if subject else ""
    return Forget(name or tmb(), kind, scope, item, digest, salt, run, REASON)


def left(room: Room, *needles: str) -> list[str]:
    """Which of these texts stand in any file or table of the database still."""
    if room.store.url.startswith("sqlite"):
        raw = b"".join(path.read_bytes() for path in sorted(room.store.home.glob("hub.db*")))
        return [needle for needle in needles if needle.encode() in raw]
    with room.store.read() as conn:
        found = []
        for table in (
            "memory_records",
            "memory_items",
            "memory_vectors",
            "memory_words",
            "bodies",
            "hub_bodies",
            "outbox",
        ):
            rows = conn.exec_driver_sql(f"SELECT * FROM {table}").all()
            found += [repr(row) + repr([bytes(v) for v in row if isinstance(v, bytes | memoryview)]) for row in rows]
    whole = "\n".join(found)
    return [needle for needle in needles if needle in whole]


def stones(room: Room, writer: Writer, *scopes: str) -> list[Tombstone]:
    got = [record for answer in room.pull(writer, *scopes) for record in answer.records]
    return [open_tombstone(r.tombstone, room.hublog.key.public) for r in got if r.tombstone is not None]


def test_an_item_is_gone_and_stays_gone(room: Room) -> None:
    laptop, phone = room.join("laptop", "mara"), room.join("phone", "mara")
    name, other = laptop.note("SECRETONE" * 40), laptop.note("KEPTONE" * 40)
    laptop.edit(name, Edit(text="SECRETTWO" * 30, fields={"lane": "SECRETFIELD"}))
    room.store_all(laptop, name, other)
    asked = ask("item", item=name)
    assert room.memory.forget(laptop.id, asked) == Forgotten(asked.id)
    assert room.memory.forget(laptop.id, asked) == Forgotten(asked.id)
    assert [t.state for t in room.memory.tombstones()] == ["pending"]
    assert room.memory.finish() == 1 and room.memory.finish() == 0
    assert left(room, "SECRETONE", "SECRETTWO", "SECRETFIELD", "KEPTONE") == ["KEPTONE"]
    (stone,) = stones(room, phone)
    assert (stone.id, stone.kind, stone.scope, stone.item, stone.by) == (asked.id, "item", "person", name, "mara")
    assert {record.item for answer in room.pull(phone) for record in answer.records} == set()
    late = room.push(laptop, name)
    assert {one.code for one in late.refused} == {"memory.erased"} and late.stored == []
    assert [view.item for view in room.memory.items.list()] == [other]
    assert room.memory.tombstones()[0].state == "done"


def test_one_that_never_came_is_refused_when_it_does(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("Never sent.")
    room.memory.forget(laptop.id, ask("item", item=name))
    assert [one.code for one in room.push(laptop, name).refused] == ["memory.erased"]


def test_everything_about_somebody(room: Room) -> None:
    laptop, other = room.join("laptop", "mara"), room.join("other", "otto")
    room.memory.grant("team/permits", "user:mara", "writer", "clara")
    about = [laptop.note(f"ANNA{n}SECRET", subject="Anna  Müller") for n in range(3)]
    team = laptop.note("ANNATEAMSECRET", "team/permits", subject="anna müller")
    keep = laptop.note("About Bert.", subject="Bert")
    room.store_all(laptop, *about, keep)
    room.store_all(laptop, team, scope="team/permits")
    unsent = laptop.note("ANNA UNSENT", subject="ANNA MÜLLER")
    name = room.memory.erasure.subject("Anna Müller", "clara")
    room.memory.finish()
    assert left(room, "ANNA0SECRET", "ANNA2SECRET", "ANNATEAMSECRET", "Müller") == []
    assert [view.item for view in room.memory.items.list()] == [keep]
    for writer, scopes in ((laptop, ("person", "team/permits")), (other, ("person",)), (room.join("new", "zoe"), ())):
        for stone in stones(room, writer, *scopes):
            assert stone.id == name and stone.scope == "" and "ller" not in repr(stone)
            assert subject_digest("anna MÜLLER", stone.salt) == stone.subject
    assert [one.code for one in room.push(laptop, unsent).refused] == ["memory.erased"]
    room.store_all(laptop, laptop.note("A new Anna.", subject="Anna Müller"))
    (view,) = room.memory.tombstones()
    assert view.items == 4 and {party.name for party in view.parties} == {"laptop", "other"}


def test_a_feed_that_begins_later_begins_with_what_was_forgotten_everywhere(room: Room) -> None:
    room.memory.erasure.subject("Anna", "clara")
    assert len(stones(room, room.join("first"))) == 1
    late = room.join("late")
    old = late.note("Before.", subject="anna", at=1_000_000)
    assert [one.code for one in room.push(late, old).refused] == ["memory.erased"]
    name = late.note("Mine.")
    room.store_all(late, name)
    answers = room.pull(late)
    assert [(r.seq, r.item, r.tombstone is not None) for a in answers for r in a.records] == [
        (1, "", True),
        (2, name, False),
    ]


def test_a_tombstone_is_not_older_than_what_it_erases(room: Room) -> None:
    """A device whose clock is ahead is not spared."""
    laptop = room.join("laptop", "mara")
    ahead = room.clock() + 3_600_000_000
    room.store_all(laptop, laptop.note("Ahead.", subject="Anna", at=ahead))
    laptop.chunks.clear()
    room.memory.erasure.subject("Anna", "clara")
    (stone,) = stones(room, laptop)[-1:]
    assert stone.at == ahead


def test_a_whole_scope(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    room.memory.grant("team/permits", "user:mara", "steward", "clara")
    names = [laptop.note(f"TEAMSECRET{n}", "team/permits") for n in range(4)]
    room.store_all(laptop, *names, scope="team/permits")
    unsent = laptop.note("unsent", "team/permits")
    room.memory.forget(laptop.id, ask("scope", "team/permits"))
    room.memory.finish()
    assert left(room, "TEAMSECRET") == []
    late = room.push(laptop, *names, unsent, scope="team/permits")
    assert {one.code for one in late.refused} == {"memory.erased"}
    room.store_all(laptop, laptop.note("A new start.", "team/permits"), scope="team/permits")
    (view,) = room.memory.access.scopes()[1:] or room.memory.access.scopes()
    assert (view.items, view.scope) == (1, "team/permits") and view.size < 1000


def test_who_may_forget_what(room: Room) -> None:
    writer, reader, stranger = room.join("w", "mara"), room.join("r", "otto"), room.join("s", "zoe")
    team = "team/permits"
    room.memory.grant(team, "user:mara", "writer", "clara")
    room.memory.grant(team, "user:otto", "reader", "clara")
    name = writer.note("x", team)
    room.store_all(writer, name, scope=team)
    for who, asked, code in (
        (reader, ask("item", team, item=name), "memory.role"),
        (writer, ask("scope", team), "memory.role"),
        (writer, ask("subject", team, subject="Anna"), "memory.role"),
        (writer, ask("run", team, run="run_" + "0" * 24), "memory.role"),
        (stranger, ask("item", team, item=name), "memory.scope"),
        (stranger, ask("subject", "", subject="Anna"), "memory.scope"),
    ):
        with pytest.raises(Refused) as caught:
            room.memory.forget(who.id, asked)
        assert caught.value.code == code
    with pytest.raises(BadInput) as odd:
        room.memory.forget(writer.id, ask("item", team, item="mem_x"))
    assert odd.value.code == "memory.tombstone"
    assert room.memory.tombstones() == []
    room.memory.forget(writer.id, ask("item", team, item=name))
    room.memory.forget(stranger.id, ask("scope", "person"))
    assert len(room.memory.tombstones()) == 2


# --- holds and expiry ---------------------------------------------------------------------------------------------


def test_what_is_held_is_neither_erased_nor_expires(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    soon = room.clock() + 10_000_000
    held, other = laptop.note("HELD", expires_at=soon), laptop.note("OTHER", expires_at=soon)
    room.store_all(laptop, held, other)
    hold = room.memory.holds.hold("person/mara", held, "clara", "court")
    for asked in (ask("item", item=held), ask("scope")):
        with pytest.raises(Refused) as caught:
            room.memory.forget(laptop.id, asked)
        assert caught.value.code == "memory.held"
    room.clock.step(20)
    assert room.memory.expire() == 1 and room.memory.expire() == 0
    assert [(view.item, view.held) for view in room.memory.items.list(Asked(expired=True))] == [(held, True)]
    assert [stone.reason for stone in stones(room, laptop)] == ["expired"]
    room.memory.holds.lift(hold, "clara")
    assert room.memory.expire() == 1
    with pytest.raises(Conflict) as caught2:
        room.memory.holds.lift(hold, "clara")
    assert caught2.value.code == "memory.unheld"
    said = [open_hold(m, room.hublog.key.public) for m in room.devices.outbox(laptop.id, 0)[0]]
    assert [(one.id, one.item, one.scope, one.held) for one in said] == [
        (hold, held, "person", True),
        (hold, held, "person", False),
    ]
    types = [e.read(data).type for _, data in room.hublog.entries()]
    assert [name for name in types if name.startswith("memory.")] == [
        "memory.granted", "memory.held", "memory.tombstoned", "memory.unheld", "memory.tombstoned",
    ]  # fmt: skip


DAY = 86_400_000_000


def test_items_expire_by_the_rules_of_the_release(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    team = "team/permits"
    room.memory.grant(team, "user:mara", "writer", "clara")
    now = room.clock()
    old, held, young = (laptop.note(text, at=now - age * DAY) for text, age in (("OLD", 91), ("HELD", 99), ("NEW", 89)))
    import_, own = laptop.note("UNDATED", at=0), laptop.note("OWN", at=now - DAY, expires_at=now - 1)
    shared = laptop.note("TEAM", team, at=now - 91 * DAY)
    laptop.chunks[import_] = Document.imported(laptop.item(import_), laptop.actor).changes()
    room.store_all(laptop, old, held, young, import_, own)
    room.store_all(laptop, shared, scope=team)
    room.memory.holds.hold("person/mara", held, "clara", "court")
    rules = read_rules("memory: 1\nexpire:\n  - {kinds: [note], scopes: [person], after: 90d}\n", "memory.yaml")
    assert room.memory.expire(rules) == 2 and room.memory.expire(rules) == 0
    left = {view.item for view in room.memory.items.list(Asked(expired=True))}
    assert left == {held, young, import_, shared}
    facts = read_rules("memory: 1\nexpire: [{kinds: [fact], after: 1h}]\n", "memory.yaml")
    assert room.memory.expire(facts) == room.memory.expire() == 0
    anywhere = read_rules("memory: 1\nexpire: [{scopes: ['team/*'], after: 90d}]\n", "memory.yaml")
    assert room.memory.expire(anywhere) == 1


def test_a_held_scope_is_held_whole_and_new_members_hear_of_it(room: Room) -> None:
    laptop, phone = room.join("laptop", "mara"), room.join("phone", "otto")
    team = "team/permits"
    room.memory.grant(team, "user:mara", "steward", "clara")
    room.memory.holds.hold(team, "", "clara", "court")
    name = laptop.note("x", team)
    room.store_all(laptop, name, scope=team)
    with pytest.raises(Refused):
        room.memory.forget(laptop.id, ask("item", team, item=name))
    room.memory.grant(team, "user:otto", "reader", "clara")
    assert [m.purpose for m in room.devices.outbox(phone.id, 0)[0]] == ["hold"]
    assert [view.held for view in room.memory.access.scopes() if view.scope == team] == [True]


# --- receipts -----------------------------------------------------------------------------------------------------


def test_devices_confirm_in_their_logs(room: Room) -> None:
    laptop, phone = room.join("laptop", "mara"), room.join("phone", "mara")
    name = laptop.note("x")
    room.store_all(laptop, name)
    asked = ask("item", item=name)
    room.memory.forget(laptop.id, asked)
    phone.device.add(Draft(e.MemoryErased([asked.id, "tmb_" + "f" * 24], 1)))
    phone.device.add(Draft(e.MemoryErased([asked.id], 0)))
    room.ingest.accept(phone.id, phone.device.batch())
    (view,) = room.memory.tombstones([asked.id])
    assert {party.name: (party.at > 0, party.seq) for party in view.parties} == {
        "laptop": (False, -1),
        "phone": (True, phone.device.size - 2),
    }
    assert view.waiting == 1
    room.devices.revoke(laptop.id, "clara")
    assert room.memory.tombstones([asked.id])[0].waiting == 0


def test_a_device_that_left_the_scope_is_not_waited_for(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    team = "team/permits"
    room.memory.grant(team, "user:mara", "writer", "clara")
    room.memory.erasure.scope(team, "clara")
    assert room.memory.tombstones()[0].waiting == 1
    room.memory.revoke(team, "user:mara", "clara")
    (view,) = room.memory.tombstones()
    assert view.waiting == 0 and [(party.device, party.state) for party in view.parties] == [(laptop.id, "left")]


# --- runs ---------------------------------------------------------------------------------------------------------


def test_the_bodies_of_a_run_go_and_the_logs_still_verify(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    run = laptop.device.open("SUBJECTSECRET")
    action = laptop.device.plan(run, "SUBJECTSECRET", confidence=950)
    laptop.device.judge(run, action, "allow")
    room.ingest.accept(laptop.id, laptop.device.batch())
    held = room.ingest.frontier(laptop.id).size
    with pytest.raises(Conflict) as caught:
        room.memory.forget(laptop.id, ask("run", run=run))
    assert caught.value.code == "memory.run-open"
    laptop.device.finish(run, action)
    room.ingest.accept(laptop.id, laptop.device.batch(held))
    with pytest.raises(BadInput) as unknown:
        room.memory.forget(laptop.id, ask("run", run="run_" + "0" * 24))
    assert unknown.value.code == "memory.unknown-run"
    room.memory.forget(laptop.id, ask("run", run=run))
    room.memory.finish()
    assert left(room, "SUBJECTSECRET") == []
    (stone,) = stones(room, laptop)
    assert (stone.kind, stone.run) == ("run", run)
    assert room.ingest.frontier(laptop.id).root() == laptop.device.frontier().root()


def test_what_a_run_says_after_it_was_forgotten_is_not_kept(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    run = laptop.device.failed("LATESECRET")
    room.ingest.accept(laptop.id, laptop.device.batch())
    room.memory.forget(laptop.id, ask("run", run=run))
    held = room.ingest.frontier(laptop.id).size
    body = {"shared": {"message": "LATEBODY", "advice": ""}}
    laptop.device.add(Draft(e.RunOrdered("dismiss", "ord_1", "", "mara", "local"), run=run, bodies=body))
    room.ingest.accept(laptop.id, laptop.device.batch(held))
    room.memory.finish()
    assert left(room, "LATESECRET", "LATEBODY") == []


# --- everything else ----------------------------------------------------------------------------------------------


def test_words_and_vectors_go_in_the_same_commit(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("x")
    room.store_all(laptop, name)
    at = {"scope": "person/mara", "item": name}
    with room.store.write() as conn:
        conn.execute(MEMORY_VECTORS.insert(), [at | {"model": "m", "scale": 1, "data": b"1"}])
        conn.execute(MEMORY_WORDS.insert(), [at | {"word": "w", "times": 1}])
        conn.execute(MEMORY_INDEXED.insert(), [at | {"seq": 1, "length": 1}])
    room.memory.erasure.item("person/mara", name, "clara")
    with room.store.read() as conn:
        for table in (MEMORY_VECTORS, MEMORY_WORDS, MEMORY_INDEXED):
            assert conn.execute(select(table)).first() is None


def test_many_erasures_leave_nothing_in_the_files(room: Room) -> None:
    """Enough rows that pages are split and freed: where deleting alone was measured to leave copies."""
    laptop = room.join("laptop", "mara")
    names = {f"NEEDLE{n:04d}END": laptop.note(f"NEEDLE{n:04d}END " * (n % 37 + 1)) for n in range(120)}
    for part in range(0, 120, 40):
        room.store_all(laptop, *list(names.values())[part : part + 40])
    gone = list(names)[::3]
    for needle in gone:
        room.memory.erasure.item("person/mara", names[needle], "clara")
    assert room.memory.finish() == len(gone)
    assert left(room, *gone) == []
    assert len(left(room, *names)) == len(names) - len(gone)


KILLED = """
import os, signal, secrets, sys
from pathlib import Path
from server.bus import Bus
from server.memory import Memory
from server.memory.items import Asked
from server.store import HubLog, Store
import time
store = Store(Path(sys.argv[1]))
log = HubLog(store, clock=lambda: time.time_ns() // 1000, random=secrets.token_bytes)
memory = Memory(log, Bus())
if sys.argv[3] == "before":
    store.scrub = lambda: os.kill(os.getpid(), signal.SIGKILL)
else:
    whole = store.scrub
    store.scrub = lambda: (whole(), os.kill(os.getpid(), signal.SIGKILL))
memory.erasure.item("person/mara", sys.argv[2], "clara")
memory.finish()
"""


@pytest.mark.parametrize("room", ["sqlite"], indirect=True)  # PostgreSQL's files are its own
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hub_that_is_killed_in_between_finishes_when_it_starts_again(room: Room, bench: Bench, when: str) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("KILLEDSECRET" * 50)
    room.store_all(laptop, name)
    room.store.close()
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), room.store.home, name, when], timeout=300)
    assert done.returncode == -signal.SIGKILL
    store = Store(Path(room.store.home))
    try:
        with store.read() as conn:
            assert conn.execute(select(MEMORY_TOMBSTONES.c.state)).scalars().all() == ["pending"]
        again = Memory(type(room.hublog)(store, clock=room.clock, random=os.urandom), room.bus, bench)
        assert again.finish() == 1
    finally:
        store.close()
    assert left(room, "KILLEDSECRET") == []
