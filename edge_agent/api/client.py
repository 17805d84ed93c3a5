"""The other side of the local API: what the command line and ``outrider mcp`` ask of the agent that runs in a home.

Blocking; use it in a thread from a loop. Where and with which token is read from ``HOME/api.json`` at every call, so an
agent that was restarted is found again. The file of an agent that was killed stays behind, and any program may take its
port meanwhile: so nothing is sent unless the home's lock is held, which only a running agent does.
"""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from edge_agent.api import FILE
from edge_agent.config import Home
from edge_agent.lock import is_held
from shared.errors import KINDS, OutriderError, Unavailable

_ANSWER_BYTES = 32 * 1024 * 1024
_SECONDS = 30.0


class _Place(msgspec.Struct, frozen=True):
    port: int
    token: str


class _Problem(msgspec.Struct, frozen=True):
    kind: str
    code: str
    message: str
    advice: str
    where: str = ""


class Client:
    """The methods are the desk's; they raise its errors, ``Unavailable('agent.not-running')`` where nobody serves, and
    ``Unavailable('api.answer')`` where the answer was lost. What was asked with a key can be asked again with it."""

    def __init__(self, home: Path) -> None:
        self._home = Home(home)

    def tools(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/v1/tools")["tools"]
        return found

    def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        body = {"tool": tool, "arguments": arguments, "subject": subject, "client": client, "key": key}
        return str(self._ask("POST", "/v1/actions", body)["run"])

    def start(self, playbook: str, inputs: dict[str, Any], *, by: str, dry_run: bool = False) -> str:
        body = {"playbook": playbook, "inputs": inputs, "by": by, "dry_run": dry_run}
        return str(self._ask("POST", "/v1/runs", body)["run"])

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("GET", f"/v1/runs/{_part(run_id)}")
        return found

    def wait(self, run_id: str, timeout_s: int) -> dict[str, Any]:
        path, body = f"/v1/runs/{_part(run_id)}/wait", {"timeout_s": timeout_s}
        found: dict[str, Any] = self._ask("POST", path, body, _SECONDS + timeout_s)
        return found

    def order(self, run_id: str, order: str, *, by: str, reason: str, step: str = "") -> None:
        body = {"order": order, "by": by, "reason": reason, "step": step}
        self._ask("POST", f"/v1/runs/{_part(run_id)}/orders", body)

    def approvals(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/v1/approvals")["approvals"]
        return found

    def answer(self, approval: str, answer: str, *, by: str, reason: str) -> None:
        self._ask("POST", f"/v1/approvals/{_part(approval)}/answer", {"answer": answer, "by": by, "reason": reason})

    def event(self, name: str, key: str, payload: dict[str, Any]) -> int:
        return int(self._ask("POST", f"/v1/events/{_part(name)}", {"key": key, "payload": payload})["runs"])

    def say(self, session: str, role: str, text: str, **more: Any) -> int:
        """Keep a turn of a conversation; its number. ``more``: ``scope``, ``subject``, ``run``, ``artefacts``."""
        body = {"role": role, "text": text, **more}
        return int(self._ask("POST", f"/v1/sessions/{_part(session)}/turns", body)["turn"])

    def context(self, session: str, budget: int, question: str = "") -> dict[str, Any]:
        """What to put before whoever answers next."""
        body = {"budget": budget, "question": question}
        found: dict[str, Any] = self._ask("POST", f"/v1/sessions/{_part(session)}/context", body)
        return found

    def open_panel(self, by: str) -> str:
        """An address that opens the panel once, within a minute."""
        return str(self._ask("POST", "/v1/panel", {"by": by})["url"])

    def close_panel(self) -> int:
        """Close every open panel; how many there were."""
        return int(self._ask("POST", "/v1/panel/close", {})["closed"])

    def metrics(self) -> str:
        return self._send("GET", "/metrics", None, _SECONDS).decode()

    def _ask(self, method: str, path: str, body: Any = None, seconds: float = _SECONDS) -> Any:
        try:
            return msgspec.json.decode(self._send(method, path, body, seconds))
        except msgspec.DecodeError as error:
            raise _lost("what it said is no JSON") from error

    def _send(self, method: str, path: str, body: Any, seconds: float) -> bytes:
        place = self._place()
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=seconds)
        headers = {"Authorization": f"Bearer {place.token}", "Connection": "close"}
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            try:
                connection.connect()
            except OSError as error:
                raise self._absent() from error
            connection.request(method, path, data, headers)
            with connection.getresponse() as answer:
                said, status = answer.read(_ANSWER_BYTES), answer.status
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _lost(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise _error(status, said)
        return said

    def _place(self) -> _Place:
        try:
            place = msgspec.json.decode((self._home.root / FILE).read_bytes(), type=_Place)
        except (OSError, msgspec.DecodeError) as error:
            raise self._absent() from error
        if not is_held(self._home.lock):
            raise self._absent()
        return place

    def _absent(self) -> Unavailable:
        return Unavailable(
            "agent.not-running", f"no agent runs in {self._home.root}", advice="start it: outrider agent run"
        )


def _error(status: int, said: bytes) -> OutriderError:
    try:
        problem = msgspec.json.decode(said, type=_Problem)
    except msgspec.DecodeError:
        return _lost(f"it said {status}")
    kind = KINDS.get(problem.kind, Unavailable)
    return kind(problem.code, problem.message, advice=problem.advice, where=problem.where)


def _lost(said: str) -> Unavailable:
    return Unavailable("api.answer", f"the agent did not answer: {said}", advice="see how the run stands, or ask again")


def _part(text: str) -> str:
    return quote(text, safe="")
