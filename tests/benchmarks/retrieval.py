"""Does search find what belongs together? Words alone, meaning alone, and their mix, as nDCG@10 and recall@10.

Run: ``python tests/benchmarks/retrieval.py [--hub] [--notes N]``. The set is public: one person's bookmarks and notes
of many years, tagged by hand, as the MIT-licensed package ``cherche`` ships them (fetched once through pip, held to its
hashes). Searched are the notes of at least 120 characters; a question is the name of a tag, and relevant are the notes
that bear it. Tags with 5 to 40 notes are asked, so that there is something to rank. The name of a tag often stands in
its notes, and often does not: English and French are mixed, abbreviations abound.

The device's way goes through ``Memory.find`` with both embedders of the catalogue; ``--hub`` adds the hub's: the same
search at the hub with sentence-transformers, and with the artefact of the catalogue. ``p`` is how often the mix would
have come out no better than the better part alone, over 10,000 resamplings of the questions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge_agent.memory import Memory
from edge_agent.memory.search import Query
from edge_agent.models.catalogue import known
from edge_agent.models.fetch import add_known
from edge_agent.models.store import ModelStore
from edge_agent.models.worker import open_embedder
from server.embedding.judging import ndcg, recall
from shared.codec import hex_sha256
from shared.memory import Item, item_id
from shared.memory.vector import Embedding

CACHE = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser()
PACKAGE, INNER = "cherche==2.2.1", "cherche-2.2.1/cherche/data/semanlink/"
FILES = {
    "docs.json": "fd55e5ca751734bfb9ba46f81da5ddb4bf21823cab11581feec79bf0548eafa5",
    "tags.json": "59580e49b27a6cd6a4dc4db133770f7935c9c11afd8543fdd8e1c6e39c4e335d",
}
LEAST_CHARS, FEWEST, MOST, DEPTH = 120, 5, 40, 100
Ranking = list[str]


class Set(NamedTuple):
    """``texts`` by item id, and questions with the ids that are relevant."""

    texts: dict[str, str]
    questions: list[tuple[str, set[str]]]


# --- the set ------------------------------------------------------------------------------------------------------


def fetched() -> dict[str, Any]:
    folder = CACHE / "benchmarks" / "semanlink"
    if not all((folder / name).exists() for name in FILES):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-binary", ":all:"]
            subprocess.run([*command, "--dest", scratch, PACKAGE], check=True)
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
                for name in FILES:
                    found = archive.extractfile(INNER + name)
                    assert found is not None, name
                    (folder / name).write_bytes(found.read())
    for name, wanted in FILES.items():
        assert hex_sha256((folder / name).read_bytes()) == wanted, f"{name} is another file; remove {folder}"
    return {name: json.loads((folder / name).read_bytes()) for name in FILES}


def bookmarks(most: int) -> Set:
    read = fetched()
    texts: dict[str, str] = {}
    tagged: dict[str, set[str]] = {}
    for row in read["docs.json"]:
        body = (row["arxiv_summary"] or row["comment"] or "").replace("\x00", "").strip()
        if len(body) < LEAST_CHARS or len(texts) == most:
            continue
        text = f"{(row['arxiv_title'] or row['title']).strip()}\n{body}"
        name = item_id(note(text))
        texts[name] = text
        for tag in row["tag"]:
            tagged.setdefault(tag, set()).add(name)
    labels = {tag: row["prefLabel"][0] for tag, row in read["tags.json"].items() if row["prefLabel"]}
    asked = [(labels[tag], found) for tag, found in sorted(tagged.items()) if tag in labels]
    return Set(texts, [(label, found) for label, found in asked if FEWEST <= len(found) <= MOST])


def note(text: str) -> Item:
    return Item(kind="note", text=text, source="bookmarks", scope="person")


# --- the device ---------------------------------------------------------------------------------------------------


def device(given: Set, name: str) -> dict[str, list[Ranking]]:
    """Rankings by words, by meaning, and by both, as an agent with that embedder of the catalogue makes them."""
    model = known(name)
    add_known(ModelStore(CACHE), model)
    embedder = open_embedder(ModelStore(CACHE).path_for(model.sha256))
    with tempfile.TemporaryDirectory() as scratch:
        memory = Memory(Path(scratch) / "memory.sqlite3")
        memory.add([note(text) for text in given.texts.values()])
        began = time.perf_counter()
        names: list[str] = []
        vectors: list[Any] = []
        while missing := memory.without_vector(model.sha256, 64):
            made = embedder.embed(tuple(text for _, text in missing))
            assert made is not None
            memory.put_vectors(model.sha256, zip((name for name, _ in missing), made, strict=True))
            names += [name.partition("#")[0] for name, _ in missing]
            vectors += made
        spent_s = time.perf_counter() - began
        print(f"device: {len(given.texts)} notes, {len(names)} passages embedded in {spent_s:.0f} s", file=sys.stderr)
        every = matrix(vectors)
        ways: dict[str, list[Ranking]] = {"words": [], "meaning": [], "mix": []}
        spent = []
        for question, _ in given.questions:
            began = time.perf_counter()
            (vector,) = embedder.embed((question,)) or ()
            mixed = memory.find(Query(question, limit=DEPTH), now=0, vector=vector, model=model.sha256)
            spent.append(time.perf_counter() - began)
            ways["mix"].append([found.kept.id for found in mixed])
            ways["words"].append([found.kept.id for found in memory.find(Query(question, limit=DEPTH), now=0)])
            near = every @ matrix([vector])[0]
            ways["meaning"].append(nearest(names, near))
        memory.close()
    print(f"device: {statistics.median(spent) * 1e3:.1f} ms a question, its vector included", file=sys.stderr)
    return ways


def matrix(vectors: list[Any]) -> Any:
    rows = np.frombuffer(b"".join(one.values for one in vectors), np.int8).reshape(len(vectors), -1)
    return rows.astype(np.float32) * (np.array([one.scale for one in vectors], np.float32) / 1e9)[:, None]


def nearest(names: list[str], near: Any) -> Ranking:
    """Items by their best passage."""
    best: dict[str, float] = {}
    for place in np.argsort(-near, kind="stable"):
        best.setdefault(names[place], float(near[place]))
        if len(best) == DEPTH:
            break
    return list(best)


# --- the hub ------------------------------------------------------------------------------------------------------


async def hub(given: Set, path: Path) -> dict[str, list[Ranking]]:
    """The same at the hub, with the model at ``path``."""
    from server.embedding.encoder import Encoder
    from server.embedding.index import TeamIndex
    from server.embedding.shelf import Filter, Shelf
    from server.store import Store

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.server.embedding.items import NOW, Items

    scopes = ("team/bookmarks",)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        items = Items(store)
        for name, text in given.texts.items():
            items.add(name, text, scope=scopes[0])
        index, plain = (TeamIndex(store, one, clock=lambda: NOW, wait_s=60) for one in (path, None))
        while await index.step():
            pass
        (found,) = Shelf(store).vectors((await index.status()).model, Filter(scopes, NOW), 100_000)
        names, every = [row[1] for row in found], matrix([Embedding(*row[2:]) for row in found])
        encoder = Encoder(path)
        ways: dict[str, list[Ranking]] = {"words": [], "meaning": [], "mix": []}
        for question, _ in given.questions:
            for way, one in (("mix", index), ("words", plain)):
                hits = (await one.search(question, scopes, limit=DEPTH)).hits
                ways[way].append([hit.shown.item for hit in hits])
            (vector,) = (await encoder.embed([question], "query")).vectors
            ways["meaning"].append(nearest(names, every @ matrix([vector])[0]))
        for closing in (encoder, index, plain):
            await closing.close()
        store.close()
    return ways


# --- the table ----------------------------------------------------------------------------------------------------


def scores(given: Set, ranked: list[Ranking], judge: Callable[[Ranking, set[str]], float]) -> list[float]:
    return [judge(found, relevant) for found, (_, relevant) in zip(ranked, given.questions, strict=True)]


def chance(mixed: list[float], part: list[float]) -> float:
    """How often a resampled mean of the differences is not above zero."""
    draw = np.random.default_rng(7).integers(0, len(mixed), (10_000, len(mixed)))
    means = (np.array(mixed) - np.array(part))[draw].mean(axis=1)
    return float((means <= 0).mean())


def rows(given: Set, name: str, ways: dict[str, list[Ranking]]) -> list[str]:
    gains = {way: scores(given, ranked, ndcg) for way, ranked in ways.items()}
    better = max(("words", "meaning"), key=lambda way: statistics.fmean(gains[way]))
    made = []
    for way, ranked in ways.items():
        found = statistics.fmean(scores(given, ranked, recall))
        p = f"{chance(gains['mix'], gains[better]):.3f} against {better}" if way == "mix" else ""
        made.append(f"| {name} | {way} | {statistics.fmean(gains[way]):.3f} | {found:.3f} | {p} |")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality of retrieval on a public set.")
    parser.add_argument("--hub", action="store_true", help="the hub's search too, with sentence-transformers")
    parser.add_argument("--notes", type=int, default=10_000, help="at most so many notes")
    asked = parser.parse_args()
    given = bookmarks(asked.notes)
    sizes = Counter(len(relevant) for _, relevant in given.questions)
    print(
        f"{len(given.texts)} notes, {len(given.questions)} questions, {sum(n * k for n, k in sizes.items())} judgements"
    )
    print("| where | way | nDCG@10 | recall@10 | p |", "|---|---|---|---|---|", sep="\n")
    for name in ("minilm-l6", "wordllama-256"):
        print(*rows(given, f"device, {name}", device(given, name)), sep="\n", flush=True)
    if asked.hub:
        from server.embedding import package

        folder = CACHE / "hub-embedder" / package.NAME
        package.add(folder)
        artefact = ModelStore(CACHE).path_for(known("minilm-l6").sha256)
        for name, path in (("hub, artefact", artefact), ("hub, sentence-transformers", folder)):
            print(*rows(given, name, asyncio.run(hub(given, path))), sep="\n", flush=True)


if __name__ == "__main__":
    main()
