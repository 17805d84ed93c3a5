"""A team's document behind an open door, and clients: npm's own, and one that says whatever a test wants."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from server import web
from server.bus import Bus
from server.opendoor import PATH, Door, Doors, OpenDoor
from server.store import HubLog
from shared.memory import feed
from shared.memory.bench import Bench
from shared.memory.chunks import read_change
from shared.memory.document import Document, Edit
from shared.memory.feed import Change, Rejected
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


@dataclass
class Told:
    refused: list[Rejected]


class Shelf:
    """The memory that a door needs."""

    def __init__(self, bus: Bus, bench: Bench) -> None:
        self._bus = bus
        self._bench = bench
        self._items: dict[tuple[str, str], list[bytes]] = {}
        self._lock = threading.Lock()

    def put(self, item: Item) -> str:
        name = f"mem_{secrets.token_hex(12)}"
        made = Document.create(item, secrets.token_bytes(16), at=1_790_000_000_000_000, by="clara")
        self._items[item.scope, name] = made.changes()
        return name

    def chunks(self, scope: str, item: str) -> list[bytes]:
        return list(self._items.get((scope, item), ()))

    def role(self, scope: str, member: str) -> str:
        return {"user:clara": feed.STEWARD, "user:wim": feed.WRITER}.get(member, "")

    def push(self, scope: str, changes: Sequence[Change], *, by: str) -> Told:
        item = changes[0].item
        with self._lock:
            held = self._items[scope, item]
            verdict = self._bench.screened(item, b"".join(held), [feed.chunk_of(change) for change in changes])
            known = {read_change(chunk).hash for chunk in held}
            for change in changes:
                read = read_change(feed.chunk_of(change))
                if read.hash in verdict.taken and read.hash not in known:
                    held.append(read.raw)
        self._bus.publish("memory", {"scope": scope, "items": [item], "erased": []})
        return Told([Rejected(item, refusal.hash, refusal.code) for refusal in verdict.refused])

    def document(self, scope: str, item: str) -> Document:
        return Document.load(self.chunks(scope, item), secrets.token_bytes(16))

    def edit(self, scope: str, item: str, edit: Edit) -> None:
        """As a person does it on a page of the hub."""
        chunk = self.document(scope, item).edit(edit, at=1_790_000_000_000_000, by="clara")
        assert chunk is not None
        assert not self.push(scope, [feed.change(item, chunk)], by="hub").refused

    def erase(self, scope: str, item: str) -> None:
        del self._items[scope, item]
        self._bus.publish("memory", {"scope": scope, "items": [], "erased": [item]})


@dataclass
class Place:
    """A hub's open door, serving, with one document in it."""

    address: str
    memory: Shelf
    doors: Doors
    bus: Bus
    item: str

    @property
    def url(self) -> str:
        return names.document_url(self.item)

    def token(self, role: str = "writer", origins: Sequence[str] = (), seconds: int = 3600) -> tuple[str, Door]:
        return self.doors.issue(SCOPE, self.item, role=role, origins=origins, seconds=seconds, by="clara")

    def way_in(self, role: str = "writer", origins: Sequence[str] = ()) -> str:
        return f"ws://{self.address}{PATH}?token={self.token(role, origins)[0]}"

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
def memory(bus: Bus, bench: Bench) -> Shelf:
    return Shelf(bus, bench)


@pytest.fixture
def serve(hublog: HubLog, bus: Bus, memory: Shelf) -> Iterator[Callable[..., Place]]:
    """Serves a door; its bounds may be given."""
    stack: list[Callable[[], None]] = []

    def begin(*, log: str | None = None, **bounds: Any) -> Place:
        doors = Doors(hublog, bus, memory)
        door = OpenDoor(doors, memory, bus, name="hub", now=hublog.clock, **bounds)
        app = FastAPI()
        app.include_router(door.router())
        settings = uvicorn.Config(app, host="127.0.0.1", port=0, ws="websockets-sansio", log_config=None, log_level=log)
        server = uvicorn.Server(settings)
        bound = settings.bind_socket()
        port = bound.getsockname()[1]
        app.add_middleware(web.Gate, hosts=frozenset({f"127.0.0.1:{port}"}))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        end = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)

        def stop() -> None:
            bus.close()
            server.should_exit = True
            thread.join(30)
            bound.close()
            assert not thread.is_alive()

        stack.append(stop)
        return Place(f"127.0.0.1:{port}", memory, doors, bus, memory.put(RULES))

    yield begin
    while stack:
        stack.pop()()


@pytest.fixture
def place(serve: Callable[..., Place]) -> Place:
    return serve()


class Script:
    """A client in JavaScript."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            npm.script(Path(__file__).with_name("client.mjs"), folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, act: str, **given: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"act": act, **given}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


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
