"""Where clients come in: ``/memory/sync?token=...``, a WebSocket.

A page cannot see the HTTP status of a WebSocket that is refused, and the npm client takes one for a broken network. So
whoever is refused is let in just far enough to be told: one ``error`` message, and a close with the code as its reason.
The token is taken out of the request before anything else sees it, so that no log has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.websockets import WebSocket

from server.bus import Bus
from server.doors import PATH, Door, Doors
from server.opendoor.connection import GOING_AWAY, Connection, Rate, close, refuse
from server.opendoor.documents import Document, Documents, Keeper
from shared.errors import OutriderError, Refused

_CONNECTIONS = 256
_CLIENTS = 64  # of one document
_THREADS = 2
_log = logging.getLogger("outrider.opendoor")


class OpenDoor:
    """All clients of the open door. ``name`` is what the hub calls itself; ``now`` gives microseconds."""

    def __init__(
        self,
        doors: Doors,
        memory: Keeper,
        bus: Bus,
        *,
        name: str,
        now: Callable[[], int],
        rate: Rate | None = None,
        connections: int = _CONNECTIONS,
        clients: int = _CLIENTS,
    ) -> None:
        self._doors = doors
        self._documents = Documents(memory, clients=clients)
        self._bus = bus
        self._name = name
        self._now = now
        self._rate = rate or Rate()
        self._most = connections
        self._connected: set[Connection] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="opendoor")

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_websocket_route(PATH, self.serve)
        return router

    def close(self) -> None:
        """Let every client go, as the hub stops. Call it in the event loop."""
        for connection in list(self._connected):
            connection.finish()
        self._closed = True
        self._threads.shutdown(wait=False)

    async def serve(self, socket: WebSocket) -> None:
        """One connection, whole."""
        token = take_token(socket)
        await socket.accept()
        if self._closed:
            await close(socket, GOING_AWAY)
            return
        try:
            if len(self._connected) >= self._most:
                raise Refused("door.full", "too many clients are connected", advice="try again later")
            loop = asyncio.get_running_loop()
            door = await loop.run_in_executor(self._threads, self._doors.open, token, socket.headers.getlist("origin"))
            document = await loop.run_in_executor(self._threads, self._documents.open, door.scope, door.item)
        except OutriderError as error:
            _log.info("refused a client: %s", error)
            await refuse(socket, error, self._name)
            return
        try:
            await self._attend(socket, door, document)
        finally:
            self._documents.close(document)

    async def _attend(self, socket: WebSocket, door: Door, document: Document) -> None:
        with self._bus.subscribe(("memory", door.topic)) as events:
            connection = Connection(
                socket,
                door,
                self._doors,
                document,
                events,
                name=f"{self._name}-{door.id}",
                now=self._now,
                rate=self._rate,
                threads=self._threads,
            )
            self._connected.add(connection)
            try:
                await connection.run()
            finally:
                self._connected.discard(connection)


def take_token(socket: WebSocket) -> str:
    """The token of the request, which does not have it any more afterwards: servers log the path with its query."""
    query = socket.scope.get("query_string", b"")
    socket.scope["query_string"] = b""
    given = parse_qs(query.decode("latin-1"), max_num_fields=8) if query.count(b"&") < 8 else {}
    tokens = given.get("token", [])
    return tokens[0] if len(tokens) == 1 else ""
