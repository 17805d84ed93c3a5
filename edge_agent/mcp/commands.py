"""``outrider mcp``: started by an assistant, it speaks MCP on standard input and output until they end."""

from __future__ import annotations

import importlib.util
import secrets
from typing import Annotated

import typer

from edge_agent.options import PLAIN, HomeOption, home_of
from shared.errors import Unavailable

mcp = typer.Typer(name="mcp", help="Offer the agent's tools to an assistant that speaks MCP.", **PLAIN)


@mcp.callback(invoke_without_command=True)
def offer(
    home: HomeOption = None,
    wait: Annotated[
        int, typer.Option(min=0, max=300, help="Seconds a call waits for its run before it says how it stands.")
    ] = 30,
) -> None:
    """Speak MCP on standard input and output. Each call becomes a run of the agent that is running."""
    if importlib.util.find_spec("mcp") is None:
        raise Unavailable("mcp.missing", "the package mcp is not installed", advice="pip install 'outrider[tools]'")
    import anyio

    from edge_agent.mcp.desk import Running
    from edge_agent.mcp.server import serve

    desk = Running(home_of(home).root)
    anyio.run(lambda: serve(desk, name=secrets.token_hex(16), wait_s=wait))
