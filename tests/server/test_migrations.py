"""A hub's database as an earlier version of this software left it: it opens, says the same, and goes on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select

from server.approvals import Approvals
from server.bus import Bus
from server.config import HubConfig
from server.devices import Devices
from server.ingest import Ingest, Record
from server.orders import Orders
from server.store import HubLog, Store
from server.store.migrations import SCHEMA_VERSION, STEPS
from server.store.replay_tables import RECONCILED_TO
from server.store.tables import BODIES, DEVICES, ENTRIES, META
from shared import entries as e
from shared.entries import Draft
from shared.errors import Conflict, Unavailable
from shared.keys import SigningKey
from tests.fakes import FakeDevice, Shelf, decide
from tests.server.conftest import Clock, Rooms, Trust

# Made by the software whose schema was 1: one device, and runs that are done, asked about, in doubt and failed.
FIRST = Path(__file__).parents[1] / "vectors" / "hub-schema-1.sql"
IDENTITY = '{"name": "City of Example", "hub": "city-of-example/3a2e4d1c9a436209"}\n'
KEY = "69979eb2ef39395a9df1af22ec2c9d536d0e4c1f3da4879fe36e4e9816c2057d\n"
DEVICE = "d-55232540032fb642"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The home of a hub of schema 1."""
    home = tmp_path / "old"
    (home / "keys").mkdir(parents=True)
    (home / "hub.json").write_text(IDENTITY)
    (home / "keys" / "hub.key").write_text(KEY)
    with sqlite3.connect(home / "hub.db") as conn:
        conn.executescript(FIRST.read_text())
    conn.close()
    return home


def open_rooms(home: Path) -> Rooms:
    clock = Clock(1_790_000_100_000_000)
    hublog = HubLog(Store(home), clock=clock, random=lambda n: b"r" * n)
    bus, record = Bus(), Record(hublog.store, clock)
    return Rooms(
        hublog=hublog,
        bus=bus,
        devices=Devices(hublog, bus, HubConfig(home=home), Trust()),
        ingest=Ingest(hublog, bus),
        record=record,
        approvals=Approvals(hublog, bus, Shelf()),
        orders=Orders(hublog, bus, record.run, Shelf()),
        clock=clock,
    )


def the_device(rooms: Rooms) -> FakeDevice:
    """The device whose log the hub holds, with its keys."""
    device = FakeDevice(rooms.clock)
    device.log_key, device.hub_key = SigningKey(b"l" * 32), rooms.hublog.key.public
    device.id, device.hub, device.origin = DEVICE, rooms.hublog.hub, f"{rooms.hublog.hub}/device/{DEVICE}"
    with rooms.hublog.store.read() as conn:
        bodies = {
            row.seq: {"shared": e.Body(row.salt, row.data)}
            for row in conn.execute(select(BODIES).where(BODIES.c.device == DEVICE))
        }
        logged = select(ENTRIES.c.seq, ENTRIES.c.data).where(ENTRIES.c.device == DEVICE).order_by(ENTRIES.c.seq)
        device.written = [e.Written(e.read(data), data, bodies.get(seq, {})) for seq, data in conn.execute(logged)]
    return device


def columns(path: Path) -> dict[str, set[tuple[str, str, int, int]]]:
    """Name, type, NOT NULL and place in the key of every column of every table, and the indexes."""
    with sqlite3.connect(path) as conn:
        tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {
            table: {(row[1], row[2], row[3], row[5]) for row in conn.execute(f"PRAGMA table_info({table})")}
            for table in tables
        }
        named = conn.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        found["indexes"] = {(name, "", 0, 0) for (name,) in named}
    conn.close()
    return found


def test_an_old_database_has_every_table_column_and_index_of_a_new_one(first: Path, home: Path) -> None:
    Store(home).close()
    Store(first).close()
    assert columns(first / "hub.db") == columns(home / "hub.db")
    again = Store(first)
    with again.read() as conn:
        assert conn.execute(select(META.c.value).where(META.c.name == "schema")).scalar() == str(SCHEMA_VERSION)
    again.close()


def test_what_came_in_before_there_was_reconciliation_is_not_looked_through(first: Path) -> None:
    store = Store(first)
    with store.read() as conn:
        held = conn.execute(select(DEVICES.c.id, DEVICES.c.held)).all()
        marks = conn.execute(select(RECONCILED_TO.c.device, RECONCILED_TO.c.seq)).all()
    store.close()
    assert held and [tuple(row) for row in marks] == [tuple(row) for row in held]


def test_what_was_known_is_known_still(first: Path) -> None:
    rooms = open_rooms(first)
    assert {run.subject: (run.status, run.outcome, run.attention) for run in rooms.record.runs()} == {
        "PA-1": ("closed", "done", ""),
        "PA-2": ("closed", "done", ""),
        "PA-3": ("waiting", "", ""),
        "PA-4": ("waiting", "", ""),
        "PA-5": ("doubted", "", "doubt"),
        "PA-6": ("closed", "failed", "failed"),
    }
    used, sent, open_ = (rooms.approvals.get(name) for name in ("app_2", "app_3", "app_4"))
    assert [(said.by, said.answer, said.reason, said.place, said.applied) for said in used.answers] == [
        ("clara", "approve", "Looked at it.", "hub", True)
    ]
    assert (sent.state, sent.applied, [said.applied for said in sent.answers]) == ("answered", False, [False])
    assert (open_.state, open_.needed, open_.similar_s, open_.answers) == ("waiting", 1, 0, [])
    (need,) = rooms.record.needing("failed")[0].needs
    assert (need.code, need.words) == ("tool.full", ["The register is full.", "make room"])
    rooms.hublog.store.close()


def test_its_questions_are_answered_its_runs_ordered_and_its_device_goes_on(first: Path) -> None:
    rooms = open_rooms(first)
    device = the_device(rooms)
    rooms.approvals.decide("app_4", by="clara", roles=["clerk"], answer="approve")
    doubt = next(run for run in rooms.record.runs() if run.attention == "doubt")
    rooms.orders.give(doubt.id, "not-happened", "triage", by="clara", roles=["clerk"])
    by_purpose = [envelope.purpose for envelope in rooms.devices.outbox(DEVICE, 0)[0]]
    assert by_purpose == ["answer", "answer", "answer", "order"]
    _, old, new, order = rooms.devices.outbox(DEVICE, 0)[0]
    for envelope, subject in ((old, "PA-3"), (new, "PA-4")):
        said, action = device.take(envelope), decide(subject, "counter")
        device.judge(said.run, action, "ask", approved=True)
        device.finish(said.run, action, said.approval)
    device.obey(order)
    rooms.sync(device)
    assert rooms.approvals.get("app_3").applied and rooms.approvals.get("app_4").applied
    assert rooms.record.run(doubt.id).view.attention == ""
    device.add(Draft(e.EventReceived("mail", "00" * 32)))
    rooms.sync(device)
    assert rooms.devices.get(DEVICE).problem_code == ""
    rooms.hublog.store.close()


def test_a_step_that_fails_leaves_the_old_database_as_it_was(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = columns(first / "hub.db")
    monkeypatch.setitem(STEPS, 1, (*STEPS[1], "UPDATE nowhere SET nothing = 1"))
    with pytest.raises(Unavailable) as caught:
        Store(first)
    assert caught.value.code == "store.failed"
    assert columns(first / "hub.db") == before


def test_a_database_of_a_later_version_is_refused(first: Path) -> None:
    store = Store(first)
    with store.write() as conn:
        conn.execute(META.update().where(META.c.name == "schema").values(value=str(SCHEMA_VERSION + 1)))
    store.close()
    with pytest.raises(Conflict) as caught:
        Store(first)
    assert caught.value.code == "store.schema"
