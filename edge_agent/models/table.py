"""The light embedder: one vector per piece of a word, and a text is the mean of its pieces. It needs numpy alone.

It finds less than MiniLM does and costs a hundredth, so it is for computers on which ONNX Runtime does not run. One
file is the whole of it, in the safetensors format: ``table`` int8 [pieces, width], ``scale`` float32 [pieces, 1], and
the vocabulary in the header. Made on the device from the published weights as ``python -m edge_agent.models.table
WEIGHTS TOKENIZER OUT``; rounding is element-wise IEEE arithmetic, so the bytes are the same on every machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_agent.models import tensors
from edge_agent.models.pieces import Pieces
from edge_agent.vector import Embedding
from shared.errors import BadInput

_LOOK = 256  # texts between two looks at whether the job was cancelled


class Table:
    """Text to unit vectors. ``path`` is a file that ``build`` made."""

    def __init__(self, path: Path) -> None:
        try:
            found, told = tensors.read(path.read_bytes())
            self._rows, self._scale = found["table"], found["scale"]
            self._pieces = Pieces(told["vocabulary"].split("\n"))
        except (BadInput, KeyError, OSError) as error:
            raise BadInput(
                "model.load",
                f"the embedder does not load: {error}",
                advice="remove it and add it again",
                where=str(path),
            ) from error

    def embed(
        self, texts: tuple[str, ...], cancelled: Callable[[], bool] = lambda: False
    ) -> tuple[Embedding, ...] | None:
        """One embedding per text, in order; None when cancelled on the way."""
        made: list[Embedding] = []
        for text in texts:
            if len(made) % _LOOK == 0 and cancelled():
                return None
            made.append(self._one(text))
        return tuple(made)

    def _one(self, text: str) -> Embedding:
        ids = self._pieces.ids(text)
        if not ids:
            return tensors.shrunk(np.zeros(self._rows.shape[1], np.float32))
        mean = (self._rows[ids] * self._scale[ids]).sum(axis=0)
        return tensors.shrunk(mean / max(float(np.linalg.norm(mean)), 1e-9))


def build(weights: bytes, tokenizer: bytes, name: str) -> bytes:
    """The one file, from float16 rows and the vocabulary of a ``tokenizer.json``. Raises ``BadInput``."""
    found, _ = tensors.read(weights)
    try:
        rows = found["embedding.weight"].astype(np.float32)
        ids: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput("model.weights", "these are not the table's files", advice="fetch the model again") from error
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.float32(1e-9)) / np.float32(127)
    vocabulary = "\n".join(sorted(ids, key=ids.__getitem__))
    made = {"table": np.rint(rows / scale).astype(np.int8), "scale": scale.astype(np.float32)}
    return tensors.write(made, {"name": name, "vocabulary": vocabulary})


def main(arguments: list[str]) -> None:
    weights, tokenizer, out = (Path(argument) for argument in arguments)
    out.write_bytes(build(weights.read_bytes(), tokenizer.read_bytes(), "wordllama-256"))


if __name__ == "__main__":
    main(sys.argv[1:])
