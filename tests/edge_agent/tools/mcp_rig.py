"""What the tests of MCP share: places, accepted servers, and the processes behind a session."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_agent.config import now_us
from edge_agent.tools import Receipt, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.mcp import make, pins
from edge_agent.tools.mcp.review import accept, review
from edge_agent.tools.mcp.session import Session
from shared.actions import Action, Value
from shared.errors import Unavailable
from tests.edge_agent.tools import mcp_rogue

ROGUE = str(Path(__file__).with_name("mcp_rogue.py"))


def no_secret(name: str) -> str:
    raise Unavailable("secret.missing", f"there is no secret {name}", advice="set it")


def place(
    root: Path,
    name: str = "rogue",
    *,
    secret: Callable[[str], str] = no_secret,
    now: Callable[[], int] = now_us,
) -> Place:
    return Place(name, root / "state" / name, secret, now)


def rogue(root: Path, **more: Any) -> dict[str, Any]:
    """Settings for the rogue, with its folder in ``root``."""
    (root / "world").mkdir(exist_ok=True)
    return {"command": sys.executable, "args": ["-I", "-S", ROGUE, str(root / "world")], **more}


async def accepted(where: Place, given: dict[str, Any]) -> dict[str, Tool]:
    """Review, accept everything, build: the tools by their names at the server."""
    seen = await review(where, given)
    accept(where, seen, seen.digest)
    return {tool.name.removeprefix(f"{where.name}."): tool for tool in make(where, given)}


def pinned(where: Place, given: dict[str, Any]) -> dict[str, Tool]:
    """The rogue's tools, taken as accepted without asking it."""
    tools = [pins.pin(pins.describe(tool)) for tool in mcp_rogue.TOOLS]
    pins.save(where.state, pins.Accepted("rogue 1", where.now(), tools))
    return {tool.name.removeprefix(f"{where.name}."): tool for tool in make(where, given)}


def action(tool: Tool, subject: str = "case 1", **arguments: Value) -> Action:
    return Action(tool.name, arguments, subject)


async def send(tool: Tool, **arguments: Value) -> Receipt:
    one = action(tool, **arguments)
    return await tool.send(one, one.key)


def session(tool: Tool) -> Session:
    found: Any = tool
    return found._session


def server_pid(tool: Tool) -> int:
    """The server's process: the child of the worker."""
    worker = session(tool).pid
    assert worker is not None
    (child,) = children(worker)
    return child


async def called(tool: Tool) -> None:
    """Until a call of this tool's server was sent to it, and a moment more."""

    def sent() -> bool:
        worker = session(tool)._worker
        return worker is not None and any(waiting.sent for waiting in worker.waiting.values())

    await until(sent)
    await asyncio.sleep(0.2)


def children(pid: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid and stat.rpartition(")")[2].split()[0] != "Z":
                yield int(entry.name)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until it holds; fails when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        await asyncio.sleep(0.02)
