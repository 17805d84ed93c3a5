"""Cutting text into the pieces of a byte-pair vocabulary whose order is that of merging, as SentencePiece keeps it.

A word is the characters between white space with a ``▁`` before them. Of two pieces that stand side by side and are a
piece together, the pair whose union comes first in the vocabulary is joined first, the leftmost of equals; what no
piece is left for goes as bytes. Runs of white space count as one space, which the reference implementation keeps:
nothing a search would miss. Tests hold it to ids that the reference gave.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

_WORD_CHARS = 200  # a longer word is cut there: joining costs the square of it
_CACHED = 20_000  # words


class Pieces:
    """``vocabulary`` in order; ``<0xNN>`` are its 256 bytes."""

    def __init__(self, vocabulary: list[str]) -> None:
        self._ids = {piece: number for number, piece in enumerate(vocabulary)}
        self._bytes = [self._ids[f"<0x{byte:02X}>"] for byte in range(256)]
        self._word = lru_cache(_CACHED)(self._cut)

    def ids(self, text: str) -> list[int]:
        """The ids of a text; none where it has only white space."""
        return [number for word in text.split() for number in self._word(word)]

    def _cut(self, word: str) -> tuple[int, ...]:
        found: list[int] = []
        marked = f"▁{word}"
        for begin in range(0, len(marked), _WORD_CHARS):
            for piece in self._joined(list(marked[begin : begin + _WORD_CHARS])):
                known = self._ids.get(piece)
                found.extend([known] if known is not None else [self._bytes[byte] for byte in _utf8(piece)])
        return tuple(found)

    def _joined(self, parts: list[str]) -> list[str]:
        while True:
            pairs = [(self._ids.get(one + two), place) for place, (one, two) in enumerate(pairwise(parts))]
            known = [(number, place) for number, place in pairs if number is not None]
            if not known:
                return parts
            _, place = min(known)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]


def _utf8(piece: str) -> bytes:
    return piece.encode("utf-8", "replace")  # a lone half of a character, which no text file has
