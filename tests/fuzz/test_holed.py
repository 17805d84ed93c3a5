"""The fuzz target finds the holes that are planted into screening."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.system
@pytest.mark.parametrize(("hole", "said"), [("run-lengths", "screen"), ("numbering", "document")])
def test_a_planted_hole_is_found(hole: str, said: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.holed", hole, "60"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert said in done.stdout
