"""What was changed between two texts, as small pieces, so that edits made apart can be merged.

The ends that are equal are left alone; what is between is compared word by word, and each piece that differs is cut
down to the letters that do. The work is bounded: a middle too large for words is compared by lines, then taken whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher

_WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_WORK = 250_000  # pieces of one text times pieces of the other: a tenth of a second at the very worst


def pieces(old: str, new: str) -> list[tuple[int, int, str]]:
    """``(start, end, text)``: in ``old``, what is from start to end becomes text. Last piece first, so that writing
    one leaves the places of those that follow as they are. Offsets are characters."""
    start, end = _ends(old, new)
    middle, wanted = old[start : len(old) - end], new[start : len(new) - end]
    found = list(_compared(middle, wanted, start))
    found.reverse()
    return found


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


def _compared(old: str, new: str, base: int) -> Iterator[tuple[int, int, str]]:
    if not old or not new:
        if old or new:
            yield base, base + len(old), new
        return
    before, after = _cut(old, new)
    places = [0]
    for part in before:
        places.append(places[-1] + len(part))
    for tag, first, last, other, until in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        text = "".join(after[other:until])
        gone = old[places[first] : places[last]]
        start, end = _ends(gone, text)
        at = base + places[first]
        yield at + start, at + len(gone) - end, text[start : len(text) - end]


def _cut(old: str, new: str) -> tuple[list[str], list[str]]:
    for pattern in (_WORDS, _LINES):
        before, after = pattern.findall(old), pattern.findall(new)
        if len(before) * len(after) <= _WORK:
            return before, after
    return [old], [new]
