"""From the hub's model to the file that devices run: ``python -m server.embedding.export FOLDER OUT NAME FLOOR``.

Devices have no torch: they run one ONNX graph with 8-bit weights, and cut texts into pieces with a tokenizer of a
hundred lines that knows BERT's uncased WordPiece and nothing else. So a model is exported only where that is what it
needs: a BERT, the mean over its tokens, no prompts of its own, an uncased vocabulary. Then the file is held against the
original on texts: the tokenizer must give the same pieces, the vectors must point the same way. What is not close
enough is not written.

The steps: load the model; trace it (the exporter that needs nothing more than torch); make the weights 8-bit integers,
one scale per column, 7 of the 8 bits used because processors without VNNI saturate on the eighth; put the vocabulary in
the metadata; compare; move the file to its place. A process of its own, since all of that takes most of a gigabyte.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from server.embedding.artefact import Graph
from server.embedding.folder import Described, describe
from server.embedding.messages import Failed
from server.embedding.worker import INSTALL, failed, load
from shared.codec import hex_sha256
from shared.errors import OutriderError, Refused, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPSET = 17
FLOOR = 980  # permille: the mean cosine between the vectors of the original and the exported ones
_LEAST = 30  # permille that the worst text may lie below it: 8 bits are hardest on texts of one word
_POSITIONS = 512  # what the devices' tokenizer and memory are made for
TEXTS = (
    "Replace the kitchen sink",
    "Water heater, like for like, in the basement",
    "New two-storey house on a vacant lot with detached garage and fence",
    "Install 24 roof-mounted solar panels, 8.2 kW, with a new subpanel in the garage",
    "Interior demolition only, no structural work, second floor of an office building.",
    "What does the fee schedule say about work begun without a permit?",
    "We answer within two working days; urgent cases by phone: +44 20 7946 0018.",
    "Our tone is warm and plain. Never promise a delivery date that the warehouse has not confirmed.",
    "Invoice 2024-0117 was paid twice (EUR 1,240.50); refund the second payment.",
    "Ms. O'Neill prefers e-mail, and wants the quarterly report as a PDF.",
    "Crème brûlée, naïve façade, Ångström, Łódź, Dvořák: accents are dropped.",
    "東京 supplier: delivery on the 3rd, customs papers attached.",
    "ERROR 0x80070057 in C:\\jobs\\nightly.ps1 at line 42",
    "yes",
    "",
    "Spindle temperature above 80 °C for more than ten minutes is to be reported to the shift leader. " * 12,
)


class Exported(msgspec.Struct, frozen=True):
    """What was written. Cosines with the original are permille, over the texts compared."""

    name: str
    model: str
    sha256: str
    size: int
    width: int
    positions: int
    cosine_least: int
    cosine_mean: int


def export(folder: Path, out: Path, name: str, floor: int = FLOOR) -> Exported:
    """Write the artefact of the model in ``folder`` to ``out``.

    Raises ``Refused('embedder.export')`` where the devices cannot run such a model, ``Refused('embedder.unfaithful')``
    where the file is not close enough to the original, and what ``describe`` and ``load`` raise.
    """
    described = describe(folder)
    model = load(folder)
    _check(model)
    positions = min(described.positions or _POSITIONS, _POSITIONS, int(model.max_seq_length or _POSITIONS))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
            made = Path(scratch) / "int8.onnx"
            _trace(model, Path(scratch) / "float.onnx")
            _shrink(Path(scratch) / "float.onnx", made)
            _describe(made, name, positions, _vocabulary(model))
            told = _compare(model, made, described, name, floor)
            made.replace(out)
            return told
    except OSError as error:
        raise Unavailable(
            "embedder.disk", f"the artefact cannot be written: {error.strerror or error}", advice="free 200 MB"
        ) from error


def _check(model: Any) -> None:
    kinds = [type(module).__name__ for module in model]
    prompts = [name for name, text in (model.prompts or {}).items() if text]
    inner = type(model[0].auto_model).__name__
    pooling = getattr(model[1], "pooling_mode", "") if len(kinds) > 1 else ""
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise _unfit(f"its modules are {', '.join(kinds)}")
    if inner != "BertModel":
        raise _unfit(f"it is a {inner}")
    if pooling not in ("mean", ("mean",), ["mean"]):
        raise _unfit(f"its pooling is {pooling}")
    if prompts:
        raise _unfit(f"it wants prompts ({', '.join(prompts)})")


def _unfit(said: str) -> Refused:
    return Refused(
        "embedder.export",
        f"devices cannot run this model: {said}",
        advice="take an uncased BERT with mean pooling and no prompts, such as all-MiniLM-L6-v2",
    )


def _vocabulary(model: Any) -> list[str]:
    pieces: dict[str, int] = model.tokenizer.get_vocab()
    ordered = sorted(pieces, key=pieces.__getitem__)
    if [pieces[piece] for piece in ordered] != list(range(len(ordered))) or any("\n" in piece for piece in ordered):
        raise _unfit("its vocabulary has gaps")
    return ordered


def _trace(model: Any, out: Path) -> None:
    import torch

    bert = model[0].auto_model
    bert.config._attn_implementation = "eager"  # the fused kernels cannot be traced

    class Whole(torch.nn.Module):  # type: ignore[misc] # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, mask: Any) -> Any:
            hidden = self.bert(
                input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids)
            ).last_hidden_state
            shown = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * shown).sum(1) / shown.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=-1)

    ids = torch.tensor([[101, 2003, 102, 0], [101, 2003, 2003, 102]])
    with torch.inference_mode(), warnings.catch_warnings():
        # The tracer warns of every shape it fixes; the comparison on texts of many lengths is what would show it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Whole().eval(),
            (ids, (ids > 0).long()),
            str(out),
            dynamo=False,
            opset_version=OPSET,
            input_names=["ids", "mask"],
            output_names=["vectors"],
            dynamic_axes={"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}, "vectors": {0: "batch"}},
        )


def _shrink(source: Path, out: Path) -> None:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it advises a preparation step that a traced BERT gains nothing from
    quantize_dynamic(source, out, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _describe(path: Path, name: str, positions: int, vocabulary: list[str]) -> None:
    import onnx

    graph = onnx.load(str(path))
    del graph.metadata_props[:]
    told = {"name": name, "positions": str(positions), "vocabulary": "\n".join(vocabulary)}
    for key, value in sorted(told.items()):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(graph, str(path))


def _compare(model: Any, path: Path, described: Described, name: str, floor: int) -> Exported:
    graph = Graph(path)
    for text in TEXTS:
        theirs = model.tokenizer(text, truncation=True, max_length=graph.positions)["input_ids"]
        if theirs != graph.pieces(text):
            raise _unfit(
                f"its tokenizer is not the uncased WordPiece of the devices (it cuts {text[:40]!r} differently)"
            )
    original = model.encode(list(TEXTS), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    exported = graph.encode(list(TEXTS))
    cosines = _cosines(original, exported)
    mean = round(sum(cosines) / len(cosines))
    if mean < floor or min(cosines) < floor - _LEAST:
        raise Refused(
            "embedder.unfaithful",
            f"the 8-bit graph is off: its cosines with the original are {mean / 1000:.3f} in the mean and "
            f"{min(cosines) / 1000:.3f} at least",
            advice="choose another model; this one does not bear 8-bit weights",
        )
    data = path.read_bytes()
    return Exported(
        name,
        described.id,
        hex_sha256(data),
        len(data),
        int(exported.shape[1]),
        graph.positions,
        min(cosines),
        mean,
    )


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> list[int]:
    return [round(float(a @ b) * 1000) for a, b in zip(one, other, strict=True)]


def main(arguments: list[str]) -> int:
    told: Exported | Failed
    try:
        import onnx as _onnx  # noqa: F401 - asked for before the long part
        import onnxruntime as _onnxruntime  # noqa: F401 - the same
    except ImportError as error:
        missing = Unavailable("embedder.missing", f"{error.name} is not installed", advice=INSTALL)
        told = failed(missing)
    else:
        try:
            told = export(Path(arguments[0]), Path(arguments[1]), arguments[2], int(arguments[3]))
        except OutriderError as error:
            told = failed(error)
    sys.stdout.buffer.write(msgspec.json.encode(told))
    return 1 if isinstance(told, Failed) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
