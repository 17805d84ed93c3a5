"""One agent's connection, from its challenge to its end.

A reader takes one message at a time, and a sender empties a bounded queue. The first of them to end ends the other. An
agent that does not read what it asked for fills its queue and is dropped; nobody else waits for it. What many are told
at once is encoded once, and goes past queue and sender where nothing waits there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from server.bus import Event
from server.link.exchange import Exchange, revoked
from shared import limits
from shared.errors import BadInput, Conflict, OutriderError
from shared.protocol import (
    Batch,
    Forget,
    Message,
    Notice,
    Pull,
    Pulled,
    Recall,
    Refusal,
    Remember,
    Status,
    Urgent,
    decode,
    encode,
    refusal,
)

# WebSocket close codes: the standard's, then ours from its private range.
GOING_AWAY, POLICY = 1001, 1008
TIMED_OUT, SLOW, REPLACED = 4408, 4429, 4409

_SEND_SECONDS = 30  # one message must leave within this
_FAREWELL_SECONDS = 5  # a revoked device has this long to fetch its revocation
_GRACE_SECONDS = 0.5  # and this to take it in


@dataclass(frozen=True)
class End:
    """Why a connection ends: a close code, and what the agent is told before."""

    code: int
    word: Refusal | None = None


class Connection:
    """Serves one device whose handshake is done. ``first`` is sent before all else."""

    def __init__(self, socket: WebSocket, device: str, exchange: Exchange, first: Message) -> None:
        self._socket = socket
        self.device = device
        self._exchange = exchange
        self._revoked = False
        self._write_frame: Callable[[bytes], bool] | None = socket.scope["state"].get("write_frame")
        self._queue: asyncio.Queue[str] = asyncio.Queue(limits.SEND_QUEUE)
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._offer(first)
        self.stop()

    async def run(self) -> None:
        """Until either side goes."""
        for part in (self._read(), self._send()):
            self._start(part)
        try:
            end = await asyncio.shield(self._end)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close(end)

    def finish(self, code: int, word: Refusal | None = None) -> None:
        """End this connection; the first reason given is the one that counts."""
        if not self._end.done():
            self._end.set_result(End(code, word))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        match task.exception():
            case None:
                return
            case WebSocketDisconnect():
                self.finish(GOING_AWAY)
            case OutriderError() as error:
                self.finish(POLICY, refusal(error, fatal=True))
            case error:
                if not self._end.done():
                    assert error is not None
                    self._end.set_exception(error)

    # --- up ---------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            match await receive(self._socket):
                case Pull() as asked if self._revoked:
                    await self._part(asked)
                case Batch() | Status() | Remember() | Recall() | Forget() if self._revoked:
                    continue
                case Batch() as batch:
                    self._answer(await asyncio.to_thread(self._exchange.accept, self.device, batch))
                case Pull() as asked:
                    answer = await asyncio.to_thread(self._exchange.pull, self.device, asked)
                    if isinstance(answer, Refusal) and answer.code == "device.revoked":
                        self._revoked = True
                        await self._part(asked)
                    else:
                        self._answer(self._with_stop(answer))
                case Remember() | Recall() | Forget() as about:
                    self._answer(await asyncio.to_thread(self._exchange.of_memory, self.device, about))
                case Status() as status:
                    self._exchange.devices.status(self.device, status)
                case _:
                    raise BadInput("link.order", "only hubs send this", advice="speak the link protocol")

    def _answer(self, message: Message) -> None:
        if not (isinstance(message, Refusal) and message.fatal):
            self._offer(message)
        elif message.code == "device.revoked":
            self.revoke()
        else:
            self.finish(POLICY, message)

    # --- down -------------------------------------------------------------------------------------------------

    def _offer(self, message: Message) -> None:
        self._put(encode(message))

    def _put(self, text: str) -> None:
        try:
            self._queue.put_nowait(text)
        except asyncio.QueueFull:
            self.finish(SLOW)

    async def _send(self) -> None:
        while True:
            text = await self._queue.get()
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await self._socket.send_text(text)
            except TimeoutError:
                self.finish(SLOW)
                return

    def tell(self, text: str, frame: bytes) -> None:
        """Send a message whose frame is made already, before what is put into the queue from here on."""
        if not (self._queue.empty() and self._write_frame is not None and self._write_frame(frame)):
            self._put(text)

    def stop(self) -> None:
        """Say what people have stopped for this device. Within the connection its versions never go back: it is asked
        for in the event loop, and sent in this order."""
        sealed = self._exchange.switches.stop(self.device)
        if sealed is not None and not self._revoked:
            self._offer(Urgent(sealed))

    def _with_stop(self, answer: Pulled | Refusal) -> Pulled | Refusal:
        """It comes before all else that is pulled, and as it is now: the answer was made in a thread."""
        sealed = self._exchange.switches.stop(self.device)
        if sealed is None or isinstance(answer, Refusal):
            return answer
        return msgspec.structs.replace(answer, messages=[sealed, *answer.messages])

    def revoke(self) -> None:
        """The device was let go while it is connected: it is told to pull, and what it then gets is its revocation."""
        if not self._revoked:
            self._revoked = True
            self._offer(Notice(topics=["device"]))
            self._start(self._dismiss(_FAREWELL_SECONDS))

    async def _part(self, asked: Pull) -> None:
        """Hand over the revocation, leave a moment to take it in, and end."""
        self._offer(await asyncio.to_thread(self._exchange.farewell, self.device, asked))
        self._start(self._dismiss(_GRACE_SECONDS))

    async def _dismiss(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.finish(POLICY, refusal(revoked(), fatal=True))

    async def _close(self, end: End) -> None:
        await close(self._socket, end.code, end.word)


def _topic(event: Event) -> str:
    return "memory" if event.payload.get("memory") else event.topic.partition(":")[0]


async def receive(socket: WebSocket) -> Message:
    """The next message; ``WebSocketDisconnect`` when there will be none."""
    frame = await socket.receive()
    if frame["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(frame.get("code", GOING_AWAY), frame.get("reason"))
    text = frame.get("text")
    return decode(text if text is not None else frame.get("bytes") or b"")


async def close(socket: WebSocket, code: int, word: Refusal | None = None) -> None:
    """Say why, if there is a why, and close; whoever is gone or does not listen is let go."""
    if WebSocketState.DISCONNECTED in (socket.client_state, socket.application_state):
        return
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(2):
            if word is not None:
                await socket.send_text(encode(word))
            await socket.close(code)


def replaced() -> Refusal:
    error = Conflict(
        "link.replaced", "the same device connected again", advice="if two agents share a home or its copy, stop one"
    )
    return refusal(error, fatal=True)
