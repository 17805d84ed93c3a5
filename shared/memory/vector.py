"""The vector of a text, as it travels and is kept: small integers and one scale."""

from __future__ import annotations

import msgspec


class Embedding(msgspec.Struct, frozen=True):
    """A unit vector as signed bytes: number i is ``values[i] * scale / 1e9``."""

    values: bytes
    scale: int

    def floats(self) -> list[float]:
        return [value * self.scale / 1e9 for value in memoryview(self.values).cast("b")]

    def similarity(self, other: Embedding) -> int:
        """Cosine in permille, -1000 to 1000, for two vectors of the same model."""
        mine, theirs = memoryview(self.values).cast("b"), memoryview(other.values).cast("b")
        dot = sum(a * b for a, b in zip(mine, theirs, strict=True)) * self.scale * other.scale
        return max(-1000, min(1000, round(dot / 1e15)))
