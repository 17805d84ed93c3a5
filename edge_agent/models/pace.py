"""A bound on how fast bytes go."""

from __future__ import annotations

import time

from edge_agent.models.store import BLOCK


class Pace:
    """``rate`` is bytes a second, 0 for any; ``block`` so many that the waits between them are short."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.block = min(BLOCK, max(4096, rate // 4)) if rate else BLOCK
        self._free_at = 0.0

    def owed(self, size: int) -> float:
        """How many seconds to wait after these bytes, and all before them."""
        if not self.rate:
            return 0.0
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self.rate
        return max(0.0, self._free_at - now)
