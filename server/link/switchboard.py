"""All connections of the hub: opened by a handshake, one to a device, closed together."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from server.bus import Bus
from server.devices import Pinned
from server.link import handshake
from server.link.connection import GOING_AWAY, POLICY, REPLACED, TIMED_OUT, Connection, close, receive, replaced
from server.link.exchange import Exchange
from shared import limits
from shared.errors import OutriderError
from shared.protocol import Hello, Welcome, encode, refusal

_log = logging.getLogger("outrider.link")


class Link:
    """``jitter_s`` is the most that a notice waits."""

    def __init__(self, exchange: Exchange, bus: Bus, *, jitter_s: float) -> None:
        self._exchange = exchange
        self._bus = bus
        self._jitter_s = jitter_s
        self._connected: dict[str, Connection] = {}

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_websocket_route("/link", self.serve)
        return router

    def close(self) -> None:
        """Let every agent go, as the hub stops. Call it in the event loop."""
        for connection in list(self._connected.values()):
            connection.finish(GOING_AWAY)

    async def serve(self, socket: WebSocket) -> None:
        """One connection, whole."""
        await socket.accept()
        try:
            async with asyncio.timeout(limits.HANDSHAKE_SECONDS):
                hello, pinned, held = await self._shake_hands(socket)
        except WebSocketDisconnect:
            return
        except TimeoutError:
            await close(socket, TIMED_OUT)
        except OutriderError as error:
            _log.info("refused a connection: %s", error)
            await close(socket, POLICY, refusal(error, fatal=True))
        else:
            await self._attend(socket, hello, pinned, held)

    async def _shake_hands(self, socket: WebSocket) -> tuple[Hello, Pinned, int]:
        hublog = self._exchange.hublog
        asked = handshake.challenge(hublog.hub, hublog.clock(), hublog.random)
        await socket.send_text(encode(asked))
        hello = handshake.expect_hello(await receive(socket))
        pinned = await asyncio.to_thread(self._exchange.devices.pinned, hello.device)
        handshake.verify_hello(asked, hello, pinned.link_key)
        held = await asyncio.to_thread(self._exchange.greet, pinned, hello)
        return hello, pinned, held

    async def _attend(self, socket: WebSocket, hello: Hello, pinned: Pinned, held: int) -> None:
        devices = self._exchange.devices
        with self._bus.subscribe(("releases", f"device:{hello.device}")) as events:
            # Read again now that nothing can be missed: it may have been revoked since the handshake.
            state = (await asyncio.to_thread(devices.pinned, hello.device)).state
            connection = Connection(
                socket,
                hello.device,
                self._exchange,
                events,
                jitter_s=self._jitter_s,
                revoked=state != "active",
            )
            old = self._connected.get(hello.device)
            if old is not None:
                old.finish(REPLACED, replaced())
            self._connected[hello.device] = connection
            number = devices.arrive(hello)
            try:
                await connection.run(self._welcome(hello, pinned, held))
            finally:
                if self._connected.get(hello.device) is connection:
                    del self._connected[hello.device]
                devices.leave(hello.device, number)

    def _welcome(self, hello: Hello, pinned: Pinned, held: int) -> Welcome:
        return handshake.welcome(hello, held, pinned.acknowledged, self._exchange.hublog.key)
