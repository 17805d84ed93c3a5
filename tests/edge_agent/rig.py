"""An agent without a hub: real log, policy, register and planner (by rules), and a release made in memory."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.act import Hands
from edge_agent.guard import Guard
from edge_agent.journal import Journal
from edge_agent.memory import Memory
from edge_agent.plan.planner import Planner
from edge_agent.runner import Engine, Runner, Times
from edge_agent.sense.opening import Opening, event_ref, opening, run_id
from edge_agent.tools import Tool
from edge_agent.tools.person import Confirm
from edge_agent.tools.register import Register
from shared.actions import Action
from shared.codec import canonical, hex_sha256
from shared.entries import Draft, Entry, EventReceived, LeaseTaken, ReleaseInstalled, RunOpened
from shared.errors import OutriderError
from shared.keys import SigningKey
from shared.policy import Asking
from shared.release import Answer, Manifest, Order, Release, sign
from shared.runs import Device, Run

START = 1_790_000_000_000_000  # microseconds; a Monday afternoon in 2026
HOUR = 3_600_000_000

PLAYBOOK = """
playbook: triage
version: 1
owner: desk@city.example
trigger: {folder: inbox}
inputs:
  application_id: {required: true}
  description: {required: true}
  value: {type: cents}
  applicant: {private: true}
business_key: [application_id]
value: value
lanes:
  - {id: express, label: Express}
  - {id: plan_review, label: Plan review}
fallback: plan_review
rules:
  - id: roof
    when: {any: [{field: description, contains: ["roof"]}]}
    then: {lane: express, confidence: 960, reason: "Roofs are express."}
  - id: maybe
    when: {any: [{field: description, contains: ["deck"]}]}
    then: {lane: express, confidence: 700, reason: "Decks are often express."}
  - id: tower
    when: {any: [{field: description, contains: ["tower"]}]}
    then: {lane: plan_review, confidence: 990, reason: "Towers need drawings."}
steps:
  - {id: triage, planner: triage, tools: [register.decide]}
approvals: {roles: [clerk], expires: 2d}
"""

SCHEMA = """
entity Device; entity Tool;
action execute, execute_unattended appliesTo { principal: Device, resource: Tool, context: {
  playbook: String, step: String, effect: String, label: String, planner: String, urgency: String, data_class: String,
  confidence: Long, value_cents: Long, offline: Bool, lease_age_s: Long, lease_left_s: Long, actions_since_sync: Long,
  value_since_sync_cents: Long, local_hour: Long, local_weekday: Long, abstained: Bool, approved: Bool } };
"""

POLICY = """
@id("may-decide") permit(principal, action == Action::"execute", resource == Tool::"register.decide");
@id("alone-if-sure") permit(principal, action == Action::"execute_unattended", resource == Tool::"register.decide")
  when { context.confidence >= 900 && context.value_cents <= 5000000 && !context.abstained };
@id("no-fortunes") forbid(principal, action, resource) when { context.value_cents > 100000000 };
"""


def make_release(
    number: int = 1, *, policy: str = POLICY, playbook: str = PLAYBOOK, schema: str = SCHEMA, **more: str
) -> Release:
    """``more`` are further playbooks by name."""
    books = {"triage": playbook, **more}
    files = {
        "policy.cedar": policy.encode(),
        "schema.cedarschema": schema.encode(),
        **{f"playbooks/{name}.yaml": text.encode() for name, text in books.items()},
    }
    manifest = Manifest(
        release=number,
        made_at=START,
        policy="policy.cedar",
        schema="schema.cedarschema",
        playbooks={name: f"playbooks/{name}.yaml" for name in books},
        prompts={},
        models=[],
        files={path: hex_sha256(data) for path, data in files.items()},
    )
    return Release(manifest, files)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        self.now += 1000
        return self.now


class Rig:
    """Open it again on the same folder to be the agent after a restart."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        tool: Callable[[Path], Tool] | None = None,
        tools: list[Tool] | None = None,
        releases: dict[int, Release] | None = None,
        at_once: int = 4,
    ) -> None:
        """``tool`` stands in for the register; ``tools`` come besides it."""
        self.folder = folder
        self.clock = clock or Clock()
        self.hub = SigningKey(bytes(32))
        self.journal = Journal(
            folder / "log.sqlite3", "city/dev", SigningKey(b"k" * 32), now=self.clock, software="test"
        )
        self.device = Device(closed={})
        for entry in self.journal.entries():
            self.device.fold(entry)
        self.journal.listen(self._fold)
        self.memory = Memory(folder / "memory.sqlite3")
        self.releases = releases if releases is not None else {1: make_release()}
        self.online = True
        self.in_question = False
        self.troubles: list[OutriderError] = []
        self.learned: list[tuple[Run, Action]] = []
        self.tool = tool(folder) if tool else Register(folder / "register.sqlite3")
        times = Times(
            local=lambda at: datetime.datetime.fromtimestamp(at / 1e6, datetime.UTC), monotonic=time.monotonic
        )
        self.guard = Guard(
            self.device,
            name="dev",
            policy=self._policy,
            online=lambda: self.online,
            in_question=lambda: self.in_question,
            now=self.clock,
            uptime=self.clock,
            newest=self.journal.newest_at,
            local=lambda at: datetime.datetime.fromtimestamp(at / 1e6, datetime.UTC),
        )
        made = {one.name: one for one in [self.tool, Confirm(), *(tools or [])]}
        self.hands = Hands(made, stopped=self.guard.stopped, now=self.clock)
        planner = Planner(self.memory, now=self.clock, monotonic_us=self.clock, models=None, embedder="")
        engine = Engine(
            self.journal,
            self.device,
            self.guard,
            planner,
            self.hands,
            release=self.releases.__getitem__,
            asking=self._asking,
            times=times,
            learn=lambda run, step, action, _: self.learned.append((run, action)),
        )
        self.runner = Runner(self.journal, self.device, engine, times, at_once=at_once, trouble=self.troubles.append)

    def _fold(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.device.fold(entry)
        self.runner.committed(entries)

    def _asking(self, rules: list[str]) -> Asking:
        policy, _ = self._policy()
        asking: Asking = policy.asking(rules)
        return asking

    def _policy(self) -> Any:
        if self.device.release is None:
            return None
        release = self.releases[self.device.release.release]
        return release.policy, release.number

    async def install(self, number: int = 1) -> None:
        await self.journal.append(Draft(ReleaseInstalled(release=number, files={})))

    async def lend(self, *, hours: int = 8, actions: int = 100, cents: int = 10**9, name: str = "l1") -> None:
        now = self.clock()
        await self.journal.append(Draft(LeaseTaken(name, now, now + hours * HOUR, actions, cents)))

    async def open(self, subject: str, description: str, value: int = 100_000, release: int = 1) -> str:
        playbook = self.releases[release].playbooks["triage"]
        run = run_id("triage", subject)
        facts = RunOpened(
            "triage",
            playbook.version,
            playbook.digest,
            release,
            f"csv:x:{subject}",
            hex_sha256(subject.encode()),
            False,
        )
        inputs = {"application_id": subject, "description": description, "value": value}
        body = {"inputs": inputs, "subject": subject, "source": "x.csv row 1"}
        await self.journal.append(Draft(facts, run, {"shared": body}))
        return run

    async def settle(self, seconds: float = 60) -> None:
        """Work until nothing can move."""
        self.journal.attach(asyncio.get_running_loop())
        work = asyncio.create_task(self.runner.work())
        self.runner.wake_all()
        try:
            async with asyncio.timeout(seconds):
                while not self.runner.idle:
                    await asyncio.sleep(0.005)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def answer(self, run: str, said: str, *, lane: str = "", **changes: Any) -> None:
        await self.deliver(self.made_answer(run, said, lane=lane, **changes))

    def made_answer(self, run: str, said: str, *, lane: str = "", **changes: Any) -> Answer:
        """A person's answer to the run's open question."""
        state = self.device.runs[run].waits[0]
        assert state.approval is not None
        body = self.journal.body(state.plan_seq)
        assert body is not None
        planned = msgspec.convert(body["action"], Action)
        arguments = planned.arguments | {"lane": lane} if said == "correct" else None
        corrected = Action(planned.tool, arguments, planned.subject).digest if arguments else ""
        made = Answer(
            approval=state.approval.approval,
            device="dev",
            run=run,
            action=state.approval.action,
            answer=said,
            by="mara",
            role="clerk",
            at=self.clock(),
            reason="because",
            corrected=corrected,
            arguments=arguments,
        )
        return msgspec.structs.replace(made, **changes)

    async def deliver(self, made: Answer | Order) -> None:
        """What the link does with a signed answer."""
        self.journal.attach(asyncio.get_running_loop())
        work = asyncio.create_task(self.runner.work())
        try:
            async with asyncio.timeout(60):
                if isinstance(made, Order):
                    await self.runner.order(made, sign(made, self.hub))
                else:
                    await self.runner.answer(made, sign(made, self.hub))
        finally:
            while not self.runner.idle:
                await asyncio.sleep(0.005)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def start(self, playbook: str, release: int = 1, *, dry_run: bool = False, **inputs: Any) -> str:
        """Open a run of any playbook."""
        wanted = Opening(
            playbook=self.releases[release].playbooks[playbook],
            release=release,
            inputs=inputs,
            trigger=f"person:{self.clock()}",
            source="a person",
            dry_run=dry_run,
        )
        draft = opening(wanted)
        await self.journal.append(draft)
        return draft.run

    async def order(self, run: str, order: str, step: str = "", **changes: Any) -> None:
        """A person's order from the hub."""
        made = Order(
            id=f"ord_{self.clock()}",
            device="dev",
            run=run,
            step=step,
            order=order,
            by="mara",
            role="clerk",
            at=self.clock(),
            reason="because",
        )
        await self.deliver(msgspec.structs.replace(made, **changes))

    async def event(self, name: str, key: str, **payload: Any) -> int:
        """An event from outside; how many runs it woke."""
        ref = event_ref(name, key)
        body = {"name": name, "key": key, "payload": payload}
        await self.journal.append(Draft(EventReceived(name=name, ref=ref), bodies={"private": body}))
        return self.runner.event(ref)

    def types(self, run: str) -> list[str]:
        return [entry.type for entry in self.journal.run_entries(run)]

    def close(self) -> None:
        self.memory.close()
        self.journal.close()


__all__ = ["HOUR", "PLAYBOOK", "POLICY", "START", "Clock", "Rig", "canonical", "make_release"]
