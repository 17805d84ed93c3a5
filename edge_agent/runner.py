"""The run engine: moves each run by what its entries say comes next, until it waits or ends.

``shared.runs`` says what may follow; this module does it. Drafts are folded before they are committed, so an engine
that went wrong stops before it writes, and all that needs no effect in between shares one commit: recall, plan, verdict
and intent are one, result, observation and end another. The effect starts only after the intent is on the disk.

A run has one task at a time. What a run waits for (a person, a lease) wakes it through ``wake``.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from edge_agent.act import Hands, intent
from edge_agent.guard import Case, Guard
from edge_agent.journal import Journal
from edge_agent.plan.planner import Planner
from shared import playbook as playbooks
from shared.actions import Action
from shared.codec import parse
from shared.entries import (
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalVoided,
    Draft,
    Entry,
    Facts,
    RunClosed,
    type_of,
)
from shared.errors import BadInput, OutriderError, Tampered, Unavailable
from shared.keys import Envelope
from shared.playbook import Playbook
from shared.policy import ALLOW, Verdict, permit
from shared.release import Answer, Release
from shared.runs import Device, Move, Run, fold, next_move

_URGENCY = {"interactive": 0, "background": 1, "batch": 2}
_RETRY_S = 5.0


class _Pending(NamedTuple):
    """An answer on its way to the log, and who waits for it to be there, if they still do."""

    answer: Answer
    envelope: Envelope
    done: asyncio.Future[None]

    def finish(self, error: OutriderError | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Turn:
    """One stretch of a run's way: drafts that are folded but not yet committed. They are folded at the journal's time,
    the one they will be written with, so that what holds here holds in the log."""

    def __init__(self, journal: Journal, run: Run) -> None:
        self._journal = journal
        self._drafts: list[Draft] = []
        self.run = run

    def add(self, facts: Facts, *, not_after: int = 0, **bodies: Any) -> None:
        """Fold a draft. Raises ``Tampered('run.order')`` before anything that may not follow can be written."""
        name, version = type_of(facts)
        entry = Entry(seq=-1, at=self._journal.now(), type=name, v=version, run=self.run.id, facts=facts, bodies={})
        self.run = fold(self.run, entry)
        self._drafts.append(Draft(facts, self.run.id, bodies, not_after=not_after))

    def take(self, draft: Draft) -> None:
        self.add(draft.facts, not_after=draft.not_after, **draft.bodies)

    async def commit(self) -> None:
        """Put what was folded on the disk."""
        if self._drafts:
            drafts, self._drafts = self._drafts, []
            await self._journal.append(*drafts)


class Runner:
    """Drives all open runs of one device, ``at_once`` of them at a time, urgent ones first."""

    def __init__(
        self,
        journal: Journal,
        device: Device,
        guard: Guard,
        planner: Planner,
        hands: Hands,
        *,
        release: Callable[[int], Release],
        at_once: int,
        trouble: Callable[[OutriderError], None],
        learn: Callable[[Run, Action, dict[str, Any]], None],
    ) -> None:
        self._journal = journal
        self._device = device
        self._guard = guard
        self._planner = planner
        self._hands = hands
        self._release = release
        self._at_once = at_once
        self._trouble = trouble
        self._learn = learn
        self._queue: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
        self._order = itertools.count()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._answers: dict[str, list[_Pending]] = {}

    # --- scheduling -----------------------------------------------------------------------------------------------

    def wake(self, run_id: str) -> None:
        """Something this run may wait for has happened."""
        if run_id in self._busy:
            self._again.add(run_id)
        elif run_id not in self._queued and run_id in self._device.runs:
            self._queued.add(run_id)
            self._queue.put_nowait((self._urgency(self._device.runs[run_id]), next(self._order), run_id))

    def wake_all(self, *, held: bool = False) -> None:
        """Every open run, or only those that a lease holds up."""
        for run in list(self._device.runs.values()):
            if not held or run.held:
                self.wake(run.id)

    def wake_due(self) -> None:
        """Runs whose question has expired."""
        for run in list(self._device.runs.values()):
            if _expired(run, self._journal.now()):
                self.wake(run.id)

    def _urgency(self, run: Run) -> int:
        try:
            return _URGENCY[self._playbook(run).urgency]
        except OutriderError:
            return _URGENCY["batch"]

    @property
    def idle(self) -> bool:
        return not self._queued and not self._busy

    async def work(self) -> None:
        """Move runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            _, _, run_id = await self._queue.get()
            self._queued.discard(run_id)
            self._busy.add(run_id)
            try:
                await self._advance(run_id)
            except OutriderError as error:
                self._put_off(run_id, error)
            except Exception as error:  # noqa: BLE001 - the reason is below
                # A task root: a fault in one run must not stop the others. The run stays where its log says it is.
                traceback.print_exc()
                said = f"{type(error).__name__} in run {run_id}"
                self._put_off(run_id, Unavailable("agent.fault", said, advice="see the agent's output; report it"))
            finally:
                self._busy.discard(run_id)
            if run_id in self._again:
                self._again.discard(run_id)
                self.wake(run_id)

    def _put_off(self, run_id: str, error: OutriderError) -> None:
        self._trouble(error)
        asyncio.get_running_loop().call_later(_RETRY_S, self.wake, run_id)

    # --- moving one run -------------------------------------------------------------------------------------------

    async def _advance(self, run_id: str) -> None:
        await self._take_answers(run_id)
        run = self._device.runs.get(run_id)
        if run is None:
            return
        turn = Turn(self._journal, run)
        playbook, action = self._playbook(run), self._action(run)
        if turn.run.held:
            action = await self._judge(turn, playbook, action)
        elif _expired(turn.run, self._journal.now()):
            assert turn.run.approval is not None
            turn.add(ApprovalVoided(step=run.step, approval=turn.run.approval.approval, code="approval.expired"))
        elif action is not None and _superseded(turn.run, self._device):
            self._void_if_changed(turn, playbook, action)
        while True:
            step = next_move(turn.run, playbook.step_ids)
            match step.move:
                case Move.PLAN:
                    action = await self._plan(turn, playbook, step.step)
                case Move.JUDGE:
                    action = await self._judge(turn, playbook, action)
                case Move.ASK:
                    self._ask(turn, playbook)
                case Move.ACT | Move.SETTLE:
                    await self._settle_or_act(turn, action, step.move)
                case Move.OBSERVE:
                    assert action is not None
                    try:
                        turn.take(await self._hands.observe(run_id, turn.run.step, action))
                    except OutriderError:
                        await turn.commit()  # what came of the intent is known, even if it cannot be looked at now
                        raise
                case Move.CLOSE:
                    turn.add(RunClosed(outcome=step.outcome, code=step.code))
                case Move.WAIT | Move.HOLD | Move.STOP:
                    await turn.commit()
                    if step.move is Move.STOP and action is not None:
                        self._learned(turn.run, action)
                    return

    async def _plan(self, turn: Turn, playbook: Playbook, step_id: str) -> Action | None:
        step = playbook.step(step_id)
        event = self._journal.body(turn.run.seq)
        if event is None:
            raise BadInput("run.erased", f"the event of {turn.run.id} was erased", advice="close the run")
        release = self._release(turn.run.opened.release)
        tool = self._hands.tool(step.tools[0])
        planned = await self._planner.plan(
            playbook,
            step_id,
            release.setups[playbook.playbook, step_id],
            event["inputs"],
            event["subject"],
            tool.name,
            tool.arguments,
        )
        turn.add(planned.recalled)
        turn.add(planned.made, shared=planned.body)
        return planned.action

    async def _judge(self, turn: Turn, playbook: Playbook, action: Action | None) -> Action:
        """One verdict. An allowed action's intent joins the same commit: between the two, nothing may change."""
        run = turn.run
        if action is None or run.plan is None:
            raise BadInput("run.erased", f"the plan of {run.id} was erased", advice="close the run")
        case = self._case(run, playbook, action, approved=run.answer is not None and run.answer.answer != "deny")
        verdict, facts = self._guard.judge(run, run.plan, case)
        if run.held and run.verdict is not None and run.verdict.rules == facts.rules:
            return action  # still held up by the same thing: nothing new to record
        turn.add(facts)
        if verdict.kind == ALLOW and not case.approved:
            with self._guard.reserve(verdict, case.value_cents):
                await self._intend(turn, action, verdict)
            turn.take(await self._hands.perform(run.id, permit(action, verdict, judged=facts.action, step=run.step)))
        return action

    async def _intend(self, turn: Turn, action: Action, verdict: Verdict, approval: str = "") -> None:
        allowed = permit(
            action, verdict, judged=turn.run.action, step=turn.run.step, approval=approval, approved=turn.run.action
        )
        turn.add(intent(allowed))
        await turn.commit()

    async def _settle_or_act(self, turn: Turn, action: Action | None, move: Move) -> None:
        run = turn.run
        if action is None:
            raise BadInput("run.erased", f"the action of {run.id} was erased", advice="close the run")
        if move is Move.SETTLE:
            assert run.intent is not None
            turn.take(await self._hands.settle(run.id, run.intent, action))
            return
        assert run.verdict is not None
        verdict = Verdict(run.verdict.verdict, run.verdict.rules)
        approval = run.answer.approval if run.answer else ""
        await self._intend(turn, action, verdict, approval)
        allowed = permit(
            action, verdict, judged=action.digest, step=run.step, approval=approval, approved=action.digest
        )
        turn.take(await self._hands.perform(run.id, allowed))

    def _ask(self, turn: Turn, playbook: Playbook) -> None:
        life = playbooks.seconds(playbook.approvals.expires) * 1_000_000
        turn.add(
            ApprovalAsked(
                step=turn.run.step,
                approval=f"app_{secrets.token_hex(12)}",
                action=turn.run.action,
                roles=list(playbook.approvals.roles),
                expires_at=self._journal.now() + life,
            )
        )

    def _void_if_changed(self, turn: Turn, playbook: Playbook, action: Action) -> None:
        """A release came after the question. The approval dies where the new policy no longer asks as the old one did;
        where it does, question and answer stand, and an approved action is judged once more before the act."""
        run = turn.run
        assert run.plan is not None and run.verdict is not None and run.approval is not None
        verdict, _ = self._guard.judge(run, run.plan, self._case(run, playbook, action, approved=False))
        if not verdict.held and (verdict.kind, sorted(verdict.rules)) != (
            run.verdict.verdict,
            sorted(run.verdict.rules),
        ):
            turn.add(ApprovalVoided(step=run.step, approval=run.approval.approval, code="approval.superseded"))

    # --- answers --------------------------------------------------------------------------------------------------

    async def answer(self, answer: Answer, envelope: Envelope) -> None:
        """Record a person's answer, whose signature was verified; return when it is on the disk. An answer recorded
        before, or to a question that is no longer open, changes nothing."""
        run = self._device.runs.get(answer.run)
        if run is None or run.approval is None or answer.approval in run.approvals_used:
            return
        pending = _Pending(answer, envelope, asyncio.get_running_loop().create_future())
        self._answers.setdefault(answer.run, []).append(pending)
        self.wake(answer.run)
        await pending.done

    async def _take_answers(self, run_id: str) -> None:
        """Record what was answered meanwhile. Here and not in ``answer``, because a run has one writer at a time."""
        for pending in self._answers.pop(run_id, []):
            run = self._device.runs.get(run_id)
            try:
                if run is not None:
                    turn = Turn(self._journal, run)
                    self._record(turn, pending)
                    await turn.commit()
                pending.finish()
            except OutriderError as error:  # among them ``entry.late``: it expired on its way to the disk
                pending.finish(error)
            finally:
                pending.done.cancel()  # no more than a no-op, unless a fault of ours left somebody waiting

    def _record(self, turn: Turn, pending: _Pending) -> None:
        answer, run = pending.answer, turn.run
        if answer.approval in run.approvals_used:
            return
        if answer.answer == "correct":
            self._check_correction(run, answer)
        facts = ApprovalAnswered(
            step=run.step,
            approval=answer.approval,
            action=answer.action,
            answer=answer.answer,
            corrected=answer.corrected,
            by=answer.by,
        )
        expires = run.approval.expires_at if run.approval else 0
        turn.add(facts, not_after=expires, shared={"envelope": msgspec.to_builtins(pending.envelope)})

    def _check_correction(self, run: Run, answer: Answer) -> None:
        planned = self._planned(run)
        corrected = Action(tool=planned.tool, arguments=answer.arguments or {}, subject=planned.subject)
        if corrected.digest != answer.corrected:
            raise Tampered(
                "approval.digest", "the correction is not the action it names", advice="ask the approver again"
            )

    # --- what a run is about --------------------------------------------------------------------------------------

    def _playbook(self, run: Run) -> Playbook:
        """The playbook as pinned when the run was opened."""
        playbook = self._release(run.opened.release).playbooks.get(run.opened.playbook)
        if playbook is None or playbook.digest != run.opened.playbook_sha256:
            raise Tampered(
                "run.playbook",
                f"release {run.opened.release} does not hold the playbook {run.id} was opened with",
                advice="restore the agent's releases folder, or sync with the hub",
            )
        return playbook

    def _planned(self, run: Run) -> Action:
        body = self._journal.body(run.plan_seq)
        if body is None or not isinstance(body.get("action"), dict):
            raise BadInput("run.erased", f"the plan of {run.id} was erased", advice="close the run")
        return msgspec.convert(body["action"], Action)

    def _action(self, run: Run) -> Action | None:
        """The action in force, read back from its body and checked against its digest."""
        if not run.action or run.plan_seq < 0:
            return None
        action = self._planned(run)
        if run.corrected_seq >= 0:
            body = self._journal.body(run.corrected_seq)
            if body is None:
                raise BadInput("run.erased", f"the correction of {run.id} was erased", advice="close the run")
            answer = parse(body["envelope"]["payload"], Answer, code="run.answer", what="the recorded answer")
            action = Action(tool=action.tool, arguments=answer.arguments or {}, subject=action.subject)
        if action.digest != run.action:
            raise Tampered("run.action", f"the action of {run.id} was changed", advice="run `outrider audit verify`")
        return action

    def _case(self, run: Run, playbook: Playbook, action: Action, *, approved: bool) -> Case:
        event = self._journal.body(run.seq) or {"inputs": {}}
        value = event["inputs"].get(playbook.value) if playbook.value else None
        tool = self._hands.tool(action.tool)
        return Case(
            action=action.digest,
            tool=action.tool,
            label=str(action.arguments.get("lane") or ""),
            effect=tool.effect,
            urgency=playbook.urgency,
            value_cents=value if isinstance(value, int) else 0,
            approved=approved,
        )

    def _learned(self, run: Run, action: Action) -> None:
        """A decision a person confirmed or corrected is worth remembering; what the agent did alone is not evidence."""
        if run.closed is not None and run.closed.outcome == "done" and run.answer is not None:
            event = self._journal.body(run.seq)
            if event is not None:
                self._learn(run, action, event)


def _expired(run: Run, now: int) -> bool:
    return run.status == "waiting" and run.approval is not None and now > run.approval.expires_at


def _superseded(run: Run, device: Device) -> bool:
    """Another release is in force than the one that asked, and the question or its plain yes is still unused."""
    installed = device.release.release if device.release else 0
    open_question = run.status == "waiting" or (run.answer is not None and run.answer.answer == "approve")
    judged_again = run.verdict is not None and run.verdict.context.get("approved") is True
    return open_question and run.verdict is not None and run.verdict.release != installed and not judged_again
