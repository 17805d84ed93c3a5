"""The hub as a server: one socket, one process, a clean end on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from server import app
from server.admin import announce, withdraw
from server.config import HubConfig
from shared import limits
from shared.errors import Unavailable

_BACKLOG = 4096  # a fleet that lost its hub comes back all at once
_GRACE_SECONDS = 5
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class _Socket(WebSocketsSansIOProtocol):
    """Lets the link write a frame that many get past the ASGI messages: made once, and without a turn of each
    connection's tasks."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["state"]["write_frame"] = self.write_frame

    def write_frame(self, frame: bytes) -> bool:
        """False where the client has not read what it was sent before, or goes."""
        free = self.handshake_complete and not self.close_sent and self.writable.is_set()
        if not free or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True


class _Server(uvicorn.Server):
    """Says when it serves, and ends open streams before it waits for them."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop()
        await asyncio.sleep(0)
        await super().shutdown(sockets)


def listen(config: HubConfig) -> socket.socket:
    """Bind the address; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((config.host, config.port))
    except OSError as error:
        bound.close()
        raise Unavailable(
            "hub.port",
            f"cannot listen on {config.host}:{config.port}: {error.strerror}",
            advice="choose another --port, or stop what uses it",
        ) from error
    return bound


def make_server(hub: app.Hub, bound: socket.socket, say: Callable[[str], None]) -> uvicorn.Server:
    """The server of an open hub on a bound socket. While it serves, this machine's commands can find it."""
    config, port = hub.config, bound.getsockname()[1]
    address = config.address(port)
    application = app.build(hub, port)
    settings = uvicorn.Config(
        application.app,
        loop="auto" if sys.platform == "win32" else "uvloop",
        ws=_Socket,
        ws_per_message_deflate=False,  # it doubles the memory of every connection
        ws_max_size=limits.MESSAGE_BYTES,
        ws_ping_interval=limits.HEARTBEAT_SECONDS,
        ws_ping_timeout=limits.HEARTBEAT_SECONDS,
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client must not be able to say where it comes from
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

    def ready() -> None:
        announce(config.home, address)
        say(f"hub ready at {address}")

    def stop() -> None:
        withdraw(config.home)
        application.stop()

    return _Server(settings, ready, stop)


def serve(config: HubConfig, say: Callable[[str], None]) -> None:
    """Run the hub until SIGTERM or SIGINT. ``say`` is told once, when it serves."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format=_LOG_FORMAT)
    # uvicorn raises the signal again once it has shut down; ending on request is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with app.open_hub(config) as hub, listen(config) as bound:
        make_server(hub, bound, say).run(sockets=[bound])
