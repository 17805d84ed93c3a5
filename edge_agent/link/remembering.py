"""Memory on the link: the conversation that ``Replica`` judges, one message in flight, behind the log.

Protocol: ``shared/spec/link.md``. Memory's trouble stays memory's: an answer that cannot be used, a full disk or a
screening that failed is told to the application and tried again later; the log and the approvals on the same connection
do not notice. What was taken in before a restart (an erasure, its receipt) is done first, also without a hub.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from edge_agent.journal import Journal
from shared.errors import BadInput, OutriderError
from shared.protocol import Message

if TYPE_CHECKING:
    from edge_agent.memory.replica import Replica

_LATER_S = 30.0  # until what the hub or this device could not take now is tried again
_TROUBLE_S = 5.0


class Remembering:
    """One for the agent's life; ``talk`` is one connection's share of it. All but ``written`` in the event loop."""

    def __init__(
        self,
        replica: Replica,
        journal: Journal,
        trouble: Callable[[OutriderError], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._replica = replica
        self._journal = journal
        self._trouble = trouble
        self._sleep = sleep
        self._wake = asyncio.Event()
        self._inbox: asyncio.Queue[Message] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- what wakes it --------------------------------------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def written(self) -> None:
        """Memory was written; from any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended; the next start looks for itself
                loop.call_soon_threadsafe(self._wake.set)

    def notice(self) -> None:
        """The hub has news."""
        self._replica.news()
        self._wake.set()

    def hear(self, message: Message) -> None:
        """An answer for memory arrived. Raises ``BadInput('link.order')`` where nothing was asked."""
        if self._inbox is None or self._inbox.full():
            raise BadInput("link.order", "the hub answers what was not asked", advice="check the hub's version")
        self._inbox.put_nowait(message)

    # --- what it does ---------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Finish what stands in the database to be done: erase, truncate, write the receipt, strike it off."""
        while (report := await asyncio.to_thread(self._replica.report)) is not None:
            await self._journal.append(*report.drafts)
            await asyncio.to_thread(self._replica.reported, report)

    async def start(self) -> None:
        """Before anything else, also without a hub. Its trouble is told, and met again when there is a connection."""
        try:
            await self.settle()
        except OutriderError as error:
            self._trouble(error)

    async def talk(self, send: Callable[[Message], Awaitable[None]], turn: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled. ``turn`` returns when it is memory's turn to send."""
        while True:
            self._inbox = asyncio.Queue(1)
            try:
                await asyncio.to_thread(self._replica.begin)
                await self._converse(send, turn, self._inbox)
            except OutriderError as error:
                self._trouble(error)
            await self._sleep(_TROUBLE_S)

    async def _converse(
        self,
        send: Callable[[Message], Awaitable[None]],
        turn: Callable[[], Awaitable[None]],
        inbox: asyncio.Queue[Message],
    ) -> None:
        while True:
            self._wake.clear()
            await self.settle()
            message = await asyncio.to_thread(self._replica.next)
            if message is None:
                await self._rest()
                continue
            await turn()
            await send(message)
            for trouble in await asyncio.to_thread(self._replica.answer, await inbox.get()):
                self._trouble(trouble)

    async def _rest(self) -> None:
        """Until there is something to say; now and then it is looked for, since commands write to memory too. What was
        put off is then tried again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LATER_S):
                await self._wake.wait()
        if self._replica.waiting:
            await asyncio.to_thread(self._replica.retry)
