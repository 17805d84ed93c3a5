"""What a durable run of three steps costs: this engine, the disk's floor and two peers, side by side in one run.

Run: ``python tests/benchmarks/run_engine.py`` (five minutes; the first time it installs the peers, each into an
environment of its own under ``~/.cache/outrider/bench``). ``--json`` prints the figures for a program, ``--entries N``
sets the size of the largest log, which takes most of the time.

The floor has the shape of this engine's own runs: as many commits, as many rows in each, as many bytes in each row. It
is taken from the log that the engine writes just before.

Every contestant is a process of its own on the same disk, started once and then asked in turn, A B C A B C, so that
what else the machine does meets all of them. A figure is the median over the rounds, a ratio the median of the ratios
within each round, and the range is that of the rounds. The peers judge nothing and sign nothing: theirs is the cost of
being durable alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from _floor import Shape, shape_of

HERE = Path(__file__).resolve().parent
CACHE = Path("~/.cache/outrider/bench").expanduser()
PINS = {
    "dbos": ("dbos==3.4.0", "sqlalchemy==2.1.9"),
    "langgraph": (
        "langgraph==1.2.22",
        "langgraph-checkpoint==4.3.2",
        "langgraph-checkpoint-sqlite==3.1.2",
        "langchain-core==1.7.2",
    ),
}
AT_ONCE = (1, 64)
WARM = 32
TRACED = 40
PAGE = os.urandom(4096)


class Side(NamedTuple):
    """One contestant: its name in the tables and how to start it with a folder of its own."""

    name: str
    words: Callable[[Path], list[str]]


OUTRIDER = Side("Outrider", lambda folder: [sys.executable, str(HERE / "_outrider.py"), str(folder)])


class Told(NamedTuple):
    """One round of one contestant: runs a second, median milliseconds of a run, milliseconds of CPU for each run."""

    rate: float
    p50: float
    cpu: float


@dataclass(frozen=True)
class Line:
    """A contestant's row; ratios are to the floor with as many runs at once."""

    name: str
    at_once: int
    rate: float
    low: float
    high: float
    rate_ratio: float
    p50: float
    p50_ratio: float
    cpu: float
    syncs: float | None


# --- contestants ------------------------------------------------------------------------------------------------


def environment(name: str) -> str:
    """The Python of a peer's own environment, made when it is missing or was made with other pins."""
    folder, pins = CACHE / name, PINS[name]
    made, python = folder / "pins", folder / "bin" / "python"
    if not made.exists() or made.read_text("utf-8").split() != list(pins):
        print(f"installing {' '.join(pins)}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *pins], check=True, stdout=sys.stderr)
        made.write_text("\n".join(pins), "utf-8")
    return str(python)


def contestants(shape: Shape) -> list[Side]:
    """The floor first: it is the measure."""
    dbos, langgraph = environment("dbos"), environment("langgraph")
    named = {name: pins[0].replace("==", " ") for name, pins in PINS.items()}

    def side(name: str, python: str, script: str, *more: str) -> Side:
        return Side(name, lambda folder: [python, str(HERE / script), str(folder), *more])

    return [
        side("SQLite, WAL and FULL: the floor", sys.executable, "_floor.py", json.dumps(shape)),
        side("the floor's rows in the log's tables", sys.executable, "_floor.py", json.dumps(shape), "tables"),
        OUTRIDER,
        side(f"{named['dbos']}, SQLite, defaults", dbos, "_dbos.py"),
        side(f"{named['dbos']}, its file put into WAL", dbos, "_dbos.py", "wal"),
        side(f"{named['langgraph']}, SqliteSaver, sync", langgraph, "_langgraph.py"),
    ]


def own_shape(folder: Path) -> Shape:
    """What this engine writes for a run."""
    process = Process(OUTRIDER, folder)
    process.ask(WARM, 1)
    process.stop()
    return shape_of(folder / "log.sqlite3")


def studies(folder: Path, sizes: list[int]) -> dict[str, Any]:
    """What ``_studies.py`` found."""
    folder.mkdir()
    words = [sys.executable, str(HERE / "_studies.py"), str(folder), json.dumps(sizes)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Process:
    """A contestant that waits to be asked; see ``_contestant.py``."""

    def __init__(self, side: Side, folder: Path, before: Sequence[str] = ()) -> None:
        folder.mkdir()
        self._complaints = folder / "stderr"
        with self._complaints.open("wb") as err:
            self._child = subprocess.Popen(
                [*before, *side.words(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env={**os.environ, "LANGSMITH_TRACING": "false"},
            )
        self._answer()

    def ask(self, runs: int, at_once: int) -> Told:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"runs": runs, "at_once": at_once}) + "\n")
        self._child.stdin.flush()
        told = self._answer()
        assert len(told["took_ms"]) == runs
        return Told(runs / told["seconds"], statistics.median(told["took_ms"]), told["cpu_s"] * 1000 / runs)

    def stop(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(60)
        self._child.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, f"a contestant ended:\n{self._complaints.read_text('utf-8')[-2000:]}"
        found: dict[str, Any] = json.loads(line)
        return found


# --- measuring --------------------------------------------------------------------------------------------------


def measure(sides: list[Side], at_once: int, folder: Path, rounds: int, seconds: float) -> tuple[list[Line], float]:
    """A row for each side, and how often a second this disk synced meanwhile."""
    told: list[list[Told]] = [[] for _ in sides]
    synced = []
    with ExitStack() as stack:
        started = []
        for n, side in enumerate(sides):
            started.append(process := Process(side, folder / f"{at_once}-{n}"))
            stack.callback(process.stop)
        shares = []
        for process in started:
            process.ask(WARM, at_once)
            shares.append(max(2 * at_once, round(process.ask(max(WARM, at_once), at_once).rate * seconds)))
        for _ in range(rounds):
            synced.append(sync_rate(folder / "sync", seconds / 4))
            for process, share, found in zip(started, shares, told, strict=True):
                found.append(process.ask(share, at_once))
    syncs = [traced_syncs(side, folder / f"traced-{n}") if at_once == 1 else None for n, side in enumerate(sides)]
    lines = [
        _line(side.name, at_once, found, told[0], counted)
        for side, found, counted in zip(sides, told, syncs, strict=True)
    ]
    return lines, statistics.median(synced)


def _line(name: str, at_once: int, found: list[Told], floor: list[Told], syncs: float | None) -> Line:
    rates = [told.rate for told in found]
    return Line(
        name=name,
        at_once=at_once,
        rate=statistics.median(rates),
        low=min(rates),
        high=max(rates),
        rate_ratio=statistics.median(a.rate / b.rate for a, b in zip(found, floor, strict=True)),
        p50=statistics.median(told.p50 for told in found),
        p50_ratio=statistics.median(a.p50 / b.p50 for a, b in zip(found, floor, strict=True)),
        cpu=statistics.median(told.cpu for told in found),
        syncs=syncs,
    )


def sync_rate(path: Path, seconds: float) -> float:
    """Writes of one page, each synced, a second: into a file that does not grow, as SQLite's WAL mostly does not."""
    pages = 1024
    if not path.exists():
        path.write_bytes(PAGE * pages)
    file = os.open(path, os.O_WRONLY)
    try:
        os.fsync(file)
        done, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            os.pwrite(file, PAGE, done % pages * len(PAGE))
            os.fdatasync(file)
            done += 1
    finally:
        os.close(file)
    return done / took


def traced_syncs(side: Side, folder: Path) -> float | None:
    """Syncs for each run, counted by strace in a pass of its own; nothing where there is no strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    trace = folder.with_suffix(".strace")
    process = Process(side, folder, [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)])
    process.ask(WARM, 1)
    before = _returned(trace)
    process.ask(TRACED, 1)
    after = _returned(trace)
    process.stop()
    return (after - before) / TRACED


def _returned(trace: Path) -> int:
    return trace.read_text("utf-8").count("= 0\n")


# --- telling ----------------------------------------------------------------------------------------------------


def tell(shape: Shape, lines: list[Line], synced: dict[int, float]) -> None:
    rows, size = sum(map(len, shape)), sum(map(sum, shape))
    print(f"A run of the floor: {len(shape)} commits, {rows} rows, {size} bytes.\n")
    for at_once in AT_ONCE:
        title = "one at a time" if at_once == 1 else f"{at_once} at once"
        print(
            f"| 3-step runs, {title} | runs/s | of the floor | range | p50 ms | of the floor | CPU ms/run | syncs/run |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for line in lines:
            if line.at_once == at_once:
                syncs = "" if line.syncs is None else f"{line.syncs:.1f}"
                print(
                    f"| {line.name} | {line.rate:.0f} | {line.rate_ratio:.2f} | {line.low:.0f} to {line.high:.0f}"
                    f" | {line.p50:.2f} | {line.p50_ratio:.2f} | {line.cpu:.2f} | {syncs} |"
                )
        print(f"\nThe disk synced {synced[at_once]:.0f} single pages a second meanwhile.\n")


def tell_more(more: dict[str, Any]) -> None:
    parts = more["judging"]
    print("| CPU for a step, µs | |\n|---|---|")
    for what, name in (
        ("a verdict, and the right to act", "judged"),
        ("its entries' bytes and places in the tree", "written"),
        ("its share of the signatures", "signed"),
        ("its share of SQLite and of the system's time to sync", "stored"),
    ):
        print(f"| {what} | {parts[name]:.0f} |")
    print(f"| together | {sum(parts.values()):.0f} |")
    print("\n| ms until an urgent run's first step begins | p50 | p90 | p99 | most |\n|---|---|---|---|---|")
    for what, name in (("with nothing else to do", "alone"), ("behind a batch of 1,000", "beside")):
        took = sorted(more["urgent"][name])
        p50, p90, p99 = (took[min(len(took) - 1, len(took) * share // 100)] for share in (50, 90, 99))
        print(f"| {what}, {len(took)} starts | {p50:.1f} | {p90:.1f} | {p99:.1f} | {took[-1]:.1f} |")
    print(f"\n{more['urgent']['left']} runs of the batch were open when the last urgent one had begun.\n")
    print("| entries in the log before | CPU ms/step | ratio | ms/step | ratio |\n|---|---|---|---|---|")
    first = next(iter(more["growth"].values()))
    for size, found in more["growth"].items():
        print(
            f"| {int(size):,} | {found['cpu']:.3f} | {found['cpu'] / first['cpu']:.2f}"
            f" | {found['wall']:.3f} | {found['wall'] / first['wall']:.2f} |"
        )
    print(
        f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores,"
        f" Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def main() -> None:
    asked = argparse.ArgumentParser(description="a durable run of three steps beside the floor and two peers")
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--seconds", type=float, default=1.0, help="for each contestant in each round, about")
    asked.add_argument("--entries", type=int, default=1_000_000, help="in the largest log")
    asked.add_argument("--folder", type=Path, default=CACHE, help="on the disk to measure")
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    synced: dict[int, float] = {}
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="work-") as folder:
        shape = own_shape(Path(folder) / "shape")
        sides = contestants(shape)
        for at_once in AT_ONCE:
            found, synced[at_once] = measure(sides, at_once, Path(folder), given.rounds, given.seconds)
            lines += found
        more = studies(Path(folder) / "studies", [10, 10_000, given.entries])
    if given.json:
        print(json.dumps({"shape": shape, "syncs_per_s": synced, "lines": [asdict(line) for line in lines]} | more))
    else:
        tell(shape, lines, synced)
        tell_more(more)


if __name__ == "__main__":
    main()
