"""How good a ranking is, given which texts were right: nDCG and recall. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

DEPTH = 10


def ndcg(ranked: Sequence[str], relevant: Collection[str], depth: int = DEPTH) -> float:
    """1.0 where every relevant text stands first, 0.0 where none is among the first ``depth``. Every relevant text is
    as good as another."""
    gain = sum(1 / math.log2(place + 2) for place, name in enumerate(ranked[:depth]) if name in relevant)
    best = sum(1 / math.log2(place + 2) for place in range(min(len(relevant), depth)))
    return gain / best if best else 0.0


def recall(ranked: Sequence[str], relevant: Collection[str], depth: int = DEPTH) -> float:
    """The share of relevant texts among the first ``depth``; of as many as fit there where there are more."""
    most = min(len(relevant), depth)
    return sum(name in relevant for name in ranked[:depth]) / most if most else 0.0
