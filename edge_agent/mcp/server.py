"""The MCP server that assistants start: ``tools/list`` and ``tools/call`` over pipes, each passed on to the agent.

A call's key is made from this process's own random name and the call's request id. So a request that a client sends
twice opens one run, and two requests open two, each judged for itself.
"""

from __future__ import annotations

import json
import re
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.stdio import stdio_server

from edge_agent.mcp import answers, offers
from edge_agent.mcp.answers import Answer
from edge_agent.mcp.desk import Desk
from shared import __version__
from shared.codec import hex_sha256
from shared.errors import BadInput, OutriderError, Unavailable

INSTRUCTIONS = (
    "These tools act through an agent on this computer, under its owner's policy, and everything is recorded. A call"
    " may be refused, or wait until a person allows it: then say so to your user, and look again later with"
    f" {offers.STATUS} instead of calling the tool once more."
)
UNCLEAR = ("api.answer", "api.fault")  # the agent was reached, and nobody knows whether it took what was asked
Context = ServerRequestContext[Any, Any]


class Front:
    """``name`` is this process's own, random; ``wait_s`` how long a call waits for its run."""

    def __init__(self, desk: Desk, *, name: str, wait_s: int) -> None:
        self._desk, self._name, self._wait_s = desk, name, wait_s

    def server(self) -> Server[Any]:
        return Server(
            "outrider",
            version=__version__,
            title="Outrider",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )

    async def _list(self, context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        try:
            tools = await self._desk.tools()
        except OutriderError as error:
            raise MCPError(types.INTERNAL_ERROR, f"{error.message} [{error.code}]. {error.advice}") from error
        return types.ListToolsResult(tools=[types.Tool.model_validate(one) for one in offers.offers(tools)])

    async def _call(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            found = await self._answer(context, params.name, dict(params.arguments or {}))
        except OutriderError as error:
            found = answers.failed(error, looking=params.name == offers.STATUS)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=found.text)],
            structured_content=found.structured or None,
            is_error=found.is_error,
        )

    async def _answer(self, context: Context, name: str, given: dict[str, Any]) -> Answer:
        if name == offers.STATUS:
            return answers.answer(await self._desk.run(_text(given, "run")))
        subject = _text(given, offers.SUBJECT) if offers.SUBJECT in given else ""
        given.pop(offers.SUBJECT, None)
        key = hex_sha256(json.dumps([self._name, context.request_id]).encode())
        try:
            run = await self._act(offers.tool_of(name), given, subject, client_of(context), key)
        except Unavailable as error:
            if error.code not in UNCLEAR:
                raise
            return answers.unclear(error)
        try:
            return answers.answer(await self._desk.wait(run, self._wait_s))
        except Unavailable as error:
            return answers.taken(run, error)

    async def _act(self, tool: str, given: dict[str, Any], subject: str, client: str, key: str) -> str:
        """Asked twice where the agent did not answer: the key makes that one run."""
        try:
            return await self._desk.act(tool, given, subject, client=client, key=key)
        except Unavailable as error:
            if error.code not in UNCLEAR:
                raise
        return await self._desk.act(tool, given, subject, client=client, key=key)


def client_of(context: Context) -> str:
    """The assistant's name as it gives it: for the record, and not a proof of anything."""
    known = context.session.client_params
    name = re.sub(r"[^a-z0-9]+", "-", known.client_info.name.lower()).strip("-")[:40] if known else ""
    return f"mcp-{name}" if name else "mcp"


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadInput("mcp.arguments", f"{name} has to be text", advice="see the tool's input schema")
    return value


async def serve(desk: Desk, *, name: str, wait_s: int) -> None:
    """Answer until standard input ends."""
    server = Front(desk, name=name, wait_s=wait_s).server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
