"""Two agents and a hub as processes: the hub sends a model once, and the second device has it from the first."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_kit import Process, outrider

from edge_agent.models.catalogue import known
from edge_agent.models.store import ModelStore
from server.admin import Operator
from server.config import HubConfig
from tests.edge_agent.models.conftest import model_home as model_home  # the cache that all tests share
from tests.system.conftest import PATIENCE_S, City, Desk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

EMBEDDER = known("minilm-l6")  # 23 chunks
REST = 4_000_000  # more than a device gets from its hub beside models


class Meter(threading.Thread):
    """Counts what a hub sends to one desk: a relay behind its wire."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(daemon=True)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._hub, desk.wire._target = desk.wire._target, self._door.getsockname()
        self.received = 0
        self.start()

    def run(self) -> None:
        assert self._hub is not None
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._relay, args=(near, socket.create_connection(self._hub)), daemon=True).start()

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            while True:
                for one in select.select([near, far], [], [])[0]:
                    try:
                        data = one.recv(65536)
                        (far if one is near else near).sendall(data)
                    except OSError:
                        return
                    if not data:
                        return
                    self.received += len(data) if one is far else 0


class Town(City):
    """A hub, and desks whose traffic with it is counted."""

    def __init__(self, folder: Path) -> None:
        self._meters: list[Meter] = []
        super().__init__(folder, wires=2)

    def begin(self, name: str, env: dict[str, str]) -> tuple[Desk, Meter]:
        """A desk, joined and started with these settings."""
        desk = self.desk(name)
        self._meters.append(Meter(desk))
        desk.process = Process(name, self.folder / f"{name}.log", "agent", "run", "--home", str(desk.home), env=env)
        desk.start()
        return desk, self._meters[-1]

    def close(self) -> None:
        super().close()
        for meter in self._meters:
            meter.close()


@pytest.fixture
def town(tmp_path: Path, model_home: Path) -> Iterator[Town]:
    """Its release lists an embedder, and lets devices hand it to each other."""
    made = Town(tmp_path)
    try:
        home = ("--home", str(made.home))
        path = ModelStore(model_home).path_for(EMBEDDER.sha256)
        outrider("hub", "model", "add", str(path), "--name", EMBEDDER.name, *home)
        outrider("hub", "model", "use", EMBEDDER.name, *home)
        (made.home / "workspace" / "peers.yaml").write_text("models: true\n")
        made.publish()
        yield made
    finally:
        made.close()


def has_model(status: dict[str, Any]) -> bool:
    return bool(status["cosigned"] and status["model"] and not status["model"]["embedder"]["trouble"])


def known_to_hub(city: City, address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while address not in [device["peer"] for device in Operator(HubConfig(home=city.home)).devices()]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_hub_sends_a_model_once_and_the_second_device_has_it_from_the_first(town: Town) -> None:
    one, at_one = town.begin("one", {"OUTRIDER_PEER_LISTEN": "127.0.0.1:0"})
    status = one.until(lambda status: has_model(status) and status["peering"]["address"])
    assert EMBEDDER.size < at_one.received < EMBEDDER.size + REST
    known_to_hub(town, status["peering"]["address"])
    two, at_two = town.begin("two", {})
    assert two.until(has_model)["peering"] == {"on": False, "address": "", "sent_bytes": 0}
    assert at_two.received < REST
    one.until(lambda status: status["peering"]["sent_bytes"] == EMBEDDER.size)
    assert ModelStore(two.home).path_for(EMBEDDER.sha256).stat().st_size == EMBEDDER.size

    (town.home / "workspace" / "peers.yaml").unlink()
    town.publish()
    one.until(lambda status: status["release"] == 3 and not status["peering"]["address"])
    host, port = status["peering"]["address"].split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
