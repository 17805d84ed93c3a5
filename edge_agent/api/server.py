"""The socket of the local API: 127.0.0.1 and no other address, for as long as the agent runs.

``HOME/api.json`` (0600) says where it is and holds the token, which is new at every start. It is written once requests
are served, and removed at the end. Import this module where it is used: uvicorn and starlette take some megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette

from edge_agent.api import FILE
from edge_agent.api.desk import Desk
from edge_agent.api.pages import Panel, panel_routes
from edge_agent.api.routes import Routes, make_app
from edge_agent.api.sessions import Talk, session_routes
from edge_agent.identity import write_file
from shared.errors import Unavailable

_HOST = "127.0.0.1"
_GRACE_SECONDS = 2
_AT_ONCE = 64  # connections


class _Server(uvicorn.Server):
    """uvicorn within a process that has its own signals, and asleep while nobody asks: its own loop wakes ten times a
    second, for a date header that is not sent here."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def main_loop(self) -> None:
        await self._stopping.wait()


async def serve(
    desk: Desk,
    home: Path,
    *,
    port: int = 0,
    hook_secret: Callable[[str], str],
    now: Callable[[], int],
    origins: frozenset[str] = frozenset(),
    open_metrics: bool = False,
    talk: Talk | None = None,
    panel: Panel | None = None,
) -> None:
    """Serve until cancelled; 0 takes any free port; without ``talk`` there are no sessions, without ``panel`` no pages.
    Raises ``Unavailable('api.port')`` and ``('disk.write')``."""
    bound = _bind(port)
    port = bound.getsockname()[1]
    token = secrets.token_urlsafe(32)
    gate = {"hosts": _hosts(port), "token": token, "origins": origins, "open_metrics": open_metrics}
    gate["panel"] = panel is not None
    stopping = asyncio.Event()
    routes = Routes(desk, hook_secret=hook_secret, now=now, stopping=stopping).table()
    more = [*(session_routes(talk) if talk is not None else ()), *(panel_routes(panel, port) if panel else ())]
    app = make_app([*routes, *more], gate)
    file = home / FILE
    said = msgspec.json.encode({"port": port, "token": token}) + b"\n"
    server = _Server(_config(app), lambda: write_file(file, said, mode=0o600), stopping)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await asyncio.shield(task)
    finally:
        _withdraw(file, said)
        stopping.set()
        await asyncio.wait({task})
        for listener in getattr(server, "servers", []):  # where it failed before its own end
            listener.close()
        bound.close()


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # nobody may say that he comes from elsewhere
        limit_concurrency=_AT_ONCE,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise Unavailable(
            "api.port",
            f"cannot listen on {_HOST}:{port}: {getattr(error, 'strerror', error)}",
            advice="choose another port, or 0 for any; or stop what uses it",
        ) from error
    return bound


def _hosts(port: int) -> frozenset[str]:
    names = (_HOST, "localhost")
    return frozenset([f"{name}:{port}" for name in names] + (list(names) if port == 80 else []))


def _withdraw(file: Path, said: bytes) -> None:
    """Remove the file, unless another agent has written its own over it."""
    with contextlib.suppress(OSError):
        if file.read_bytes() == said:
            file.unlink()
