"""A writer for the part of the ONNX file format that one small graph needs.

ONNX files are protocol buffers. Writing the dozen message types used here takes less than the ``onnx`` package weighs
on a device, and the bytes depend on nothing but the arguments, so a converted model has one hash everywhere. Field
numbers are those of ``onnx.proto`` (IR version 8). Only what ``minilm`` uses is here; nothing is read back.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

FLOAT, UINT8, INT8, INT32, INT64 = 1, 2, 3, 6, 7
IR_VERSION = 8
OPSET = 17
# Fused operators of ONNX Runtime itself; its own domain, its own version.
RUNTIME_DOMAIN = "com.microsoft"


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def tensor(name: str, kind: int, shape: Sequence[int], raw: bytes) -> bytes:
    """A TensorProto: ``raw`` is little-endian, row-major."""
    return b"".join(_int(1, size) for size in shape) + _int(2, kind) + _bytes(8, name) + _bytes(9, raw)


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    head = _bytes(1, name)
    if isinstance(value, float):
        return head + _varint(2 << 3 | 5) + struct.pack("<f", value) + _int(20, 1)
    if isinstance(value, int):
        return head + _int(3, value) + _int(20, 2)
    return head + b"".join(_int(8, item) for item in value) + _int(20, 7)


def node(
    kind: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    domain: str = "",
    **attributes: int | float | Sequence[int],
) -> bytes:
    """A NodeProto. An empty input name leaves an optional input out."""
    body = b"".join(_bytes(1, name) for name in inputs) + b"".join(_bytes(2, name) for name in outputs)
    body += _bytes(3, outputs[0]) + _bytes(4, kind)
    body += b"".join(_bytes(5, _attribute(name, value)) for name, value in sorted(attributes.items()))
    return body + (_bytes(7, domain) if domain else b"")


def value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto; a string in ``shape`` names a size known only at run time."""
    dims = b"".join(_bytes(1, _int(1, size) if isinstance(size, int) else _bytes(2, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, kind) + _bytes(2, dims)))


def model(
    name: str,
    nodes: Sequence[bytes],
    tensors: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    metadata: dict[str, str],
) -> bytes:
    """A whole ModelProto, ready to write."""
    graph = b"".join(_bytes(1, item) for item in nodes) + _bytes(2, name)
    graph += b"".join(_bytes(5, item) for item in tensors)
    graph += b"".join(_bytes(11, item) for item in inputs) + b"".join(_bytes(12, item) for item in outputs)
    head = _int(1, IR_VERSION) + _bytes(2, "outrider") + _bytes(7, graph)
    opsets = _bytes(8, _bytes(1, "") + _int(2, OPSET)) + _bytes(8, _bytes(1, RUNTIME_DOMAIN) + _int(2, 1))
    props = b"".join(_bytes(14, _bytes(1, key) + _bytes(2, text)) for key, text in sorted(metadata.items()))
    return head + opsets + props
