"""Searching 100,000 items on one core: how long it takes, and how many of the truly nearest it finds.

Run: ``python tests/benchmarks/memory_search.py`` (three minutes; ``--items N`` for fewer; ``OUTRIDER_DATA`` for real
texts, see ``_memories``). Beside the search by words and meaning stand its parts, and what it is measured against in
the same run: the vectors compared one by one in full (numpy, float32), and the words in SQLite's own FTS5.

Times are of one thread, also in CPU time, which is what others at work on the machine change least. The vectors are
made up. Two collections of them are searched for recall: *crowded*, where points lie around their centres in all 384
directions alike and a cluster has thousands of nearly equal neighbours, and *plain*, where they differ from their
centres in 24 directions, as texts do.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402 - after its threads are set
from _memories import MODEL, WIDTH, Floats, fill, points, small, texts  # noqa: E402 - the same

from edge_agent.memory import Memory, Query  # noqa: E402 - the same
from edge_agent.memory.vectors import Matrix  # noqa: E402 - the same
from edge_agent.memory.words import Where  # noqa: E402 - the same
from shared.memory.ranking import terms  # noqa: E402 - the same

QUESTIONS = 300
NOISE = 0.3  # of a question around the item it is about


def timed(work: Callable[[int], object]) -> tuple[list[float], list[float]]:
    """Milliseconds by the clock and of CPU, of each question."""
    wall, used = [], []
    for place in range(QUESTIONS):
        before, cpu = time.perf_counter(), time.thread_time()
        work(place)
        used.append((time.thread_time() - cpu) * 1e3)
        wall.append((time.perf_counter() - before) * 1e3)
    return wall, used


def asked(vectors: Floats) -> Floats:
    chance = np.random.default_rng(5)
    near = vectors[chance.integers(0, len(vectors), QUESTIONS)]
    near = near + chance.standard_normal(near.shape, np.float32) * np.float32(NOISE / WIDTH**0.5)
    found: Floats = near / np.linalg.norm(near, axis=1, keepdims=True)
    return found


def recall(vectors: Floats, matrix: Matrix) -> float:
    """The share of the ten truly nearest that are found."""
    hits = 0
    for question in asked(vectors):
        exact = set((np.argsort(-(vectors @ question))[:10] + 1).tolist())
        hits += len(exact & set(matrix.nearest(small(question), None, 10)))
    return hits / (10 * QUESTIONS)


def matrix_of(vectors: Floats) -> Matrix:
    def rows(begin: int) -> list[tuple[int, int, int, bytes]]:
        made = [small(vector) for vector in vectors[begin : begin + 4_096]]
        return [(begin + place + 1, 0, one.scale, one.values) for place, one in enumerate(made)]

    return Matrix(MODEL, WIDTH, (rows(begin) for begin in range(0, len(vectors), 4_096)), len(vectors))


def fts(path: Path, every: list[str]) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = 'porter unicode61')")
    db.execute("BEGIN")
    db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(every, 1))
    db.execute("COMMIT")
    return db


def in_fts(db: sqlite3.Connection, text: str) -> None:
    wanted = " OR ".join(f'"{word}"' for word in terms(text))
    db.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words) LIMIT 100", (wanted,)).fetchall()


def measure(folder: Path, count: int) -> None:
    vectors = points(count)
    with closing(Memory(folder / "memory.sqlite3")) as memory:
        fill(memory, count, vectors)
        every = list(texts(count))
        chance = random.Random(4)
        spoken = [" ".join(chance.choice(every).split()[: chance.randint(2, 6)]) for _ in range(QUESTIONS)]
        meant = asked(vectors)
        started = time.perf_counter()
        memory.search(Query(spoken[0]), now=1, vector=small(meant[0]), model=MODEL)
        built = time.perf_counter() - started
        assert memory._matrix is not None
        matrix, words, db = memory._matrix, memory._words, memory._db

        def mixed(place: int, **more: list[str]) -> None:
            query = Query(spoken[place], **more)  # type: ignore[arg-type]  # lists of texts, whichever they are
            memory.search(query, now=1, vector=small(meant[place]), model=MODEL)

        with closing(fts(folder / "fts.sqlite3", every)) as other:
            rows: dict[str, Callable[[int], object]] = {
                "every vector in full, float32": lambda at: np.argpartition(-(vectors @ meant[at]), 100)[:100],
                "words in FTS5": lambda at: in_fts(other, spoken[at]),
                "words": lambda at: words.scores(db, words.asked(spoken[at]), Where(), 100),
                "meaning": lambda at: matrix.nearest(small(meant[at]), None, 100),
                "search by words and meaning": mixed,
                "the same in one scope and kind": lambda at: mixed(at, scopes=["person"], kinds=["note"]),
            }
            table(rows)
        print(f"\nThe first search of a process, which loads the matrix, took {built:.1f} s.")
        print(f"recall@10, crowded: {recall(vectors, matrix):.3f}")
    flat = points(count, seed=2, directions=24)
    print(f"recall@10, plain:   {recall(flat, matrix_of(flat)):.3f}")


def table(rows: dict[str, Callable[[int], object]]) -> None:
    print("| | p50 ms | p99 ms | p50 CPU ms | p99 CPU ms | ratio |\n|---|---|---|---|---|---|")
    floor = 0.0
    for what, work in rows.items():
        work(0)
        wall, used = timed(work)
        floor = floor or statistics.median(used)
        cells = [statistics.median(wall), _p99(wall), statistics.median(used), _p99(used)]
        print(f"| {what} | {' | '.join(f'{cell:.1f}' for cell in cells)} | {statistics.median(used) / floor:.2f} |")


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--items", type=int, default=100_000)
    count = given.parse_args().items
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), count)
    load = os.getloadavg()[0]
    print(f"\n{count} items, load average {load:.1f} on {os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
