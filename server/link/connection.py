"""One agent's connection, from its challenge to its end.

A reader takes one message at a time. What is said goes straight to the socket while that takes it; an agent that does
not read what it asked for makes it wait in a bounded queue, which a sender empties, and is dropped when that is full:
nobody else waits for it. There are thousands of connections and most of them are quiet, so a quiet one has no more than
its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.frames import Frame, Opcode

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
        self.number = 0  # by which it leaves
        self._exchange = exchange
        self._revoked = False
        self._write_frame: Callable[[bytes], bool] | None = socket.scope["state"].get("write_frame")
        self._queue: list[str] = []
        self._sending = False
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._offer(first)
        self.stop()

    async def run(self) -> None:
        """Until either side goes."""
        self._start(self._read())
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
        text = encode(message)
        self.tell(text, frame(text))

    def _wait_with(self, text: str) -> None:
        if len(self._queue) >= limits.SEND_QUEUE:
            self.finish(SLOW)
            return
        self._queue.append(text)
        if not self._sending:
            self._sending = True
            self._start(self._send())

    async def _send(self) -> None:
        while self._queue:
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await self._socket.send_text(self._queue[0])
            except TimeoutError:
                self.finish(SLOW)
                return
            self._queue.pop(0)
        self._sending = False

    def tell(self, text: str, frame: bytes) -> None:
        """Send a message whose frame is made already, after what was said before."""
        if self._sending or self._write_frame is None or not self._write_frame(frame):
            self._wait_with(text)

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


def frame(text: str) -> bytes:
    """A message as it goes over the wire: one frame, whole and not masked, as a server sends it."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


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
