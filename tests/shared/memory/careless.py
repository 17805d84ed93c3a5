"""The worker that judges changes, without its screen: only limits stand between it and what it is given."""

from __future__ import annotations

import sys
import time

from shared import limits
from shared.memory import scratch, worker
from shared.memory.chunks import ParsedChange, read_change


def _unscreened(chunk: bytes) -> ParsedChange:
    if chunk == b"hang":
        time.sleep(1_000)
    return read_change(chunk)


if __name__ == "__main__":
    limits.MEMORY_CHANGE_OPS = 2**62
    limits.MEMORY_SCRATCH_CPU_SECONDS = float(sys.argv[1])
    limits.MEMORY_SCRATCH_BYTES = int(sys.argv[2])
    scratch.screen = _unscreened  # type: ignore[attr-defined]
    worker.main()
