"""One run on its way in one task, by what its entries say comes next, until it waits or ends.

``shared.runs`` says what may follow; this module does it. All that needs no effect in between shares one commit: result
and observation of one step, plan, verdict and intent of the next. An effect starts only after its intent is on the
disk, and branches that go side by side wait for each other's effects no more than they must.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from edge_agent.runner.judging import Judging
from edge_agent.runner.rooms import Rooms
from edge_agent.runner.scene import Scene, playbook_of
from edge_agent.runner.turn import Turn
from edge_agent.tools import NotSent
from shared.entries import (
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
from shared.policy import Allowed
from shared.runs import DONE, Move, Next, Step, moves

_SLOW = (Move.SETTLE, Move.OBSERVE)  # no set: the hash of an enum's member is computed in Python
_ASK_AGAIN_S = 60.0  # between two questions to a tool about an effect that is in doubt


class Advance:
    """One run on its way in one task."""

    def __init__(self, rooms: Rooms, turn: Turn, nudge: asyncio.Event) -> None:
        self._r = rooms
        self._turn = turn
        self._scene = Scene(turn, playbook_of(turn.run, rooms.release), local=rooms.times.local)
        self._judging = Judging(rooms, self._scene)
        self._nudge = nudge
        self._stuck: set[str] = set()  # steps that cannot go on until something happens
        self._busy: dict[asyncio.Task[list[Draft]], str] = {}
        self._later: dict[str, OutriderError] = {}  # steps that could not go on now, and why

    async def run(self) -> None:
        try:
            self._obey_parent()
            self._judging.void_superseded()
            while True:
                await self._take_mail()
                slow = self._fold_what_can_be()
                if self._judging.fresh or not slow:
                    await self._turn.commit()
                    self._judging.committed()
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
                self._judging.judge(step)
            case Move.ACT:
                assert step is not None
                self._judging.intend(step)
            case Move.ASK:
                assert step is not None
                self._judging.ask(step)
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

    def _look(self, step: Step) -> None:
        """Whether what a step waits for has come."""
        now = self._r.journal.now()
        if self._r.times.ends(self._turn, self._scene.playbook, step, now):
            return
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
        fresh = self._judging.fresh.pop(step.id, None)
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

    # --- parents --------------------------------------------------------------------

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
