"""Patterns that begin with one of many words, tried only where such a word stands.

A regular expression with fifty alternatives tries them all at every place of a text. Most words of a text begin none of
them, and a set tells that at once from their first letters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"\w+")
_KEY = 3  # letters of a word's beginning that are looked at

Begins = dict[str, list[int]]


def begins(text: str) -> Begins:
    """Where words begin, by their first letter, their first two and their first three."""
    places: Begins = defaultdict(list)
    for match in _WORD.finditer(text):
        letters = match[0][:_KEY].lower()
        for size in range(1, len(letters) + 1):
            places[letters[:size]].append(match.start())
    return places


class Worded:
    """``words`` are alternatives, parted by ``|``, whatever their case; ``rest`` is what must follow one of them;
    ``before`` looks back. An alternative that begins with anything but letters is tried everywhere."""

    def __init__(self, words: str, rest: str, *, before: str = r"(?<!\w)") -> None:
        self.pattern = re.compile(rf"{before}(?i:{words}){rest}")
        keys = {_key(alternative) for alternative in _parted(words)}
        # What another key begins with is found under that one.
        self._keys = sorted(key for key in keys if not any(key != other and key.startswith(other) for other in keys))

    def found(self, text: str, places: Begins) -> Iterator[re.Match[str]]:
        """Every match, at each place that it can begin at, not in their order. ``places`` are the text's ``begins``."""
        if "" in self._keys:
            yield from self.pattern.finditer(text)
            return
        for key in self._keys:
            for at in places.get(key, ()):
                if match := self.pattern.match(text, at):
                    yield match


def _parted(words: str) -> list[str]:
    """The alternatives, parted at the bars that stand in no bracket."""
    parts, depth = [""], 0
    for place, char in enumerate(words):
        escaped = place > 0 and words[place - 1] == "\\"
        if not escaped:
            depth += (char in "([") - (char in ")]")
        if char == "|" and depth == 0 and not escaped:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _key(alternative: str) -> str:
    """The letters that every text of this alternative begins with, as far as they are looked at."""
    letters = _LETTERS.match(alternative)
    run = letters[0] if letters else ""
    if alternative[len(run) : len(run) + 1] in ("?", "*", "{"):
        run = run[:-1]
    return run[:_KEY].lower()
