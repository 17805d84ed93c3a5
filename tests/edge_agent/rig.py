"""An agent without a hub: real log, policy, register and planner (by rules), and a release made in memory."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.act import Hands
from edge_agent.guard import Guard
from edge_agent.journal import Journal
from edge_agent.memory import Memory
from edge_agent.plan.planner import Planner
from edge_agent.runner import Runner
from edge_agent.sense.inbox import run_id
from edge_agent.tools import Tool
from edge_agent.tools.register import Register
from shared.actions import Action
from shared.codec import canonical, hex_sha256
from shared.entries import Draft, Entry, LeaseTaken, ReleaseInstalled, RunOpened
from shared.errors import OutriderError
from shared.keys import SigningKey
from shared.release import Answer, Manifest, Release, sign
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


def make_release(number: int = 1, *, policy: str = POLICY, playbook: str = PLAYBOOK) -> Release:
    files = {
        "policy.cedar": policy.encode(),
        "schema.cedarschema": SCHEMA.encode(),
        "playbooks/triage.yaml": playbook.encode(),
    }
    manifest = Manifest(
        release=number,
        made_at=START,
        policy="policy.cedar",
        schema="schema.cedarschema",
        playbooks={"triage": "playbooks/triage.yaml"},
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
        releases: dict[int, Release] | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock or Clock()
        self.hub = SigningKey(bytes(32))
        self.journal = Journal(
            folder / "log.sqlite3", "city/dev", SigningKey(b"k" * 32), now=self.clock, software="test"
        )
        self.device = Device()
        for entry in self.journal.entries():
            self.device.fold(entry)
        self.journal.listen(self._fold)
        self.memory = Memory(folder / "memory.sqlite3")
        self.releases = releases if releases is not None else {1: make_release()}
        self.online = True
        self.in_question = False
        self.troubles: list[OutriderError] = []
        self.learned: list[tuple[Run, Action]] = []
        made = tool(folder) if tool else Register(folder / "register.sqlite3")
        self.tool = made
        self.guard = Guard(
            self.device,
            name="dev",
            policy=self._policy,
            online=lambda: self.online,
            in_question=lambda: self.in_question,
            now=self.clock,
            local=lambda at: datetime.datetime.fromtimestamp(at / 1e6, datetime.UTC),
        )
        planner = Planner(self.memory, now=self.clock, monotonic_us=self.clock, models=None, embedder="")
        self.runner = Runner(
            self.journal,
            self.device,
            self.guard,
            planner,
            Hands({made.name: made}, now=self.clock),
            release=self.releases.__getitem__,
            at_once=4,
            trouble=self.troubles.append,
            learn=lambda run, action, _: self.learned.append((run, action)),
        )

    def _fold(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.device.fold(entry)

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

    async def settle(self, seconds: float = 10) -> None:
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
        state = self.device.runs[run]
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

    async def deliver(self, made: Answer) -> None:
        """What the link does with a signed answer."""
        self.journal.attach(asyncio.get_running_loop())
        work = asyncio.create_task(self.runner.work())
        try:
            await asyncio.wait_for(self.runner.answer(made, sign(made, self.hub)), 5)
        finally:
            while not self.runner.idle:
                await asyncio.sleep(0.005)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def types(self, run: str) -> list[str]:
        return [entry.type for entry in self.journal.run_entries(run)]

    def close(self) -> None:
        self.memory.close()
        self.journal.close()


__all__ = ["HOUR", "PLAYBOOK", "POLICY", "START", "Clock", "Rig", "canonical", "make_release"]
