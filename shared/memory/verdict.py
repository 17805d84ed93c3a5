"""What is asked of the process that judges changes, and what it answers. Does not load the codec.

A message between the two is its length (4 bytes, big-endian) and MessagePack.
"""

from __future__ import annotations

from typing import IO

import msgspec

from shared.memory.item import Item

_LENGTH = 4


class Task(msgspec.Struct, frozen=True):
    """One item: its document as it is saved, or nothing where it is new, and the changes to judge, in any order.

    ``base`` was judged before: a saved document, single changes, or one after the other.
    """

    item: str
    base: bytes
    chunks: list[bytes]


class Probe(msgspec.Struct, frozen=True):
    """A document that took its changes: saved anew, its heads (hex, sorted), and what the item says."""

    saved: bytes
    heads: tuple[str, ...]
    item: Item


class Refusal(msgspec.Struct, frozen=True):
    """A change that was not taken: its place among those given, its hash where it could be read, and why.

    ``code`` is ``memory.early`` where it may be given again once what it builds on is there; else it is hostile.
    """

    place: int
    hash: str
    code: str
    message: str


class Verdict(msgspec.Struct, frozen=True):
    """What became of one item's changes. ``taken`` are the hashes of those that are in ``probe.saved``, in the order
    given, duplicates included. Where none is in, ``probe`` is None."""

    item: str
    probe: Probe | None
    taken: tuple[str, ...]
    refused: tuple[Refusal, ...]


TASKS = msgspec.msgpack.Decoder(list[Task])
VERDICT = msgspec.msgpack.Decoder(Verdict)


def pack(what: object) -> bytes:
    """A message."""
    data = msgspec.msgpack.encode(what)
    return len(data).to_bytes(_LENGTH, "big") + data


def unpack(pipe: IO[bytes]) -> bytes | None:
    """The next message's MessagePack. None where the other side has ended."""
    head = pipe.read(_LENGTH)
    size = int.from_bytes(head, "big")
    data = pipe.read(size) if len(head) == _LENGTH else b""
    return data if len(head) == _LENGTH and len(data) == size else None
