"""A desk that remembers what it was asked, served by the real server."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.api.desk import Desk
from edge_agent.api.server import serve
from shared.errors import BadInput, Conflict, Refused, Tampered, Unavailable

NOW = 1_614_265_330_000_000
SECRETS = {"hook-shop": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "hook-broken": "hunter2"}
ERRORS = {
    "bad": BadInput("run.input", "it does not fit", advice="mend it", where="inputs.x"),
    "unknown": BadInput("run.unknown", "there is none", advice="see the list"),
    "refused": Refused("approval.not-local", "not here", advice="go there"),
    "tampered": Tampered("log.hash", "it does not hold", advice="ask"),
    "conflict": Conflict("order.unfit", "not now", advice="later"),
    "unavailable": Unavailable("release.none", "nothing is installed", advice="link it"),
}


class TestDesk:
    """The seam: what the app implements over runs and the log. An id of ``ERRORS`` raises that error."""

    __test__ = False

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.events: dict[tuple[str, str], dict[str, Any]] = {}
        self.runs: dict[tuple[str, str], str] = {}
        self.closed = asyncio.Event()
        self.waited_for = asyncio.Event()  # somebody waits for a run

    def _raise(self, name: str) -> None:
        if name in ERRORS:
            raise ERRORS[name]
        if name == "fault":
            raise ZeroDivisionError("a mistake of our own")

    def tools(self) -> list[dict[str, Any]]:
        return [{"name": "shop.order", "about": "Ä tool", "effect": "read", "risk": "low", "arguments": {}}]

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        self._raise(tool)
        self.asked.append(("act", tool, arguments, subject, client, key))
        return self.runs.setdefault((client, key), f"r-{len(self.runs) + 1}")

    async def start(self, playbook: str, inputs: dict[str, Any], *, by: str, dry_run: bool = False) -> str:
        self._raise(playbook)
        self.asked.append(("start", playbook, inputs, by, dry_run))
        return "r-9"

    def status(self) -> dict[str, Any]:
        return {"name": "Permit desk"}

    def runs(self, limit: int) -> list[dict[str, Any]]:
        return [self.run("r-1")]

    def run(self, run_id: str) -> dict[str, Any]:
        self._raise(run_id)
        return {"run": run_id, "status": "open", "steps": []}

    async def wait(self, run_id: str, timeout_s: float) -> dict[str, Any]:
        self._raise(run_id)
        self.waited_for.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self.closed.wait()
        except TimeoutError:
            return self.run(run_id)
        return {"run": run_id, "status": "closed", "steps": []}

    async def order(self, run_id: str, order: str, *, by: str, reason: str, step: str = "") -> None:
        self._raise(run_id)
        self.asked.append(("order", run_id, order, by, reason, step))

    def approvals(self) -> list[dict[str, Any]]:
        return [{"approval": "a-1", "run": "r-1"}]

    async def answer(self, approval: str, answer: str, *, by: str, reason: str) -> None:
        self._raise(approval)
        self.asked.append(("answer", approval, answer, by, reason))

    async def event(self, name: str, key: str, payload: dict[str, Any]) -> int:
        if (name, key) in self.events:
            return 0
        self.events[name, key] = payload
        return 1

    def metrics(self) -> str:
        return "# TYPE runs counter\nruns 3\n"


def hook_secret(name: str) -> str:
    if name not in SECRETS:
        raise Unavailable("secret.missing", f"there is no secret {name}", advice="set it")
    return SECRETS[name]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    home: Path
    desk: TestDesk
    port: int
    token: str
    task: asyncio.Task[None] = field(repr=False)

    async def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str | None] | None = None
    ) -> Answer:
        """One request, as a well-behaved client sends it; ``headers`` replace its own, None leaves one out."""
        return await asyncio.to_thread(self._ask, method, path, body, headers or {})

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str | None]) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}", "Authorization": f"Bearer {self.token}"}
        if data is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in (sent | headers).items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()


@asynccontextmanager
async def serving(home: Path, desk: TestDesk | None = None, **settings: Any) -> AsyncIterator[Served]:
    made = desk or TestDesk()
    seam: Desk = made
    clock: Callable[[], int] = lambda: NOW  # noqa: E731 - a clock that stands
    task = asyncio.create_task(serve(seam, home, hook_secret=hook_secret, now=clock, **settings))
    try:
        while not (home / "api.json").exists():
            await asyncio.sleep(0.005)
            if task.done():
                task.result()
        told = json.loads((home / "api.json").read_bytes())
        yield Served(home, made, told["port"], told["token"], task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
