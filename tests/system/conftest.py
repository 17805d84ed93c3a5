"""A real hub and real agents, as processes, on a release without models (rules only).

Processes do the work. Looking at them, and what a command only passes on (making a hub, publishing, joining), is done
in this process, because starting a command costs more than what it does. One hub serves all tests of a module, each
with desks of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import status
from edge_agent.config import Home
from edge_agent.link.enrol import join as enrol
from server.admin import Operator, init
from server.config import HubConfig
from tests.ports import Port

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "installers"))  # the demo's processes and its wire serve here too

from demo_kit import Books, Process, Wire, outrider  # noqa: E402 - the path above comes first

WIRES = 10  # made before the hub starts, which answers only to hosts it was told
PATIENCE_S = 90.0  # of a wait; only a test that fails uses it up


class Desk:
    """One agent, behind a wire of its own."""

    def __init__(self, hub: City, home: Path, name: str, wire: Wire) -> None:
        self.hub, self.home, self.name, self.wire = hub, home, name, wire
        self.books = Books(home / "register.sqlite3")
        self.process = Process(name, home.parent / f"{name}.log", "agent", "run", "--home", str(home))

    def join(self) -> None:
        enrol(Home(self.home), self.wire.url, self.hub.operator.token(3600), self.name)

    def start(self) -> None:
        self.process.start()

    def status(self) -> dict[str, Any]:
        """What ``outrider agent status --json`` prints, by the same function."""
        return status.status(Home(self.home))

    def until(self, ready: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The status once it is as wanted."""
        deadline = time.monotonic() + seconds
        while True:
            self.process.check()
            status = self.status()
            if ready(status):
                return status
            assert time.monotonic() < deadline, f"still not so: {json.dumps(status, indent=1)}\n{self.process.tail(40)}"
            time.sleep(0.1)

    def problem(self, code: str) -> dict[str, Any]:
        status = self.until(lambda s: any(p["code"] == code for p in s["problems"]))
        found: dict[str, Any] = next(p for p in status["problems"] if p["code"] == code)
        return found

    def drop(self, name: str, rows: list[str]) -> None:
        self.put(name, ("\n".join(["application_id,description,reported_cost", *rows]) + "\n").encode())

    def put(self, name: str, data: bytes) -> None:
        """A file into the inbox, whole at once; the agent may not have made the folder yet."""
        inbox = self.home / "inbox"
        inbox.mkdir(exist_ok=True)
        part = inbox / f".{name}"
        part.write_bytes(data)
        part.replace(inbox / name)

    def verify(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(outrider("audit", "verify", "--device", "--home", str(self.home), "--json"))
        return report


class City:
    """One hub with a first release, and wires for its desks. ``settings`` are further variables of its own."""

    def __init__(self, folder: Path, wires: int = WIRES, settings: dict[str, str] | None = None) -> None:
        self._settings = settings or {}
        self.folder, self.home = folder, folder / "hub"
        config = HubConfig(home=self.home)
        init(config, name="Testville", starter="permits", user="mara", password="a-long-password", random=os.urandom)
        self.operator = Operator(config)
        (self.home / "workspace" / "models.json").write_text("[]\n")
        self.publish()  # while no hub runs: it is the hub for a moment
        self._wires = [Wire() for _ in range(wires)]
        self._hosts = json.dumps([f"127.0.0.1:{wire.port}" for wire in self._wires])
        self._used: list[Wire] = []
        self._desks: list[Desk] = []
        self._port = Port()
        self.process = self._process()
        self.start()
        for wire in self._wires:
            wire.lead_to(self.address)

    def _process(self) -> Process:
        words = ("hub", "run", "--home", str(self.home), "--port", str(self._port.number))
        env = {"OUTRIDER_HUB_HOSTS": self._hosts, **self._settings}
        return Process("hub", self.folder / "hub.log", *words, env=env)

    def start(self) -> None:
        self.process.start()
        deadline = time.monotonic() + PATIENCE_S
        while "hub ready at" not in self.process.output():
            self.process.check()
            assert time.monotonic() < deadline, self.process.tail()
            time.sleep(0.05)
        self.address = self.process.output().split("hub ready at ")[1].split()[0]

    def kill_and_start(self) -> None:
        """kill -9, and back on the same port, where the wires lead."""
        self.process.kill()
        self.start()

    def publish(self, *, staged: bool = False) -> int:
        return int(self.operator.publish(staged=staged)["release"])

    def rollout(self, *words: str) -> dict[str, Any]:
        """What ``outrider hub rollout`` says."""
        out: dict[str, Any] = json.loads(outrider("hub", "rollout", *words, "--home", str(self.home), "--json"))
        return out

    def course(self) -> dict[str, Any]:
        """What ``outrider hub rollout show --json`` says."""
        return self.operator.rollout("show")

    def revoke(self, device: str) -> None:
        self.operator.revoke(device)

    def desk(self, name: str) -> Desk:
        """A new device, joined and not yet started."""
        assert self._wires, "a module's hub has as many wires as WIRES says"
        wire = self._wires.pop()
        self._used.append(wire)
        made = Desk(self, self.folder / name, name, wire)
        self._desks.append(made)
        made.join()
        return made

    def clone(self, desk: Desk, name: str) -> Desk:
        """A copy of a device's whole folder, as a restored backup would be."""
        shutil.copytree(desk.home, self.folder / name)
        made = Desk(self, self.folder / name, name, desk.wire)
        self._desks.append(made)
        return made

    def clear(self) -> None:
        """End every desk; the hub stays."""
        for desk in self._desks:
            desk.process.stop()
        for wire in self._used:
            wire.close()
        self._desks, self._used = [], []

    def close(self) -> None:
        self.clear()
        for wire in self._wires:
            wire.close()
        self.process.stop()
        self._port.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """One hub for a whole module; its tests leave it as they found it, but for devices of their own."""
    made = City(tmp_path_factory.mktemp("city"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def city(hub: City) -> Iterator[City]:
    """The module's hub; the test's desks are ended with it."""
    try:
        yield hub
    finally:
        hub.clear()


@pytest.fixture
def own_city(tmp_path: Path) -> Iterator[City]:
    """A hub for a test that spoils it."""
    made = City(tmp_path, wires=1)
    try:
        yield made
    finally:
        made.close()
