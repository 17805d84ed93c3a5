"""What ``outrider mcp`` needs of the running agent; ``edge_agent.api.client`` offers it over loopback."""

from __future__ import annotations

from typing import Any, Protocol


class Desk(Protocol):
    """Views are as ``edge_agent.desk`` makes them. Every method raises ``Unavailable('agent.not-running')`` where no
    agent answers, and what the agent itself raised."""

    async def tools(self) -> list[dict[str, Any]]:
        """The tools offered to assistants: name, about, effect, risk, idempotent, and arguments as a JSON schema."""
        ...

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        """Open a run for one action, or find the one that this client and key opened before; its name."""
        ...

    async def wait(self, run: str, timeout_s: float) -> dict[str, Any]:
        """The run once it is closed or waits for somebody, or as it is when the time is over."""
        ...

    async def run(self, run: str) -> dict[str, Any]:
        """The run as it is."""
        ...
