"""Bloom filters of change hashes, as Automerge's sync protocol writes them.

A filter is its number of entries, bits for each, and probes for each (unsigned LEB128), then the bits, lowest first in
each byte; none at all when it is empty. The places of a hash follow from its first twelve bytes: x, y and z as
little-endian 32-bit numbers modulo the number of bits; each further probe adds y to x and z to y. (About one hash in a
hundred that is not in a filter seems to be; the protocol mends that by asking.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from shared import limits
from shared.errors import BadInput
from shared.memory.repo import leb

_BITS, _PROBES = 10, 7  # one in a hundred


@dataclass(frozen=True)
class Bloom:
    """``entries`` of 0 is the empty filter, which has nothing."""

    entries: int = 0
    probes: int = _PROBES
    per_entry: int = _BITS
    bits: bytes = b""

    @classmethod
    def of(cls, hashes: Iterable[str]) -> Bloom:
        """The filter that has these hashes (hex)."""
        known = list(hashes)
        if not known:
            return cls()
        bits = bytearray((len(known) * _BITS + 7) // 8)
        for hash_ in known:
            for place in _places(hash_, len(bits) * 8, _PROBES):
                bits[place >> 3] |= 1 << (place & 7)
        return cls(len(known), _PROBES, _BITS, bytes(bits))

    def has(self, hash_: str) -> bool:
        """Whether the hash may be in it: never wrong where it says no."""
        if self.entries == 0:
            return False
        return all(self.bits[at >> 3] & 1 << (at & 7) for at in _places(hash_, len(self.bits) * 8, self.probes))

    def encode(self) -> bytes:
        if self.entries == 0:
            return b""
        return leb.write(self.entries) + leb.write(self.per_entry) + leb.write(self.probes) + self.bits


def parse(data: bytes) -> Bloom:
    """Read a filter. Raises ``BadInput('repo.sync')`` where its numbers are out of bounds or not those of its bits."""
    if not data:
        return Bloom()
    entries, at = leb.read(data, 0)
    per_entry, at = leb.read(data, at)
    probes, at = leb.read(data, at)
    bits = data[at:]
    if not 1 <= probes <= limits.REPO_BLOOM_PROBES or not 1 <= per_entry <= limits.REPO_BLOOM_BITS:
        raise _bad("its probes or bits for an entry are out of bounds")
    if entries == 0 or len(bits) != (entries * per_entry + 7) // 8:
        raise _bad("it has not the bits that it says")
    return Bloom(entries, probes, per_entry, bits)


def _places(hash_: str, size: int, probes: int) -> Iterable[int]:
    x, y, z = (number % size for number in struct.unpack("<III", bytes.fromhex(hash_[:24])))
    for _ in range(probes):
        yield x
        x, y = (x + y) % size, (y + z) % size


def _bad(said: str) -> BadInput:
    return BadInput("repo.sync", f"a Bloom filter does not read: {said}", advice="speak Automerge's sync protocol")
