"""A hub's memory on SQLite and on a real PostgreSQL, judged by a real worker process, and devices that write to it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.bus import Bus
from server.config import HubConfig
from server.devices import Devices
from server.ingest import Ingest
from server.memory import Memory
from server.store import HubLog, Store, make_home
from shared.memory import Item
from shared.memory.bench import Bench
from shared.memory.document import Document
from shared.memory.feed import Change, change, change_hash
from shared.memory.item import Edit, new_id
from shared.protocol import Recall, Recalled, Remember, Remembered
from tests.fakes import FakeDevice
from tests.server.conftest import Clock, Trust, new_database


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """One worker process for all tests."""
    made = Bench(idle_s=300)
    yield made
    made.close()


@dataclass
class Writer:
    """A device of somebody's: a log, and an actor that writes documents."""

    device: FakeDevice
    clock: Clock
    actor: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    chunks: dict[str, list[bytes]] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.device.id

    def note(self, text: str, scope: str = "person", *, subject: str = "", expires_at: int = 0, at: int = 0) -> str:
        item = Item("note", text, "test", scope=scope, subject=subject, expires_at=expires_at)
        made = Document.create(item, self.actor, at=at or self.clock(), by=self.id)
        name = new_id(secrets.token_bytes)
        self.chunks[name] = made.changes()
        return name

    def edit(self, name: str, edit: Edit) -> bytes:
        document = Document.load(self.chunks[name], self.actor)
        chunk = document.edit(edit, at=self.clock(), by=self.id)
        assert chunk is not None
        self.chunks[name].append(chunk)
        return chunk

    def all(self, *names: str) -> list[Change]:
        return [change(name, chunk) for name in names for chunk in self.chunks[name]]

    def item(self, name: str) -> Item:
        return Document.load(self.chunks[name]).item()


@dataclass
class Room:
    """The hub's memory and what it stands on."""

    store: Store
    hublog: HubLog
    bus: Bus
    devices: Devices
    ingest: Ingest
    memory: Memory
    clock: Clock

    def join(self, name: str, person: str = "") -> Writer:
        device = FakeDevice(self.clock, name)
        device.enrolled(self.devices.join(device.request(self.devices.issue_token("clara", 60))))
        if person:
            self.memory.own(device.id, person, "clara")
        return Writer(device, self.clock)

    def push(self, writer: Writer, *names: str, scope: str = "person") -> Remembered:
        return self.memory.remember(writer.id, Remember(scope, writer.all(*names)))

    def store_all(self, writer: Writer, *names: str, scope: str = "person") -> None:
        done = self.push(writer, *names, scope=scope)
        assert done.refused == []
        assert sorted(done.stored) == sorted(change_hash(chunk) for name in names for chunk in writer.chunks[name])

    def pull(self, writer: Writer, *scopes: str) -> list[Recalled]:
        """Everything beyond the writer's cursors, taken into its documents."""
        answers = []
        while True:
            cursors = {scope: writer.cursors.get(scope, 0) for scope in scopes or ("person",)}
            answer = self.memory.recall(writer.id, Recall(cursors))
            answers.append(answer)
            if answer.scope:
                writer.cursors[answer.scope] = answer.cursor
            if not answer.more:
                return answers


@pytest.fixture(params=["sqlite", "postgresql"])
def room(request: pytest.FixtureRequest, tmp_path: Path, bench: Bench) -> Iterator[Room]:
    home = tmp_path / "hub"
    make_home(home, "City of Example", secrets.token_bytes)
    url = None
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("postgres"))
    store = Store(home, url)
    clock = Clock()
    hublog = HubLog(store, clock=clock, random=secrets.token_bytes)
    bus = Bus()
    yield Room(
        store=store,
        hublog=hublog,
        bus=bus,
        devices=Devices(hublog, bus, HubConfig(home=home), Trust()),
        ingest=Ingest(hublog, bus),
        memory=Memory(hublog, bus, bench),
        clock=clock,
    )
    store.close()
