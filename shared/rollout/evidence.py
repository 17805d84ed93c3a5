"""The sequential test: how strongly do the runs speak against a claim about two shares, whenever one looks?

The claim (the null hypothesis) is that the candidate's share is at most the control's plus a margin; or, for going on,
that it is at least the control's plus a margin. For each block of runs an *e-variable* is formed, whose mean is
at most 1 while the claim holds:

    E = prod p(run | alternative) / prod p(run | the point of the claim nearest to the alternative)

"Nearest" is in Kullback-Leibler divergence, weighted by the two numbers of runs (Turner, Ly and Grünwald, *Generic
E-variables for exact sequential k-sample tests that allow for optional stopping*, 2024; Turner and Grünwald, *Exact
anytime-valid confidence intervals for contingency tables and beyond*, 2023). Alternatives use only earlier blocks, so
the product over blocks is a nonnegative supermartingale, and by Ville's inequality it ever reaches 1/alpha with a
chance of at most alpha, however often one looks. A mean over several alternatives is one again (the method of
mixtures). Only the mean share over a block has to obey the claim: runs need not be alike, and the control may drift.

Floats live in here and nowhere else. ``docs/explanation/rollouts.md`` tells more.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from shared.rollout.outcomes import Block

_FLOOR = 0.0005  # no share is taken for certain
_STEPS = 30  # of a bisection: far finer than what is printed


def against_fine(blocks: list[Block], margin: float) -> tuple[float, ...]:
    """Log evidence, after each block, that the candidate is worse than the control by more than ``margin``."""
    return _weighed(tuple(blocks), margin, tuple(margin * (1 + 2**n) for n in range(6))).logs


def against_bad(blocks: list[Block], margin: float, tolerated: float) -> tuple[float, ...]:
    """Log evidence, after each block, that it is *not* worse by ``margin`` or more. ``tolerated`` is a difference that
    nobody minds."""
    return _weighed(tuple(blocks), margin, (0.0, tolerated)).logs


class _Weighed(NamedTuple):
    """``logs`` of the evidence after each block; ``sums``, the same of each alternative after the last; and how many
    of the control's runs were worse, of how many."""

    logs: tuple[float, ...]
    sums: tuple[float, ...]
    worse: int
    runs: int


@lru_cache(maxsize=8192)  # blocks never change, and whoever looks again has at most one more
def _weighed(blocks: tuple[Block, ...], margin: float, differences: tuple[float, ...]) -> _Weighed:
    """``differences`` between candidate and control are the alternatives."""
    if not blocks:
        return _Weighed((), (0.0,) * len(differences), 0, 0)
    before, block = _weighed(blocks[:-1], margin, differences), blocks[-1]
    control = _within((before.worse + 0.1) / (before.runs + 2))  # before anything is known: one in twenty
    sums = tuple(
        total + _gain(block, control, _within(control + difference), margin)
        for total, difference in zip(before.sums, differences, strict=True)
    )
    most = max(sums)
    log = most + math.log(sum(math.exp(one - most) for one in sums) / len(sums))
    worse, runs = before.worse + block.control_worse, before.runs + block.control_runs
    return _Weighed((*before.logs, log), sums, worse, runs)


def _gain(block: Block, control: float, candidate: float, margin: float) -> float:
    near = _nearest(block, control, candidate, margin)
    return _ratio(block.worse, block.runs, candidate, near + margin) + _ratio(
        block.control_worse, block.control_runs, control, near
    )


def _nearest(block: Block, control: float, candidate: float, margin: float) -> float:
    """The control's share at the point of the claim's edge that is nearest to the alternative: where the slope of the
    divergence is 0. It lies between what either arm alone would have."""
    low, high = sorted((control, candidate - margin))
    low, high = max(low, 0.0), min(high, 1.0 - margin)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        slope = block.runs * _slope(candidate, middle + margin) + block.control_runs * _slope(control, middle)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return (low + high) / 2


def _slope(share: float, at: float) -> float:
    return (at - share) / (at * (1 - at)) if 0 < at < 1 else math.copysign(math.inf, at - share)


def _ratio(worse: int, runs: int, share: float, other: float) -> float:
    return worse * math.log(share / other) + (runs - worse) * math.log((1 - share) / (1 - other))


def _within(share: float) -> float:
    return min(max(share, _FLOOR), 1 - _FLOOR)
