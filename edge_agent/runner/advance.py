"""One run on its way in one task, by what its entries say comes next, until it waits or ends.

``shared.runs`` says what may follow; this module does it. All that needs no effect in between shares one commit: result
and observation of one step, plan, verdict and intent of the next. An effect starts only after its intent is on the
disk, and branches that go side by side wait for each other's effects no more than they must.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from edge_agent.act import Hands, intent
from edge_agent.guard import Case, Guard
from edge_agent.journal import Journal
from edge_agent.runner.mail import Mail
from edge_agent.runner.scene import Scene, playbook_of
from edge_agent.runner.starts import Starts
from edge_agent.runner.times import Times
from edge_agent.runner.turn import Turn
from edge_agent.runner.undoing import Undoing
from edge_agent.tools import NotSent
from edge_agent.tools.person import CONFIRM
from shared.actions import Action
from shared.entries import (
    ApprovalAsked,
    ApprovalCovered,
    ApprovalVoided,
    Draft,
    IntentDoubted,
    RunClosed,
    RunOrdered,
    StepEnded,
    StepFailed,
    StepRehearsed,
    UndoBegun,
)
from shared.errors import OutriderError
from shared.playbook import seconds
from shared.policy import ALLOW, Allowed, Asking, Verdict, permit
from shared.release import Release
from shared.runs import DONE, UNDO, Device, Move, Next, Run, Step, moves

_SLOW = (Move.SETTLE, Move.OBSERVE)  # no set: the hash of an enum's member is computed in Python
_ASK_AGAIN_S = 60.0  # between two questions to a tool about an effect that is in doubt

Learn = Callable[[Run, Step, Action, dict[str, Any]], None]


@dataclass
class Rooms:
    """What an advance works with. ``asking`` tells how people are asked where these rules hold an action back;
    ``learn`` is told what a person confirmed; ``asked_at`` is when a tool was last asked about a doubt, by key."""

    journal: Journal
    device: Device
    guard: Guard
    hands: Hands
    starts: Starts
    undoing: Undoing
    mail: Mail
    times: Times
    release: Callable[[int], Release]
    asking: Callable[[list[str]], Asking]
    learn: Learn
    asked_at: dict[str, float] = field(default_factory=dict)


class Advance:
    """One run on its way in one task. ``fresh`` are the steps whose intent this task wrote and whose effect has not
    been started, each with the right to start it; any other open intent was found, and must be settled."""

    def __init__(self, rooms: Rooms, turn: Turn, nudge: asyncio.Event) -> None:
        self._r = rooms
        self._turn = turn
        self._scene = Scene(turn, playbook_of(turn.run, rooms.release), local=rooms.times.local)
        self._nudge = nudge
        self._fresh: dict[str, Allowed] = {}
        self._judged: set[str] = set()  # steps whose verdict was given in this stretch, under what holds now
        self._stuck: set[str] = set()  # steps that cannot go on until something happens
        self._busy: dict[asyncio.Task[list[Draft]], str] = {}
        self._later: dict[str, OutriderError] = {}  # steps that could not go on now, and why

    async def run(self) -> None:
        try:
            self._obey_parent()
            self._void_superseded()
            while True:
                await self._take_mail()
                slow = self._fold_what_can_be()
                if self._fresh or not slow:
                    await self._turn.commit()
                    self._judged.clear()
                if slow:
                    await self._work(slow)
                elif self._busy:
                    await self._wait()
                else:
                    break
        except BaseException:
            for task in self._busy:
                task.cancel()
            self._turn.drop()
            raise
        self._learn()
        for error in self._later.values():
            raise error

    def _fold_what_can_be(self) -> list[Next]:
        """Make every move that needs no waiting; the others are returned."""
        while True:
            before = self._turn.run
            slow = []
            for move in moves(before, self._scene.playbook):
                stuck = move.step in self._stuck and move.move in (Move.WAIT, Move.HOLD, Move.STOP)
                if stuck or move.step in self._later or move.step in self._busy.values():
                    continue
                if move.move in _SLOW or self._is_slow(move):
                    slow.append(move)
                elif not self._fold(move):
                    self._stuck.add(move.step)
            if self._turn.run is before:
                return slow
            if self._turn.run.closed is not None:
                return []

    def _is_slow(self, move: Next) -> bool:
        if move.move is Move.START:
            return self._r.starts.is_slow(self._scene, move.step)
        return move.move is Move.WAIT and self._may_ask_about(self._turn.run.steps.get(move.step))

    def _may_ask_about(self, step: Step | None) -> bool:
        """A doubt that its tool could not answer for is brought to it again from time to time."""
        if step is None or step.status != "doubted" or step.intent is None:
            return False
        tool = self._r.hands.find(step.intent.tool)
        asked = self._r.asked_at.get(step.intent.key, float("-inf"))
        return tool is not None and tool.askable and self._r.times.monotonic() - asked > _ASK_AGAIN_S

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

    # --- moves that need no waiting -----------------------------------------------------------------------------------

    def _fold(self, move: Next) -> bool:
        """Make one move; whether it changed anything."""
        turn, before = self._turn, self._turn.run
        step = before.steps.get(move.step)
        match move.move:
            case Move.START:
                self._r.starts.start(self._scene, move.step)
            case Move.JUDGE | Move.HOLD:
                assert step is not None
                self._judge(step)
            case Move.ACT:
                assert step is not None
                self._intend(step)
            case Move.ASK:
                assert step is not None
                self._ask(step)
            case Move.REHEARSE:
                assert step is not None and step.verdict is not None
                turn.add(StepRehearsed(step=step.id, action=step.action, verdict=step.verdict.verdict))
            case Move.WAIT:
                if step is not None:
                    self._look(step)
            case Move.BACK:
                turn.add(UndoBegun(outcome=move.outcome, code=move.code))
            case Move.UNDO:
                self._r.undoing.plan(self._scene, move.step)
            case Move.LEAVE:
                self._r.undoing.leave(self._scene, move.step, move.code)
            case Move.DROP:
                said = {"message": "The run went on without it.", "advice": "nothing to do"}
                turn.add(StepFailed(step=move.step, code=move.code), shared=said)
            case Move.CLOSE:
                turn.add(RunClosed(outcome=move.outcome, code=move.code))
        return turn.run is not before

    def _judge(self, step: Step) -> None:
        """One verdict. Where it is *allow*, the intent follows in the same stretch: nothing may change between them."""
        if self._out_of_time(step):
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

    def _intend(self, step: Step) -> None:
        if step.id not in self._judged:
            # It was judged before this stretch, perhaps before a restart: lease, clock and policy may be others now.
            self._judge(step)
            return
        allowed = self._allowed(step)
        self._turn.add(intent(allowed))
        self._fresh[step.id] = allowed

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

    def _ask(self, step: Step) -> None:
        if step.id not in self._judged:
            self._judge(step)
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

    def _look(self, step: Step) -> None:
        """Whether what a step waits for has come."""
        if self._out_of_time(step):
            return
        now = self._r.journal.now()
        if step.status == "waiting":
            self._r.times.escalate(self._turn, step, self._scene.playbook, now)
            return
        entered = step.entered
        if step.status != "entered" or entered is None:
            return
        if self._turn.run.opened.dry_run and entered.kind in ("time", "event"):
            self._turn.add(StepEnded(step=step.id, code="rehearsed"))
        elif entered.kind == "time" and now >= entered.until:
            self._turn.add(StepEnded(step=step.id, code="time"))
        elif entered.kind == "event" and entered.ref in self._r.device.events:
            body = self._r.journal.body(self._r.device.events[entered.ref][0], "private") or {}
            self._turn.add(StepEnded(step=step.id, code="event"), shared={"payload": body.get("payload") or {}})
        elif entered.kind == "run" and entered.ref in self._r.device.children:
            self._turn.add(StepEnded(step=step.id, code=self._r.device.children[entered.ref]))

    def _out_of_time(self, step: Step) -> bool:
        late = self._r.times.overdue(self._turn.run, self._scene.playbook, step, self._r.journal.now())
        if late is None:
            return False
        said = {"message": late.message, "advice": late.advice}
        self._turn.add(StepFailed(step=step.id, code=late.code), shared=said)
        return True

    def _learn(self) -> None:
        """What a person confirmed is worth remembering, once it is on the disk that it was done."""
        run = self._turn.run
        if run.closed is None or run.closed.outcome != DONE:
            return
        for step in run.steps.values():
            if step.answer is not None and step.status == "observed":
                self._r.learn(run, step, self._scene.action(step), self._scene.event)

    # --- moves that take time -----------------------------------------------------------------------------------------

    async def _work(self, slow: list[Next]) -> None:
        """Begin what takes time; go on when the first of it is done."""
        if len(slow) == 1 and not self._busy:
            self._take(await self._guarded(slow[0].step, self._slow(slow[0])))
            return
        for move in slow:
            task = asyncio.create_task(self._guarded(move.step, self._slow(move)))
            self._busy[task] = move.step
        await self._wait()

    async def _wait(self) -> None:
        nudged = asyncio.create_task(self._nudge.wait())
        try:
            await asyncio.wait([*self._busy, nudged], return_when=asyncio.FIRST_COMPLETED)
        finally:
            nudged.cancel()
        for task in [task for task in self._busy if task.done()]:
            del self._busy[task]
            self._take(task.result())

    async def _take_mail(self) -> None:
        """What came for the run meanwhile comes before its next step: a person who says stop is not made to wait."""
        if self._nudge.is_set():
            self._nudge.clear()
            self._stuck.clear()
            await self._turn.commit()
            await self._r.mail.take(self._turn)

    def _take(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            step = self._turn.run.steps.get(getattr(draft.facts, "step", ""))
            if step is not None and step.status == "doubted" and isinstance(draft.facts, IntentDoubted):
                self._stuck.add(step.id)
                continue
            run = self._turn.run
            forward = not (run.cancelled or run.undoing or run.closed)
            if (step is None or step.again) and not forward:
                continue  # it was planned while the run was cancelled
            self._turn.take(draft)

    async def _guarded(self, step: str, work: Coroutine[Any, Any, list[Draft]]) -> list[Draft]:
        """What one branch meets does not stop the others: it is raised when they can go no further."""
        try:
            return await work
        except OutriderError as error:
            self._later[step] = error
            return []

    def _slow(self, move: Next) -> Coroutine[Any, Any, list[Draft]]:
        step = self._turn.run.steps.get(move.step)
        if move.move is Move.START:
            return self._r.starts.start_slowly(self._scene, move.step)
        assert step is not None
        if move.move is Move.OBSERVE:
            return self._observe(step)
        fresh = self._fresh.pop(step.id, None)
        return self._settle(step) if fresh is None else self._perform(step, fresh)

    async def _perform(self, step: Step, allowed: Allowed) -> list[Draft]:
        return await self._or_give_up(step, self._r.hands.perform(self._turn.run.id, allowed))

    async def _settle(self, step: Step) -> list[Draft]:
        assert step.intent is not None
        if step.status == "doubted":
            self._r.asked_at[step.intent.key] = self._r.times.monotonic()
        action = self._scene.action(step)
        return await self._or_give_up(step, self._r.hands.settle(self._turn.run.id, step.intent, action))

    async def _or_give_up(self, step: Step, call: Coroutine[Any, Any, Draft]) -> list[Draft]:
        """What surely was not sent is tried again later, until the step's time is over: then it failed."""
        try:
            return [await call]
        except NotSent as error:
            late = self._r.times.gives_up(self._scene.playbook, step, self._r.journal.now())
            if not late or step.intent is None:
                raise
            return [self._r.times.failed(self._turn.run.id, step, error)]

    async def _observe(self, step: Step) -> list[Draft]:
        assert step.intent is not None
        action, receipt = self._scene.action(step), self._scene.receipt(step)
        hands, run = self._r.hands, self._turn.run.id
        return [await hands.observe(run, step.id, action, step.intent.key, receipt)]

    # --- parents, and releases that came meanwhile --------------------------------------------------------------------

    def _obey_parent(self) -> None:
        """A run that nobody waits for any more ends: its parent has ended, or was cancelled."""
        run = self._turn.run
        parent = self._r.device.runs.get(run.opened.parent)
        if not run.opened.parent or run.cancelled or run.undoing is not None:
            return
        waits = parent.steps.get(run.opened.parent_step) if parent is not None else None
        waited = waits is not None and waits.status == "entered" and waits.entered is not None
        if not waited or parent is None or parent.cancelled or parent.undoing is not None:
            name = f"parent_{run.opened.parent}"
            self._turn.add(RunOrdered(order="cancel", id=name, step="", by=run.opened.parent, place="parent"))

    def _void_superseded(self) -> None:
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
