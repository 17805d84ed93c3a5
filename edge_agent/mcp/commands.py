"""``outrider mcp``: started by an assistant, it speaks MCP on standard input and output until they end."""

from __future__ import annotations

import importlib.util
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.config import read_config
from shared.errors import Unavailable

_PLAIN: Any = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
mcp = typer.Typer(name="mcp", help="Offer the agent's tools to an assistant that speaks MCP.", **_PLAIN)


@mcp.callback(invoke_without_command=True)
def offer(
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", envvar="OUTRIDER_HOME", help="The agent's folder. [default: ~/.local/share/outrider/agent]"
        ),
    ] = None,
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

    desk = Running(read_config(os.environ, home=home).home)
    anyio.run(lambda: serve(desk, name=secrets.token_hex(16), wait_s=wait))
