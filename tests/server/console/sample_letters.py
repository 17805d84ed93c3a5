"""An afternoon's letters: a playbook of many steps, and runs of it in every state that a person may have to look at."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from shared import entries as e
from shared.actions import Action
from shared.codec import hex_sha256
from shared.playbook import load
from tests.server.console.sample_agent import SECOND, SampleAgent

if TYPE_CHECKING:
    from tests.server.console.sample_hub import SampleHub

HOUR = 3600 * SECOND
LETTERS = """
playbook: permit-letters
version: 2
owner: permits-desk@city.example
about: Tell the applicant that the permit is granted, and keep a copy of every page.
trigger: {event: permit-granted}
inputs:
  application_id: {required: true}
  pages: {}
business_key: [application_id]
steps:
  - {id: letter, label: Write the letter, tool: files.write, with: {path: "letters/${inputs.application_id}.txt"}}
  - {id: ready, confirm: "Is the letter for ${inputs.application_id} ready to go?"}
  - id: tell
    together:
      - [{id: mail, label: Mail the applicant, tool: mail.send, with: {subject: "Your permit"}}]
      - [{id: ledger, label: Note it in the ledger, tool: sheet.append, with: {row: "${inputs.application_id}"}}]
  - id: copies
    for_each: inputs.pages
    steps: [{id: copy, label: Keep a page, tool: files.write, with: {path: "pages/${item}"}}]
  - {id: objections, wait: {for: 14d}}
  - {id: archive, run: permit-archive, inputs: {application_id: "${inputs.application_id}"}}
approvals: {roles: [clerk], expires: 7d, escalate: [{after: 3h, roles: [admin]}]}
"""
ARCHIVE = """
playbook: permit-archive
version: 1
owner: permits-desk@city.example
trigger: {manual: true}
inputs: {application_id: {required: true}}
business_key: [application_id]
steps: [{id: seal, label: Seal the file, tool: files.write, with: {path: "archive/${inputs.application_id}"}}]
approvals: {roles: [clerk]}
"""
BOOKS = {"permit-letters": load(LETTERS, "permit-letters.yaml"), "permit-archive": load(ARCHIVE, "permit-archive.yaml")}
EFFECTS = {"mail.send": "irreversible", "person.confirm": "read"}


class Letters:
    """Writes runs of the letters' playbooks, entry by entry, into one agent's log."""

    def __init__(self, agent: SampleAgent) -> None:
        self.agent = agent

    def open(self, number: str, book: str = "permit-letters", **facts: Any) -> str:
        run = hex_sha256(f"{self.agent.device} {book} {number}".encode())[:32]
        known = BOOKS[book]
        opened = e.RunOpened(book, known.version, known.digest, 1, "event", hex_sha256(number.encode()), False, **facts)
        inputs = {"application_id": number, "pages": ["1", "2", "3"]}
        body = {"inputs": inputs, "subject": number, "source": "the event permit-granted"}
        self.agent.write(opened, run, 30 * SECOND, **body)
        return run

    def plan(self, run: str, step: str, tool: str, label: str = "", planner: str = "playbook", **given: Any) -> Action:
        action = Action(tool, given, "")
        facts = e.PlanMade(
            step=step, planner=planner, prompt="", model="", label=label, confidence=1000, rules=[], latency_us=0,
            prompt_tokens=0, reused_tokens=0, generated_tokens=0, cost_cents=0, tool=tool, action=action.digest,
            abstained="",
        )  # fmt: skip
        reason = f"Takes back what step {step[1:]} did." if planner == "undo" else BOOKS["permit-letters"].about
        body = {"action": msgspec.to_builtins(action), "label": label, "fields": {}, "reason": reason, "sources": []}
        self.agent.write(facts, run, 700, **body)
        return action

    def judge(self, run: str, step: str, action: Action, verdict: str, *rules: str, approved: bool = False) -> None:
        context: dict[str, int | bool | str] = {
            "effect": EFFECTS.get(action.tool, "reversible"), "label": "", "value_cents": 0, "approved": approved,
        }  # fmt: skip
        self.agent.write(e.VerdictGiven(step, action.digest, verdict, list(rules), 1, action.tool, context), run, 300)

    def ask(self, run: str, step: str, action: Action, **more: Any) -> str:
        approval = f"a-{secrets.token_hex(8)}"
        until = self.agent.now() + 7 * 24 * HOUR
        self.agent.write(e.ApprovalAsked(step, approval, action.digest, ["clerk"], until, **more), run, 200)
        return approval

    def act(self, run: str, step: str, action: Action, *, end: str = "done", approval: str = "") -> None:
        """``end``: done, doubt, or the code it failed with."""
        self.agent.write(e.IntentRecorded(step, action.digest, action.tool, action.key, approval), run, 300)
        match end:
            case "done":
                receipt = {"path": "letters/1.txt"} if action.tool == "files.write" else {"number": 418}
                self.agent.write(e.ResultRecorded(step, action.key, "done", "", "sent", 1, 4_000), run, receipt=receipt)
                self.agent.write(e.EffectObserved(step, action.key, True), run)
            case "doubt":
                self.agent.write(e.IntentDoubted(step, action.key), run, 40 * SECOND)
            case code:
                failed = e.ResultRecorded(step, action.key, "failed", code, "sent", 3, 900_000)
                receipt = {"message": "The disk of the file server is full", "advice": "free some space there"}
                self.agent.write(failed, run, SECOND, receipt=receipt)

    def alone(self, run: str, step: str, tool: str, label: str = "", end: str = "done", **given: Any) -> Action:
        action = self.plan(run, step, tool, label, **given)
        self.judge(run, step, action, "allow", "register-only")
        self.act(run, step, action, end=end)
        return action

    def entered(self, run: str, step: str, kind: str, *, until: int = 0, count: int = 0, ref: str = "") -> None:
        self.agent.write(e.StepEntered(step, kind, until, count, ref), run)

    def written(self, number: str, **facts: Any) -> str:
        """A run whose letter is written and confirmed, at the point of telling everybody."""
        run = self.open(number, **facts)
        self.alone(run, "letter", "files.write", "Write the letter", path=f"letters/{number}.txt", text="Granted.")
        question = self.plan(run, "ready", "person.confirm", question=f"Is the letter for {number} ready to go?")
        self.judge(run, "ready", question, "ask", "host:confirm")
        approval = self.ask(run, "ready", question, local=True)
        said = e.ApprovalAnswered("ready", approval, question.digest, "approve", "", "ann", "local")
        self.agent.write(said, run, 9 * SECOND, reason="Read it twice.")
        self.judge(run, "ready", question, "ask", "host:confirm", approved=True)
        self.act(run, "ready", question, approval=approval)
        self.entered(run, "tell", "together", count=2)
        return run

    # --- one run of each kind ---

    def in_doubt(self, number: str) -> str:
        run = self.written(number)
        self.alone(run, "ledger", "sheet.append", "Note it in the ledger", row=number)
        self.alone(run, "mail", "mail.send", "Mail the applicant", "doubt", to="ada@example.org", subject="Your permit")
        return run

    def left(self, number: str) -> str:
        """Mailed, then the ledger failed: the letter is taken back, the mail only a person can."""
        run = self.written(number)
        self.alone(run, "mail", "mail.send", "Mail the applicant", to="ada@example.org", subject="Your permit")
        self.alone(run, "ledger", "sheet.append", "Note it in the ledger", "sheet.full", row=number)
        self.agent.write(e.UndoBegun("failed", "sheet.full"), run)
        steps = ["Write to ada@example.org that the letter of today was sent too early.", "Note the call in the file."]
        self.agent.write(e.UndoLeft("mail", "undo.manual"), run, steps=steps, tool="mail.send", subject=number)
        back = self.plan(run, "~letter", "files.trash", "Write the letter", "undo", path=f"letters/{number}.txt")
        self.judge(run, "~letter", back, "allow", "register-only")
        self.act(run, "~letter", back)
        return run

    def failed(self, number: str) -> str:
        run = self.open(number)
        self.alone(run, "letter", "files.write", "Write the letter", "files.full", path=f"letters/{number}.txt")
        self.agent.write(e.RunClosed("failed", "files.full"), run)
        return run

    def asked_two(self, number: str) -> str:
        """Waits for two people at the mail; the question's name."""
        run = self.written(number)
        action = self.plan(run, "mail", "mail.send", "Mail the applicant", to="ada@example.org", subject="Your permit")
        self.judge(run, "mail", action, "ask", "no-undo-asks")
        return self.ask(run, "mail", action, needed=2)

    def asked_plainly(self, number: str) -> str:
        run = self.open(number)
        self.alone(run, "letter", "files.write", "Write the letter", path=f"letters/{number}.txt")
        question = self.plan(run, "ready", "person.confirm", question=f"Is the letter for {number} ready to go?")
        self.judge(run, "ready", question, "ask", "host:confirm")
        return self.ask(run, "ready", question)

    def asked_by_an_assistant(self, number: str) -> str:
        run = self.open(number)
        action = self.plan(run, "letter", "files.write", planner="assistant", path=f"letters/{number}.txt", pages=3)
        self.judge(run, "letter", action, "ask", "assistants-ask")
        return self.ask(run, "letter", action, local=True, similar_s=3600)

    def many_rounds(self, number: str, rounds: int = 16) -> str:
        run = self.written(number)
        for step, tool in (("mail", "mail.send"), ("ledger", "sheet.append")):
            self.alone(run, step, tool, to="x")
        self.entered(run, "copies", "each", count=rounds)
        for n in range(rounds - 3):
            self.alone(run, f"copy#{n}", "files.write", "Keep a page", "doubt" if n == 9 else "done", path=f"pages/{n}")
        return run

    def waiting_long(self, number: str) -> str:
        """Waits for its child, which waits for a time."""
        run = self.written(number)
        for step, tool in (("mail", "mail.send"), ("ledger", "sheet.append")):
            self.alone(run, step, tool, to="x")
        self.entered(run, "copies", "each", count=0)
        self.entered(run, "objections", "time", until=self.agent.now() + SECOND)
        self.agent.write(e.StepEnded("objections", "time"), run, 2 * SECOND)
        child = self.open(number, "permit-archive", parent=run, parent_step="archive", by="")
        self.entered(run, "archive", "run", ref=child)
        return run

    def rehearsed(self, number: str) -> str:
        run = self.open(number, dry_run=True, by="maria")
        for step, tool, verdict in (("letter", "files.write", "allow"), ("ready", "person.confirm", "ask")):
            action = self.plan(run, step, tool, path="x") if tool != "person.confirm" else self.plan(
                run, step, tool, question="Is it ready to go?")  # fmt: skip
            self.judge(run, step, action, verdict, "register-only")
            self.agent.write(e.StepRehearsed(step, action.digest, verdict), run)
        self.entered(run, "tell", "together", count=2)
        self.agent.write(e.StepSkipped("mail"), run)
        self.agent.write(e.StepSkipped("ledger"), run)
        self.entered(run, "copies", "each", count=0)
        self.entered(run, "objections", "time", until=self.agent.now())
        self.agent.write(e.StepEnded("objections", "time"), run)
        self.agent.write(e.StepSkipped("archive"), run)
        self.agent.write(e.RunClosed("rehearsed", ""), run)
        return run


def an_afternoon(hub: SampleHub) -> Letters:
    """One run of every kind, on a device of its own, some of them already touched by people."""
    agent = hub.agent("Permit office")
    agent.connect()
    letters = Letters(agent)
    letters.rehearsed("PL-2026-0081")
    letters.waiting_long("PL-2026-0082")
    letters.many_rounds("PL-2026-0083")
    two = letters.asked_two("PL-2026-0084")
    agent.sync()
    hub.approvals.decide(two, by="omar", roles=["clerk"], answer="approve", reason="The letter is right.")
    hub.clock.step(4 * HOUR)
    run = agent.written[-1].entry.run
    agent.write(e.ApprovalEscalated("mail", two, 1, ["admin"]), run)
    letters.asked_plainly("PL-2026-0085")
    letters.asked_by_an_assistant("PL-2026-0086")
    letters.failed("PL-2026-0087")
    letters.left("PL-2026-0088")
    paused = letters.asked_plainly("PL-2026-0089")
    agent.sync()
    question = hub.approvals.get(paused)
    hub.orders.give(question.run_id, "pause", by="omar", roles=["clerk"], reason="The form is being changed.")
    letters.in_doubt("PL-2026-0090")
    agent.sync()
    agent.report(release=1, open_runs=8, waiting=4)
    hub.devices.flush()
    hub.letters = letters
    return letters
