"""Serve the tools of the agent at an address over MCP, as ``outrider mcp`` does: ``python serve.py ADDRESS``."""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Any

import httpx

from edge_agent.mcp.server import serve
from shared.errors import KINDS, Unavailable


class Remote:
    """The desk over HTTP."""

    def __init__(self, address: str) -> None:
        self._http = httpx.AsyncClient(base_url=address, timeout=5)

    async def tools(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._ask("GET", "/v1/tools")
        return found

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        wanted = {"tool": tool, "arguments": arguments, "subject": subject, "client": client, "key": key}
        return str((await self._ask("POST", "/v1/actions", wanted))["run"])

    async def wait(self, run: str, timeout_s: float) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask("POST", f"/v1/runs/{run}/wait", {"timeout_s": timeout_s})
        return found

    async def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask("GET", f"/v1/runs/{run}")
        return found

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.ConnectError as error:
            raise Unavailable("agent.not-running", "no agent is running", advice="run: outrider agent run") from error
        except httpx.HTTPError as error:
            raise Unavailable("agent.no-answer", "the agent did not answer", advice="try again") from error
        found = response.json()
        if response.status_code != 200:
            raise KINDS[found["kind"]](found["code"], found["message"], advice=found["advice"])
        return found


if __name__ == "__main__":
    asyncio.run(serve(Remote(sys.argv[1]), name=secrets.token_hex(16), wait_s=2.0))
