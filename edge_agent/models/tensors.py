"""Arrays as the models' files have them: safetensors (a header length as u64, little-endian, a JSON header, raw rows),
and a vector made small enough to keep."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.vector import Embedding
from shared.errors import BadInput

_TYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1"}


def read(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors of the types that are used here, by name, and the file's own words about itself. Raises
    ``BadInput('model.weights')``."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        told: dict[str, str] = header.pop("__metadata__", {})
        base = 8 + length
        found = {}
        for name, entry in header.items():
            if entry["dtype"] in _TYPES:
                begin, end = entry["data_offsets"]
                rows = np.frombuffer(data[base + begin : base + end], _TYPES[entry["dtype"]])
                found[name] = rows.reshape(entry["shape"])
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = "the weights file is not safetensors"
        raise BadInput("model.weights", said, advice="fetch the model again") from error
    return found, told


def write(tensors: dict[str, NDArray[Any]], told: dict[str, str]) -> bytes:
    """The same tensors and words give the same bytes."""
    kinds = {np.dtype(form): name for name, form in _TYPES.items()}
    header: dict[str, Any] = {"__metadata__": told}
    rows, end = [], 0
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        place = [end, end + len(raw)]
        header[name] = {"dtype": kinds[array.dtype], "shape": list(array.shape), "data_offsets": place}
        rows.append(raw)
        end += len(raw)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(rows)


def shrunk(vector: NDArray[np.float32]) -> Embedding:
    """A unit vector in signed bytes."""
    peak = float(np.abs(vector).max()) or 1.0
    return Embedding(np.rint(vector * (127 / peak)).astype(np.int8).tobytes(), round(peak / 127 * 1e9))
