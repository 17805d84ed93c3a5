"""This project as a contestant: runs of three tool steps by the real runner, under the starter's policy, in a real log.

Everything is what an agent has: the playbook is read from a release and its expressions filled in; each step is
planned, judged by Cedar and by the lease, its intent committed before the tool is called, its result and what was read
back committed after. The tool itself does nothing, as the peers' steps do nothing. A run begins with its inputs and
ends when its last commit is on the disk and folded.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project itself, wherever it is run from

from _contestant import serve

from edge_agent.act import Hands
from edge_agent.config import uptime_us
from edge_agent.guard import Guard
from edge_agent.journal import Journal
from edge_agent.memory import Memory
from edge_agent.plan.planner import Planner
from edge_agent.runner import Engine, Runner, Times
from edge_agent.sense.opening import Opening, opening
from edge_agent.snapshots import Snapshots
from edge_agent.tools import Argument, Receipt, Tool
from shared.actions import Action
from shared.codec import hex_sha256
from shared.entries import Draft, Entry, LeaseTaken, ReleaseInstalled
from shared.errors import OutriderError
from shared.keys import SigningKey
from shared.policy import Asking, Policy
from shared.release import Manifest, Release

STARTER = Path(__file__).resolve().parents[2] / "server" / "starter" / "permits"
YEAR_US = 365 * 86_400 * 1_000_000
BOOK = """
playbook: {name}
version: 1
owner: desk@city.example
about: Three steps that do nothing.
trigger: {{manual: true}}
urgency: {urgency}
inputs:
  application_id: {{required: true}}
  work: {{required: true}}
  value: {{type: cents}}
business_key: [application_id]
value: value
approvals: {{roles: [clerk], expires: 2d}}
steps:
"""
STEP = """
- id: step-{n}
  tool: register.decide
  with: {{lane: express, note: "step {n} of ${{inputs.work}}"}}
"""
WORK = "Tear off shingles and reroof the garage"


class Nothing(Tool):
    """Does nothing, at once. It bears the name that the starter's policy speaks of."""

    name = "register.decide"
    about = "Do nothing."
    effect = "compensatable"
    risk = "low"
    idempotent = True
    askable = True

    def __init__(self) -> None:
        self.arguments = {"lane": Argument(), "note": Argument()}

    async def send(self, action: Action, key: str) -> Receipt:
        return Receipt({"done": True})

    async def ask(self, key: str, action: Action) -> Receipt | None:
        return None


def release() -> Release:
    """The starter's policy with two playbooks of the same three steps: one that a person waits for, one that nobody
    does."""
    steps = "".join(STEP.format(n=n) for n in range(3))
    files = {name: (STARTER / name).read_bytes() for name in ("policy.cedar", "schema.cedarschema")}
    for urgency in ("interactive", "batch"):
        files[f"playbooks/{urgency}.yaml"] = (BOOK.format(name=urgency, urgency=urgency) + steps).encode()
    manifest = Manifest(
        release=1,
        made_at=1,
        policy="policy.cedar",
        schema="schema.cedarschema",
        playbooks={name: f"playbooks/{name}.yaml" for name in ("interactive", "batch")},
        prompts={},
        models=[],
        files={path: hex_sha256(data) for path, data in files.items()},
    )
    return Release(manifest, files)


def now_us() -> int:
    return time.time_ns() // 1000


def local(at: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at / 1e6).astimezone()


class Agent:
    """The rooms of an agent that a run passes through, put together as ``edge_agent.app`` does it."""

    def __init__(self, folder: Path, *, at_once: int) -> None:
        self.release = release()
        self.journal = Journal(
            folder / "log.sqlite3", "city/bench", SigningKey(b"k" * 32), now=now_us, software="bench"
        )
        self.snapshots = Snapshots(self.journal)
        self.device = self.snapshots.open()
        self.journal.listen(self._committed)
        self.memory = Memory(folder / "memory.sqlite3")
        self.guard = Guard(
            self.device,
            name="bench",
            policy=self._policy,
            online=lambda: True,
            in_question=lambda: False,
            now=now_us,
            uptime=uptime_us,
            newest=0,
            local=local,
        )
        tool = Nothing()
        times = Times(local=local, monotonic=time.monotonic)
        engine = Engine(
            self.journal,
            self.device,
            self.guard,
            Planner(self.memory, now=now_us, monotonic_us=now_us, models=None, embedder=""),
            Hands({tool.name: tool}, stopped=self.guard.stopped, now=now_us),
            release=lambda number: self.release,
            asking=self._asking,
            times=times,
            learn=lambda *_: None,
        )
        self.runner = Runner(self.journal, self.device, engine, times, at_once=at_once, trouble=_fail)
        self.closed: dict[str, asyncio.Future[None]] = {}
        self.folding = True
        self.judged: dict[str, asyncio.Future[None]] = {}
        self._numbers = itertools.count(self.journal.committed)  # a number no run of this log has had

    def _committed(self, entries: list[Entry]) -> None:
        if not self.folding:
            return
        for entry in entries:
            self.device.fold(entry)
        self.runner.committed(entries)
        self.snapshots.committed(self.device)
        for entry in entries:
            if entry.type == "run.closed":
                done = self.closed.pop(entry.run, None)
                if done is not None:
                    done.set_result(None)
            elif entry.type == "intent.recorded":
                begun = self.judged.pop(entry.run, None)
                if begun is not None:
                    begun.set_result(None)

    def _policy(self) -> tuple[Policy, int]:
        return self.release.policy, 1

    def _asking(self, rules: list[str]) -> Asking:
        return self.release.policy.asking(rules)

    async def begin(self) -> None:
        self.journal.attach(asyncio.get_running_loop())
        if self.device.release is None:
            await self.journal.append(Draft(ReleaseInstalled(release=1, files={})))
        now = now_us()
        await self.journal.append(Draft(LeaseTaken("l1", now, now + YEAR_US, 10**9, 10**15)))

    def close(self) -> None:
        self.memory.close()
        self.journal.close()

    # --- runs -----------------------------------------------------------------------------------------------------

    def drafted(self, urgency: str = "batch") -> Draft:
        """A run with a number and a value of its own: no two cases are alike."""
        number = next(self._numbers)
        inputs = {"application_id": f"PA-2026-{number:07}", "work": WORK, "value": 100_000 + number % 9_000_000}
        book = self.release.playbooks[urgency]
        return opening(Opening(playbook=book, release=1, inputs=inputs, trigger=f"person:{number}", source="bench"))

    async def one(self, urgency: str = "batch") -> None:
        draft = self.drafted(urgency)
        done = self.closed[draft.run] = asyncio.get_running_loop().create_future()
        await self.journal.append(draft)
        self.runner.wake(draft.run)
        await done

    async def many(self, runs: int, at_once: int) -> list[float]:
        """Runs, so many at once; the milliseconds of each."""
        took: list[float] = []
        left = iter(range(runs))

        async def submit() -> None:
            for _ in left:
                began = time.perf_counter()
                await self.one()
                took.append((time.perf_counter() - began) * 1000)

        if at_once == 1:
            await submit()
            return took
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(submit())
        return took


def _fail(error: OutriderError) -> None:
    raise SystemExit(f"a run stopped: {error}")


def main(folder: Path) -> None:
    with asyncio.Runner() as runner:
        agent = Agent(folder, at_once=64)
        runner.run(agent.begin())
        work = runner.get_loop().create_task(agent.runner.work())
        serve(None, lambda runs, at_once: runner.run(agent.many(runs, at_once)))
        work.cancel()
        agent.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
