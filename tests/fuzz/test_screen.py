"""Half a minute of the fuzz target finds nothing; the other half is in ``test_screen_more``."""

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
@pytest.mark.parametrize("seed", range(1, 7))
def test_five_seconds_find_nothing(bench: Bench, seed: int) -> None:
    tally = fuzz(bench.batch, seed=seed, seconds=5)
    assert tally.taken > 1
    assert len(tally.codes) > 5
