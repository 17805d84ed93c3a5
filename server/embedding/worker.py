"""The process that holds the model: ``python -m server.embedding.worker PATH``.

``PATH`` is a sentence-transformers folder, or an artefact made by ``export`` (``.onnx``), which is how a candidate is
judged as the devices will run it. It reads requests from standard input, answers on standard output, and leaves at the
end of input, so that it never outlives its hub. One thread: two spinning ones on a busy machine collapse. Nothing is
fetched from anywhere: a model is what lies in its folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from server.embedding.folder import describe
from server.embedding.messages import FRAME_BYTES, HEAD, Encode, Encoded, Failed, Kind, Ready, frame
from shared.errors import BadInput, OutriderError, Unavailable
from shared.memory.vector import Embedding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH = 32
_NICE = 5  # embedding waits for the hub, not the hub for embedding
INSTALL = "pip install 'outrider[hub-embeddings]' (about 1.3 GB), with the versions of constraints.txt"


class Model(Protocol):
    """Something that turns texts into unit vectors, [texts, width] float32."""

    ready: Ready

    def encode(self, texts: list[str], kind: Kind) -> NDArray[np.float32]: ...


class Sentences:
    """A sentence-transformers model."""

    def __init__(self, folder: Path) -> None:
        described = describe(folder)
        self._model = load(folder)
        width = self._model.get_embedding_dimension()
        self.ready = Ready(described.id, int(width or 0), described.size)

    def encode(self, texts: list[str], kind: Kind) -> NDArray[np.float32]:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        made: NDArray[np.float32] = encode(
            texts, batch_size=BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return made


class Artefact:
    """An exported graph, read by the tokenizer that its vocabulary describes."""

    def __init__(self, path: Path) -> None:
        from server.embedding.artefact import Graph

        described = describe(path)
        self._graph = Graph(path)
        width = self._graph.encode(["width"]).shape[1]
        self.ready = Ready(described.id, int(width), described.size)

    def encode(self, texts: list[str], kind: Kind) -> NDArray[np.float32]:
        return self._graph.encode(texts)


def load(folder: Path) -> Any:
    """The model of a folder that ``describe`` has passed, on the CPU. Raises ``Unavailable('embedder.missing')``,
    ``BadInput('embedder.load')``."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise Unavailable(
            "embedder.missing", f"the embedding packages are not installed: {error.name or error}", advice=INSTALL
        ) from error
    torch.set_num_threads(1)
    try:
        return SentenceTransformer(
            str(folder),
            device="cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise BadInput(
            "embedder.load",
            f"the model does not load: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            advice="give a folder that SentenceTransformer.save wrote with the installed version",
            where=str(folder),
        ) from error


def opened(path: Path) -> Model:
    return Artefact(path) if path.suffix == ".onnx" else Sentences(path)


def small(vectors: NDArray[np.float32]) -> list[Embedding]:
    """Unit vectors as signed bytes, each with the scale of its largest number."""
    import numpy as np

    peaks = np.abs(vectors).max(axis=1)
    peaks[peaks == 0] = 1.0
    whole = np.rint(vectors * (127 / peaks)[:, None]).astype(np.int8)
    return [Embedding(row.tobytes(), round(float(peak) / 127 * 1e9)) for row, peak in zip(whole, peaks, strict=True)]


def serve(model: Model, source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer until the input ends."""
    sink.write(frame(model.ready))
    sink.flush()
    while len(head := source.read(HEAD.size)) == HEAD.size:
        (length,) = HEAD.unpack(head)
        if length > FRAME_BYTES:
            return
        try:
            request = msgspec.msgpack.decode(source.read(length), type=Encode)
        except msgspec.DecodeError:
            return  # the hub has gone in the middle of a frame, or is not our hub
        sink.write(frame(_answer(model, request)))
        sink.flush()


def _answer(model: Model, request: Encode) -> Encoded | Failed:
    try:
        return Encoded(request.number, small(model.encode(request.texts, request.kind)) if request.texts else [])
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        said = f"the model refuses a text: {error}"
        code = "embedder.text"
        return Failed(request.number, "BadInput", code, said, advice="leave it out")


def failed(error: OutriderError) -> Failed:
    return Failed(0, type(error).__name__, error.code, error.message, error.advice, error.where)


def main(arguments: list[str]) -> int:
    # Libraries print to standard output as they like; the pipe is ours alone.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.platform != "win32":
        os.nice(_NICE)
    try:
        model = opened(Path(arguments[0]))
    except OutriderError as error:
        sink.write(frame(failed(error)))
        sink.flush()
        return 1
    serve(model, sys.stdin.buffer, sink)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
