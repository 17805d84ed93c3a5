"""What ``outrider mcp`` needs of the running agent, and the agent that runs in a home as that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from anyio import to_thread

from edge_agent.api.client import Client

T = TypeVar("T")


class Desk(Protocol):
    """Views are as ``edge_agent.desk`` makes them. Every method raises ``Unavailable('agent.not-running')`` where no
    agent answers, and what the agent itself raised."""

    async def tools(self) -> list[dict[str, Any]]:
        """The tools offered to assistants: name, about, effect, risk, and arguments as a JSON schema."""
        ...

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        """Open a run for one action, or find the one that this client and key opened before; its name."""
        ...

    async def wait(self, run: str, timeout_s: int) -> dict[str, Any]:
        """The run once it is closed or waits for somebody, or as it is when the time is over."""
        ...

    async def run(self, run: str) -> dict[str, Any]:
        """The run as it is."""
        ...


class Running:
    """The agent that runs in ``home``, over its local API. The client blocks, so each call has a thread, which is left
    to itself where the assistant gives up."""

    def __init__(self, home: Path) -> None:
        self._client = Client(home)

    async def tools(self) -> list[dict[str, Any]]:
        return await _aside(self._client.tools)

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        return await _aside(partial(self._client.act, tool, arguments, subject, client=client, key=key))

    async def wait(self, run: str, timeout_s: int) -> dict[str, Any]:
        return await _aside(partial(self._client.wait, run, timeout_s))

    async def run(self, run: str) -> dict[str, Any]:
        return await _aside(partial(self._client.run, run))


async def _aside(call: Callable[[], T]) -> T:
    return await to_thread.run_sync(call, abandon_on_cancel=True)
