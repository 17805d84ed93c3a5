"""The floor: what SQLite alone takes to put a run's rows on this disk, with as many commits as the engine makes of it.

One table, no index, no hash, no signature, no policy; WAL and ``synchronous=FULL`` as the engine has them, so that a
commit that returned survives a power cut. One run at a time is the plainest loop there is: begin, insert, commit, in
one thread. Many at once share commits: each run waits for its own rows before it goes on, one thread writes, and
whatever has been queued meanwhile is one transaction. The runs are coroutines, which is the fastest of the ways tried:
threads that wait for the writer reached half of its rate, threads that take turns at writing a fifth.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import sys
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from _contestant import serve

Shape = list[list[int]]
"""For each commit of a run, the bytes of each row in it."""
Rows = list[tuple[str, bytes]]
Job = tuple[Rows, asyncio.Future[None]]

# What a run of three tool steps writes, each entry with its bodies: it is opened; in each step something is planned,
# judged and intended, has a result and is looked at; it is closed.
_STEP = [171, 1400, 670, 327, 515, 477]
ROWS = [1090, *_STEP, *_STEP, *_STEP, 145]
COMMITS = 5  # opened; the first intent; two times a result with the next intent; the last result with the end


def shape_in(commits: int) -> Shape:
    """Those rows in so many commits, as evenly as they go."""
    ends = [len(ROWS) * n // commits for n in range(commits + 1)]
    return [ROWS[begin:end] for begin, end in pairwise(ends)]


def shape_of(log: Path) -> Shape:
    """The shape of the last closed run of a log whose runs came one after another: every commit that holds an entry of
    it, with all of its entries and their bodies."""
    with closing(sqlite3.connect(f"{log.absolute().as_uri()}?mode=ro", uri=True)) as db:
        row = db.execute("SELECT run FROM entry WHERE type = 'run.closed' ORDER BY seq DESC LIMIT 1").fetchone()
        assert row, f"{log}: no run is closed"
        first, last = db.execute("SELECT MIN(seq), MAX(seq) FROM entry WHERE run = ?", row).fetchone()
        ends = [0, *(size for (size,) in db.execute("SELECT size FROM checkpoint ORDER BY size"))]
        weights = db.execute(
            "SELECT LENGTH(data) + COALESCE((SELECT SUM(LENGTH(CAST(b.data AS BLOB)) + LENGTH(b.salt)) FROM body b"
            " WHERE b.seq = e.seq), 0) FROM entry e ORDER BY seq"
        )
        weight = [size for (size,) in weights]
    return [weight[begin:end] for begin, end in pairwise(ends) if begin <= last and end > first]


class Floor:
    """A database with one table, and a run's rows ready to be put in."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, data BLOB NOT NULL)")
        self._commits = [[("run_3c9f1d2a7b604e58c1d2e3f4", os.urandom(size)) for size in commit] for commit in shape]

    def one(self) -> None:
        for rows in self._commits:
            self._commit(rows)

    def many(self, runs: int, at_once: int) -> list[float]:
        return asyncio.run(self._many(runs, at_once))

    def _commit(self, rows: Rows) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO entry (run, data) VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    async def _many(self, runs: int, at_once: int) -> list[float]:
        jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        loop, left = asyncio.get_running_loop(), iter(range(runs))
        took: list[float] = []

        def write() -> None:
            while (job := jobs.get()) is not None:
                batch = [job]
                while not jobs.empty():
                    if (job := jobs.get()) is None:
                        jobs.put(None)
                        break
                    batch.append(job)
                self._commit([row for rows, _ in batch for row in rows])
                loop.call_soon_threadsafe(_settle, batch)

        async def submit() -> None:
            for _ in left:
                began = time.perf_counter()
                for rows in self._commits:
                    done = loop.create_future()
                    jobs.put((rows, done))
                    await done
                took.append((time.perf_counter() - began) * 1000)

        writer = threading.Thread(target=write, name="writer")
        writer.start()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(submit())
        jobs.put(None)
        writer.join()
        return took


def _settle(batch: list[Job]) -> None:
    for _, done in batch:
        done.set_result(None)


if __name__ == "__main__":
    floor = Floor(Path(sys.argv[1]) / "floor.sqlite3", json.loads(sys.argv[2]))
    serve(floor.one, floor.many)
