"""The file that devices run: one ONNX graph with its vocabulary in its metadata. Read here to be judged before it is
published, through the reference tokenizer, not through the one of the devices.

    inputs   ids, mask   int64 [batch, length]
    output   vectors     float32 [batch, width], unit length
    metadata vocabulary (one piece a line), positions (the longest text in tokens), name
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import BadInput, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Graph:
    """An artefact, loaded: one thread, no spinning."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile
            from tokenizers.implementations import BertWordPieceTokenizer
        except ImportError as error:
            raise Unavailable(
                "embedder.missing",
                f"the embedding packages are not installed: {error.name or error}",
                advice="pip install 'outrider[hub-embeddings]'",
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            told = self._session.get_modelmeta().custom_metadata_map
            pieces = {piece: number for number, piece in enumerate(told["vocabulary"].splitlines())}
            self.name, self.positions = told["name"], int(told["positions"])
        except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile, RuntimeError, KeyError, ValueError) as error:
            raise BadInput(
                "embedder.artefact",
                f"this is not an exported embedder: {str(error).splitlines()[0]}",
                advice="make it with `outrider hub embedder export`",
                where=str(path),
            ) from error
        self._tokens = BertWordPieceTokenizer(vocab=pieces, lowercase=True)
        self._tokens.enable_truncation(self.positions)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors, [texts, width]; one text at a time, so that no text's padding touches another."""
        import numpy as np

        return np.stack([self.run([self.pieces(text)])[0] for text in texts])

    def pieces(self, text: str) -> list[int]:
        """The text as ids of the vocabulary, with its first and last marks, cut at ``positions``."""
        ids: list[int] = self._tokens.encode(text).ids
        return ids

    def run(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """Vectors of texts given as ids, padded to the longest."""
        import numpy as np

        width = max(map(len, ids))
        block = np.zeros((len(ids), width), np.int64)
        mask = np.zeros_like(block)
        for row, one in enumerate(ids):
            block[row, : len(one)] = one
            mask[row, : len(one)] = 1
        made: NDArray[np.float32] = self._session.run(None, {"ids": block, "mask": mask})[0]
        return made
