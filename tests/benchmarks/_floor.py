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
import secrets
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from _contestant import serve

Shape = list[list[int]]
"""For each commit of a run, the bytes of each row in it."""
RUN = "run_3c9f1d2a7b604e58c1d2e3f4"
Rows = list[tuple[str, bytes]]
Job = tuple[Rows, asyncio.Future[None]]

_COLUMNS = ["run", "type", "data", "tree", "note", "shared_salt", "shared", "private_salt", "private"]
_BYTES = " + ".join(f"COALESCE(LENGTH(CAST({name} AS BLOB)), 0)" for name in _COLUMNS)


def shape_of(log: Path) -> Shape:
    """The shape of the last closed run of a log whose runs came one after another: every commit that holds an entry of
    it, with all of its entries, each with the bytes of its whole row."""
    with closing(sqlite3.connect(f"{log.absolute().as_uri()}?mode=ro", uri=True)) as db:
        row = db.execute("SELECT run FROM entry WHERE type = 'run.closed' ORDER BY seq DESC LIMIT 1").fetchone()
        assert row, f"{log}: no run is closed"
        begin = db.execute("SELECT MIN(seq) FROM entry WHERE run = ?", row).fetchone()[0]
        begin = db.execute(
            "SELECT COALESCE(MAX(seq), -1) FROM entry WHERE seq < ? AND note NOT NULL", (begin,)
        ).fetchone()
        rows = db.execute(f"SELECT note NOT NULL, {_BYTES} FROM entry WHERE seq > ? ORDER BY seq", begin)
        shape: Shape = [[]]
        for ends, size in rows:
            shape[-1].append(size)
            if ends:
                shape.append([])
    return [commit for commit in shape if commit]


class Floor:
    """A database with one table, and a run's rows ready to be put in."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, data BLOB NOT NULL)")
        self._commits = [[(RUN, os.urandom(size - len(RUN))) for size in commit] for commit in shape]

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


class Tables(Floor):
    """The same rows by the log's own statements into its own tables: what its columns and indexes cost, without a hash,
    a signature or a run behind them."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        super().__init__(folder / "floor.sqlite3", shape)
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        from edge_agent.journal.store import Store

        self._store, self._seq, self._run = Store(folder / "log.sqlite3"), 0, RUN
        self._first = self._commits[0][0]

    def _commit(self, rows: Rows) -> None:
        opened, placed = dict[str, int](), []
        for row in rows:
            if row is self._first:
                self._run = secrets.token_hex(14)
                opened[self._run] = self._seq
            beside = None, None, None, None
            placed.append((self._seq, self._run, self._seq, "x", row[1], b"", None, *beside))
            self._seq += 1
        self._store.insert(placed, opened, [])


def _settle(batch: list[Job]) -> None:
    for _, done in batch:
        done.set_result(None)


if __name__ == "__main__":
    folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    floor = Tables(folder, given) if sys.argv[3:] else Floor(folder / "floor.sqlite3", given)
    serve(floor.one, floor.many)
