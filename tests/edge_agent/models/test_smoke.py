"""Trying a model before it is used: real models, and files that are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_agent.models.smoke import prove
from edge_agent.models.store import ModelStore
from shared.release import SmokeCase
from tests.edge_agent.models.conftest import EMBEDDER, LANGUAGE

pytestmark = pytest.mark.system

NEAR = SmokeCase(given="a new roof", answer="shingles are replaced", others=["a trombone lesson"])
LIKELY = SmokeCase(given="One, two, three,", answer=" four", others=[" elephant", " yesterday"])


async def test_an_embedder_passes_what_is_near_and_fails_what_is_not(model_home: Path) -> None:
    path = ModelStore(model_home).path_for(EMBEDDER.sha256)
    assert await prove("embedder", path, EMBEDDER.sha256, [NEAR]) is None
    turned = SmokeCase(NEAR.given, NEAR.others[0], [NEAR.answer])
    wrong = await prove("embedder", path, EMBEDDER.sha256, [NEAR, turned])
    assert wrong is not None
    assert (wrong.code, "case 2" in wrong.message) == ("model.smoke", True)


async def test_a_language_model_finds_the_answer_likelier_than_the_others(model_home: Path) -> None:
    path = ModelStore(model_home).path_for(LANGUAGE.sha256)
    assert await prove("language", path, LANGUAGE.sha256, [LIKELY]) is None
    turned = SmokeCase(LIKELY.given, LIKELY.others[0], [LIKELY.answer])
    wrong = await prove("language", path, LANGUAGE.sha256, [turned])
    assert wrong is not None
    assert wrong.code == "model.smoke"


@pytest.mark.parametrize("data", [b"\x08\x07 not a graph", b""])
async def test_what_does_not_load_is_told_as_that(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    wrong = await prove("embedder", path, "00" * 32, [])
    assert wrong is not None
    assert wrong.code == "model.load"


@pytest.mark.parametrize(
    ("child", "seconds", "said"),
    [("import os; os.abort()", 60, "SIGABRT"), ("import time; time.sleep(60)", 0.5, "no answer within 0.5 s")],
)
async def test_a_crash_and_an_endless_load_end_the_child_and_nothing_else(
    tmp_path: Path, child: str, seconds: float, said: str
) -> None:
    wrong = await prove("embedder", tmp_path, "00" * 32, [], timeout_s=seconds, child=(sys.executable, "-c", child))
    assert wrong is not None
    assert (wrong.code, said in wrong.message) == ("model.load", True)
