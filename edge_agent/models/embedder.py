"""MiniLM through ONNX Runtime. Lives in the worker process only: this module imports numpy and onnxruntime.

One thread without spinning: two spinning threads on a busy two-core machine collapse. Texts are batched by length, so
that short ones are not padded to long ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edge_agent.models.tensors import shrunk
from edge_agent.models.wordpiece import WordPiece
from edge_agent.vector import Embedding
from shared.errors import BadInput

# The runtime's own errors have no base class but Exception.
_LOAD_ERRORS = (
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
)
_BATCH_TOKENS = 2048  # padded tokens in one run: bounds memory, and how long a cancellation waits


class Embedder:
    """Text to unit vectors. ``path`` is a file that ``minilm`` wrote: graph, weights and vocabulary."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            self._tokens = WordPiece(metadata["vocabulary"].splitlines())
            self._most = int(metadata["positions"])
        except (*_LOAD_ERRORS, RuntimeError, KeyError, ValueError) as error:
            raise BadInput(
                "model.load",
                f"the embedder does not load: {error}",
                advice="remove it and add it again",
                where=str(path),
            ) from error

    def embed(
        self, texts: tuple[str, ...], cancelled: Callable[[], bool] = lambda: False
    ) -> tuple[Embedding, ...] | None:
        """One embedding per text, in order; None when cancelled between batches."""
        ids = [self._tokens.ids(text, self._most) for text in texts]
        found: list[Embedding | None] = [None] * len(texts)
        for batch in _batches([len(item) for item in ids]):
            if cancelled():
                return None
            width = max(len(ids[place]) for place in batch)
            block = np.zeros((len(batch), width), np.int64)
            mask = np.zeros_like(block)
            for row, place in enumerate(batch):
                block[row, : len(ids[place])] = ids[place]
                mask[row, : len(ids[place])] = 1
            vectors = self._session.run(None, {"ids": block, "mask": mask})[0]
            for place, vector in zip(batch, vectors, strict=True):
                found[place] = shrunk(vector)
        return tuple(item for item in found if item is not None)


def _batches(lengths: list[int]) -> list[list[int]]:
    """Places grouped by similar length, each group within ``_BATCH_TOKENS`` when padded."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[place] <= _BATCH_TOKENS:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
