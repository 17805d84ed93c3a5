"""What policy says to a step, and what follows at once: an intent, a question to people, or that it is held."""

from __future__ import annotations

import secrets

from edge_agent.act import intent
from edge_agent.guard import Case
from edge_agent.runner.rooms import Rooms
from edge_agent.runner.scene import Scene
from edge_agent.tools.person import CONFIRM
from shared.actions import Action
from shared.entries import ApprovalAsked, ApprovalCovered, ApprovalVoided
from shared.playbook import seconds
from shared.policy import ALLOW, Allowed, Verdict, permit
from shared.runs import UNDO, Step


class Judging:
    """Of one run in one turn. ``fresh`` are the steps whose intent was written here and whose effect has not been
    started, each with the right to start it; any other open intent was found, and must be settled."""

    def __init__(self, rooms: Rooms, scene: Scene) -> None:
        self._r = rooms
        self._scene = scene
        self._turn = scene.turn
        self.fresh: dict[str, Allowed] = {}
        self._judged: set[str] = set()  # steps whose verdict was given in this stretch, under what holds now

    def committed(self) -> None:
        """What was judged is on the disk, and time goes on: it holds no longer than that."""
        self._judged.clear()

    def judge(self, step: Step) -> None:
        """One verdict. Where it is *allow*, the intent follows in the same stretch: nothing may change between them."""
        if self._r.times.ends(self._turn, self._scene.playbook, step, self._r.journal.now()):
            return
        scene, run = self._scene, self._turn.run
        assert step.plan is not None
        case = self._case(step, scene.action(step), approved=bool(step.granted))
        verdict, facts = self._r.guard.judge(run, step.plan, case)
        if step.status == "held" and step.verdict is not None and step.verdict.rules == facts.rules:
            return  # still held up by the same thing: nothing new to record
        self._turn.add(facts)
        self._judged.add(step.id)
        if verdict.kind == ALLOW and not case.approved:
            self._turn.reserve(self._r.guard.reserve(run.opened.playbook, case.value_cents))

    def intend(self, step: Step) -> None:
        if step.id not in self._judged:
            # It was judged before this stretch, perhaps before a restart: lease, clock and policy may be others now.
            self.judge(step)
            return
        allowed = self._allowed(step)
        self._turn.add(intent(allowed))
        self.fresh[step.id] = allowed

    def _allowed(self, step: Step) -> Allowed:
        assert step.verdict is not None
        action = self._scene.action(step)
        base = step.id.removeprefix(UNDO)
        return permit(
            action,
            Verdict(step.verdict.verdict, step.verdict.rules),
            judged=step.verdict.action,
            step=step.id,
            approval=step.granted,
            approved=step.action if step.granted else "",
            time=self._turn.run.times.get(base, 0),
        )

    def ask(self, step: Step) -> None:
        if step.id not in self._judged:
            self.judge(step)
            return
        assert step.verdict is not None
        now = self._r.journal.now()
        name = f"app_{secrets.token_hex(12)}"
        grant = self._r.device.grant_for(self._turn.run, step, now)
        if grant is not None:
            covered = ApprovalCovered(step=step.id, approval=name, action=step.action, grant=grant.approval)
            self._turn.add(covered, not_after=grant.until)
            return
        approvals = self._scene.playbook.approvals
        asking = self._r.asking(step.verdict.rules)
        self._turn.add(
            ApprovalAsked(
                step=step.id,
                approval=name,
                action=step.action,
                roles=list(approvals.roles),
                expires_at=now + seconds(approvals.expires) * 1_000_000,
                needed=asking.people,
                local=asking.local,
                similar_s=asking.similar_s,
            )
        )

    def void_superseded(self) -> None:
        """A release came after a question. The approval dies where the new policy no longer asks as the old one did;
        where it does, question and answer stand, and an approved action is judged once more before the act."""
        device = self._r.device
        installed = device.release.release if device.release else 0
        for step in list(self._turn.run.steps.values()):
            if step.status not in ("waiting", "approved", "held") or step.verdict is None or step.approval is None:
                continue
            corrected = step.answer is not None and step.answer.answer == "correct"
            again = step.verdict.context.get("approved") is True
            if step.verdict.release == installed or corrected or again:
                continue
            case = self._case(step, self._scene.action(step), approved=False)
            assert step.plan is not None
            verdict, _ = self._r.guard.judge(self._turn.run, step.plan, case)
            same = (verdict.kind, sorted(verdict.rules)) == (step.verdict.verdict, sorted(step.verdict.rules))
            if not verdict.held and not same:
                name = step.approval.approval
                self._turn.add(ApprovalVoided(step=step.id, approval=name, code="approval.superseded"))

    def _case(self, step: Step, action: Action, *, approved: bool) -> Case:
        scene = self._scene
        playbook, run = scene.playbook, scene.turn.run
        part = scene.step(step.id)
        tool = self._r.hands.find(action.tool)
        assert step.plan is not None
        return Case(
            action=step.action,  # ``Scene.action`` has held it against this digest
            tool=action.tool,
            label=str(action.arguments.get("lane") or step.plan.label),
            effect=tool.effect if tool else "irreversible",
            risk=tool.risk if tool else "high",
            urgency=playbook.urgency,
            value_cents=self._r.starts.value(scene, step.id),
            approved=approved,
            source="assistant" if part.planner == "assistant" else "playbook",
            undo=step.id.startswith(UNDO),
            installed=tool is not None,
            confirm=action.tool == CONFIRM,
            budget=self._r.starts.budget_left(playbook, run),
        )
