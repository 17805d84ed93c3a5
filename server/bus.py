"""What happened, told within the process: topics to bounded queues.

Events are hints, never the truth: whoever gets one reads the store. So a full queue may drop its oldest event, and
``missed`` tells its reader to look at everything again. ``publish`` may be called from any thread.

Topics: ``approvals``, ``runs``, ``devices``, ``releases``, ``memory``, ``stops`` and ``device:ID``. Whoever listens to
``device:`` hears what is told to any device.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

QUEUE = 256  # events waiting for one subscriber


@dataclass(frozen=True)
class Event:
    """``payload`` holds identifiers and codes only, and is not to be changed by its readers."""

    topic: str
    payload: dict[str, Any] = field(default_factory=dict)


class Subscription:
    """An async iterator over events of some topics, from the moment it was made. Close it, or use it with ``with``.

    Belongs to the event loop it was made in.
    """

    def __init__(self, bus: Bus, topics: frozenset[str], bound: int) -> None:
        self.topics = topics
        self.missed = False
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque(maxlen=bound)
        self._ready = asyncio.Event()
        self._lock = threading.Lock()
        self._closed = False

    def _offer(self, event: Event) -> None:
        with self._lock:
            if self._closed:
                return
            if len(self._events) == self._events.maxlen:
                self.missed = True
            self._events.append(event)
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the loop is closed: nobody is left to read
            self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                if self._closed:
                    raise StopAsyncIteration
                self._ready.clear()
            await self._ready.wait()

    def drain(self) -> list[Event]:
        """What waits already, without waiting for more: a burst can be told as one."""
        with self._lock:
            waiting = list(self._events)
            self._events.clear()
        return waiting

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._bus._leave(self)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Bus:
    """Topics and who listens to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Subscription]] = {}
        self._name = secrets.token_hex(4)  # so that a mark of another process is told from one of this
        self._count = 0
        self._latest: dict[str, int] = {}  # the number of a topic's latest event

    def mark(self) -> str:
        """This moment, to be given to ``subscribe`` later by whoever reads the store first and listens afterwards."""
        with self._lock:
            return f"{self._name}-{self._count}"

    def subscribe(self, topics: Iterable[str], *, bound: int = QUEUE, since: str | None = None) -> Subscription:
        """Listen from now on; ``missed`` is set at once where something was told after the mark ``since``.

        A mark that is not this bus's own counts as long ago. Call it inside the event loop that will read.
        """
        subscription = Subscription(self, frozenset(topics), bound)
        with self._lock:
            for topic in subscription.topics:
                self._listeners.setdefault(topic, set()).add(subscription)
            if since is not None:
                subscription.missed = self._told_since(subscription.topics, since)
        return subscription

    def _told_since(self, topics: frozenset[str], mark: str) -> bool:
        name, _, count = mark.partition("-")
        if name != self._name or not count.isascii() or not count.isdigit() or len(count) > 18:
            return True
        return any(self._latest.get(topic, 0) > int(count) for topic in topics)

    def publish(self, topic: str, payload: dict[str, Any] | None = None) -> None:
        with self._lock:
            self._count += 1
            self._latest[topic] = self._count
            kind, colon, _ = topic.partition(":")
            listeners = [*self._listeners.get(topic, ()), *(self._listeners.get(f"{kind}:", ()) if colon else ())]
        event = Event(topic, payload or {})
        for listener in listeners:
            listener._offer(event)

    def close(self) -> None:
        """End every subscription, so that streams finish when the hub stops."""
        with self._lock:
            everyone = {listener for listeners in self._listeners.values() for listener in listeners}
        for listener in everyone:
            listener.close()

    def _leave(self, subscription: Subscription) -> None:
        with self._lock:
            for topic in subscription.topics:
                left = self._listeners.get(topic)
                if left is not None:
                    left.discard(subscription)
                    if not left:
                        del self._listeners[topic]
