"""The tools of one agent: those of its ``tools.toml``, and those that every agent has."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.config import Home, now_us
from edge_agent.secrets import Secrets
from edge_agent.tools import Tool
from edge_agent.tools.build import build
from edge_agent.tools.person import Confirm
from edge_agent.tools.register import Register, Withdraw
from shared.errors import OutriderError


def toolbox(home: Home, trouble: Callable[[OutriderError], None]) -> dict[str, Tool]:
    """By name. What keeps a tool from being made is told to ``trouble``; the others are there."""
    secrets = Secrets(home.secrets)
    try:
        found, troubles = build(home.tools, home.tool_state, secret=secrets.get, now=now_us)
    except OutriderError as error:
        found, troubles = {}, [error]
    for one in troubles:
        trouble(one)
    own: list[Tool] = [Register(home.register), Withdraw(home.register), Confirm()]
    return {tool.name: tool for tool in own} | found
