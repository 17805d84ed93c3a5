"""Search by words: which words a text says how often, and BM25 over them. Pure; the rows are ``shelf``'s.

SQLite and PostgreSQL have full-text indexes that rank differently and cut words differently. The hub keeps a plain
index of its own, so that a team finds the same items whichever database it runs on.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from shared.memory.ranking import STOP, terms

WORD_CHARS = 64
ITEM_WORDS = 20_000  # different words of one item that are kept
_K1, _B = 1.2, 0.75  # as SQLite has them
_WORD = re.compile(r"\w+")


def stem(word: str) -> str:
    """An English plural as its singular (Harman's three rules); anything else as it is. Cutting more finds more and
    confuses more: this much is safe in any language that is likely to be written."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1] if not word.endswith(("ches", "shes", "xes", "sses", "zes")) else word[:-2]
    return word[:-1]


def counted(text: str) -> dict[str, int]:
    """The stems that a text says, and how often; stop words are left out."""
    found = Counter(stem(word)[:WORD_CHARS] for word in _WORD.findall(text.lower()) if word not in STOP)
    return dict(found.most_common(ITEM_WORDS))


def asked(text: str) -> dict[str, str]:
    """The stems to look up for a question, each with the word that was written."""
    return {stem(word)[:WORD_CHARS]: word for word in terms(text)}


def bm25(
    postings: Mapping[str, Mapping[str, int]], lengths: Mapping[str, int], items: int, average: float
) -> dict[str, float]:
    """Scores above 0, more is better. ``postings`` is word to item to times, ``lengths`` words in each of those items;
    ``items`` and their ``average`` length are of everything that was searched."""
    scores: dict[str, float] = {}
    for found in postings.values():
        rare = math.log(1 + (items - len(found) + 0.5) / (len(found) + 0.5)) if items >= len(found) else 1e-6
        for name, times in found.items():
            long = 1 - _B + _B * lengths.get(name, 0) / max(average, 1.0)
            scores[name] = scores.get(name, 0.0) + rare * times * (_K1 + 1) / (times + _K1 * long)
    return scores
