"""How long the fleet acts on after somebody has pressed the kill switch.

Run: ``python tests/benchmarks/kill_switch.py`` (a minute or two). ``--agents N`` (1,000), ``--rounds N``, ``--every-ms
N`` (how often each agent tries to act, 200), ``--json``; ``--small`` is the short mode.

A real hub in a process of its own; all agents in another, each with a connection, a handshake, a fold and a guard of
its own. In a round the fleet's switch is pressed while all of them act; the clock runs from the call that a click on
the safety page makes, so it has the entry in the hub's log, on the disk, and a signed message for each device in it. An
agent obeys when it has verified the hub's signature and its guard holds. *The last action* is the latest that any guard
let begin. Then the switch is let go, and all act again.

Here a thousand agents share one processor, on which their signatures are verified one after another; in the field each
has its own, and a network before it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from push import Side, made_home  # noqa: E402 - beside this script


class Round(NamedTuple):
    """Milliseconds from the press: when it was on the hub's disk, until agents obeyed, and until the last action."""

    on_disk: float
    p50: float
    p99: float
    most: float
    last_action: float
    acted: int


class Fleet(Side):
    """The hub and its agents."""

    def __init__(self, home: Path, key: str, every_ms: int) -> None:
        super().__init__([sys.executable, str(HERE / "_push_server.py"), "hub", str(home)], "hub")
        self._more = [key, str(every_ms)]
        self.acted = 0

    def connect(self, count: int) -> None:
        words = [sys.executable, str(HERE / "_light_agents.py"), self.address, str(count), *self._more]
        self.clients = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = json.loads(self._line(self.clients))
        self.count, self.connected_s = said["connected"], said["s"]

    def obeyed(self, version: int) -> dict[str, Any]:
        assert self.clients is not None and self.clients.stdin is not None
        self.clients.stdin.write(f"ROUND {version}\n")
        self.clients.stdin.flush()
        said: dict[str, Any] = json.loads(self._line(self.clients))
        return said

    def round(self) -> Round:
        pressed = self.tell("press")
        began = pressed["began"]
        said = self.obeyed(pressed["version"])
        took = sorted((since - began) / 1e6 for since in said["since"])
        acted = said["acted"] - self.acted
        self.acted = self.obeyed(self.tell("release")["version"])["acted"]
        last = (said["last"] - began) / 1e6
        return Round((pressed["done"] - began) / 1e6, took[len(took) // 2], took[len(took) * 99 // 100], took[-1],
                     last, acted)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--every-ms", type=int, default=200)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    agents, rounds = (100, 2) if given.small else (given.agents, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(*made_home(Path(folder), agents), given.every_ms)
        try:
            fleet.connect(agents)
            found = [fleet.round() for _ in range(rounds + 1)][1:]  # the first warms up
        finally:
            fleet.close()
    if given.json:
        print(json.dumps({"agents": agents, "rounds": [one._asdict() for one in found]}))
        return
    print(f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {agents:,} agents, each"
          f" tries to act every {given.every_ms} ms; {rounds} rounds\n")  # fmt: skip
    print("| ms after the press | median of the rounds | worst round |\n|---|---|---|")
    for name, words in (
        ("on_disk", "on the hub's disk, and told to its bus"),
        ("p50", "half of the agents obey"),
        ("p99", "99 in 100 obey"),
        ("most", "all obey"),
        ("last_action", "the last action began"),
    ):
        values = [getattr(one, name) for one in found]
        print(f"| {words} | {statistics.median(values):.0f} | {max(values):.0f} |")


if __name__ == "__main__":
    main()
