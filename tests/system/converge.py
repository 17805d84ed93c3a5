"""Do devices and hub agree in the end, whatever happens to them?

    python -m tests.system.converge --seeds 10000 [--first 1] [--jobs 2] [--steps 90] [--bug NAME] [--wide] [--postgres]

Each seed is a world (``tests.system.world``) that suffers its schedule, is mended, and is then judged
(``tests.system.verdict``). A fault is printed with its seed, which tells the same story every time. ``--bug`` plants a
fault in the code under test; the harness must then fail: it is how we know that it can. ``--wide`` adds legal holds and
the roles of single devices: then the same seeds are other worlds. ``--postgres`` keeps each hub's rows there.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.postgres import Postgres
from tests.system import bugs
from tests.system.hubside import make_hub
from tests.system.hubstore import OnPostgres
from tests.system.schedule import Schedule
from tests.system.verdict import faults
from tests.system.world import Stuck, World

STEPS = 160
_SHOWN = 12
_TEMPLATE = "new_hub"  # the database of a hub that has just been made
_EVERY_S = 10.0


@contextmanager
def ground() -> Iterator[Path]:
    """A folder in memory where there is one: an fsync that costs nothing is all that differs."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="outrider-converge-", dir=shm if shm.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Kind:
    """What kind of worlds. ``bug`` is planted in them."""

    steps: int = STEPS
    bug: str = ""
    wide: bool = False
    postgres: bool = False


def play(
    seed: int, folder: Path, hub_home: Path, kind: Kind = Kind(), server: Postgres | None = None
) -> tuple[list[str], Counter[str]]:
    """One world from beginning to end: its faults, and what happened in it."""
    home = folder / f"seed-{seed}"
    home.mkdir()
    rows = OnPostgres(server, f"seed_{seed}", _TEMPLATE) if server else None
    world = World(seed, home, hub_home, rows)
    try:
        Schedule(world, wide=kind.wide).play(kind.steps)
        try:
            world.settle()
        except Stuck as stuck:
            return [str(stuck)], world.count()
        return faults(world), world.count()
    finally:
        world.close()
        shutil.rmtree(home, ignore_errors=True)


def _share(job: tuple[int, int, Kind]) -> tuple[int, list[str], Counter[str]]:
    """Some seeds, in a process of the pool."""
    first, seeds, kind = job
    found: list[str] = []
    counts: Counter[str] = Counter()
    with ground() as folder, bugs.planted(kind.bug), Postgres() if kind.postgres else nullcontext() as server:
        hub_home = make_hub(folder, OnPostgres(server, _TEMPLATE) if server else None)
        for seed in range(first, first + seeds):
            faulty, counted = play(seed, folder, hub_home, kind, server)
            found += faulty
            counts += counted
            if kind.bug and found:  # one is enough to know
                break
    gc.collect()
    return seeds, found, counts


def run(seeds: int, *, first: int = 1, jobs: int = 1, kind: Kind = Kind()) -> tuple[list[str], Counter[str]]:
    """So many worlds; their faults, and what happened in them."""
    began = told = time.monotonic()
    size = seeds if kind.bug else max(1, min(10, seeds // jobs))
    work = [(at, min(size, first + seeds - at), kind) for at in range(first, first + seeds, size)]
    found: list[str] = []
    counts: Counter[str] = Counter()
    done = 0
    with multiprocessing.get_context("spawn").Pool(jobs) if jobs > 1 else _alone() as pool:
        for count, faulty, counted in pool.imap_unordered(_share, work):
            done, found, counts = done + count, found + faulty, counts + counted
            for fault in faulty[:_SHOWN]:
                print(fault, flush=True)
            if time.monotonic() - told > _EVERY_S:
                told = time.monotonic()
                print(f"{done} of {seeds} worlds, {done / (told - began):.1f} a second", flush=True)
    seconds, worked = time.monotonic() - began, time.process_time()
    happened = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    print(
        f"{seeds} worlds from seed {first}, {len(found)} faults; {seeds / seconds:.1f} worlds a second;"
        f" {worked:.1f} s of processor in this process; {happened}"
    )
    return found, counts


class _alone:  # noqa: N801 - used as a function
    """A pool of this process."""

    def __enter__(self) -> _alone:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    imap_unordered = staticmethod(map)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=150)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--bug", default="", choices=["", *bugs.BUGS])
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--postgres", action="store_true")
    asked = parser.parse_args()
    kind = Kind(asked.steps, asked.bug, asked.wide, asked.postgres)
    found, _ = run(asked.seeds, first=asked.first, jobs=asked.jobs, kind=kind)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
