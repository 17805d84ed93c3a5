"""A team's document behind an open door, and clients: npm's own, and one that says whatever a test wants."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import insert
from websockets.asyncio.client import ClientConnection, connect

from server import web
from server.bus import Bus
from server.doors import PATH, Door, Doors
from server.memory import Memory
from server.opendoor import OpenDoor
from server.store import HubLog
from server.store.tables import USERS
from shared.memory import feed
from shared.memory.bench import Bench
from shared.memory.chunks import read_change
from shared.memory.document import Document, Edit
from shared.memory.item import Item
from shared.memory.repo import cbor, names, sync
from shared.memory.repo.peer import History, Node, Peer
from tests import npm

SCOPE = "team/brand"
RULES = Item(
    kind="brand-rule",
    text="Write plainly.",
    source="style guide",
    scope=SCOPE,
    fields={"voice": "calm"},
    tags=["brand"],
)


class Shelf:
    """The hub's memory, in which clara is the team's steward and wim may write."""

    def __init__(self, hublog: HubLog, bus: Bus, bench: Bench) -> None:
        self.room = Memory(hublog, bus, bench)
        with hublog.store.write() as conn:
            rows = [{"name": name, "password": "", "roles": "[]", "added_at": 1} for name in ("clara", "wim")]
            conn.execute(insert(USERS), rows)
        self.room.grant(SCOPE, "user:clara", feed.STEWARD, "operator")
        self.room.grant(SCOPE, "user:wim", feed.WRITER, "operator")

    def put(self, item: Item) -> str:
        return self.room.items.create(item, item.scope, "clara")

    def document(self, scope: str, item: str) -> Document:
        return Document.load(self.room.chunks(scope, item), secrets.token_bytes(16))

    def edit(self, scope: str, item: str, edit: Edit) -> None:
        """As a person does it on a page of the hub."""
        assert self.room.items.edit(scope, item, edit, "clara")

    def erase(self, scope: str, item: str) -> None:
        self.room.erasure.item(scope, item, "clara", "asked")


@dataclass
class Place:
    """A hub's open door, serving, with one document in it."""

    address: str
    memory: Shelf
    doors: Doors
    bus: Bus
    item: str
    door: OpenDoor

    @property
    def url(self) -> str:
        return names.document_url(self.item)

    def token(self, role: str = "writer", origins: Sequence[str] = (), seconds: int = 3600) -> tuple[str, Door]:
        return self.doors.issue(SCOPE, self.item, role=role, origins=origins, seconds=seconds, by="clara")

    def way_in(self, role: str = "writer", origins: Sequence[str] = ()) -> str:
        return f"ws://{self.address}{PATH}?token={self.token(role, origins)[0]}"

    def connected(self) -> int:
        """How many clients are inside."""
        return len(self.door._connected)

    def says(self) -> Item:
        return self.memory.document(SCOPE, self.item).item()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture(scope="package")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def memory(hublog: HubLog, bus: Bus, bench: Bench) -> Shelf:
    return Shelf(hublog, bus, bench)


@pytest.fixture
def serve(hublog: HubLog, bus: Bus, memory: Shelf) -> Iterator[Callable[..., Place]]:
    """Serves a door; its bounds may be given."""
    stack: list[Callable[[], None]] = []

    def begin(*, log: str | None = None, **bounds: Any) -> Place:
        doors = Doors(hublog, bus, memory.room)
        door = OpenDoor(doors, memory.room, bus, name="hub", now=hublog.clock, **bounds)
        app = FastAPI()
        app.include_router(door.router())
        settings = uvicorn.Config(app, host="127.0.0.1", port=0, ws="websockets-sansio", log_config=None, log_level=log)
        server = uvicorn.Server(settings)
        bound = settings.bind_socket()
        port = bound.getsockname()[1]
        app.add_middleware(web.Gate, hosts=frozenset({f"127.0.0.1:{port}"}))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        end = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)

        def stop() -> None:
            bus.close()
            server.should_exit = True
            thread.join(60)
            door.close()
            bound.close()
            assert not thread.is_alive()

        stack.append(stop)
        return Place(f"127.0.0.1:{port}", memory, doors, bus, memory.put(RULES), door)

    yield begin
    while stack:
        stack.pop()()


@pytest.fixture
def place(serve: Callable[..., Place]) -> Place:
    return serve()


class Script(npm.Script):
    """A client in JavaScript."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Path(__file__).with_name("client.mjs"), folder)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[], Script]]:
    made: list[Script] = []

    def begin() -> Script:
        made.append(Script(tmp_path))
        return made[-1]

    yield begin
    for one in made:
        one.close()


class Raw:
    """A client that says anything."""

    made: ClassVar[list[Raw]] = []

    def __init__(self, socket: ClientConnection, url: str) -> None:
        self.made.append(self)
        self.socket = socket
        self.document = url.removeprefix(names.URL)
        self.history = History()
        self.peer = Peer(self.history)

    @classmethod
    async def open(cls, place: Place, way_in: str = "", **headers: str) -> Raw:
        socket = await connect(way_in or place.way_in(), max_size=None, additional_headers=headers, compression=None)
        return cls(socket, place.url)

    @classmethod
    async def close_all(cls) -> None:
        """Connections left to the garbage collector fail another test."""
        while cls.made:
            socket = cls.made.pop().socket
            socket.transport.resume_reading()
            await socket.close()

    async def send(self, value: Any) -> None:
        await self.socket.send(cbor.encode(value))

    async def receive(self) -> Any:
        data = await self.socket.recv()
        assert isinstance(data, bytes)
        return cbor.decode(data)

    async def join(self) -> Any:
        await self.send({"type": "join", "senderId": "raw", "supportedProtocolVersions": ["1"]})
        return await self.receive()

    async def sync(self, message: sync.Message, document: str = "") -> None:
        await self.say(sync.encode(message), document)

    async def say(self, data: bytes, document: str = "") -> None:
        said = {"type": "sync", "senderId": "raw", "targetId": "hub", "documentId": document or self.document}
        await self.send(said | {"data": data})

    async def settle(self) -> None:
        """Exchange until both have the same."""
        while True:
            said = self.peer.next()
            if said is not None:
                await self.sync(said)
            told = await self.receive()
            assert told["type"] == "sync", told
            heard = sync.parse(told["data"])
            for chunk in heard.changes:
                self.add(chunk)
            self.peer.received(heard)
            if heard.heads == self.history.heads:
                return

    def add(self, chunk: bytes) -> None:
        read = read_change(chunk)
        self.history.add(Node(read.hash, read.deps, read.raw))

    def document_here(self) -> Document:
        chunks = [self.history[hash_].chunk for hash_ in self.history.since(())]
        return Document.load(chunks, secrets.token_bytes(16))
