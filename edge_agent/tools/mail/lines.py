"""Blocking conversations with mail servers, in threads that a cancelled call cannot leave behind unnoticed.

The standard library's clients block. A call that the engine cuts off must not go on in a thread that nobody knows of,
and must not be torn apart either while the server is deciding. So each conversation has a point of no return: before
it, cutting off closes the connection; after it, the conversation is led to its end, and whatever is asked about the
same key waits for that end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from edge_agent.tools import NotSent

T = TypeVar("T")

_THREADS = 4  # conversations at once with one account
_GRACE_S = 2.0  # how long closing waits for conversations past their point of no return


class Line:
    """One conversation: its connections, and whether it may still be cut off."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._cut = self._committed = False

    def hold(self, sock: socket.socket) -> None:
        """A connection of this conversation. Raises ``NotSent('mail.cut-off')`` when it came too late."""
        self._sockets.append(sock)
        self.check()

    def check(self) -> None:
        """Raise ``NotSent('mail.cut-off')`` when nobody waits for this conversation any more."""
        if self._cut:
            raise NotSent("mail.cut-off", "the call was cut off before anything was changed", advice="try again")

    def commit(self) -> None:
        """The point of no return: from here on only ``cut(force=True)`` ends it. Raises as ``check`` does."""
        with self._guard:
            self.check()
            self._committed = True

    def cut(self, *, force: bool = False) -> None:
        """Close the connections, so that the thread ends; past the point of no return only by force."""
        with self._guard:
            if self._committed and not force:
                return
            self._cut = True
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                # The plain socket's method: the TLS one forgets its key first, and what the thread is just sending
                # would go out in clear.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Desk:
    """Where the conversations of one account are led: a few at once, and one at a time for a key."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mail")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: dict[asyncio.Task[Any], Line] = {}

    async def lead(self, key: str, work: Callable[[Line], T]) -> T:
        """``work`` in a thread, after any other of the same key has ended."""
        line = Line()
        task = asyncio.create_task(self._alone(key, line, work))
        self._tasks[task] = line
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            line.cut()
            raise

    async def _alone(self, key: str, line: Line, work: Callable[[Line], T]) -> T:
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            line.check()
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, line)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # looked at: a call that was cut off has nobody left to raise it to

    async def close(self) -> None:
        """End every conversation: those past their point of no return get a moment."""
        for line in self._tasks.values():
            line.cut()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=_GRACE_S)
        for line in self._tasks.values():
            line.cut(force=True)
