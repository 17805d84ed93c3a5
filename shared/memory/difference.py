"""What was changed between two texts, as small pieces, so that edits made apart can be merged.

The ends that are equal are left alone. What is between is cut into words; words that stand once in either text, in the
same order, hold the rest together; between two of them words are compared one by one, and each piece that differs is
cut down to the letters that do. So the work grows with the text and not with its square.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher

_WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
_WORK = 40_000  # words of one text times words of the other that are compared one by one, between two that hold

Piece = tuple[int, int, str]


def pieces(old: str, new: str) -> list[Piece]:
    """``(start, end, text)``: in ``old``, what is from start to end becomes text. Last piece first, so that writing
    one leaves the places of those that follow as they are. Offsets are characters."""
    start, end = _ends(old, new)
    before = _WORDS.findall(old[start : len(old) - end])
    after = _WORDS.findall(new[start : len(new) - end])
    found = []
    at = start
    for gone, text in _gaps(before, after):
        if gone != text:
            first, last = _ends(gone, text)
            found.append((at + first, at + len(gone) - last, text[first : len(text) - last]))
        at += len(gone)
    found.reverse()
    return found


def _gaps(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Both texts cut in the same places: pairs of what stood there and what stands there now."""
    left = right = 0
    for place, other in [*_held(before, after), (len(before), len(after))]:
        yield from _compared(before[left:place], after[right:other])
        left, right = place, other


def _held(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Places of words that stand once in both texts: as many as can be had in one order."""
    once, counts = Counter(before), Counter(after)
    where = {word: place for place, word in enumerate(after) if counts[word] == 1}
    pairs = [(place, where[word]) for place, word in enumerate(before) if once[word] == 1 and word in where]
    ends: list[int] = []  # by length, the smallest place that a rising row of that length ends with
    last: list[int] = []  # and the pair it ends with
    before_it: list[int] = []  # for each pair the one before it in its row, or -1
    for number, (_, other) in enumerate(pairs):
        size = bisect_left(ends, other)
        ends[size : size + 1] = [other]
        last[size : size + 1] = [number]
        before_it.append(last[size - 1] if size else -1)
    row = []
    at = last[-1] if last else -1
    while at >= 0:
        row.append(pairs[at])
        at = before_it[at]
    return row[::-1]


def _compared(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    if not before or not after or len(before) * len(after) > _WORK:
        yield "".join(before), "".join(after)
        return
    for _, first, last, other, until in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        yield "".join(before[first:last]), "".join(after[other:until])


def _ends(old: str, new: str) -> tuple[int, int]:
    """How many letters are equal at the beginning, and of the rest at the end."""
    most = min(len(old), len(new))
    start = _equal(most, lambda size: old[:size] == new[:size])
    end = _equal(most - start, lambda size: old[len(old) - size :] == new[len(new) - size :])
    return start, end


def _equal(most: int, same: Callable[[int], bool]) -> int:
    """The largest size up to ``most`` for which two texts are the ``same``."""
    least = 0
    while least < most:
        size = (least + most + 1) // 2
        least, most = (size, most) if same(size) else (least, size - 1)
    return least
