"""What the hub and its embedding worker say to each other: frames of four length bytes and MessagePack."""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from shared.memory.vector import Embedding

HEAD = struct.Struct(">I")
FRAME_BYTES = 1 << 24
TEXTS = 256  # in one request
CHARS = 10_000  # of one text: several times what any of these models reads

Kind = Literal["query", "text"]


class Encode(msgspec.Struct, frozen=True, tag="encode"):
    """``query`` texts are asked with, ``text`` ones are searched: some models want them told apart. An answer bears the
    ``number`` of its request, so that one which nobody waits for any more is not taken for the next."""

    number: int
    kind: Kind
    texts: list[str]


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded: its identity, the length of its vectors, the bytes of its files."""

    model: str
    width: int
    size: int


class Encoded(msgspec.Struct, frozen=True, tag="encoded"):
    """One vector per text, in order."""

    number: int
    vectors: list[Embedding]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It could not be done; ``kind`` is the name of one of our errors, ``number`` 0 where the model did not load."""

    number: int
    kind: str
    code: str
    message: str
    advice: str
    where: str = ""


def frame(message: msgspec.Struct) -> bytes:
    data = msgspec.msgpack.encode(message)
    return HEAD.pack(len(data)) + data
