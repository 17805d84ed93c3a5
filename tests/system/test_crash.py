"""The crash harness, short: a hundred and fifty kills without a fault, and a planted fault that it finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent / "crash.py"


def crash(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(HARNESS), *options], capture_output=True, text=True, timeout=420)


@pytest.mark.system
@pytest.mark.timeout(450)
def test_many_kills_do_nothing_twice_and_lose_nothing() -> None:
    done = crash("--kills", "150")
    assert done.returncode == 0, done.stdout + done.stderr  # the seed is printed: the same one tells the same story
    assert "150 kills" in done.stdout and " 0 faults" in done.stdout
    for place in ("commit:before", "commit:after", "effect:inside", "undo:inside", "replay:inside", "random"):
        assert place in done.stdout, f"nothing was killed at {place}"


@pytest.mark.system
@pytest.mark.timeout(450)
def test_an_effect_before_its_intent_is_found() -> None:
    done = crash("--kills", "300", "--bug", "effect-before-intent")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "was done 2 times" in done.stdout
