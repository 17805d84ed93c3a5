"""What stands between an allowed action and its tool: a rate limit, and a breaker for a tool that keeps failing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from edge_agent.tools import NotSent, Tool

_LONGEST_WAIT_S = 30.0  # for a turn under a rate limit; a longer queue puts the run off instead


class Gate:
    """One tool's gate. ``monotonic`` returns seconds."""

    def __init__(self, tool: Tool, monotonic: Callable[[], float]) -> None:
        self._tool = tool
        self._clock = monotonic
        self._calls: deque[float] = deque()
        self._failures = 0
        self._rests_until = 0.0

    async def enter(self) -> None:
        """Wait for a turn. Raises ``NotSent('tool.resting' | 'tool.rate')``: nothing was done, and it may be later."""
        now = self._clock()
        if now < self._rests_until:
            raise NotSent(
                "tool.resting",
                f"{self._tool.name} failed {self._tool.breaker.failures} times in a row",
                advice=f"it is tried again in {self._rests_until - now:.0f} s",
            )
        rate = self._tool.rate
        if rate is None:
            return
        while self._calls and self._calls[0] <= now - rate.per_s:
            self._calls.popleft()
        begin = now if len(self._calls) < rate.calls else self._calls[-rate.calls] + rate.per_s
        if begin - now > _LONGEST_WAIT_S:
            raise NotSent("tool.rate", f"{self._tool.name} is at its rate limit", advice="it is tried again later")
        self._calls.append(begin)  # the turn is taken before the wait, so that two who wait do not share it
        if begin > now:
            await asyncio.sleep(begin - now)

    def worked(self) -> None:
        """The other side answered, if only to refuse."""
        self._failures = 0

    def failed(self) -> None:
        """It could not be reached, or said nothing."""
        self._failures += 1
        if self._failures >= self._tool.breaker.failures:
            self._failures = 0
            self._rests_until = self._clock() + self._tool.breaker.rest_s
