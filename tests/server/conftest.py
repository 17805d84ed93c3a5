"""A hub in a temporary home, with a clock that a test moves; and the same hub serving on a free port."""

from __future__ import annotations

import asyncio
import http.client
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from server import serving
from server.app import Hub, open_hub
from server.approvals import Approvals
from server.bus import Bus
from server.config import HubConfig
from server.devices import Devices
from server.ingest import Ingest, Record
from server.orders import Orders
from server.store import HubLog, Store, make_home
from tests.fakes import FakeDevice, Shelf
from tests.postgres import Postgres


class Clock:
    """Microseconds since 1970 UTC; a test steps it."""

    def __init__(self, now: int = 1_790_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def step(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


class Trust:
    """A root of trust, without a repository."""

    def root_bytes(self) -> bytes:
        return b'{"root": true}'

    def minimum(self) -> dict[str, int]:
        return {"timestamp": 1, "snapshot": 1, "targets": 1}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests of a process; each makes a database of its own."""
    with Postgres() as server:
        yield server


def new_database(server: Postgres) -> str:
    """The URL of an empty one."""
    name = f"hub_{secrets.token_hex(6)}"
    server.query(f"CREATE DATABASE {name}")
    return f"postgresql+pg8000://{server.user}:{server.password}@{server.host}:{server.port}/{name}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    make_home(folder, "City of Example", secrets.token_bytes)
    return folder


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(home)
    yield opened
    opened.close()


@pytest.fixture
def hublog(store: Store, clock: Clock) -> HubLog:
    return HubLog(store, clock=clock, random=secrets.token_bytes)


@dataclass
class Rooms:
    """The rooms behind the link, without a server."""

    hublog: HubLog
    bus: Bus
    devices: Devices
    ingest: Ingest
    record: Record
    approvals: Approvals
    orders: Orders
    clock: Clock

    def join(self, name: str = "front desk") -> FakeDevice:
        device = FakeDevice(self.clock, name)
        device.enrolled(self.devices.join(device.request(self.devices.issue_token("clara", 60))))
        return device

    def sync(self, device: FakeDevice) -> None:
        """Send all that the hub lacks."""
        held = self.ingest.frontier(device.id).size
        self.ingest.accept(device.id, device.batch(held))


@pytest.fixture
def rooms(hublog: HubLog, home: Path, clock: Clock) -> Rooms:
    bus = Bus()
    record = Record(hublog.store, clock)
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


@dataclass
class Serving:
    """A hub that serves, and how to ask it over HTTP."""

    hub: Hub
    address: str

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def join(self, name: str = "front desk") -> FakeDevice:
        device = FakeDevice(self.hub.hublog.clock, name)
        device.enrolled(self.hub.devices.join(device.request(self.hub.devices.issue_token("clara", 60))))
        return device


class Served:
    """Runs a hub's server in a thread with a loop of its own."""

    def __init__(self, hub: Hub) -> None:
        self._bound = serving.listen(hub.config)
        self._ready = threading.Event()
        self._server: uvicorn.Server = serving.make_server(hub, self._bound, lambda _: self._ready.set())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(60)
        self.serving = Serving(hub, hub.config.address(self._bound.getsockname()[1]))

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._bound]))

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        self._bound.close()
        assert not self._thread.is_alive()


@pytest.fixture
def open_home(home: Path) -> Iterator[Callable[[], Serving]]:
    """Opens and serves the hub of the test's home; again after ``close`` is a restart."""
    stack: list[Callable[[], None]] = []

    def close() -> None:
        while stack:
            stack.pop()()

    def begin() -> Serving:
        close()
        opening = open_hub(HubConfig(home=home, port=0, notice_jitter_ms=20))
        hub = opening.__enter__()
        stack.append(lambda: opening.__exit__(None, None, None))
        if not (home / "repository").exists():
            hub.releases.init_repository()
        served = Served(hub)
        stack.append(served.stop)
        return served.serving

    yield begin
    close()


@pytest.fixture
def serving_hub(open_home: Callable[[], Serving]) -> Serving:
    return open_home()
