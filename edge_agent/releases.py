"""Releases in use: the installed one, and older ones that open runs are pinned to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_agent.link.updates import Updates
from shared.release import Release


class Releases:
    """Keeps opened releases. What is not yet open is verified again from the cache before it is used."""

    def __init__(self, updates: Updates, now: Callable[[], int]) -> None:
        self._updates = updates
        self._now = now
        self._open: dict[int, Release] = {}

    def get(self, number: int) -> Release:
        """Raises ``Tampered`` or ``Unavailable`` when the cache does not hold a verified copy."""
        if number not in self._open:
            self._open[number] = self._updates.cached(number, self._now())
        return self._open[number]

    async def fetch(self, number: int) -> Release:
        """Pull from the hub, verify and keep."""
        self._open[number] = await asyncio.to_thread(self._updates.fetch, number, self._now())
        return self._open[number]
