"""The fuzz target with a hole planted into screening, which it must find: ``python -m tests.fuzz.holed HOLE 30``."""

from __future__ import annotations

import sys

from shared import limits
from shared.memory import scratch
from tests.fuzz import screen


def _run_lengths() -> None:
    """Columns may stand for any number of rows."""
    limits.MEMORY_CHANGE_OPS = 2**62


def _numbering() -> None:
    """A change may number its operations as it likes."""
    limits.MEMORY_DOCUMENT_OPS = 2**62
    scratch.check_history = lambda *_: None  # type: ignore[attr-defined]


HOLES = {"run-lengths": _run_lengths, "numbering": _numbering}

if __name__ == "__main__":
    screen.confine()
    HOLES[sys.argv[1]]()
    try:
        screen.fuzz(lambda tasks: [scratch.judge(task) for task in tasks], seed=1, seconds=float(sys.argv[2]))
    except screen.Found as found:
        print(found)
        sys.exit(1)
