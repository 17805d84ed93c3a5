"""What one change and one erasure cost in a memory of 100,000 items, and what such a memory takes of the computer's.

Run: ``python tests/benchmarks/memory_store.py`` (minutes; ``--items N`` for fewer; ``OUTRIDER_DATA`` for real texts,
see ``_memories``). The measure is one row of 600 bytes committed by SQLite alone with the same durability (WAL, FULL),
or deleted and folded into the file; each round does both, so that others at work on the disk slow both.

An erasure has two parts: the rows are deleted and the write-ahead log is emptied; then the file is looked through for
copies that SQLite left behind (see ``edge_agent.memory.wipe``), and in the rare case that one is found it is rewritten.
Both are timed. Resident memory is that of a process with the whole agent imported, before and after it has opened the
memory, and after its first search by meaning; megabytes are decimal.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from edge_agent.database import connect
from edge_agent.memory import Memory, Query
from shared.memory import Edit, Item
from shared.memory.vector import Embedding

MODEL = "f" * 64  # as in _memories, which is not imported where the agent's memory is measured: it loads numpy
ROUNDS = 100
BYTES = 600

Work = Callable[[int], object]


def clocked(work: Work, place: int) -> tuple[float, float]:
    before, cpu = time.perf_counter(), time.thread_time()
    work(place)
    return (time.perf_counter() - before) * 1e3, (time.thread_time() - cpu) * 1e3


def rounds(works: dict[str, Work]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for place in range(ROUNDS):
        for name, work in works.items():
            found[name].append(clocked(work, place))
    return found


class Floor:
    """SQLite alone, as the agent opens it."""

    def __init__(self, path: Path, count: int) -> None:
        self.db = connect(path, writable=True)
        self.db.execute("CREATE TABLE plain (n INTEGER PRIMARY KEY, data BLOB)")
        self.db.execute("BEGIN")
        rows = ((random.randbytes(BYTES),) for _ in range(count))
        self.db.executemany("INSERT INTO plain (data) VALUES (?)", rows)
        self.db.execute("COMMIT")

    def write(self, place: int) -> None:
        self.db.execute("INSERT INTO plain (data) VALUES (?)", (random.randbytes(BYTES),))

    def erase(self, place: int) -> None:
        self.db.execute("DELETE FROM plain WHERE n = ?", (place * 97 + 1,))
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Desk:
    """The memory, and new texts for it. What is edited and erased was written here before."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        from _memories import texts

        self._texts = list(texts(4 * ROUNDS, seed=9))
        self.ids: list[str] = []

    def _item(self, place: int) -> Item:
        return Item(kind="note", text=self._texts[place] + " new", source="hand", tags=["new"])

    def write(self, place: int) -> None:
        self.ids.append(self.memory.write(self._item(place), at=place + 1, by="user:ada"))

    def edit(self, place: int) -> None:
        self.memory.edit(self.ids[place], Edit(text=self._texts[place] + " edited"), at=place + 2, by="user:ada")

    def erase(self, place: int) -> None:
        with self.memory._change() as db:
            self.memory._remove(db, self.ids[place])
        self.memory._fold()

    def prove(self, place: int) -> None:
        self.memory.truncate()

    def search(self, place: int) -> None:
        self.memory.search(Query(self._texts[place]), now=1)


def measure(folder: Path, count: int) -> None:
    from _memories import fill, points, small

    vectors = points(count)
    with closing(Memory(folder / "memory.sqlite3")) as memory:
        fill(memory, count, vectors)
        memory.search(Query("roof"), now=1, vector=small(vectors[0]), model=MODEL)  # so that the caches are kept up too
        floor, desk = Floor(folder / "floor.sqlite3", count), Desk(memory)
        print("| | p50 ms | p99 ms | p50 CPU ms | p50 to the floor's |\n|---|---|---|---|---|")
        show(rounds({"SQLite alone: a row": floor.write, "a new item": desk.write, "an edit": desk.edit}))
        rewritten = vacuums(memory)
        show(
            rounds(
                {
                    "SQLite alone: a row deleted and folded in": floor.erase,
                    "an item erased, the log emptied": desk.erase,
                    "the file looked through for copies left behind": desk.prove,
                }
            )
        )
        print(f"\nThe file was rewritten {rewritten()} times in {ROUNDS} erasures.")
        floor.db.close()
    size = (folder / "memory.sqlite3").stat().st_size / 1e6
    print(f"The file has {size:.0f} MB.\n")
    words = [sys.executable, __file__, "--agent", str(folder)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")


def vacuums(memory: Memory) -> Callable[[], int]:
    seen: list[str] = []
    memory._db.set_trace_callback(lambda sql: seen.append(sql) if sql == "VACUUM" else None)
    return lambda: len(seen)


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    floor = [wall for wall, _ in next(iter(found.values()))]
    for name, times in found.items():
        wall, cpu = zip(*times, strict=True)
        ratio = statistics.median(wall) / statistics.median(floor)
        p99 = statistics.quantiles(wall, n=100)[98]
        print(f"| {name} | {statistics.median(wall):.2f} | {p99:.2f} | {statistics.median(cpu):.2f} | {ratio:.2f} |")


def rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def agent(folder: Path) -> None:
    """In a process of its own: what the memory adds to an agent."""
    rows = [("python with the agent imported", _imported())]
    with closing(Memory(folder / "memory.sqlite3")) as memory:
        memory.search(Query("replace the roof of the garage"), now=1)
        rows.append(("memory open, searched by words", rss()))
        (row,) = memory._all("SELECT data, scale FROM vector LIMIT 1")
        vector = Embedding(*row)
        for _ in range(20):
            memory.search(Query("replace the roof of the garage"), now=1, vector=vector, model=MODEL)
        rows.append(("searched by meaning", rss()))
    print("| | RSS MB | ratio |\n|---|---|---|")
    for name, value in rows:
        print(f"| {name} | {value:.0f} | {value / rows[0][1]:.2f} |")


def _imported() -> float:
    import edge_agent.app

    assert edge_agent.app.Agent is not None
    return rss()


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--items", type=int, default=100_000)
    given.add_argument("--agent", type=Path)
    asked = given.parse_args()
    if asked.agent:
        agent(asked.agent)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked.items)
    load, version = os.getloadavg()[0], sqlite3.sqlite_version
    print(f"\n{asked.items} items, load average {load:.1f} on {os.cpu_count()} cores, SQLite {version}")


if __name__ == "__main__":
    main()
