"""A large memory for the benchmarks: texts, and vectors with clusters, as real ones have them.

With ``OUTRIDER_DATA`` the texts are real permit descriptions with made-up street numbers behind them, so that no two
are alike; without it, words drawn as words are (a few often, most seldom). The vectors are made up in both cases: 2,000
centres, and around each of them points as near as descriptions of the same kind of work are to each other. Real vectors
of 100,000 texts would take an hour to make.
"""

from __future__ import annotations

import csv
import itertools
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.memory import Memory
from shared.codec import hex_sha256
from shared.memory import Item
from shared.memory.document import Document
from shared.memory.vector import Embedding

MODEL = "f" * 64
WIDTH = 384
_CENTRES = 2_000
_SPREAD = 0.75  # of a point around its centre: cosines of about 0.6 within a cluster
_BATCH = 2_000
_WORDS = 30_000

Floats = npt.NDArray[np.float32]


def texts(count: int, seed: int = 1) -> Iterator[str]:
    chance = random.Random(seed)
    if folder := os.environ.get("OUTRIDER_DATA"):
        rows: list[str] = []
        for path in sorted(Path(folder, "permits-chicago", "dev").glob("*.csv")):
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows += [row["description"] for row in csv.DictReader(file) if row.get("description")]
        for number in range(count):
            street = chance.choice(("Main", "Oak", "Lake", "Pulaski", "Halsted", "Western", "Ashland"))
            yield f"{chance.choice(rows)[:400]} at {number} {street} Street"
        return
    made = ["".join(chance.choice("bcdfglmnprst") + chance.choice("aeiou") for _ in range(chance.randint(1, 4)))
            for _ in range(_WORDS)]  # fmt: skip
    weights = list(itertools.accumulate(1 / (place + 20) ** 1.05 for place in range(_WORDS)))
    for number in range(count):
        yield " ".join(chance.choices(made, cum_weights=weights, k=chance.randint(8, 30))) + f" {number}"


def points(count: int, seed: int = 1, directions: int = 0) -> Floats:
    """Unit vectors in clusters of uneven size. They differ from their centre in all directions, or in ``directions`` of
    the cluster's own and a little in all others."""
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((_CENTRES, WIDTH), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    which = np.minimum(chance.zipf(1.3, count) - 1, _CENTRES - 1)
    found = centres[which]
    if directions:
        own = chance.standard_normal((50, directions, WIDTH), np.float32) / np.float32(WIDTH**0.5)
        place = chance.standard_normal((count, directions), np.float32) * np.float32(_SPREAD / directions**0.5)
        for group in range(50):
            some = which % 50 == group
            found[some] += place[some] @ own[group]
    spread = _SPREAD / 3 if directions else _SPREAD
    found += chance.standard_normal((count, WIDTH), np.float32) * np.float32(spread / WIDTH**0.5)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def small(vector: Floats) -> Embedding:
    """As the embedder makes them: signed bytes and one scale."""
    peak = float(np.abs(vector).max())
    return Embedding(np.rint(vector * (127 / peak)).astype(np.int8).tobytes(), round(peak / 127 * 1e9))


def fill(memory: Memory, count: int, vectors: Floats) -> None:
    """Put ``count`` items with their vectors into an empty memory. Item i has ``vectors[i]``; its source is ``i``.

    Rows, words and vectors are as ``Memory`` writes them. The changes are all copies of a few real ones, under hashes
    of their own, because making 100,000 documents takes minutes and nothing measured here opens them: what is opened
    is written by ``Memory.write``.
    """
    made = list(texts(count))
    chunks = [Document.imported(Item(kind="note", text=text, source="x"), bytes(16)).changes()[0] for text in made[:64]]
    kinds = ("note", "fact", "decision", "document")
    for begin in range(0, count, _BATCH):
        with memory._change() as db:
            for place in range(begin, min(begin + _BATCH, count)):
                scope = "team/permits" if place % 2 else "person"
                item = Item(kind=kinds[place % 4], text=made[place], source=str(place), scope=scope)
                _put(memory, db, place, item, chunks[place % 64], small(vectors[place]))


def _put(memory: Memory, db: sqlite3.Connection, place: int, item: Item, chunk: bytes, vector: Embedding) -> None:
    id, n = f"mem_{place:024x}", place + 1
    db.execute(
        "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, '', '', 'normal', 1000, 0, 0, 0, ?, 0, ?, ?)",
        (n, id, item.scope, item.kind, item.source, item.text, place, hex_sha256(item.text.encode()), MODEL),
    )
    row = (id, item.scope, bytes.fromhex(hex_sha256(id.encode())), chunk)
    db.execute("INSERT INTO chunk (item, scope, hash, data, sent) VALUES (?, ?, ?, ?, 1)", row)
    db.execute("INSERT INTO vector VALUES (?, 0, ?, ?, ?)", (n, MODEL, vector.scale, vector.values))
    memory._words.put(db, n, item)
