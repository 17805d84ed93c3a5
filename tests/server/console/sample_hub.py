"""A hub with something to look at: real rooms in a temporary home, and devices that did a morning's permits."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import msgspec
from fastapi import FastAPI
from sqlalchemy import select

from server.approvals import Approvals
from server.authoring import Access, Authoring
from server.bus import Bus
from server.config import HubConfig
from server.console import HubInfo, Services, attach
from server.devices import Devices
from server.doors import Doors
from server.embedding.index import TeamIndex
from server.ingest import Ingest, Record
from server.memory import Memory
from server.models import Models
from server.orders import Orders
from server.releases import Releases
from server.replay import Reconcile, Replays
from server.rollouts import Rollouts
from server.store import HubLog, Store, make_home
from server.store.tables import OUTBOX
from server.switches import Switches
from server.users import Users
from shared.actions import Action
from shared.entries import ReleaseInstalled, RunClosed, RunOrdered
from shared.errors import OutriderError
from shared.keys import Envelope
from shared.release import Answer, Order
from tests.server.console.sample_agent import SECOND, Case, SampleAgent, SampleClock
from tests.server.console.sample_cases import ALONE, ANSWERED, DENIED, UNSURE, WAITING
from tests.server.console.sample_letters import ARCHIVE, LETTERS, Letters

MARIA, OMAR, LENA = ("maria", "four unrelated words"), ("omar", "another four words"), ("lena", "only looking here")

SCHEMA = """
entity Device; entity Tool;
action execute, execute_unattended appliesTo { principal: Device, resource: Tool, context: {
  label: String, planner: String, confidence: Long, value_cents: Long, data_class: String, offline: Bool,
  lease_age_s: Long, actions_since_sync: Long, local_hour: Long, approved: Bool } };
"""
POLICY = """
@id("register-only") @about("Agents may write to the case register, and to nothing else.")
permit(principal, action, resource == Tool::"register.decide");
@id("ask-when-unsure") @about("Below 90% confidence a person decides.")
forbid(principal, action == Action::"execute_unattended", resource) when { context.confidence < 900 };
@id("ask-above-50k") @about("Work of more than $50,000 is decided by a person.")
forbid(principal, action == Action::"execute_unattended", resource) when { context.value_cents > 5000000 };
@id("no-undo-asks") @about("What cannot be undone is never done without two people.") @people("2")
forbid(principal, action == Action::"execute_unattended", resource == Tool::"mail.send");
@id("assistants-ask") @about("What an assistant asks for is done once a person has said yes.")
@similar("1h") @local("yes")
forbid(principal, action == Action::"execute_unattended", resource == Tool::"files.write");
@id("no-unsure-demolition") @about("A demolition below 70% confidence is never recorded.")
forbid(principal, action, resource) when { context.label == "demolition" && context.confidence < 700 };
"""
PLAYBOOK = """
playbook: permit-triage
version: 3
owner: permits-desk@city.example
about: Recommend a lane for every permit application.
trigger: {folder: inbox}
inputs:
  application_id: {required: true}
  description: {required: true}
  value: {type: cents}
  address: {}
  filed_on: {type: date}
  applicant: {private: true}
  email: {private: true}
business_key: [application_id]
value: value
lanes:
  - {id: express, label: Express}
  - {id: plan_review, label: Plan review}
  - {id: self_cert, label: Self-certified plans}
  - {id: sign, label: Signs and awnings}
  - {id: demolition, label: Demolition}
  - {id: conveyance, label: Lifts and conveyances}
fallback: plan_review
steps:
  - {id: triage, planner: triage, tools: [register.decide]}
approvals: {roles: [clerk]}
"""


class SampleHub:
    """The rooms of a hub below ``home``. ``clock`` gives microseconds."""

    def __init__(self, home: Path, clock: SampleClock) -> None:
        new = not home.exists()
        if new:
            make_home(home, "City of Example", secrets.token_bytes)
        self.clock = clock
        self.store = Store(home)
        self.log = HubLog(self.store, clock=clock, random=secrets.token_bytes)
        self.bus = Bus()
        self.users = Users(self.log)
        self.releases = Releases(home, self.log, clock=clock)
        if new:
            self._begin(home / "workspace")
        self.devices = Devices(self.log, self.bus, HubConfig(home=home), self.releases)
        self.rollouts = Rollouts(self.log, self.bus, self.releases, self.devices)
        self.ingest = Ingest(self.log, self.bus)
        self.record = Record(self.store, clock)
        self.approvals = Approvals(self.log, self.bus, self.releases)
        self.orders = Orders(self.log, self.bus, self.record.run, self.releases)
        self.memory = Memory(self.log, self.bus)
        self.models = Models(self.log, self.bus, self.releases, limit=1_000_000)
        self.authoring = Authoring(
            self.log,
            self.bus,
            self.releases,
            home / "workspace",
            people=self.users.list,
            devices=lambda: [device.id for device in self.devices.list()],
        )
        self.access = Access(self.log)
        self.switches = Switches(self.log, self.bus, names=self.releases.names)
        self.replays = Replays(self.log, self.bus, self.releases, self.authoring)
        self.reconcile = Reconcile(
            self.log,
            self.bus,
            self.record,
            self.orders,
            release_for=lambda device: self.rollouts.told().due(device),
            library=self.releases.release,
        )
        self.index: TeamIndex | None = None
        self.policy = self.releases.release(1).policy
        self.desk: SampleAgent | None = None
        self.letters: Letters | None = None

    def _begin(self, workspace: Path) -> None:
        (workspace / "playbooks").mkdir(parents=True)
        (workspace / "policy.cedar").write_text(POLICY)
        (workspace / "schema.cedarschema").write_text(SCHEMA)
        (workspace / "playbooks" / "permit-triage.yaml").write_text(PLAYBOOK)
        (workspace / "playbooks" / "permit-letters.yaml").write_text(LETTERS)
        (workspace / "playbooks" / "permit-archive.yaml").write_text(ARCHIVE)
        (workspace / "models.json").write_text("[]")
        self.users.add(*MARIA, ["admin", "clerk"])
        self.users.add(*OMAR, ["clerk"])
        self.users.add(*LENA, ["reader"])
        self.releases.init_repository()
        self.releases.publish("maria")

    @property
    def services(self) -> Services:
        hub = HubInfo(
            name=self.log.identity.name,
            origin=self.log.origin,
            home="/var/lib/outrider/hub",
            address="http://127.0.0.1:8400",
            software="Outrider hub 0.1.0",
            token_seconds=1800,
        )
        return Services(
            users=self.users,
            devices=self.devices,
            record=self.record,
            approvals=self.approvals,
            orders=self.orders,
            memory=self.memory,
            models=self.models,
            doors=Doors(self.log, self.bus, self.memory),
            releases=self.releases,
            rollouts=self.rollouts,
            authoring=self.authoring,
            access=self.access,
            switches=self.switches,
            replays=self.replays,
            reconcile=self.reconcile,
            bus=self.bus,
            hub=hub,
            clock=self.clock,
            index=self.index,
        )

    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        attach(app, self.services)
        return app

    def close(self) -> None:
        self.memory.close()
        self.bus.close()
        self.store.close()

    def reopen(self, home: Path) -> SampleHub:
        """This hub on a copy of its home, with its desk connected again. Making one anew costs seconds of hashing."""
        copy = SampleHub(home, SampleClock(self.clock()))
        if self.desk is not None:
            copy.desk = self.desk.moved(copy.devices, copy.ingest, copy.clock)
            copy.desk.connect()
            copy.desk.report(release=1, open_runs=len(WAITING), waiting=len(WAITING))
        if self.letters is not None:
            copy.letters = Letters(self.letters.agent.moved(copy.devices, copy.ingest, copy.clock))
            copy.letters.agent.connect()
        return copy

    # --- life ---

    def agent(self, name: str) -> SampleAgent:
        agent = SampleAgent(self.devices, self.ingest, self.policy, name, self.clock)
        release = self.releases.release(1).manifest
        agent.write(ReleaseInstalled(1, release.files))
        self.devices.lease(agent.device)
        return agent

    def wait(self, agent: SampleAgent, case: Case, expires_in_s: int = 14 * 86_400) -> tuple[str, str, Action]:
        """A run that waits for a clerk: its name, its question and its action."""
        run, action, verdict = agent.open(case)
        assert verdict is not None and verdict.verdict == "ask", case.number
        return run, agent.ask(run, action, ["clerk"], expires_in_s), action

    def answer(
        self,
        agent: SampleAgent,
        case: Case,
        run: str,
        approval: str,
        action: Action,
        answer: str,
        reason: str,
        corrections: dict[str, str],
    ) -> None:
        """A clerk answers; the device takes the answer from its outbox and goes on."""
        self.approvals.decide(
            approval, by="omar", roles=["clerk"], answer=answer, reason=reason, corrections=corrections
        )
        for envelope, message in self.outbox(agent.device):
            if message.approval == approval:
                agent.take_answer(case, run, action, envelope, message)

    def outbox(self, device: str) -> list[tuple[Envelope, Answer]]:
        with self.store.read() as conn:
            rows = conn.execute(select(OUTBOX.c.envelope).where(OUTBOX.c.device == device)).scalars().all()
        envelopes = [msgspec.json.decode(row, type=Envelope) for row in rows]
        return [(x, msgspec.json.decode(x.payload, type=Answer)) for x in envelopes if x.purpose == "answer"]

    def obey(self, agent: SampleAgent) -> None:
        """The device takes the orders from its outbox, and its runs obey."""
        with self.store.read() as conn:
            rows = conn.execute(select(OUTBOX.c.envelope).where(OUTBOX.c.device == agent.device)).scalars().all()
        envelopes = [msgspec.json.decode(row, type=Envelope) for row in rows]
        obeyed = {w.entry.facts.id for w in agent.written if isinstance(w.entry.facts, RunOrdered)}
        for envelope in envelopes:
            if envelope.purpose == "order":
                order = msgspec.json.decode(envelope.payload, type=Order)
                if order.id not in obeyed:
                    facts = RunOrdered(order.order, order.id, order.step, order.by, "hub")
                    agent.write(facts, order.run, envelope=msgspec.to_builtins(envelope))
        agent.sync()

    def a_morning(self) -> None:
        """A desk that worked: decided alone, asked, was answered, was denied; and two devices with troubles."""
        desk = self.desk = self.agent("Counter 2")
        desk.connect()
        for case in ALONE:
            run, action, _ = desk.open(case)
            desk.act(run, action)
        desk.sync()
        asked = [(case, *self.wait(desk, case), *rest) for case, *rest in ANSWERED]
        desk.sync()
        self.clock.step(37 * 60 * SECOND)
        for case, run, approval, action, answer, reason, corrections in asked:
            self.clock.step(41 * SECOND)
            self.answer(desk, case, run, approval, action, answer, reason, corrections)
        desk.open(UNSURE)
        run, _, verdict = desk.open(DENIED)
        assert verdict is not None and verdict.verdict == "deny"
        desk.write(RunClosed("denied", verdict.rules[0]), run)
        for number, case in enumerate(WAITING):
            self.clock.step((25 + 17 * number) * 60 * SECOND)
            self.wait(desk, case, (14 - 4 * number) * 86_400)
        desk.sync()
        desk.report(release=1, open_runs=len(WAITING), waiting=len(WAITING))
        self._back_office()
        self._forked()
        self.devices.flush()

    def _back_office(self) -> None:
        """Offline, with entries it has not sent."""
        office = self.agent("Back office")
        office.connect()
        for number, case in enumerate(ALONE[:3]):
            run, action, _ = office.open(replace(case, number=f"PA-2026-02{number:02d}"))
            office.act(run, action, how="asked" if number == 1 else "sent")
        office.sync()
        office.report(release=0, open_runs=1, waiting=0, size=office.size + 41)
        office.disconnect()

    def _forked(self) -> None:
        """A copy restored from a backup: its log is no longer the one the hub holds."""
        field_laptop = self.agent("Field laptop 7")
        field_laptop.connect()
        run, action, _ = field_laptop.open(ALONE[5])
        field_laptop.act(run, action)
        field_laptop.sync()
        try:
            self.ingest.greet(field_laptop.device, field_laptop.size - 4, "00" * 32)
        except OutriderError:
            field_laptop.disconnect()
