"""One accepted tool of an MCP server, as a tool behind the guard."""

from __future__ import annotations

import re
from typing import Any

from edge_agent.tools import Argument, Effect, Receipt, Risk, Tool, check_arguments
from edge_agent.tools.mcp.effects import Class
from edge_agent.tools.mcp.pins import Pin
from edge_agent.tools.mcp.schema import ABOUT_CHARS, arguments, clean
from edge_agent.tools.mcp.session import MARGIN_S, Session
from edge_agent.tools.mcp.settings import Settings
from shared.actions import Action
from shared.codec import hex_sha256

_UNNAMED = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST = 80


def name_of(table: str, name: str) -> str:
    """``TABLE.NAME``, as playbooks want it: other characters become ``_``, the first is a letter, and
    a name that is too long ends in a part of its hash."""
    fitting = _UNNAMED.sub("_", name)
    if not fitting[:1].isalpha():
        fitting = f"t{fitting}"
    if len(fitting) > _LONGEST:
        fitting = f"{fitting[: _LONGEST - 9]}-{hex_sha256(name.encode())[:8]}"
    return f"{table}.{fitting}"


class McpTool(Tool):
    """``reads_back`` is false: what a tool did is known only from its own answer."""

    askable = False
    reads_back = False

    def __init__(self, table: str, pin: Pin, kind: Class, settings: Settings, session: Session) -> None:
        facts = pin.facts
        self.name = name_of(table, pin.name)
        self.about = clean(str(facts.get("description") or facts.get("title") or pin.name), ABOUT_CHARS) or pin.name
        self.effect: Effect = kind.effect
        self.risk: Risk = kind.risk
        self.idempotent = kind.idempotent
        self.arguments: dict[str, Argument] = arguments(facts.get("inputSchema") or {})
        self.timeout_s = settings.start_s + settings.timeout_s + 2 * MARGIN_S
        self._pin, self._session = pin, session

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        details = await self._session.call(self._pin, dict(action.arguments))
        # The hash says which of the accepted descriptions the agent went by.
        return Receipt({"tool": self._pin.name, "description_sha256": self._pin.sha256, **details})

    async def close(self) -> None:
        await self._session.close()

    def described(self) -> dict[str, Any]:
        """The accepted description, for people."""
        return self._pin.facts
