"""Stand-ins that speak the real formats: a device that signs a real log, a release, and its end of the link."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from shared import entries as e
from shared.actions import Action
from shared.codec import hex_sha256
from shared.entries import Draft
from shared.keys import Envelope, PublicKey, SigningKey, unseal
from shared.protocol import (
    PROTOCOL_VERSION,
    Batch,
    Challenge,
    Hello,
    Join,
    Joined,
    Message,
    Pull,
    Pulled,
    Sent,
    Welcome,
    decode,
    encode,
    hello_bytes,
    join_bytes,
    welcome_bytes,
)
from shared.release import Answer, Manifest, Order, Release
from shared.tlog import Checkpoint, Frontier, leaf_hash

M = TypeVar("M", bound=Message)
DAY = 24 * 3600 * 1_000_000

POLICY = """
@id("register-only") @about("Agents may write to the case register only.")
permit(principal, action, resource == Tool::"register.decide");
@id("ask-when-unsure") @about("Below 90% a person decides.")
forbid(principal, action == Action::"execute_unattended", resource) when { context.confidence < 900 };
"""
SCHEMA = """
entity Device; entity Tool;
action execute, execute_unattended appliesTo { principal: Device, resource: Tool, context: { confidence: Long } };
"""
PLAYBOOK = """
playbook: permits
version: 1
owner: desk@city.example
trigger: {folder: inbox}
inputs: {application_id: {required: true}, work: {required: true}}
business_key: [application_id]
lanes: [{id: counter, label: Over the counter}, {id: review, label: Plan review}]
fallback: review
steps: [{id: triage, planner: triage, tools: [register.decide]}]
approvals: {roles: [clerk], expires: 2d, escalate: [{after: 3h, roles: [supervisor]}]}
"""


def make_release(number: int = 1) -> Release:
    files = {
        "policy.cedar": POLICY.encode(),
        "schema.cedarschema": SCHEMA.encode(),
        "playbooks/permits.yaml": PLAYBOOK.encode(),
    }
    manifest = Manifest(
        release=number,
        made_at=1,
        policy="policy.cedar",
        schema="schema.cedarschema",
        playbooks={"permits": "playbooks/permits.yaml"},
        prompts={},
        models=[],
        files={path: hex_sha256(data) for path, data in files.items()},
    )
    return Release(manifest, files)


class Shelf:
    """A library of one release."""

    def __init__(self) -> None:
        self._release = make_release()

    def release(self, number: int) -> Release:
        return self._release


class FakeDevice:
    """Keys, a log, and the batches and handshakes that follow from them. ``clock`` gives microseconds."""

    def __init__(self, clock: Callable[[], int], name: str = "front desk") -> None:
        self.clock = clock
        self.name = name
        self.log_key = SigningKey(secrets.token_bytes(32))
        self.link_key = SigningKey(secrets.token_bytes(32))
        self.id = self.hub = self.origin = ""
        self.hub_key = self.log_key.public
        self.written: list[e.Written] = []
        self.release = 1  # under which it opens runs

    # --- joining ----------------------------------------------------------------------------------------------

    def request(self, token: str) -> Join:
        secret, _, fingerprint = token.partition(".")
        keys = (self.log_key.public.text, self.link_key.public.text)
        join = Join(PROTOCOL_VERSION, secret, self.name, *keys, "fake 1", "", "")
        signed = join_bytes(fingerprint, join)
        log_proof, link_proof = self.log_key.sign(signed).hex(), self.link_key.sign(signed).hex()
        return msgspec.structs.replace(join, log_proof=log_proof, link_proof=link_proof)

    def enrolled(self, envelope: Envelope) -> Joined:
        """Take the hub's answer in, and open the log."""
        joined = msgspec.json.decode(envelope.payload, type=Joined)
        self.hub_key = PublicKey.from_text(joined.hub_key)
        unseal(envelope, "joined", self.hub_key)
        self.id, self.hub, self.origin = joined.device, joined.hub, joined.origin
        self.add(Draft(e.LogOpened(origin=self.origin, key=self.log_key.public.text, software="fake 1")))
        return joined

    # --- the log ----------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return len(self.written)

    def add(self, *drafts: Draft, at: int | None = None) -> list[e.Written]:
        now = self.clock() if at is None else at
        new = [e.write(draft, self.size + i, now, secrets.token_bytes) for i, draft in enumerate(drafts)]
        self.written.extend(new)
        return new

    def cut(self, size: int) -> None:
        """Lose the tail, as a device restored from an old copy has."""
        del self.written[size:]

    def frontier(self, size: int | None = None) -> Frontier:
        frontier = Frontier()
        frontier.extend(leaf_hash(w.data) for w in self.written[:size])
        return frontier

    def checkpoint(self, size: int | None = None) -> str:
        frontier = self.frontier(size)
        return Checkpoint(self.origin, frontier.size, frontier.root()).sign(self.log_key).decode()

    def batch(self, start: int = 0, end: int | None = None) -> Batch:
        chosen = self.written[start:end]
        sent = [Sent(w.data.decode(), w.bodies.get("shared")) for w in chosen]
        return Batch(start=start, entries=sent, checkpoint=self.checkpoint(start + len(chosen)))

    # --- runs -------------------------------------------------------------------------------------------------

    def open(self, subject: str, *, parent: str = "", dry_run: bool = False) -> str:
        run = f"run_{hex_sha256(subject.encode())[:24]}"
        opened = e.RunOpened(
            playbook="permits",
            playbook_version=1,
            playbook_sha256="0" * 64,
            release=self.release,
            trigger="inbox",
            subject_sha256=hex_sha256(subject.encode()),
            private_fields=True,
            parent=parent,
            parent_step="child" if parent else "",
            dry_run=dry_run,
        )
        shared = {"inputs": {"application_id": subject, "work": "deck"}, "subject": subject, "source": "a.csv row 2"}
        bodies = {"shared": shared, "private": {"inputs": {"phone": "555 0100"}}}
        self.add(Draft(opened, run=run, bodies=bodies))
        return run

    def plan(
        self,
        run: str,
        subject: str,
        *,
        lane: str = "counter",
        confidence: int = 600,
        step: str = "triage",
        planner: str = "rules",
        latency_us: int = 900,
    ) -> Action:
        action = decide(subject, lane)
        facts = e.PlanMade(
            step=step,
            planner=planner,
            prompt="",
            model="",
            label=lane,
            confidence=confidence,
            rules=["decks"],
            latency_us=latency_us,
            prompt_tokens=0,
            reused_tokens=0,
            generated_tokens=0,
            cost_cents=0,
            tool=action.tool,
            action=action.digest,
            abstained="",
        )
        body = {
            "recommendation": True,
            "action": {"tool": action.tool, "arguments": action.arguments, "subject": subject},
            "label": "Over the counter",
            "fields": {"work": "deck"},
            "reason": "Decks go over the counter.",
            "sources": [{"kind": "rule", "id": "decks", "sha256": "0" * 64, "text": "decks"}],
        }
        self.add(Draft(facts, run=run, bodies={"shared": body}))
        return action

    def judge(
        self,
        run: str,
        action: Action,
        verdict: str,
        *,
        approved: bool = False,
        step: str = "triage",
        value_cents: int = 100,
        effect: str = "reversible",
    ) -> None:
        context: dict[str, int | bool | str] = {
            "confidence": 600,
            "approved": approved,
            "value_cents": value_cents,
            "effect": effect,
            "label": "counter",
        }
        rules = ["register-only", "ask-when-unsure"] if verdict == "ask" else ["register-only"]
        facts = e.VerdictGiven(step, action.digest, verdict, rules, 1, action.tool, context)
        self.add(Draft(facts, run=run))

    def ask(
        self,
        subject: str,
        *,
        life_us: int = 2 * DAY,
        name: str = "",
        needed: int = 1,
        local: bool = False,
        similar_s: int = 0,
        value_cents: int = 100,
        parent: str = "",
    ) -> str:
        """A run up to its question; the approval's name."""
        run = self.open(subject, parent=parent)
        action = self.plan(run, subject)
        self.judge(run, action, "ask", value_cents=value_cents)
        approval = name or f"app_{secrets.token_hex(12)}"
        expires_at = self.clock() + life_us
        facts = e.ApprovalAsked("triage", approval, action.digest, ["clerk"], expires_at, needed, local, similar_s)
        self.add(Draft(facts, run=run))
        return approval

    def take(self, envelope: Envelope) -> Answer:
        """Write a person's answer into the log."""
        answer = msgspec.json.decode(unseal(envelope, "answer", self.hub_key), type=Answer)
        facts = e.ApprovalAnswered(
            step="triage",
            approval=answer.approval,
            action=answer.action,
            answer=answer.answer,
            corrected=answer.corrected,
            by=answer.by,
            similar_until=answer.similar_until,
        )
        body = {"envelope": msgspec.to_builtins(envelope)}
        self.add(Draft(facts, run=answer.run, bodies={"shared": body}))
        return answer

    def obey(self, envelope: Envelope) -> Order:
        """Write a person's order into the log."""
        order = msgspec.json.decode(unseal(envelope, "order", self.hub_key), type=Order)
        facts = e.RunOrdered(order.order, order.id, order.step, order.by, "hub")
        body = {"envelope": msgspec.to_builtins(envelope)}
        self.add(Draft(facts, run=order.run, bodies={"shared": body}))
        return order

    def act(
        self, run: str, action: Action, approval: str = "", *, step: str = "triage", doubt: bool = False, fail: str = ""
    ) -> None:
        """From an allowing verdict to the step's end: done and read back, or in ``doubt``, or failed with a code."""
        self.add(Draft(e.IntentRecorded(step, action.digest, action.tool, action.key, approval), run=run))
        if doubt:
            self.add(Draft(e.IntentDoubted(step, action.key), run=run))
        elif fail:
            body = {"receipt": {"message": "The register is full.", "advice": "make room"}}
            failed = e.ResultRecorded(step, action.key, "failed", fail, "sent", 3, 500)
            self.add(Draft(failed, run=run, bodies={"shared": body}))
        else:
            self.add(Draft(e.ResultRecorded(step, action.key, "done", "", "sent", 1, 500), run=run))
            self.add(Draft(e.EffectObserved(step, action.key, True), run=run))

    def close(self, run: str, outcome: str = "done", code: str = "") -> None:
        self.add(Draft(e.RunClosed(outcome, code), run=run))

    def finish(self, run: str, action: Action, approval: str = "") -> None:
        """From an allowing verdict to the run's end."""
        self.act(run, action, approval)
        self.close(run)

    def in_doubt(self, subject: str) -> str:
        """A run whose action may have happened or not."""
        run = self.open(subject)
        action = self.plan(run, subject, confidence=950)
        self.judge(run, action, "allow")
        self.act(run, action, doubt=True)
        return run

    def failed(self, subject: str) -> str:
        """A run whose tool refused, closed."""
        run = self.open(subject)
        action = self.plan(run, subject, confidence=950)
        self.judge(run, action, "allow")
        self.act(run, action, fail="tool.full")
        self.close(run, "failed", "tool.full")
        return run

    def left_to_a_person(self, subject: str) -> str:
        """A run of two steps whose second failed, and whose first only a person can take back."""
        run = self.open(subject)
        action = self.plan(run, subject, confidence=950, step="mail")
        self.judge(run, action, "allow", step="mail", effect="irreversible")
        self.act(run, action, step="mail")
        again = self.plan(run, subject, confidence=950)
        self.judge(run, again, "allow")
        self.act(run, again, fail="tool.full")
        self.add(Draft(e.UndoBegun("failed", "tool.full"), run=run))
        body = {"steps": ["Call the applicant.", "Say that the letter was wrong."], "tool": "mail.send", "subject": ""}
        self.add(Draft(e.UndoLeft("mail", "undo.manual"), run=run, bodies={"shared": body}))
        return run

    def decide_alone(self, subject: str) -> str:
        """A whole run that asks nobody."""
        run = self.open(subject)
        action = self.plan(run, subject, confidence=950)
        self.judge(run, action, "allow")
        self.finish(run, action)
        return run

    # --- the link ---------------------------------------------------------------------------------------------

    def hello(self, asked: Challenge, *, size: int | None = None, root: str | None = None) -> Hello:
        frontier = self.frontier()
        hello = Hello(
            version=PROTOCOL_VERSION,
            device=self.id,
            nonce=secrets.token_hex(32),
            size=frontier.size if size is None else size,
            root=frontier.root().hex() if root is None else root,
            release=0,
            software="fake 1",
            signature="",
        )
        return self.signed(asked, hello)

    def signed(self, asked: Challenge, hello: Hello) -> Hello:
        signature = self.link_key.sign(hello_bytes(asked.hub, asked.nonce, hello)).hex()
        return msgspec.structs.replace(hello, signature=signature)


def decide(subject: str, lane: str) -> Action:
    arguments = {"application_id": subject, "lane": lane, "work_type": None, "reason": "Decks go over the counter."}
    return Action(tool="register.decide", arguments=dict(arguments), subject=subject)


def payload(envelope: Envelope) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(envelope.payload)
    return said


class Wire:
    """A device's end of the link, message by message."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.cursor = 0

    @classmethod
    async def open(cls, address: str, **options: Any) -> Wire:
        url = address.replace("http", "ws", 1) + "/link"
        return cls(await connect(url, compression=None, proxy=None, **options))

    @classmethod
    async def greeted(cls, address: str, device: FakeDevice, **options: Any) -> Wire:
        """Connected, and through the handshake."""
        wire = await cls.open(address, **options)
        hello = device.hello(await wire.expect(Challenge))
        await wire.send(hello)
        welcome = await wire.expect(Welcome)
        signed = welcome_bytes(device.id, hello.nonce, welcome.held, welcome.cursor)
        device.hub_key.verify(bytes.fromhex(welcome.signature), signed, code="t", what="welcome")
        wire.cursor = welcome.cursor
        return wire

    async def send(self, message: Message) -> None:
        await self.socket.send(encode(message))

    async def receive(self) -> Message:
        return decode(await self.socket.recv())

    async def expect(self, kind: type[M]) -> M:
        message = await self.receive()
        assert isinstance(message, kind), message
        return message

    async def until(self, kind: type[M]) -> M:
        """The next message of a kind; others are passed over."""
        while True:
            message = await self.receive()
            if isinstance(message, kind):
                return message

    async def pull(self, pinned: int = 0) -> Pulled:
        await self.send(Pull(self.cursor, pinned))
        pulled = await self.until(Pulled)
        self.cursor = pulled.cursor
        return pulled

    async def close(self) -> None:
        await self.socket.close()
