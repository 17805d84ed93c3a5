"""A real hub and real agents, as processes, on a release without models (rules only): started by the tests themselves."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "installers"))  # the demo's processes and its wire serve here too

from demo_kit import Books, Process, Wire, outrider  # noqa: E402 - the path above comes first

SAMPLES = ROOT / "server" / "starter" / "permits" / "samples"


class Desk:
    """One agent, behind a wire of its own."""

    def __init__(self, hub: City, home: Path, name: str) -> None:
        self.hub, self.home, self.name = hub, home, name
        self.wire = Wire()
        self.wire.lead_to(hub.address)
        self.books = Books(home / "register.sqlite3")
        self.process = Process(name, home.parent / f"{name}.log", "agent", "run", "--home", str(home))
        hub.allow(self.wire.port)

    def join(self) -> None:
        token = outrider("hub", "token", "--home", str(self.hub.home)).strip()
        outrider("agent", "join", self.wire.url, token, "--home", str(self.home), "--name", self.name)

    def start(self) -> None:
        self.process.start()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(outrider("agent", "status", "--home", str(self.home), "--json"))
        return found

    def until(self, ready: Callable[[dict[str, Any]], bool], seconds: float = 40) -> dict[str, Any]:
        """The status once it is as wanted."""
        deadline = time.monotonic() + seconds
        while True:
            self.process.check()
            status = self.status()
            if ready(status):
                return status
            assert time.monotonic() < deadline, f"still not so: {json.dumps(status, indent=1)}\n{self.process.tail(40)}"
            time.sleep(0.2)

    def problem(self, code: str, seconds: float = 40) -> dict[str, Any]:
        status = self.until(lambda s: any(p["code"] == code for p in s["problems"]), seconds)
        found: dict[str, Any] = next(p for p in status["problems"] if p["code"] == code)
        return found

    def drop(self, name: str, rows: list[str]) -> None:
        inbox = self.home / "inbox"
        inbox.mkdir(exist_ok=True)
        part = inbox / f".{name}"
        part.write_text("\n".join(["application_id,description,reported_cost", *rows]) + "\n", "utf-8")
        part.replace(inbox / name)

    def verify(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(outrider("audit", "verify", "--device", "--home", str(self.home), "--json"))
        return report


class City:
    """One hub."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "hub"
        init = ("hub", "init", "--home", str(self.home), "--starter", "permits", "--name", "Testville")
        outrider(*init, "--user", "mara", "--password-stdin", typed="a-long-password\n")
        (self.home / "workspace" / "models.json").write_text("[]\n")
        self._ports: list[int] = []
        self.desks: list[Desk] = []
        self.process = self._process(0)
        self.start()

    def _process(self, port: int) -> Process:
        hosts = json.dumps([f"127.0.0.1:{n}" for n in self._ports])
        words = ("hub", "run", "--home", str(self.home), "--port", str(port))
        return Process("hub", self.folder / "hub.log", *words, env={"OUTRIDER_HUB_HOSTS": hosts})

    def start(self) -> None:
        self.process.start()
        deadline = time.monotonic() + 30
        while "hub ready at" not in self.process.output():
            self.process.check()
            assert time.monotonic() < deadline, self.process.tail()
            time.sleep(0.05)
        self.address = self.process.output().split("hub ready at ")[1].split()[0]

    def allow(self, port: int) -> None:
        """The hub answers to names it was told only: tell it the wire's, and come back on the same port."""
        self._ports.append(port)
        self.again()

    def again(self, *, kill: bool = False) -> None:
        self.process.kill() if kill else self.process.stop()
        self.process = self._process(int(self.address.rsplit(":", 1)[1]))
        self.start()

    def publish(self) -> int:
        out = json.loads(outrider("hub", "release", "publish", "--home", str(self.home), "--json"))
        return int(out["release"])

    def desk(self, name: str) -> Desk:
        made = Desk(self, self.folder / name, name)
        self.desks.append(made)
        made.join()
        return made

    def clone(self, desk: Desk, name: str) -> Desk:
        """A copy of a device's whole folder, as a restored backup would be."""
        shutil.copytree(desk.home, self.folder / name)
        made = Desk(self, self.folder / name, name)
        made.wire = desk.wire
        self.desks.append(made)
        return made

    def close(self) -> None:
        for desk in self.desks:
            desk.process.stop()
            desk.wire.cut()
        self.process.stop()


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    try:
        yield made
    finally:
        made.close()
