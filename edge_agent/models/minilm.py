"""all-MiniLM-L6-v2 as one small file: from the published weights to the int8 ONNX graph that devices run.

The package carries float32 safetensors only. This writes the graph without torch and without the ``onnx`` package, with
weights as 7-bit integers per output column (8 bits would saturate in the multiply-add of CPUs that have AVX2 but no
VNNI), word vectors as int8 per row, and the vocabulary in the file's metadata, so that one file with one hash is the
whole embedder. Rounding is element-wise IEEE arithmetic, so every machine writes the same bytes and their hash is
pinned in the catalogue. Run as ``python -m edge_agent.models.minilm WEIGHTS VOCAB OUT``: numpy stays out of the calling
process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.models import onnxfile as onnx
from edge_agent.models import tensors

Floats = NDArray[np.float32]

LAYERS, WIDTH, HEADS, EPSILON = 6, 384, 12, 1e-12
# The length the sentence model was trained at; BERT's 512 positions beyond it are dropped.
POSITIONS = 256
_STEPS = 63  # 7 bits with sign


class _Graph:
    """Nodes and tensors as they are added, in order."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        self.weights = weights
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []

    def floats(self, name: str, array: Floats) -> str:
        self.tensors.append(onnx.tensor(name, onnx.FLOAT, array.shape, array.astype("<f4").tobytes()))
        return name

    def whole(self, name: str, numbers: list[int]) -> str:
        raw = np.array(numbers, "<i8").tobytes()
        self.tensors.append(onnx.tensor(name, onnx.INT64, [len(numbers)], raw))
        return name

    def add(self, kind: str, inputs: list[str], output: str, *, fused: bool = False, **attributes: Any) -> str:
        domain = onnx.RUNTIME_DOMAIN if fused else ""
        self.nodes.append(onnx.node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def linear(self, source: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """x @ weight.T + bias with integer weights; the activations are quantised as they come."""
        columns = np.ascontiguousarray(weight.T)
        scale = (np.abs(columns).max(axis=0) / np.float32(_STEPS)).astype(np.float32)
        small = np.rint(columns / scale).astype(np.int8)
        self.tensors.append(onnx.tensor(f"{name}.weight", onnx.INT8, small.shape, small.tobytes()))
        inputs = [source, f"{name}.weight", self.floats(f"{name}.scale", scale), ""]
        if bias is not None:
            inputs.append(self.floats(f"{name}.bias", bias))
        return self.add("DynamicQuantizeMatMul", inputs, f"{name}.out", fused=True)

    def norm(self, source: str, skip: str, name: str) -> str:
        weights = [self.floats(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.add("SkipLayerNormalization", [source, skip, *weights], f"{name}.out", fused=True, epsilon=EPSILON)


def _embeddings(graph: _Graph) -> str:
    table = graph.weights["embeddings.word_embeddings.weight"]
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), np.float32(1e-9)) / np.float32(127)
    small = np.rint(table / scale).astype(np.int8)
    graph.tensors.append(onnx.tensor("words", onnx.INT8, small.shape, small.tobytes()))
    graph.floats("words.scale", scale.astype(np.float32))
    rows = graph.add("Cast", [graph.add("Gather", ["words", "ids"], "rows.small")], "rows", to=onnx.FLOAT)
    words = graph.add("Mul", [rows, graph.add("Gather", ["words.scale", "ids"], "rows.scale")], "word_vectors")
    # The segment is always the first, so its vector is folded into the positions.
    places = graph.weights["embeddings.position_embeddings.weight"][:POSITIONS]
    graph.floats("positions", places + graph.weights["embeddings.token_type_embeddings.weight"][0])
    second = [graph.add("Shape", ["ids"], "shape"), graph.whole("one", [1]), graph.whole("two", [2])]
    length = graph.add("Slice", second, "length")
    here = graph.add("Slice", ["positions", graph.whole("zero", [0]), length], "places")
    summed = graph.add("Add", [words, here], "summed")
    parts = [graph.floats(f"embeddings.{p}", graph.weights[f"embeddings.LayerNorm.{p}"]) for p in ("weight", "bias")]
    return graph.add("LayerNormalization", [summed, *parts], "embedded", axis=-1, epsilon=EPSILON)


def _layer(graph: _Graph, source: str, number: int) -> str:
    at = f"encoder.layer.{number}"
    attend = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
    packed = np.concatenate([graph.weights[f"{part}.weight"] for part in attend])
    bias = np.concatenate([graph.weights[f"{part}.bias"] for part in attend])
    joined = graph.linear(source, f"{at}.qkv", packed, bias)
    names = [f"{at}.{part}" for part in "qkv"]
    graph.nodes.append(onnx.node("Split", [joined], names, axis=-1))
    mixed = graph.add("MultiHeadAttention", [*names, "", "mask32"], f"{at}.mixed", fused=True, num_heads=HEADS)

    def dense(data: str, name: str) -> str:
        return graph.linear(data, name, graph.weights[f"{name}.weight"], graph.weights[f"{name}.bias"])

    after = graph.norm(dense(mixed, f"{at}.attention.output.dense"), source, f"{at}.attention.output.LayerNorm")
    wide = graph.add("Gelu", [dense(after, f"{at}.intermediate.dense")], f"{at}.gelu", fused=True)
    return graph.norm(dense(wide, f"{at}.output.dense"), after, f"{at}.output.LayerNorm")


def build(weights: dict[str, Floats], vocabulary: str) -> bytes:
    """The ONNX file. Inputs ``ids`` and ``mask``, int64 [batch, length]; output ``vectors``, float [batch, 384], unit
    length.
    """
    graph = _Graph(weights)
    graph.add("Cast", ["mask"], "mask32", to=onnx.INT32)
    hidden = _embeddings(graph)
    for number in range(LAYERS):
        hidden = _layer(graph, hidden, number)
    # Mean over real tokens; the length division is swallowed by the normalisation after it.
    shown = graph.add(
        "Unsqueeze", [graph.add("Cast", ["mask"], "maskf", to=onnx.FLOAT), graph.whole("last", [-1])], "shown"
    )
    total = graph.add("ReduceSum", [graph.add("Mul", [hidden, shown], "masked"), "one"], "total", keepdims=0)
    graph.add("LpNormalization", [total], "vectors", axis=-1, p=2)
    inputs = [onnx.value(name, onnx.INT64, ["batch", "length"]) for name in ("ids", "mask")]
    outputs = [onnx.value("vectors", onnx.FLOAT, ["batch", WIDTH])]
    metadata = {"vocabulary": vocabulary, "positions": str(POSITIONS), "name": "all-MiniLM-L6-v2"}
    return onnx.model("minilm", graph.nodes, graph.tensors, inputs, outputs, metadata)


def main(arguments: list[str]) -> None:
    weights, vocabulary, out = (Path(argument) for argument in arguments)
    out.write_bytes(build(tensors.read(weights.read_bytes())[0], vocabulary.read_text("utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
