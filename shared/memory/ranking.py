"""How items that match by words and items that match by meaning become one list. Agent and hub rank alike.

Both kinds of score are stretched to 0..1 within one question, because neither has a scale of its own: a BM25 score
depends on the collection and the number of words asked, and cosines of small models crowd together. Their weighted sum
was measured to be better than either alone, and better than mixing ranks; ``tests/benchmarks/retrieval.py`` shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

TERMS = 32  # words of one question that are looked up
EVEN = 0.5

_WORD = re.compile(r"\w+")
# Words so common that they only slow an index down and blur its ranking.
STOP = frozenset(
    "a about an and any are as at be been but by can do does for from had has have how i if in into is it its me my no"  # noqa: SIM905 - a list of words reads best as one text
    " not of on or our so some than that the their them then there these they this those to us was we were what when"
    " where which who why will with would you your".split()
)


class Ranked(msgspec.Struct, frozen=True):
    """An item and why it stands where it does. ``words`` and ``meaning`` are 0..1 within this question, 0 where the
    item did not match that way; ``score`` is their mix."""

    id: str
    score: float
    words: float
    meaning: float


def terms(text: str) -> list[str]:
    """The words to look up: lower case, without stop words, each once, in order, at most ``TERMS``. A text of stop
    words alone keeps them, since that is all there is to go by."""
    every = list(dict.fromkeys(_WORD.findall(text.lower())))
    return [word for word in every if word not in STOP][:TERMS] or every[:TERMS]


def mix(
    words: Mapping[str, float], meaning: Mapping[str, float], *, weight: float = EVEN, limit: int | None = None
) -> list[Ranked]:
    """Best first; equal scores by id. ``words`` are scores above 0 where more is better (BM25 with SQLite's sign
    turned), ``meaning`` cosines of either sign; an item may be in one of them only. ``weight`` is the share of
    meaning; where one mapping is empty the other decides alone."""
    share = 0.0 if not meaning else 1.0 if not words else weight
    spoken, meant = _of_most(words), _stretched(meaning)
    found = [
        Ranked(name, (1 - share) * spoken.get(name, 0.0) + share * meant.get(name, 0.0), *_pair(name, spoken, meant))
        for name in _either(words, meaning)
    ]
    found.sort(key=lambda one: (-one.score, one.id))
    return found[:limit]


def _pair(name: str, spoken: Mapping[str, float], meant: Mapping[str, float]) -> tuple[float, float]:
    return spoken.get(name, 0.0), meant.get(name, 0.0)


def _either(words: Iterable[str], meaning: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys([*words, *meaning])


def _of_most(scores: Mapping[str, float]) -> dict[str, float]:
    """As shares of the highest: an item without any of the words has 0 by nature, so the lowest match must not."""
    most = max(scores.values(), default=0.0)
    return {name: score / most if most > 0 else 0.0 for name, score in scores.items()}


def _stretched(scores: Mapping[str, float]) -> dict[str, float]:
    """The lowest becomes 0 and the highest 1; where all are alike, all are 1."""
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return {name: (score - low) / (high - low) if high > low else 1.0 for name, score in scores.items()}
