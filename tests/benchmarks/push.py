"""How fast a notice is at every connected agent, and what it costs the hub, beside the bare ``websockets`` library and
beside OPAL.

Run: ``python tests/benchmarks/push.py`` (some minutes; the first time it installs OPAL into an environment of its own
under ``~/.cache/outrider/bench``). ``--agents N`` may be repeated, default 1,000 and 10,000; ``--rounds N``;
``--json``; ``--small`` is the short mode: 200 agents, three rounds, no OPAL. A process has an open file for each agent;
the bound is raised as far as the system lets it.

Every server is a process of its own with all its clients in another, both on local sockets. Hub and bare library are
connected at the same time and told in turn, A B A B: the same bytes, the same client program. A latency is from the
moment the server is told until the client's process has read the bytes, p99 over the clients of one round; the figure
is the median over the rounds, a ratio the median of the ratios of neighbouring rounds. In the hub that begins with the
event on its bus, as when a release was published, in another thread than its loop. The clients of the hub have gone
through the link's whole handshake and do not pull: what pulls cost is not measured here.

CPU is that of the server process for one message to one client, from ``/proc``. OPAL's server is asked for a data
update over its HTTP, and notifies as many clients as there are in the smallest round; each says that it has heard, as
OPAL's own do. Memory is what the server's process has grown by for each connection, without a pull.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import resource
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from _push_clients import device, link_key  # noqa: E402 - beside this script
from sqlalchemy import insert  # noqa: E402

from server.app import open_hub  # noqa: E402 - found only now
from server.config import HubConfig  # noqa: E402
from server.store import make_home  # noqa: E402
from server.store.tables import DEVICES, DeviceRow  # noqa: E402
from shared.protocol import Notice, encode  # noqa: E402

CACHE = Path("~/.cache/outrider/bench").expanduser()
# What pip found for OPAL's server after half an hour of trying, and aiofiles, which it does not ask for.
OPAL = HERE / "_opal.txt"
OPAL_CLIENTS = 1000
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
AIM_RATIO, AIM_MS, AIM_CPU, AIM_KB = 1.3, 1000.0, 0.1, 40.0


class Side:
    """A server process, the process of its clients, and what both say."""

    def __init__(self, words: list[str], kind: str, env: dict[str, str] | None = None, address: str = "") -> None:
        self.server = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if kind == "opal" else None,
            text=True,
            env=os.environ | (env or {}),
        )
        self._kind = kind
        self.address = address or self._line(self.server)
        self.clients: subprocess.Popen[str] | None = None
        self.count = 0
        self.connected_s = 0.0

    def connect(self, count: int) -> None:
        words = [sys.executable, str(HERE / "_push_clients.py"), self.address, str(count), self._kind]
        self.clients = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = json.loads(self._line(self.clients))
        self.count, self.connected_s = said["connected"], said["s"]

    def tell(self, word: str) -> dict[str, int]:
        assert self.server.stdin is not None
        self.server.stdin.write(word + "\n")
        self.server.stdin.flush()
        said: dict[str, int] = json.loads(self._line(self.server))
        return said

    def arrived(self, wanted: int) -> list[int]:
        assert self.clients is not None and self.clients.stdin is not None
        self.clients.stdin.write(f"ROUND {wanted}\n")
        self.clients.stdin.flush()
        said = json.loads(self._line(self.clients))
        if len(said["times"]) < wanted:
            raise SystemExit(f"{self._kind}: {len(said['times'])} of {wanted} messages came, {said['lost']} lost")
        times: list[int] = said["times"]
        return times

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.server.pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        return int(Path(f"/proc/{self.server.pid}/statm").read_text("ascii").split()[1]) * PAGE

    def close(self) -> None:
        for process in (self.clients, self.server):
            if process is not None:
                process.kill()
                process.wait()

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{process.args} ended")
        return line.strip()


class Round(NamedTuple):
    """Milliseconds."""

    p50: float
    p99: float
    worst: float


class Line(NamedTuple):
    """A contestant with so many clients: medians over the rounds, microseconds of CPU for a message to one client."""

    name: str
    clients: int
    p50: float
    p99: float
    worst: float
    cpu_us: float
    kb: float
    connects_s: float


def made_home(folder: Path, agents: int) -> tuple[Path, str]:
    """A hub with so many devices, and its public key. They are put into its table: enrolling them one by one is not
    what is measured."""
    home = folder / "hub"
    make_home(home, "bench", secrets.token_bytes)
    with open_hub(HubConfig(home=home)) as hub:
        hub.releases.init_repository()
        rows = [
            DeviceRow(
                id=device(number),
                name=f"bench {number}",
                state="active",
                origin=f"{hub.hublog.hub}/{device(number)}",
                log_key=link_key(number).public.text,
                link_key=link_key(number).public.text,
                software="bench",
                enrolled_at=1,
            ).model_dump()
            for number in range(agents)
        ]
        with hub.store.write() as conn:
            conn.execute(insert(DEVICES), rows)
        return home, hub.hublog.key.public.text


def one_round(side: Side, word: str = "notice") -> Round:
    began = side.tell(word)["began"]
    took = sorted((at - began) / 1e6 for at in side.arrived(side.count))
    return Round(took[len(took) // 2], took[len(took) * 99 // 100], took[-1])


def measured(name: str, side: Side, rounds: list[Round], cpu: float, kb: float) -> Line:
    p50, p99, worst = (statistics.median(getattr(one, part) for one in rounds) for part in Round._fields)
    cost = cpu / len(rounds) / side.count * 1e6
    return Line(name, side.count, p50, p99, worst, cost, kb, side.count / side.connected_s)


def compare(agents: int, rounds: int) -> tuple[list[Line], float]:
    """Both contestants with so many agents, and the median ratio of the hub's p99 to the library's."""
    with tempfile.TemporaryDirectory() as folder:
        config = HubConfig(home=made_home(Path(folder), agents)[0])
        text = encode(Notice(["releases"], config.notice_jitter_ms))
        script = str(HERE / "_push_server.py")
        with contextlib.ExitStack() as stack:
            sides = {
                "Outrider's hub": Side([sys.executable, script, "hub", str(config.home)], "hub"),
                "websockets alone": Side([sys.executable, script, "bare", text], "bare"),
            }
            for side in sides.values():
                stack.callback(side.close)
            grown = {}
            for name, side in sides.items():
                before = side.rss()
                side.connect(agents)
                grown[name] = (side.rss() - before) / agents / 1024
            told: dict[str, list[Round]] = {name: [] for name in sides}
            spent = dict.fromkeys(sides, 0.0)
            for number in range(rounds + 1):
                for name, side in sides.items():
                    time.sleep(0.3)
                    before_cpu = side.cpu()
                    done = one_round(side)
                    if number:  # the first of each warms up
                        told[name].append(done)
                        spent[name] += side.cpu() - before_cpu
            lines = [measured(name, side, told[name], spent[name], grown[name]) for name, side in sides.items()]
    ratio = statistics.median(a.p99 / b.p99 for a, b in zip(*told.values(), strict=True))
    return lines, ratio


# --- OPAL -----------------------------------------------------------------------------------------------------------


def environment() -> str:
    """The Python of OPAL's own environment, made when it is missing."""
    folder, pins = CACHE / "opal", OPAL.read_text("utf-8")
    made, python = folder / "pins", folder / "bin" / "python"
    if not made.exists() or made.read_text("utf-8") != pins:
        print("installing OPAL's server", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        words = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(OPAL)]
        subprocess.run(words, check=True, stdout=sys.stderr)
        made.write_text(pins, "utf-8")
    return str(python)


@contextlib.contextmanager
def opal(folder: Path) -> Iterator[Side]:
    """OPAL's server alone: no policy repository, no broadcaster, nobody to sign in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        "OPAL_REPO_WATCHING_ENABLED": "false",
        "OPAL_STATISTICS_ENABLED": "false",
        "OPAL_LOG_LEVEL": "ERROR",
        "OPAL_DATA_CONFIG_SOURCES": '{"config":{"entries":[]}}',
        "OPAL_AUTH_JWKS_STATIC_DIR": str(folder),
    }
    words = [environment(), "-m", "uvicorn", "opal_server.main:app", "--host", "127.0.0.1", "--port", str(port)]
    side = Side([*words, "--log-level", "error"], "opal", env, f"127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > deadline:
                raise SystemExit("OPAL's server did not start")
            time.sleep(0.2)
        yield side
    finally:
        side.close()


def opal_round(side: Side) -> Round:
    host, _, port = side.address.partition(":")
    entry = {"url": "http://127.0.0.1/none", "topics": ["policy_data"], "dst_path": "/x"}
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    began = time.perf_counter_ns()
    connection.request("POST", "/data/config", json.dumps({"entries": [entry], "reason": "bench"}),
                       {"Content-Type": "application/json"})  # fmt: skip
    status = connection.getresponse().status
    connection.close()
    if status != 200:
        raise SystemExit(f"OPAL answered {status}")
    took = sorted((at - began) / 1e6 for at in side.arrived(side.count))
    return Round(took[len(took) // 2], took[len(took) * 99 // 100], took[-1])


def of_opal(clients: int, rounds: int) -> Line:
    with tempfile.TemporaryDirectory() as folder, opal(Path(folder)) as side:
        before = side.rss()
        side.connect(clients)
        grown = (side.rss() - before) / clients / 1024
        opal_round(side)
        spent, told = 0.0, []
        for _ in range(rounds):
            time.sleep(0.3)
            before_cpu = side.cpu()
            told.append(opal_round(side))
            time.sleep(0.2)
            spent += side.cpu() - before_cpu
        return measured("OPAL 0.9.9", side, told, spent, grown)


# --- what is shown --------------------------------------------------------------------------------------------------


def show(lines: list[Line], ratios: dict[int, float]) -> None:
    print(f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| | clients | p50 ms | p99 ms | most ms | CPU µs a message | KB a connection | connections/s |")
    print("|---|---|---|---|---|---|---|---|")
    for one in lines:
        cells = f"{one.p50:.0f} | {one.p99:.0f} | {one.worst:.0f} | {one.cpu_us:.1f} | {one.kb:.0f}"
        print(f"| {one.name} | {one.clients:,} | {cells} | {one.connects_s:.0f} |")
    print("\n| Aim | Reached | |\n|---|---|---|")
    hubs = {one.clients: one for one in lines if one.name == "Outrider's hub"}
    other = next((one for one in lines if one.name.startswith("OPAL")), None)
    for clients, ratio in ratios.items():
        _aim(f"p99 at {clients:,} agents: {AIM_RATIO} times the library's", ratio, AIM_RATIO, f"{ratio:.2f}")
        _aim(f"p99 at {clients:,} agents: a second", hubs[clients].p99, AIM_MS, f"{hubs[clients].p99:.0f} ms")
        _aim(f"memory at {clients:,} agents: {AIM_KB:.0f} KB a connection", hubs[clients].kb, AIM_KB,
             f"{hubs[clients].kb:.0f} KB")  # fmt: skip
    if other is not None:
        share = min(hubs.values(), key=lambda one: one.clients).cpu_us / other.cpu_us
        _aim("CPU for a client: a tenth of OPAL's", share, AIM_CPU, f"{share:.3f}")


def _aim(words: str, found: float, aim: float, said: str) -> None:
    print(f"| {words} | {said} | {'reached' if found <= aim else 'missed'} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sizes = given.agents or ([200] if given.small else [1000, 10_000])
    rounds = 3 if given.small else given.rounds
    lines: list[Line] = []
    ratios: dict[int, float] = {}
    for agents in sizes:
        found, ratios[agents] = compare(agents, rounds)
        lines += found
    if not given.small:
        lines.append(of_opal(min(OPAL_CLIENTS, *sizes), rounds))
    if given.json:
        print(json.dumps({"lines": [one._asdict() for one in lines], "ratios": ratios}))
    else:
        show(lines, ratios)


if __name__ == "__main__":
    main()
