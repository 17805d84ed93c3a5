from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.models import onnxfile, tensors
from edge_agent.models.catalogue import known
from edge_agent.models.embedder import Embedder
from edge_agent.vector import Embedding
from shared.errors import BadInput

# Cosines (permille) of the published float32 weights, from two independent forward passes (numpy and llama.cpp).
GOLDEN = [
    ("The cat sat on the mat", "A feline rested on a rug", 561),
    ("Replace the kitchen sink", "Install a new sink in the kitchen", 850),
    ("Replace the kitchen sink", "Stock prices fell sharply on Tuesday", -1),
    ("Water heater, like for like, in the basement", "Swap an existing boiler for one of the same size", 215),
    ("New two-storey house on a vacant lot", "Interior demolition only, no structural work", 350),
    ("How do I renew an expired permit?", "What must be done when a permit has run out?", 522),
]
INT8 = 40  # permille that int8 may be off


@pytest.fixture(scope="module")
def embedder(model_home: Path) -> Embedder:
    return Embedder(model_home / "models" / f"{known('minilm-l6').sha256}.onnx")


def embed(embedder: Embedder, *texts: str) -> tuple[Embedding, ...]:
    found = embedder.embed(texts)
    assert found is not None
    return found


@pytest.mark.parametrize("one, other, cosine", GOLDEN)
def test_similarities_are_those_of_the_published_weights(embedder: Embedder, one: str, other: str, cosine: int) -> None:
    a, b = embed(embedder, one, other)
    assert abs(a.similarity(b) - cosine) <= INT8


def test_a_vector_has_unit_length_and_384_numbers(embedder: Embedder) -> None:
    (vector,) = embed(embedder, "Replace the kitchen sink")
    assert len(vector.values) == 384
    assert abs(sum(value**2 for value in vector.floats()) - 1) < 0.01
    assert vector.similarity(vector) >= 998


def test_order_and_company_do_not_matter(embedder: Embedder) -> None:
    texts = [f"text {'word ' * (n % 7)}{n}" for n in range(40)]
    together = embed(embedder, *texts)
    for place in (0, 6, 13, 39):
        (alone,) = embed(embedder, texts[place])
        assert alone.similarity(together[place]) >= 990


def test_empty_and_endless_texts_have_vectors(embedder: Embedder) -> None:
    assert len(embed(embedder, "", "word " * 20_000)) == 2
    assert embedder.embed(()) == ()


def test_embedding_stops_between_batches_when_cancelled(embedder: Embedder) -> None:
    assert embedder.embed(("a",), lambda: True) is None


def test_a_file_that_is_no_embedder_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(BadInput) as caught:
        Embedder(tmp_path / "bad.onnx")
    assert caught.value.code == "model.load"


def test_safetensors_are_read_as_written() -> None:
    header = b'{"__metadata__":{},"t":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}'
    read = tensors.read(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.5, -2))
    assert read[0]["t"].tolist() == [[1.5], [-2.0]]


@given(st.binary(max_size=80))
def test_damaged_weights_are_bad_input(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        tensors.read(struct.pack("<Q", len(data)) + data[:40])
    assert caught.value.code == "model.weights"


def test_the_writer_writes_what_the_runtime_reads() -> None:
    weights = np.array([[1, -2], [3, 4]], "<f4")
    data = onnxfile.model(
        "double",
        [
            onnxfile.node("MatMul", ["x", "w"], ["product"]),
            onnxfile.node("Softmax", ["product"], ["y"], axis=-1),
            onnxfile.node("LeakyRelu", ["product"], ["z"], alpha=0.5),
        ],
        [onnxfile.tensor("w", onnxfile.FLOAT, weights.shape, weights.tobytes())],
        [onnxfile.value("x", onnxfile.FLOAT, ["rows", 2])],
        [onnxfile.value(name, onnxfile.FLOAT, ["rows", 2]) for name in "yz"],
        {"note": "käse"},
    )
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    y, z = session.run(None, {"x": np.array([[1, 0]], np.float32)})
    assert z.tolist() == [[1.0, -1.0]]
    assert abs(float(y[0][0]) - 1 / (1 + np.exp(-3))) < 1e-6
    assert session.get_modelmeta().custom_metadata_map == {"note": "käse"}
