"""The agent's real local API, served for a desk in memory that has a run for every kind of end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.api.server import FILE, serve
from edge_agent.config import Home, now_us
from edge_agent.lock import Lock
from shared.errors import BadInput, Refused, Unavailable

TEXT = {"type": "string"}


def tool(name: str, effect: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    words = {"name": name, "about": f"Do {name}.", "effect": effect, "risk": "low", "idempotent": True}
    return {**words, "arguments": schema}


TOOLS = [
    tool("desk.note", "reversible", text=TEXT),
    tool("desk.read_page", "read", path=TEXT),
    tool("desk.pay", "compensatable", cents={"type": "integer"}),
    tool("desk.wipe", "irreversible"),
    tool("desk.slow", "reversible"),
    tool("desk.lost", "irreversible"),
    tool("desk.drop", "reversible"),
    tool("desk.vanish", "reversible"),
]
RULES = [{"id": "no-wiping", "about": "Nothing is wiped."}]
QUESTION = {
    "approval": "apr_1",
    "step": "act",
    "action": {},
    "reason": "",
    "rules": [{"id": "small-sums", "about": "More than 100 euros are asked about."}],
    "roles": ["clerk", "head"],
    "needed": 1,
    "approvers": [],
    "local": False,
    "asked_at": 1,
    "expires_at": 2,
}


class Agent:
    """The desk. ``asked`` is every action that came, ``runs`` those that were opened."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.dropped = False
        self.show_nothing = False  # it takes actions, and no more answers about runs

    def tools(self) -> list[dict[str, Any]]:
        return TOOLS

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        wanted = {"tool": tool, "arguments": arguments, "subject": subject, "client": client, "key": key}
        if tool not in {one["name"] for one in TOOLS}:
            raise Refused("assistant.tool", f"{tool!r} is not offered to assistants", advice="ask")
        self.asked.append(wanted)
        known = self.keys.get((client, key))
        if known is None:
            known = self.keys[client, key] = f"run_{len(self.runs) + 1}"
            self.runs[known] = run(known, wanted)
        if tool == "desk.vanish" or (tool == "desk.drop" and not self.dropped):
            self.dropped = True  # taken, and then something breaks
            raise Unavailable("api.fault", "a fault in the agent", advice="look at it")
        return known

    def run(self, run_id: str) -> dict[str, Any]:
        if self.show_nothing:
            raise Unavailable("api.fault", "a fault in the agent", advice="look at it")
        if run_id not in self.runs:
            raise BadInput("run.unknown", f"there is no run {run_id!r}", advice="look at the list")
        return self.runs[run_id]

    async def wait(self, run_id: str, timeout_s: float) -> dict[str, Any]:
        return self.run(run_id)

    def approve(self, name: str) -> None:
        self.runs[name] |= {"status": "closed", "outcome": "done", "waiting_for": []}


def run(name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = {"step": "act", "status": "observed", "tool": wanted["tool"], "verdict": "allow"}
    step |= {"rules": [], "outcome": "done", "code": "", "receipt": {"text": f"did {wanted['arguments']}"}}
    found = {"run": name, "playbook": "assistant", "subject": wanted["subject"], "status": "closed", "outcome": "done"}
    found |= {"code": "", "dry_run": False, "opened_at": 1, "steps": [step], "waiting_for": []}
    match wanted["tool"]:
        case "desk.pay":
            found |= {"status": "waiting", "outcome": "", "waiting_for": [{**QUESTION, "run": name}]}
        case "desk.wipe":
            found |= {"outcome": "denied", "code": "no-wiping"}
            step |= {"rules": RULES, "verdict": "deny", "receipt": {}}
        case "desk.slow":
            found |= {"status": "intended", "outcome": ""}
        case "desk.lost":
            found |= {"status": "doubted", "outcome": ""}
    return found


@contextlib.contextmanager
def serving(agent: Agent, home: Path) -> Iterator[Path]:
    """``home``, where this agent runs now."""
    lock = Lock(Home(home).lock)
    loop = asyncio.new_event_loop()
    desk: Any = agent  # the part of it that assistants use
    task = loop.create_task(serve(desk, home, hook_secret=str, now=now_us))

    def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not (home / FILE).exists():
            assert thread.is_alive() and time.monotonic() < until, "it does not serve"
            time.sleep(0.01)
        yield home
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
        lock.release()
