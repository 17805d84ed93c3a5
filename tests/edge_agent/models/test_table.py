from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.models import tensors
from edge_agent.models.catalogue import known
from edge_agent.models.engine import Models
from edge_agent.models.fit import fitting, memory_mb
from edge_agent.models.pieces import Pieces
from edge_agent.models.store import ModelStore
from edge_agent.models.table import Table, build
from edge_agent.models.worker import RUNTIMES
from shared.errors import BadInput
from shared.release import ModelRef

LIGHT = known("wordllama-256")

# Ids that the reference implementation (the tokenizers package, with this table's own tokenizer file) gave.
# fmt: off
GOLDEN = [
    ("Replace the kitchen sink", [22108, 278, 29181, 28169]),
    (
        "Re-roof: 24 squares, comp. shingle @ $8,500.00 (tear-off)",
        [830, 29899, 307, 974, 29901, 29871, 29906, 29946, 25256, 29892, 752, 29889, 528, 292, 280, 732, 395, 29947,
         29892, 29945, 29900, 29900, 29889, 29900, 29900, 313, 371, 279, 29899, 2696, 29897],
    ),
    (
        "Crème brûlée, naïve façade, Łódź",
        [6781, 5000, 1506, 30095, 29880, 1318, 29892, 1055, 30085, 345, 2258, 30019, 1943, 29892, 14124, 4431, 30109],
    ),
    ("東京 supplier ☂ 🏠", [29871, 30591, 30675, 1462, 4926, 29871, 229, 155, 133, 29871, 243, 162, 146, 163]),
    (
        "http://example.org/a_b?c=d&e=f#g",
        [1732, 597, 4773, 29889, 990, 29914, 29874, 29918, 29890, 29973, 29883, 29922, 29881, 29987, 29872, 29922,
         29888, 29937, 29887],
    ),
]
# Cosines (permille) of the published float16 rows, by the reference tokenizer.
NEAR = [
    ("The cat sat on the mat", "A feline rested on a rug", 239),
    ("Replace the kitchen sink", "Install a new sink in the kitchen", 824),
    ("Replace the kitchen sink", "Stock prices fell sharply on Tuesday", -15),
    ("How do I renew an expired permit?", "What must be done when a permit has run out?", 370),
]
# fmt: on


@pytest.fixture(scope="module")
def path(model_home: Path) -> Path:
    return ModelStore(model_home).path_for(LIGHT.sha256)


@pytest.fixture(scope="module")
def pieces(path: Path) -> Pieces:
    return Pieces(tensors.read(path.read_bytes())[1]["vocabulary"].split("\n"))


@pytest.fixture(scope="module")
def table(path: Path) -> Table:
    return Table(path)


@pytest.mark.parametrize(("text", "ids"), GOLDEN)
def test_pieces_are_those_of_the_reference(pieces: Pieces, text: str, ids: list[int]) -> None:
    assert pieces.ids(text) == ids
    assert pieces.ids(f"  {text} \n") == ids, "white space around words does not count"


@given(st.text(max_size=300))
def test_whatever_is_said_has_pieces(pieces: Pieces, text: str) -> None:
    ids = pieces.ids(text)
    assert bool(ids) == bool(text.split())
    assert all(0 <= number < 32_000 for number in ids)


@pytest.mark.parametrize(("one", "other", "cosine"), NEAR)
def test_similarities_are_those_of_the_published_rows(table: Table, one: str, other: str, cosine: int) -> None:
    a, b = table.embed((one, other)) or ()
    assert abs(a.similarity(b) - cosine) <= 5
    assert len(a.values) == 256
    assert a.similarity(a) >= 998


def test_empty_and_endless_texts_have_vectors(table: Table) -> None:
    nothing, endless = table.embed(("", "word " * 20_000)) or ()
    assert set(nothing.values) == {0}
    assert endless.similarity(endless) >= 998
    assert table.embed(("a",), lambda: True) is None, "it stops when it is cancelled"


async def test_the_worker_runs_the_light_one(home: Path) -> None:
    models = Models(home, embedder=LIGHT.sha256)
    try:
        result = await models.embed(["Replace the kitchen sink"])
    finally:
        await models.close()
    assert result.model == LIGHT.sha256
    assert len(result.embeddings[0].values) == 256


def test_a_file_that_is_no_table_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "bad.table").write_bytes(b"not a table")
    with pytest.raises(BadInput) as caught:
        Table(tmp_path / "bad.table")
    assert caught.value.code == "model.load"


def test_the_same_weights_make_the_same_file() -> None:
    rows = np.array([[1, -2], [0, 0], [0.5, 0.25]], np.float16)
    weights = tensors.write({"embedding.weight": rows}, {})
    tokenizer = json.dumps({"model": {"vocab": {"b": 1, "a": 0, "c": 2}}}).encode()
    found, told = tensors.read(build(weights, tokenizer, "small"))
    assert told == {"name": "small", "vocabulary": "a\nb\nc"}
    assert np.allclose(found["table"] * found["scale"], rows, atol=0.01)
    with pytest.raises(BadInput) as caught:
        build(weights, b"{}", "small")
    assert caught.value.code == "model.weights"


# --- which one a computer runs ------------------------------------------------------------------------------------


def listed(*names: str) -> list[ModelRef]:
    given = [known(name) for name in names]
    return [ModelRef(name=one.name, kind=one.kind, sha256=one.sha256, size=one.size, source="pypi:x") for one in given]


def test_a_computer_takes_the_first_model_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    both = listed("minilm-l6", "wordllama-256", "smollm2-135m")
    first = fitting(both, "embedder")
    assert first is not None and first.name == "minilm-l6"
    monkeypatch.setitem(RUNTIMES, "onnx", "a_runtime_that_is_not_here")
    light = fitting(both, "embedder")
    assert light is not None and light.name == "wordllama-256"
    lacking = fitting(listed("minilm-l6"), "embedder")
    assert lacking is not None and lacking.name == "minilm-l6", "what it lacks is told"
    assert fitting(listed("minilm-l6"), "language") is None


def test_a_computer_takes_the_first_model_that_it_has_the_memory_for() -> None:
    large, small = listed("qwen2.5-coder-1.5b", "smollm2-135m")
    assert 0 < memory_mb() < 2**31
    both = [msgspec.structs.replace(large, min_ram_mb=memory_mb() + 1), msgspec.structs.replace(small, min_ram_mb=1)]
    assert fitting(both, "language") == both[1]
