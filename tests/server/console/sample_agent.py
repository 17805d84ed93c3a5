"""A device as the hub meets it: real keys, a real log, real checkpoints, and runs judged by a real policy.

It stands in for the agent's own rooms, which the hub may not import. What it writes passes the hub's own judgement.
"""

from __future__ import annotations

import copy
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from server.devices import Devices
from server.ingest import Ingest
from shared import entries as e
from shared.actions import Action
from shared.codec import hex_sha256
from shared.keys import PublicKey, SigningKey, unseal
from shared.policy import Policy, Request
from shared.protocol import PROTOCOL_VERSION, Batch, Hello, Join, Joined, Sent, Status, join_bytes
from shared.release import Answer
from shared.tlog import Checkpoint, Frontier, leaf_hash

SECOND = 1_000_000
MODEL = hex_sha256(b"a model")


class SampleClock:
    """Microseconds since 1970 UTC: stands still but for ``step``, until it is let run."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._since: int | None = None

    def __call__(self) -> int:
        return self._now + (0 if self._since is None else (time.monotonic_ns() - self._since) // 1000)

    def step(self, us: int) -> None:
        self._now += us

    def run(self) -> None:
        self._since = time.monotonic_ns()


@dataclass
class Case:
    """One application and what the planner makes of it. ``lane`` empty: it abstains."""

    number: str
    description: str
    cents: int | None
    lane: str
    label: str
    confidence: int
    reason: str
    planner: str = "rules"
    sources: list[dict[str, str]] = field(default_factory=list)
    address: str | None = "418 Alder St"
    row: int = 2
    work_type: str | None = None


class SampleAgent:
    """Shares the hub's clock, and moves it on by what each step takes. ``offline`` is what it says of itself when it
    judges."""

    offline = False

    def __init__(self, devices: Devices, ingest: Ingest, policy: Policy, name: str, clock: SampleClock) -> None:
        self._devices, self._ingest, self._policy, self._clock = devices, ingest, policy, clock
        self.name = name
        self.log_key, self.link_key = SigningKey(secrets.token_bytes(32)), SigningKey(secrets.token_bytes(32))
        self.joined = self._join()
        self.device = self.joined.device
        self.connection = 0
        self._frontier = Frontier()
        self._sent = 0
        self._written: list[e.Written] = []
        self.write(e.LogOpened(origin=self.joined.origin, key=self.log_key.public.text, software="agent 0.1.0"))

    def _join(self) -> Joined:
        secret, fingerprint = self._devices.issue_token("maria", 3600).split(".")
        blank = Join(
            version=PROTOCOL_VERSION,
            token=secret,
            name=self.name,
            log_key=self.log_key.public.text,
            link_key=self.link_key.public.text,
            software="outrider agent 0.1.0",
            log_proof="",
            link_proof="",
        )
        message = join_bytes(fingerprint, blank)
        join = msgspec.structs.replace(
            blank, log_proof=self.log_key.sign(message).hex(), link_proof=self.link_key.sign(message).hex()
        )
        envelope = self._devices.join(join)
        return msgspec.json.decode(unseal(envelope, "joined", _hub_key(envelope.payload)), type=Joined)

    def moved(self, devices: Devices, ingest: Ingest, clock: SampleClock) -> SampleAgent:
        """The same device before another copy of its hub."""
        other = copy.copy(self)
        other._devices, other._ingest, other._clock = devices, ingest, clock
        other._written, other._frontier = list(self._written), self._frontier.copy()
        return other

    # --- the log ---

    def write(self, facts: e.Facts, run: str = "", after_us: int = 1000, private: Any = None, **shared: Any) -> e.Entry:
        self._clock.step(after_us)
        bodies = {"shared": shared} if shared else {}
        if private is not None:
            bodies["private"] = private
        written = e.write(e.Draft(facts, run, bodies), self._frontier.size, self._clock(), secrets.token_bytes)
        self._frontier.extend([leaf_hash(written.data)])
        self._written.append(written)
        return written.entry

    @property
    def size(self) -> int:
        return self._frontier.size

    @property
    def written(self) -> list[e.Written]:
        return self._written

    def now(self) -> int:
        return self._clock()

    def batch(self) -> Batch:
        """What is not sent yet, under one checkpoint."""
        fresh = self._written[self._sent :]
        note = Checkpoint(self.joined.origin, self.size, self._frontier.root()).sign(self.log_key).decode()
        return Batch(self._sent, [Sent(w.data.decode(), w.bodies.get("shared")) for w in fresh], note)

    def sync(self) -> None:
        if self._sent < self.size:
            self._ingest.accept(self.device, self.batch())
            self._sent = self.size

    def connect(self, release: int = 1) -> None:
        hello = Hello(PROTOCOL_VERSION, self.device, "", self.size, "", release, "outrider agent 0.1.0", "")
        self.connection = self._devices.arrive(hello)

    def report(self, *, release: int, open_runs: int, waiting: int, size: int | None = None) -> None:
        shown = self.size if size is None else size
        self._devices.status(self.device, Status(release, shown, open_runs, waiting, 0))

    def disconnect(self) -> None:
        self._devices.leave(self.device, self.connection)

    # --- runs ---

    def judge(self, case: Case, action: Action, run: str, *, approved: bool = False) -> e.VerdictGiven:
        context: dict[str, int | bool | str] = {
            "label": case.lane,
            "planner": case.planner,
            "confidence": case.confidence,
            "value_cents": case.cents or 0,
            "data_class": "personal",
            "offline": self.offline,
            "lease_age_s": 1260,
            "actions_since_sync": 3,
            "local_hour": 10,
            "approved": approved,
        }
        verdict = self._policy.judge(Request(self.name, action.tool, context))
        facts = e.VerdictGiven("triage", action.digest, verdict.kind, verdict.rules, 1, action.tool, context)
        self.write(facts, run, 300)
        return facts

    def open(self, case: Case, release: int = 1) -> tuple[str, Action, e.VerdictGiven | None]:
        """Open a run and take it as far as its verdict; ``None`` where the planner abstained."""
        run = hex_sha256(f"{self.device} {case.number}".encode())[:32]
        subject = hex_sha256(case.number.encode())
        opened = e.RunOpened("permit-triage", 3, "ab" * 32, release, "folder:inbox", subject, True)
        inputs = {
            "application_id": case.number,
            "description": case.description,
            "value": case.cents,
            "address": case.address,
            "filed_on": "2026-09-14",
        }
        source = f"applications-morning.csv row {case.row}"
        private = {"inputs": {"applicant": "Dolores Whitcomb", "email": "d@example.org"}}
        self.write(opened, run, 4 * SECOND, private, inputs=inputs, subject=case.number, source=source)
        items = [e.ItemRef(s["id"], s["sha256"]) for s in case.sources if s["kind"] == "item"]
        self.write(e.ContextRecalled("triage", items, 2_300), run, 2_600)
        action = self._plan(case, run)
        if not case.lane:
            self.write(e.RunClosed("referred", "plan.unsure"), run, 400)
            return run, action, None
        return run, action, self.judge(case, action, run)

    def _plan(self, case: Case, run: str) -> Action:
        arguments = {
            "application_id": case.number,
            "lane": case.lane,
            "work_type": case.work_type,
            "reason": case.reason,
        }
        action = Action("register.decide", arguments, case.number)
        by_model = case.planner != "rules"
        facts = e.PlanMade(
            step="triage",
            planner=case.planner,
            prompt="extract-fields@1" if by_model else "",
            model=MODEL if by_model else "",
            label=case.lane,
            confidence=case.confidence,
            rules=[s["id"] for s in case.sources if s["kind"] == "rule"],
            latency_us=238_000 if by_model else 640,
            prompt_tokens=912 if by_model else 0,
            reused_tokens=868 if by_model else 0,
            generated_tokens=31 if by_model else 0,
            cost_cents=0,
            tool="register.decide" if case.lane else "",
            action=action.digest if case.lane else "",
            abstained="" if case.lane else "plan.unsure",
        )
        body = {
            "recommendation": True,
            "action": msgspec.to_builtins(action),
            "label": case.label,
            "fields": {"work_type": case.work_type, "area_sqft": None},
            "reason": case.reason,
            "sources": case.sources,
        }
        self.write(facts, run, 240_000 if by_model else 900, **body)
        return action

    def ask(self, run: str, action: Action, roles: list[str], expires_in_s: int = 14 * 86_400) -> str:
        approval = f"a-{secrets.token_hex(8)}"
        expires_at = self._clock() + expires_in_s * SECOND
        self.write(e.ApprovalAsked("triage", approval, action.digest, roles, expires_at), run, 200)
        return approval

    def take_answer(self, case: Case, run: str, action: Action, envelope: Any, answer: Answer) -> None:
        """What the agent does with a person's answer: notes it, judges again, acts or closes."""
        facts = e.ApprovalAnswered("triage", answer.approval, answer.action, answer.answer, answer.corrected, answer.by)
        self.write(facts, run, 80_000, envelope=msgspec.to_builtins(envelope))
        if answer.answer == "deny":
            self.write(e.RunClosed("declined", "approval.denied"), run, 400)
            return
        if answer.arguments is not None:
            action = Action(action.tool, answer.arguments, action.subject)
        self.judge(case, action, run, approved=True)
        self.act(run, action, answer.approval)

    def act(self, run: str, action: Action, approval: str = "", how: str = "sent") -> None:
        key = action.key
        self.write(e.IntentRecorded("triage", action.digest, action.tool, key, approval), run, 350)
        receipt = {"number": f"R-{int(key[:6], 16) % 90000 + 10000}", "lane": action.arguments["lane"], "new": True}
        self.write(e.ResultRecorded("triage", key, "done", "", how, 1, 2_900), run, 3_300, receipt=receipt)
        found = {"application_id": action.subject, "lane": action.arguments["lane"]}
        self.write(e.EffectObserved("triage", key, True), run, 1_100, found=found)
        self.write(e.RunClosed("done", ""), run, 250)


def _hub_key(payload: str) -> Any:
    """The hub's key as the answer names it; a real agent checks it against the token's fingerprint first."""
    return PublicKey.from_text(json.loads(payload)["hub_key"])
