"""What an agent costs the computer it lives on: time to ready, CPU and resident memory, beside a bare Python process.

Run: ``python tests/benchmarks/edge_footprint.py`` (Linux: it reads ``/proc``; two minutes). A real hub and a real agent
are started in a temporary folder, the agent joins and installs the starter's release, first without models and last
with them, where this machine has them (``make setup`` fetches them; ``OUTRIDER_MODEL_CACHE`` names another place).

The measure is ``python -c "import asyncio"`` in the same run: what any Python service pays before it does anything.
Megabytes are decimal, times are medians of several starts, CPU is user and system time.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "installers"))  # the demo's way to call commands serves here too

from demo_kit import OUTRIDER, outrider  # noqa: E402 - the path above comes first

STARTER = ROOT / "server" / "starter" / "permits"
CACHE = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser()
STARTS = 7
REST_S = 10
RULE_ROWS = 20
MODEL_ROWS = 20
PATIENCE_S = 300
BARE = "import asyncio, time; print('ready', flush=True); time.sleep(3600)"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    what: str
    seconds: float | None
    cpu: float | None
    rss: float


class Started:
    """A process, measured from its launch to the line that says it is ready."""

    def __init__(self, words: list[str], env: dict[str, str]) -> None:
        launched = time.monotonic()
        self._child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
        assert self._child.stdout is not None
        self.line = self._child.stdout.readline()
        while "ready" not in self.line:
            assert self.line, f"{words} ended before it was ready"
            self.line = self._child.stdout.readline()
        self.seconds = time.monotonic() - launched
        self.ready_cpu = cpu(self._child.pid)
        self.pid = self._child.pid

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait(20)
        assert self._child.stdout is not None
        self._child.stdout.close()


@contextmanager
def running(words: list[str], env: dict[str, str] | None = None) -> Iterator[Started]:
    made = Started(words, {"PYTHONUNBUFFERED": "1", **(env or {})})
    try:
        yield made
    finally:
        made.stop()


def cpu(pid: int) -> float:
    """User and system seconds of a process so far, all threads."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.25)


class Desk:
    """One agent's home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.words = [OUTRIDER, "agent", "run", "--home", str(home)]

    def live(self) -> dict[str, Any]:
        """What the running agent says of itself; nothing right after its start."""
        try:
            found: dict[str, Any] = json.loads((self.home / "live.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def settled(self, agent: Started, release: int) -> bool:
        live = self.live()
        if live.get("pid") != agent.pid or not (live["linked"] and live["idle"]):
            return False
        return bool(self._status()["release"] == release)

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(outrider("agent", "status", "--home", str(self.home), "--json"))
        return found

    def drop(self, name: str, lines: list[str]) -> None:
        (self.home / "inbox").mkdir(exist_ok=True)
        part = self.home / f"{name}.part"
        part.write_text("".join(lines), "utf-8")
        part.replace(self.home / "inbox" / name)

    def worked(self, runs: int) -> bool:
        found = self._status()["runs"]
        return bool(self.live()["idle"] and found["closed"] + found["waiting"] >= runs)

    def unembedded(self) -> int:
        with closing(sqlite3.connect(f"file:{self.home / 'memory.sqlite3'}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT (SELECT COUNT(*) FROM item) - (SELECT COUNT(*) FROM vector)").fetchone()[0])


def starts(what: str, words: list[str]) -> Row:
    """Medians over several starts; the first, which fills the system's caches, is not counted."""
    found = []
    for _ in range(STARTS + 1):
        with running(words) as started:
            found.append((started.seconds, started.ready_cpu, rss(started.pid)))
    seconds, used, memory = (statistics.median(column) for column in zip(*found[1:], strict=True))
    return Row(what, seconds, used, memory)


def by_rules(desk: Desk) -> Iterator[Row]:
    with running(desk.words) as agent:
        until(lambda: desk.settled(agent, 1), "linked")
        before = cpu(agent.pid)
        time.sleep(REST_S)
        yield Row(
            f"agent at rest: linked, release installed, {REST_S} s later", None, cpu(agent.pid) - before, rss(agent.pid)
        )
        before = cpu(agent.pid)
        rows = [f"T-{n:03},Tear off shingles and reroof the garage,{4000 + n}\n" for n in range(RULE_ROWS)]
        desk.drop("rules.csv", ["application_id,description,reported_cost\n", *rows])
        until(lambda: desk.worked(RULE_ROWS), "runs by rules")
        yield Row(f"agent after {RULE_ROWS} runs by rules alone", None, cpu(agent.pid) - before, rss(agent.pid))


def with_models(desk: Desk) -> Iterator[Row]:
    outrider("memory", "import", str(STARTER / "samples" / "past-decisions.csv"), "--home", str(desk.home))
    lines = (STARTER / "samples" / "applications-morning.csv").read_text("utf-8").splitlines(keepends=True)
    with running(desk.words, {"OUTRIDER_MODEL_CACHE": str(CACHE)}) as agent:
        until(lambda: desk.settled(agent, 2) and desk.unembedded() == 0, "release with models, memory embedded")
        until(lambda: not desk.live()["model"]["language"]["trouble"], "the language model tried")
        desk.drop("models.csv", lines[: MODEL_ROWS + 1])
        until(lambda: desk.worked(RULE_ROWS + MODEL_ROWS), "runs with models")
        worker = desk.live()["model"]["pid"]
        yield Row(f"agent after {MODEL_ROWS} runs over 156 past decisions", None, cpu(agent.pid), rss(agent.pid))
        yield Row("its model worker, both models loaded", None, cpu(worker), rss(worker))


def measure(folder: Path) -> Iterator[Row]:
    hub = folder / "hub"
    init = ("hub", "init", "--home", str(hub), "--starter", "permits", "--name", "Testville")
    outrider(*init, "--user", "mara", "--password-stdin", typed="a-long-password\n")
    models = hub / "workspace" / "models.json"
    models.rename(models.with_suffix(".kept"))
    models.write_text("[]\n")
    outrider("hub", "release", "publish", "--home", str(hub))
    desk = Desk(folder / "desk")
    with running([OUTRIDER, "hub", "run", "--home", str(hub), "--port", "0"]) as city:
        token = outrider("hub", "token", "--home", str(hub)).strip()
        url = city.line.split("ready at ")[1].split()[0]
        outrider("agent", "join", url, token, "--home", str(desk.home), "--name", "desk")
        with running(desk.words) as agent:
            until(lambda: desk.settled(agent, 1), "the first release")
        yield starts("python, asyncio imported", [sys.executable, "-c", BARE])
        yield starts("agent, when it says it is ready", desk.words)
        yield from by_rules(desk)
        listed = json.loads(models.with_suffix(".kept").read_text("utf-8"))
        if all(list((CACHE / "models").glob(f"{model['sha256']}.*")) for model in listed):
            shutil.move(models.with_suffix(".kept"), models)
            outrider("hub", "release", "publish", "--home", str(hub))
            yield from with_models(desk)
        else:
            print(f"no models in {CACHE}: `make setup` fetches them; left out")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder)))
    bare = rows[0]
    print("| | s from launch to ready | ratio | CPU s | ratio | RSS MB | ratio |\n|---|---|---|---|---|---|---|")
    for row in rows:
        launch = _beside(row.seconds, bare.seconds)
        used = _beside(row.cpu, bare.cpu if row.seconds is not None else None)
        print(f"| {row.what} | {launch} | {used} | {row.rss:.1f} | {row.rss / bare.rss:.2f} |")
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, Python {sys.version.split()[0]}")


def _beside(value: float | None, measure: float | None) -> str:
    """Two cells: the value, and its ratio to the measure where there is one to compare with."""
    if value is None:
        return " | "
    return f"{value:.2f} | {value / measure:.2f}" if measure else f"{value:.2f} | "


if __name__ == "__main__":
    main()
