from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.embedding.judging import ndcg, recall


@pytest.mark.parametrize(
    "ranked, relevant, gain, found",
    [
        (["a", "b"], {"a", "b"}, 1.0, 1.0),
        (["x", "a"], {"a"}, 1 / math.log2(3), 1.0),
        (["x", "y"], {"a"}, 0.0, 0.0),
        (["a", "x", "b"], {"a", "b"}, (1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3)), 1.0),
        ([], {"a"}, 0.0, 0.0),
        (["a"], set(), 0.0, 0.0),
        ([*"xxxxxxxxxx", "a"], {"a"}, 0.0, 0.0),
    ],
)
def test_scores_of_known_rankings(ranked: list[str], relevant: set[str], gain: float, found: float) -> None:
    assert ndcg(ranked, relevant) == pytest.approx(gain)
    assert recall(ranked, relevant) == pytest.approx(found)


@given(st.permutations("abcdefghijklmno"), st.sets(st.sampled_from("abcdefghijklmno"), min_size=1))
def test_a_better_place_never_scores_less(ranked: list[str], relevant: set[str]) -> None:
    best = sorted(ranked, key=lambda name: name not in relevant)
    assert 0 <= ndcg(ranked, relevant) <= ndcg(best, relevant) == pytest.approx(1.0)
    assert 0 <= recall(ranked, relevant) <= recall(best, relevant) == 1.0
