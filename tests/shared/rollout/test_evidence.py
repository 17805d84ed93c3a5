"""The test keeps what it promises: what is claimed is exact, so it is computed here, not sampled, where that can be."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.rollout.evidence import against_bad, against_fine
from shared.rollout.outcomes import Block

SHARES = st.floats(0.0, 1.0)


def binomial(worse: int, runs: int, share: float) -> float:
    return math.comb(runs, worse) * share**worse * (1 - share) ** (runs - worse)


def mean_evidence(
    earlier: list[Block], runs: int, control_runs: int, share: float, control: float, fine: bool
) -> float:
    """What one more block multiplies the evidence by, on average: summed over every way it can go."""
    total = 0.0
    for worse, control_worse in product(range(runs + 1), range(control_runs + 1)):
        blocks = [*earlier, Block(worse, runs, control_worse, control_runs)]
        logs = against_fine(blocks, 0.02) if fine else against_bad(blocks, 0.1, 0.02)
        gain = math.exp(logs[-1] - (logs[-2] if earlier else 0.0))
        total += gain * binomial(worse, runs, share) * binomial(control_worse, control_runs, control)
    return total


@settings(max_examples=60, deadline=None)
@given(
    earlier=st.lists(st.tuples(*[st.integers(0, 9)] * 4), max_size=2),
    runs=st.integers(1, 5),
    control_runs=st.integers(1, 5),
    share=SHARES,
    control=SHARES,
    fine=st.booleans(),
)
def test_no_block_is_evidence_on_average_while_the_claim_holds(
    earlier: list[tuple[int, int, int, int]], runs: int, control_runs: int, share: float, control: float, fine: bool
) -> None:
    """This is all that Ville's inequality asks for. Whatever came before, and whatever the control's share now is."""
    share = min(share, control + 0.02) if fine else max(share, control + 0.1)
    if share > 1:
        share, control = 1.0, 0.9
    blocks = [Block(min(a, b), max(a, b, 1), min(c, d), max(c, d, 1)) for a, b, c, d in earlier]
    assert mean_evidence(blocks, runs, control_runs, share, control, fine) <= 1 + 1e-9


def looks(seed: int, count: int, runs: float, shares: tuple[float, float], control_runs: float) -> list[Block]:
    chance = np.random.default_rng(seed)
    blocks = []
    for _ in range(count):
        a, b = 1 + int(chance.poisson(runs)), 1 + int(chance.poisson(control_runs))
        blocks.append(Block(int(chance.binomial(a, shares[0])), a, int(chance.binomial(b, shares[1])), b))
    return blocks


def test_whoever_looks_after_every_run_is_not_misled() -> None:
    """Sixty rollouts at the very edge of the claim, seen sixty times each."""
    edge = math.log(20)
    fine = [max(against_fine(looks(seed, 60, 0, (0.22, 0.2), 0), 0.02)) for seed in range(60)]
    bad = [max(against_bad(looks(seed, 60, 0, (0.3, 0.2), 0), 0.1, 0.02)) for seed in range(60)]
    assert sum(log >= edge for log in fine) <= 6 and sum(log >= edge for log in bad) <= 6


@pytest.mark.parametrize("base", [0.0, 0.02, 0.3])
def test_what_is_plain_is_seen_soon(base: float) -> None:
    worse = looks(1, 80, 1, (base + 0.3, base), 20)
    same = looks(1, 200, 1, (base, base), 20)
    assert against_fine(worse, 0.02)[-1] > math.log(1000) > 0 > against_bad(worse, 0.1, 0.02)[-1]
    assert against_bad(same, 0.1, 0.02)[-1] > math.log(100) > 0 > against_fine(same, 0.02)[-1]


def test_an_outage_for_all_is_no_evidence() -> None:
    """What is broken outside breaks runs of both arms: the candidate is not to blame."""
    before, during = looks(3, 40, 2, (0.02, 0.02), 50), looks(4, 40, 2, (0.6, 0.6), 50)
    assert max(against_fine(before + during, 0.02)) < math.log(20)


@given(
    blocks=st.lists(
        st.tuples(*[st.integers(0, 2000)] * 4).map(lambda n: Block(min(n[:2]), max(n[:2]), min(n[2:]), max(n[2:]))),
        max_size=5,
    )
)
@settings(deadline=None)
def test_no_counts_break_it(blocks: list[Block]) -> None:
    for logs in (against_fine(blocks, 0.02), against_bad(blocks, 0.1, 0.02), against_bad(blocks, 0.95, 0.9)):
        assert len(logs) == len(blocks) and all(math.isfinite(log) for log in logs)
