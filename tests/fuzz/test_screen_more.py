"""The other half of the minute, in a file of its own so that another worker may run it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.memory.bench import Bench
from tests.fuzz.screen import fuzz


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.mark.system
@pytest.mark.parametrize("seed", range(7, 13))
def test_five_seconds_find_nothing(bench: Bench, seed: int) -> None:
    tally = fuzz(bench.batch, seed=seed, seconds=5)
    assert tally.taken > 1
    assert len(tally.codes) > 5
