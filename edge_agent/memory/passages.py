"""A long text in passages that an embedder reads whole. An embedder sees the first 256 tokens of a text and no more."""

from __future__ import annotations

CHARS = 1_000
_SHORTEST = 600  # where to begin to look for an end
_ENDS = ("\n\n", "\n", ". ", "! ", "? ", "; ", ", ", " ")


def passages(text: str) -> list[str]:
    """The text in pieces of at most ``CHARS`` characters, which end with a paragraph, a sentence or a word where they
    can. Together they are the text; at least one."""
    found = []
    begin = 0
    while len(text) - begin > CHARS:
        end = _end(text, begin)
        found.append(text[begin:end])
        begin = end
    return [*found, text[begin:]] if begin < len(text) or not found else found


def _end(text: str, begin: int) -> int:
    for mark in _ENDS:
        place = text.rfind(mark, begin + _SHORTEST, begin + CHARS)
        if place >= 0:
            return place + len(mark) if place + len(mark) <= begin + CHARS else place
    return begin + CHARS
