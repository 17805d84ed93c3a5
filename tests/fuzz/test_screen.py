"""A short run of the fuzz target finds nothing, and finds what was planted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.memory.bench import Bench
from tests.fuzz.screen import fuzz


@pytest.mark.system
def test_half_a_minute_finds_nothing() -> None:
    bench = Bench()
    try:
        tally = fuzz(bench.batch, seed=1, seconds=30)
    finally:
        bench.close()
    assert tally.taken > 20
    assert len(tally.codes) > 10


@pytest.mark.system
@pytest.mark.parametrize(("hole", "said"), [("run-lengths", "screen"), ("numbering", "document")])
def test_a_planted_hole_is_found(hole: str, said: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.holed", hole, "60"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert said in done.stdout
