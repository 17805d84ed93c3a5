"""Votes of past cases and what they are worth. Pure Python, no arrays.

The nearest past decisions vote, the nearer the louder. One more voter stands for everything that memory does not know:
it has the fixed similarity ``BACKGROUND`` and no lane, so that a case unlike all the past gets no loud answer merely
because its few far neighbours happen to agree.

A share of votes is not a probability. ``Calibration`` turns it into one by what happened: each past case was held out
in turn, the others voted, and its own decision showed whether they were right.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

# Chosen by cross-validation on real permit decisions. The choice is not critical: agreement stays within half a point
# for a sharpness of 10 to 20 and 6 to 50 neighbours.
SHARPNESS = 20.0
NEAREST = 12
BACKGROUND = 0.3

# Fewer held-out cases than this share one rate.
BIN_CASES = 10


class Ballot(msgspec.Struct, frozen=True):
    """Shares of the vote in 0..1, best lane first; they add up to less than 1, the rest being the unknown."""

    lanes: list[tuple[str, float]]

    @property
    def lane(self) -> str:
        return self.lanes[0][0] if self.lanes else ""

    @property
    def share(self) -> float:
        return self.lanes[0][1] if self.lanes else 0.0


def vote(neighbours: Iterable[tuple[str, float]]) -> Ballot:
    """``neighbours`` are (lane, similarity up to 1). Ties go to the lane that sorts first."""
    weights: dict[str, float] = {}
    total = math.exp((BACKGROUND - 1.0) * SHARPNESS)
    for lane, similarity in neighbours:
        weight = math.exp((min(similarity, 1.0) - 1.0) * SHARPNESS)
        weights[lane] = weights.get(lane, 0.0) + weight
        total += weight
    return Ballot(sorted(((lane, weight / total) for lane, weight in weights.items()), key=lambda e: (-e[1], e[0])))


class Calibration(msgspec.Struct, frozen=True):
    """A rising step function from vote share to permille: from ``starts[i]`` on, ``rates[i]`` held-out cases of 1000
    were decided as the vote said. Below ``starts[0]`` it falls in proportion to the share."""

    starts: list[float]
    rates: list[int]

    def permille(self, share: float) -> int:
        if not self.starts:
            return 0
        place = bisect_right(self.starts, share) - 1
        if place >= 0:
            return self.rates[place]
        return int(self.rates[0] * max(share, 0.0) / self.starts[0]) if self.starts[0] > 0 else 0


def calibrate(held_out: Sequence[tuple[float, bool]]) -> Calibration:
    """Isotonic regression (pool adjacent violators) over bins of at least ``BIN_CASES`` held-out cases.

    A rate is (right + 1) / (all + 2): a short history is never certain, and a long one barely moves.
    """
    blocks: list[list[float]] = []  # [first share, right, all]
    for first, right, count in _bins(sorted(held_out)):
        blocks.append([first, right, count])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][2] >= blocks[-1][1] * blocks[-2][2]:
            _, right, count = blocks.pop()
            blocks[-1][1] += right
            blocks[-1][2] += count
    rates: list[int] = []
    for _, right, count in blocks:
        rate = int(1000 * (right + 1) / (count + 2))
        rates.append(max(rate, rates[-1]) if rates else rate)
    return Calibration([first for first, _, _ in blocks], rates)


def _bins(ordered: Sequence[tuple[float, bool]]) -> list[tuple[float, float, float]]:
    """(first share, right, all) per bin; equal shares are never parted, and a short last bin joins the one before."""
    bins: list[tuple[float, float, float]] = []
    first, right, count = 0.0, 0, 0
    for place, (share, hit) in enumerate(ordered):
        if count == 0:
            first = share
        right, count = right + hit, count + 1
        last = place + 1 == len(ordered)
        if count >= BIN_CASES and (last or ordered[place + 1][0] > share):
            bins.append((first, right, count))
            right, count = 0, 0
    if count and bins:
        begun, hits, size = bins.pop()
        bins.append((begun, hits + right, size + count))
    elif count:
        bins.append((first, right, count))
    return bins
