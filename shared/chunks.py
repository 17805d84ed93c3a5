"""The chunk list of a large file: the SHA-256 of each of its 1 MiB chunks, so that a part can be judged as it comes.

The list is 32 bytes for each chunk, in order, and nothing else; the last chunk may be shorter. Whoever fetches a
gigabyte over a bad line then fetches a damaged chunk again, and not the file. Spec page: ``shared/spec/release.md``.
"""

from __future__ import annotations

import hashlib

from shared import limits
from shared.errors import Tampered

_HASH = 32


def list_bytes(size: int) -> int:
    """The length of the chunk list of a file of ``size`` bytes."""
    return -(-size // limits.MODEL_CHUNK_BYTES) * _HASH


def read_list(data: bytes, size: int, sha256: str) -> list[bytes]:
    """The hashes in a chunk list that must have this SHA-256. Raises ``Tampered('chunks.hash')``."""
    if len(data) != list_bytes(size) or hashlib.sha256(data).hexdigest() != sha256:
        raise Tampered("chunks.hash", "the chunk list is not the one that was signed", advice="tell the administrator")
    return [data[place : place + _HASH] for place in range(0, len(data), _HASH)]


class Lister:
    """Makes the SHA-256 and the chunk list of a file from its bytes as they come, in pieces of any length."""

    def __init__(self) -> None:
        self.size = 0
        self._whole, self._chunk, self._list = hashlib.sha256(), hashlib.sha256(), bytearray()

    def take(self, data: bytes) -> None:
        self._whole.update(data)
        view = memoryview(data)
        while view:
            room = limits.MODEL_CHUNK_BYTES - self.size % limits.MODEL_CHUNK_BYTES
            part, view = view[:room], view[room:]
            self._chunk.update(part)
            self.size += len(part)
            if len(part) == room:
                self._end()

    def done(self) -> tuple[str, bytes]:
        """The file's SHA-256 and its chunk list. Nothing may be taken after this."""
        if self.size % limits.MODEL_CHUNK_BYTES:
            self._end()
        return self._whole.hexdigest(), bytes(self._list)

    def _end(self) -> None:
        self._list += self._chunk.digest()
        self._chunk = hashlib.sha256()
