"""Any MCP server as a guarded tool set: kind ``mcp`` in ``tools.toml``. How-to: ``docs/how-to/use-mcp.md``.

The factory does not connect. It builds the tools that a person accepted, from the file of accepted descriptions, and a
set that nobody has reviewed has none. The server is started at the first call, by a worker process that ends when idle.

A description is data: it is shown to people and to planners, and never followed.
"""

from __future__ import annotations

from typing import Any

from edge_agent.tools import Tool
from edge_agent.tools.build import Place
from edge_agent.tools.mcp import pins, settings
from edge_agent.tools.mcp.effects import classify
from edge_agent.tools.mcp.session import Session
from edge_agent.tools.mcp.tool import McpTool
from shared.errors import BadInput, Refused

__all__ = ["make"]


def make(place: Place, given: dict[str, Any]) -> list[Tool]:
    """The accepted tools. Raises ``BadInput`` for settings that do not fit, ``Refused('mcp.unreviewed')`` where nothing
    was accepted yet, ``Tampered('mcp.pins')``."""
    found = settings.read(place, given)
    accepted = pins.load(place.state)
    where = f"tools.toml [{place.name}]"
    if accepted is None:
        raise Refused(
            "mcp.unreviewed",
            f"nobody has looked at what the MCP server {place.name} offers",
            advice=f"run: outrider agent mcp review {place.name}",
            where=where,
        )
    if unknown := {*found.tools} - {one.name for one in accepted.tools}:
        raise BadInput(
            "mcp.setting", f"{sorted(unknown)[0]!r} is no accepted tool", advice="correct tools.toml", where=where
        )
    session = Session(place, found)
    made: dict[str, Tool] = {}
    for one in accepted.tools:
        override = found.tools.get(one.name)
        if override is not None and not override.use:
            continue
        tool = McpTool(place.name, one, classify(one.facts.get("annotations"), override), found, session)
        if tool.name in made:
            raise BadInput(
                "mcp.name", f"two tools would be {tool.name}", advice="set use = false for one of them", where=where
            )
        made[tool.name] = tool
    return list(made.values())
