"""One client's connection, from its join to its end.

A reader takes one message at a time and answers it before it takes the next; a speaker tells what is new, one message
at a time, once the last has left. So a client that does not read holds up nobody and nothing is queued for it: what it
is told is made when it can be sent, and after ``_SEND_SECONDS`` without progress it is dropped. A third task hears of
changes, of the token's revocation and of its end. The first of them to fail ends the others, and the client is told
why.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from server.bus import Event, Subscription
from server.doors import Door, Doors
from server.opendoor.documents import Document, expect_bytes
from shared import limits
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from shared.memory.feed import WRITER
from shared.memory.repo import messages, names, sync
from shared.memory.repo.peer import Peer

# WebSocket close codes: the standard's, then ours from its private range.
NORMAL, GOING_AWAY, LATER = 1000, 1001, 1013
BAD, UNKNOWN, FORBIDDEN, TIMED_OUT, BUSY = 4400, 4401, 4403, 4408, 4429
_CODES = {"door.token": UNKNOWN, "door.silent": TIMED_OUT, "door.slow": BUSY, "door.rate": BUSY, "door.full": BUSY}
_KINDS: dict[type[OutriderError], int] = {BadInput: BAD, Unavailable: LATER}

_JOIN_SECONDS = 10
_SEND_SECONDS = 30  # one message must leave within this
_REASON_BYTES = 100  # of a close frame's 123
_TOLD = 64  # items that an event names; of more it names the first

T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """What a client may send: so many messages and bytes at once, and so many more each second."""

    messages: int = 200
    messages_s: int = 50
    bytes: int = 2 * limits.REPO_MESSAGE_BYTES
    bytes_s: int = 512 * 1024


class Meter:
    """Counts down what a client may send. ``clock`` gives seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._at = clock()
        self._messages = float(rate.messages)
        self._bytes = float(rate.bytes)

    def spend(self, size: int) -> None:
        """Raise ``Refused('door.rate')`` where it is too much."""
        now = self._clock()
        past, self._at = now - self._at, now
        self._messages = min(self._rate.messages, self._messages + past * self._rate.messages_s) - 1
        self._bytes = min(self._rate.bytes, self._bytes + past * self._rate.bytes_s) - size
        if self._messages < 0 or self._bytes < 0:
            raise Refused("door.rate", "the client sends too much", advice="send less, or less often")


class Connection:
    """Serves one client whose token was found good, and whose ``document`` is open. ``name`` is what the hub calls
    itself; ``now`` gives the hub's microseconds; what blocks is done in ``threads``."""

    def __init__(
        self,
        socket: WebSocket,
        door: Door,
        doors: Doors,
        document: Document,
        events: Subscription,
        *,
        name: str,
        now: Callable[[], int],
        rate: Rate,
        threads: Executor,
    ) -> None:
        self._socket = socket
        self._door = door
        self._doors = doors
        self._document = document
        self._peer = Peer(document.history)
        self._events = events
        self._name = name
        self._now = now
        self._meter = Meter(rate, asyncio.get_running_loop().time)
        self._document_id = names.document_id(door.item)
        self._threads = threads
        self._client = ""
        self._asked = False  # for the document; nobody is told of it before
        self._news = asyncio.Event()
        self._sending = asyncio.Lock()
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until either side goes."""
        tasks = [asyncio.create_task(part) for part in (self._read(), self._speak(), self._hear(), self._expire())]
        try:
            await asyncio.wait([*tasks, self._stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        await self._end([error for error in ended if isinstance(error, Exception)])

    def finish(self) -> None:
        """End this connection because the hub stops."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def _end(self, errors: list[Exception]) -> None:
        for error in errors:
            if isinstance(error, OutriderError):
                await refuse(self._socket, error, self._name, self._client)
                return
        if self._stopped.done():  # and whatever failed because of it is no news
            await close(self._socket, GOING_AWAY)
            return
        await close(self._socket, NORMAL)
        for error in errors:
            if not isinstance(error, WebSocketDisconnect):
                raise error

    # --- what the client says ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                joined = await self._receive()
        except TimeoutError:
            raise Refused("door.silent", "the client did not join in time", advice="try again") from None
        if not isinstance(joined, messages.Join):
            raise BadInput("repo.message", "a connection begins with join", advice="speak the automerge-repo protocol")
        await self._joined(joined)
        while True:
            match await self._receive():
                case messages.Join() as again:
                    await self._joined(again)
                case messages.Sync() as said if said.document == self._document_id:
                    await self._take(said.data)
                case messages.Sync() as said:  # clients offer whatever they have to everyone
                    await self._send(messages.unavailable(self._name, self._client, said.document))
                case messages.Leave():
                    return
                case _:
                    continue

    async def _receive(self) -> messages.FromClient:
        frame = await self._socket.receive()
        if frame["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(frame.get("code", NORMAL), frame.get("reason"))
        data = expect_bytes(frame.get("bytes"))
        self._meter.spend(len(data))
        return messages.decode(data)

    async def _joined(self, join: messages.Join) -> None:
        self._client = join.sender
        await self._send(messages.peer(self._name, self._client))

    async def _take(self, data: bytes) -> None:
        await self._aside(self._keep, data)
        self._asked = True
        self._news.set()

    def _keep(self, data: bytes) -> None:
        said = sync.parse(data)
        if said.changes and self._door.role != WRITER:
            raise Refused(
                "door.read-only", "the token is for reading", advice="ask a steward of the team for one that may write"
            )
        with self._document.lock:
            if not self._asked:  # it was opened before anybody listened for news of it
                self._document.refresh()
            self._document.take(self._peer, said, self._door.member)

    # --- what the client is told ------------------------------------------------------------------------------

    async def _speak(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            said = await self._aside(self._next) if self._asked else None
            if said is not None:
                await self._send(messages.sync(self._name, self._client, self._document_id, said))

    def _next(self) -> bytes | None:
        with self._document.lock:
            said = self._peer.next()
        return None if said is None else sync.encode(said)

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(_SEND_SECONDS), self._sending:
                await self._socket.send_bytes(data)
        except TimeoutError:
            raise Unavailable("door.slow", "the client does not read", advice="connect again") from None

    async def _hear(self) -> None:
        async for event in self._events:
            events = [event, *self._events.drain()]
            if any(one.topic == self._door.topic for one in events):
                await self._aside(self._doors.check, self._door)
            if self._events.missed or any(map(self._concerns, events)):
                self._events.missed = False
                await self._aside(self._refresh)
                self._news.set()

    def _concerns(self, event: Event) -> bool:
        told = event.payload
        names = (*told.get("items", ()), *told.get("erased", ()))
        return told.get("scope") == self._door.scope and (len(names) >= _TOLD or self._door.item in names)

    def _refresh(self) -> None:
        with self._document.lock:
            self._document.refresh()

    async def _expire(self) -> None:
        while True:
            left = (self._door.expires_at - self._now()) / 1_000_000
            await asyncio.sleep(min(max(left, 0.0), 3600.0))
            await self._aside(self._doors.check, self._door)

    async def _aside(self, work: Callable[..., T], *given: object) -> T:
        """In a thread of the open door's own: clients that keep it busy keep each other waiting, and nobody else."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)


async def refuse(socket: WebSocket, error: OutriderError, name: str, client: str = "") -> None:
    """Tell a client why it goes: an ``error`` message, and the code as the reason of the close."""
    code = _CODES.get(error.code) or _KINDS.get(type(error), FORBIDDEN)
    text = f"{error.code}: {error.message}. {error.advice}."
    await close(socket, code, messages.error(name, client, text), error.code)


async def close(socket: WebSocket, code: int, word: bytes = b"", reason: str = "") -> None:
    """Close; whoever is gone or does not listen is let go."""
    if WebSocketState.DISCONNECTED in (socket.client_state, socket.application_state):
        return
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(2):
            if word:
                await socket.send_bytes(word)
            await socket.close(code, reason.encode()[:_REASON_BYTES].decode("utf-8", "ignore"))


__all__ = ["GOING_AWAY", "Connection", "Rate", "close", "refuse"]
