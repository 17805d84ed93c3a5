"""How the worker reaches a server: a program on pipes, or an address over streamable HTTP."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from edge_agent.tools.mcp import launch
from edge_agent.tools.mcp.messages import Open

STDERR_BYTES = 1024 * 1024  # kept of what a server says on standard error in one session


@asynccontextmanager
async def connect(opening: Open, ended: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
    """The streams to and from the server; ``ended`` is called when there is nothing more to come from it. A call must
    not be written to a server that is gone."""
    async with over_http(opening) if opening.url else as_program(opening) as (read, write):
        yield Watched(read, ended), write


class Watched:
    """A receiving stream that says when it ends."""

    def __init__(self, inner: Any, ended: Callable[[], None]) -> None:
        self._inner, self._ended = inner, ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aenter__(self) -> Watched:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._inner.__aexit__(*error)

    def __aiter__(self) -> Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._inner.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise


@asynccontextmanager
async def as_program(opening: Open) -> AsyncIterator[tuple[Any, Any]]:
    command = opening.command
    found = shutil.which(command[0], path=opening.env.get("PATH"))
    if found is None:
        raise FileNotFoundError(f"there is no program {command[0]!r}")
    if sys.platform != "win32":
        command = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), found, *command[1:]]
    parameters = StdioServerParameters(
        command=command[0], args=command[1:], env=opening.env, cwd=opening.cwd or str(Path.home())
    )
    reading, writing = os.pipe()
    threading.Thread(target=_pump, args=(reading,), name="stderr", daemon=True).start()
    with os.fdopen(writing, "w") as stderr:
        async with stdio_client(parameters, errlog=stderr) as streams:
            yield streams


def _pump(source: int) -> None:
    """What the server says on standard error goes to ours, which is a file; only so much of it is kept."""
    left = STDERR_BYTES
    while data := os.read(source, 65_536):
        sys.stderr.buffer.write(data[:left])
        left -= len(data[:left])
        sys.stderr.buffer.flush()
    os.close(source)


@asynccontextmanager
async def over_http(opening: Open) -> AsyncIterator[tuple[Any, Any]]:
    # The time limits are those of a call, not of the transport.
    limits = httpx2.Timeout(opening.start_s, read=None)
    async with (
        httpx2.AsyncClient(headers=opening.headers, timeout=limits) as client,
        streamable_http_client(opening.url, http_client=client) as streams,
    ):
        yield streams
