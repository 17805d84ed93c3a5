"""A real HTTP server with the part of the agent's API that assistants use, and a run for every kind of end."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
    """What the server knows. ``asked`` is every action that came, ``runs`` those that were opened."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.dropped = False
        self.show_nothing = False  # it takes actions, and no more answers about runs

    def act(self, wanted: dict[str, Any]) -> str:
        self.asked.append(wanted)
        known = self.keys.get((wanted["client"], wanted["key"]))
        if known is None:
            known = self.keys[wanted["client"], wanted["key"]] = f"run_{len(self.runs) + 1}"
            self.runs[known] = run(known, wanted)
        return known

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
def serving(agent: Agent) -> Iterator[str]:
    """The address of a server for ``agent``."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *said: Any) -> None:
            pass

        def reply(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def refuse(self, kind: str, code: str, message: str) -> None:
            self.reply(400, {"kind": kind, "code": code, "message": message, "advice": "see to it"})

        def do_GET(self) -> None:
            if self.path == "/v1/tools":
                self.reply(200, TOOLS)
            else:
                self.show(self.path.removeprefix("/v1/runs/"))

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/actions":
                self.show(self.path.removeprefix("/v1/runs/").removesuffix("/wait"))
            elif given["tool"] not in {one["name"] for one in TOOLS}:
                self.refuse("Refused", "assistant.tool", f"{given['tool']!r} is not offered to assistants")
            else:
                name = agent.act(given)
                if given["tool"] == "desk.vanish" or (given["tool"] == "desk.drop" and not agent.dropped):
                    agent.dropped = True
                    self.close_connection = True  # taken, and no answer
                    return
                self.reply(200, {"run": name})

        def show(self, name: str) -> None:
            if agent.show_nothing:
                self.close_connection = True
            elif name in agent.runs:
                self.reply(200, agent.runs[name])
            else:
                self.refuse("BadInput", "run.unknown", f"there is no run {name!r}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
