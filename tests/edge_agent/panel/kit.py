"""A whole agent but for its hub, with its local API and its panel, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from edge_agent.api.server import serve
from edge_agent.desk import Counter
from edge_agent.models.engine import Part, Status
from edge_agent.panel.door import Door
from edge_agent.panel.entrance import Panel
from edge_agent.panel.given import Given
from edge_agent.sessions import Sessions
from edge_agent.upkeep import forget, forget_sessions, tokens
from shared.memory import Item
from shared.memory.feed import Hold
from shared.memory.rules import MemoryRules, read_rules
from shared.memory.vector import Embedding
from tests.edge_agent.rig import POLICY, Rig, make_release

T = TypeVar("T")
# A deck is asked about at this computer too, for which the policy needs a rule that asks and says so.
LOCAL = (
    POLICY
    + """
@id("decks-here") @local("yes") forbid(principal, action == Action::"execute_unattended", resource)
  when { context.confidence == 700 };
"""
)
RULES = """
memory: 1
review:
  - {kinds: [contact], after: 30d}
leave: {allow: [text, tags/*]}
never: [secret]
"""
NOW = 1_790_000_000_000_000
DAY = 86_400_000_000
MODEL = "m" * 64
_NO_LANGUAGE = Part("language", "", "", False, 0, "", "")
_EMBEDDER = Part("embedder", MODEL, "minilm-l6", False, 0, "model.missing", "run outrider model get minilm-l6")


class Office:
    """``told`` is what the app would say of the device; ``rules`` are those in force; ``vectors`` stand in for a model
    by the words of the question; ``clock`` is the door's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.loop = asyncio.new_event_loop()
        self.seconds = 0.0
        self.now = NOW
        self.told: dict[str, Any] = {
            "device": "dev_0123456789ab", "name": "Permit desk", "hub": "testville-hub", "hub_url": "http://hub.example",
            "linked": True, "idle": True, "problems": [],
            "model": msgspec.to_builtins(Status("stopped", 0, 0, 0, 0, _NO_LANGUAGE, _EMBEDDER)),
        }  # fmt: skip
        self.rules: MemoryRules = read_rules(RULES, "memory.yaml")
        self.vectors: dict[str, Embedding] = {}
        self.browsers: list[httpx.Client] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(60)
        told = json.loads((self.home / "api.json").read_bytes())
        self.port, self.token = told["port"], told["token"]
        self.origin = f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._life())
        self.loop.close()

    async def _life(self) -> None:
        self._ended = asyncio.Event()
        self.rig = rig = Rig(self.home, releases={1: make_release(policy=LOCAL)})
        self.memory = rig.memory
        self.sessions = Sessions(self.home / "sessions.sqlite3", count=tokens)
        rig.journal.attach(self.loop)
        self.desk = desk = Counter(
            rig.journal, rig.device, rig.runner, rig.hands, release=rig.releases.__getitem__, metrics=str,
            about=lambda: self.told,
        )  # fmt: skip
        given = Given(
            desk, self.memory, rules=lambda: self.rules, meaning=self._meaning,
            sessions=self.sessions, forget=partial(forget, self.memory, self.sessions),
            forget_sessions=partial(forget_sessions, self.memory, self.sessions), now=lambda: self.now,
        )  # fmt: skip
        self.panel = Panel(given, Door(clock=lambda: self.seconds))
        tasks = [
            asyncio.create_task(rig.runner.work()),
            asyncio.create_task(serve(desk, self.home, hook_secret=str, now=lambda: self.now, panel=self.panel)),
        ]
        while not (self.home / "api.json").exists():
            await asyncio.sleep(0.01)
        self._ready.set()
        await self._ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.sessions.close()
        rig.close()

    async def _meaning(self, question: str) -> tuple[str, Embedding | None]:
        return MODEL, self.vectors.get(question)

    def stop(self) -> None:
        for browser in self.browsers:
            browser.close()
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    # --- what the tests do --------------------------------------------------------------------------------------

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Something in the agent's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def open_run(self, subject: str, description: str) -> str:
        async def opened() -> str:
            run = await self.rig.open(subject, description)
            self.rig.runner.wake(run)
            return run

        run = self.do(opened())
        self.settle()
        return run

    def settle(self) -> None:
        """Until nothing can move."""

        async def idle() -> None:
            while not self.rig.runner.idle:
                await asyncio.sleep(0.01)

        self.do(idle())

    def facts(self, run: str, kind: str) -> list[Any]:
        """What the log says of a run, of one type."""

        async def found() -> list[Any]:
            return [entry.facts for entry in self.rig.journal.run_entries(run) if entry.type == kind]

        return self.do(found())

    def questions(self) -> list[dict[str, Any]]:
        async def found() -> list[dict[str, Any]]:
            return self.desk.approvals()

        return self.do(found())

    def equip(self) -> None:
        """A release and a lease."""

        async def both() -> None:
            await self.rig.install()
            await self.rig.lend()

        self.do(both())

    def remember(self, text: str, **more: Any) -> str:
        given = {"kind": "note", "source": "person ann", "scope": "person"} | more
        return self.memory.write(Item(text=text, **given), at=NOW - 3 * DAY, by="ann")

    def hold(self, item: str) -> None:
        self.memory.put_hold(Hold("hold_1", "person", item, True, NOW - DAY, "mara", "litigation"))

    def invite(self, by: str = "ann") -> str:
        """An address that opens the panel once, asked for as the command does."""
        answer = httpx.post(
            f"{self.origin}/v1/panel", json={"by": by}, headers={"Authorization": f"Bearer {self.token}"}
        )
        assert answer.status_code == 201
        url: str = answer.json()["url"]
        return url

    def browse(self, by: str = "ann") -> Browsing:
        return Browsing(self, self.invite(by))


class Browsing:
    """A browser without a face: an open panel, its cookie and its forms."""

    def __init__(self, office: Office, url: str) -> None:
        self.office = office
        self.http = httpx.Client(timeout=60)
        office.browsers.append(self.http)
        opened = self.http.get(url)
        assert opened.status_code == 200
        self.base = office.origin + opened.text.partition('content="0;url=')[2].partition('/"')[0]
        self.csrf = ""

    def get(self, path: str, status: int = 200) -> str:
        answer = self.http.get(self.base + path)
        assert answer.status_code == status, answer.text
        if 'name="csrf" value="' in answer.text:
            self.csrf = answer.text.partition('name="csrf" value="')[2].partition('"')[0]
        return answer.text

    def post(self, path: str, status: int = 303, *, files: Any = None, **fields: str) -> str:
        """A form as the page sends it; what the browser shows then."""
        if not self.csrf:
            self.get("/memory/new")
        answer = self.http.post(
            self.base + path, data={"csrf": self.csrf, **fields}, files=files, headers={"Origin": self.office.origin}
        )
        assert answer.status_code == status, answer.text
        if status != 303:
            return answer.text
        return self.get(answer.headers["location"].removeprefix(self.base.removeprefix(self.office.origin)))


@contextmanager
def opened(home: Path) -> Iterator[Office]:
    office = Office(home)
    office.start()
    try:
        yield office
    finally:
        office.stop()
