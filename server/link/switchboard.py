"""All connections of the hub: opened by a handshake, one to a device, told what is new, closed together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from server.bus import Bus, Event, Subscription
from server.devices import Pinned
from server.link import handshake
from server.link.connection import GOING_AWAY, POLICY, REPLACED, TIMED_OUT, Connection, close, frame, receive, replaced
from server.link.exchange import Exchange
from server.switches import TOPIC as STOPS
from shared import limits
from shared.errors import OutriderError
from shared.protocol import Hello, Notice, Welcome, encode, refusal

_log = logging.getLogger("outrider.link")
_RELEASES, _DEVICE = "releases", "device:"
_EVENTS = 65_536  # events that may wait; beyond them everybody is told of everything
_GATHER_SECONDS = 0.02  # the first event is told at once; a burst behind it as one
_TURN = 256  # connections that are told something of their own before others have their turn


class Link:
    """An ASGI application for ``/link``. ``spread_s`` is the time over which agents are asked to spread their pulls
    where all of them are told at once."""

    def __init__(self, exchange: Exchange, bus: Bus, *, spread_s: float) -> None:
        self._exchange = exchange
        self._bus = bus
        self._spread_ms = int(spread_s * 1000)
        self._connected: dict[str, Connection] = {}

    def close(self) -> None:
        """Let every agent go, as the hub stops. Call it in the event loop."""
        for connection in list(self._connected.values()):
            connection.finish(GOING_AWAY)

    # --- telling --------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Tell the agents what is new, until cancelled. A stop never waits behind other news."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow((STOPS,), self._tell_stops))
            group.create_task(self._follow((_RELEASES, _DEVICE), self._tell_news))

    async def _follow(self, topics: Iterable[str], tell: Callable[[list[Event], bool], Awaitable[None]]) -> None:
        with self._bus.subscribe(topics, bound=_EVENTS) as events:
            async for event in events:
                try:
                    await tell([event, *events.drain()], _missed(events))
                except Exception:  # noqa: BLE001 - a task root: what is told next must not depend on this
                    _log.exception("agents could not be told what is new")

    async def _tell_stops(self, events: list[Event], missed: bool) -> None:
        named = {event.payload["device"] for event in events}
        for number, connection in enumerate(list(self._connected.values())):
            if missed or "" in named or connection.device in named:
                connection.stop()
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)

    async def _tell_news(self, events: list[Event], missed: bool) -> None:
        everybody = missed or any(event.topic == _RELEASES for event in events)
        own: dict[str, set[str]] = {}
        for event in events:
            if event.payload.get("revoked"):
                self._revoke(event.payload["device"])
            elif event.topic != _RELEASES:
                own.setdefault(event.topic.removeprefix(_DEVICE), set()).add(_topic(event))
        if everybody:
            topics = sorted({_RELEASES, *(("device", "memory") if missed else ())})
            self._notice(Notice(topics, self._spread_ms), [one for one in self._connected if one not in own])
        for device, about in own.items():
            self._notice(Notice(sorted(about | ({_RELEASES} if everybody else set()))), [device])
        await asyncio.sleep(_GATHER_SECONDS)

    def _notice(self, notice: Notice, devices: list[str]) -> None:
        text = encode(notice)
        whole = frame(text)
        for device in devices:
            connection = self._connected.get(device)
            if connection is not None:
                connection.tell(text, whole)

    def _revoke(self, device: str) -> None:
        connection = self._connected.get(device)
        if connection is not None:
            connection.revoke()

    # --- one connection -------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, whole. What the handshake needed is let go before it is attended to."""
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        connection = await self._admit(socket)
        if connection is not None:
            await self._attend(connection)

    async def _admit(self, socket: WebSocket) -> Connection | None:
        try:
            async with asyncio.timeout(limits.HANDSHAKE_SECONDS):
                hello, pinned, held = await self._shake_hands(socket)
        except WebSocketDisconnect:
            return None
        except TimeoutError:
            await close(socket, TIMED_OUT)
            return None
        except OutriderError as error:
            _log.info("refused a connection: %s", error)
            await close(socket, POLICY, refusal(error, fatal=True))
            return None
        connection = Connection(socket, hello.device, self._exchange, self._welcome(hello, pinned, held))
        old = self._connected.get(hello.device)
        if old is not None:
            old.finish(REPLACED, replaced())
        self._connected[hello.device] = connection  # from here on it misses nothing that is told
        connection.number = self._exchange.devices.arrive(hello, socket.client.host if socket.client else "")
        return connection

    async def _shake_hands(self, socket: WebSocket) -> tuple[Hello, Pinned, int]:
        hublog = self._exchange.hublog
        asked = handshake.challenge(hublog.hub, hublog.clock(), hublog.random)
        await socket.send_text(encode(asked))
        hello = handshake.expect_hello(await receive(socket))
        pinned = await asyncio.to_thread(self._exchange.devices.pinned, hello.device)
        handshake.verify_hello(asked, hello, pinned.link_key)
        held = await asyncio.to_thread(self._exchange.greet, pinned, hello)
        return hello, pinned, held

    async def _attend(self, connection: Connection) -> None:
        device, devices = connection.device, self._exchange.devices
        try:
            # Read again now: it may have been revoked since the handshake.
            if (await asyncio.to_thread(devices.pinned, device)).state != "active":
                connection.revoke()
            await connection.run()
        finally:
            if self._connected.get(device) is connection:
                del self._connected[device]
            devices.leave(device, connection.number)

    def _welcome(self, hello: Hello, pinned: Pinned, held: int) -> Welcome:
        return handshake.welcome(hello, held, pinned.acknowledged, self._exchange.hublog.key)


def _topic(event: Event) -> str:
    return "memory" if event.payload.get("memory") else "device"


def _missed(events: Subscription) -> bool:
    missed, events.missed = events.missed, False
    return missed
