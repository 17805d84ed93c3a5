"""Do devices and hub agree in the end, whatever happens to them?

    python -m tests.system.converge --seeds 10000 [--first 1] [--jobs 2] [--steps 90] [--bug NAME]

Each seed is a world (``tests.system.world``) that suffers its schedule, is mended, and is then judged
(``tests.system.verdict``). A fault is printed with its seed, which tells the same story every time. ``--bug`` plants a
fault in the code under test; the harness must then fail: it is how we know that it can.
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
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.system import bugs
from tests.system.hubside import make_hub
from tests.system.schedule import Schedule
from tests.system.verdict import faults
from tests.system.world import Stuck, World

STEPS = 160
_SHOWN = 12
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


def play(seed: int, folder: Path, hub_home: Path, steps: int = STEPS) -> tuple[list[str], Counter[str]]:
    """One world from beginning to end: its faults, and what happened in it."""
    home = folder / f"seed-{seed}"
    home.mkdir()
    world = World(seed, home, hub_home)
    try:
        Schedule(world).play(steps)
        try:
            world.settle()
        except Stuck as stuck:
            return [str(stuck)], world.count()
        return faults(world), world.count()
    finally:
        world.close()
        shutil.rmtree(home, ignore_errors=True)


def _share(job: tuple[int, int, int, int, str]) -> tuple[int, list[str], Counter[str]]:
    """Some seeds, in a process of the pool."""
    first, seeds, step, steps, bug = job
    found: list[str] = []
    counts: Counter[str] = Counter()
    with ground() as folder, bugs.planted(bug):
        hub_home = make_hub(folder)
        for seed in range(first, first + seeds, step):
            faulty, counted = play(seed, folder, hub_home, steps)
            found += faulty
            counts += counted
            if bug and found:  # one is enough to know
                break
    gc.collect()
    return seeds, found, counts


def run(
    seeds: int, *, first: int = 1, jobs: int = 1, steps: int = STEPS, bug: str = ""
) -> tuple[list[str], Counter[str]]:
    """So many worlds; their faults, and what happened in them."""
    began = told = time.monotonic()
    size = seeds if bug else max(1, min(10, seeds // jobs))
    work = [(at, min(size, first + seeds - at), 1, steps, bug) for at in range(first, first + seeds, size)]
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
    asked = parser.parse_args()
    found, _ = run(asked.seeds, first=asked.first, jobs=asked.jobs, steps=asked.steps, bug=asked.bug)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
