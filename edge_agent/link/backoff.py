"""How long to wait before the hub is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared import limits


@dataclass
class Backoff:
    """Waits that double up to a bound, each drawn from its upper half at random: a fleet does not return at once."""

    chance: random.Random
    first: float = limits.BACKOFF_FIRST_SECONDS
    most: float = limits.BACKOFF_MOST_SECONDS
    tries: int = 0

    def next(self) -> float:
        whole = min(self.most, self.first * 2.0 ** min(self.tries, 30))
        self.tries += 1
        return whole * (0.5 + 0.5 * self.chance.random())

    def wait_long(self) -> None:
        """As after many tries in vain."""
        self.tries = max(self.tries, 30)

    def reset(self) -> None:
        self.tries = 0
