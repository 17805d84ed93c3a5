"""Whose turn it is at the one model worker: by urgency, then by age.

A request takes a turn, works, and gives it back; a long one takes several and keeps its age, so that it goes on before
what came after it. A turn that is being used can be asked for by somebody in more of a hurry: ``interrupt`` is called
then, and it is for the holder to let go.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from edge_agent.models.messages import BATCH, INTERACTIVE


class Turn:
    """One request's place. ``yields`` is how often it may still be sent back to wait while it is at work."""

    def __init__(self, urgency: int, age: int, yields: int) -> None:
        self.urgency, self.age, self.yields = urgency, age, yields
        self.interrupt: Callable[[], None] | None = None

    def gives_way(self, other: Turn) -> bool:
        """Only batch work is broken off, and only for a person who waits."""
        return self.urgency == BATCH and other.urgency == INTERACTIVE and self.yields > 0


class Turns:
    """For one event loop."""

    def __init__(self) -> None:
        self._ages = itertools.count()
        self._waiting: list[tuple[int, int, Turn, asyncio.Future[None]]] = []
        self._holder: Turn | None = None

    @property
    def taken(self) -> bool:
        return self._holder is not None

    def enter(self, urgency: int, *, yields: int = 0) -> Turn:
        """A place in the queue, as old as now."""
        return Turn(urgency, next(self._ages), yields)

    def wanted(self, holder: Turn) -> bool:
        """Whether somebody waits whom ``holder`` should let go first."""
        return any(holder.gives_way(turn) for _, _, turn, told in self._waiting if not told.done())

    @asynccontextmanager
    async def hold(self, turn: Turn) -> AsyncIterator[None]:
        """Wait for the turn and have it. Nobody else works meanwhile."""
        if self._holder is not None:
            await self._wait(turn)
        self._holder = turn
        try:
            yield
        finally:
            turn.interrupt = None
            self._pass_on()

    async def _wait(self, turn: Turn) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (turn.urgency, turn.age, turn, told))
        holder = self._holder
        if holder is not None and holder.interrupt is not None and holder.gives_way(turn):
            holder.interrupt()
        try:
            await told
        except asyncio.CancelledError:
            if told.done() and not told.cancelled():  # it was this one's turn at the very moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn, told = heapq.heappop(self._waiting)
            if not told.done():
                self._holder = turn  # at once, so that nobody who comes before it wakes takes it
                told.set_result(None)
                return
        self._holder = None
