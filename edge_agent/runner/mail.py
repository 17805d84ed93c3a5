"""Answers and orders for a run, on their way to the log. They are written by the run's own task, because a run has one
writer at a time; who brought them waits until they are on the disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.journal import Journal
from edge_agent.runner.turn import Turn
from shared.actions import Action
from shared.entries import ApprovalAnswered, ApprovalAsked, ResultRecorded, RunOrdered
from shared.errors import Conflict, OutriderError, Tampered
from shared.keys import Envelope
from shared.release import Answer, Order
from shared.runs import UNDO, Device, Step


@dataclass(frozen=True)
class Letter:
    """An answer or an order. ``envelope`` is the hub's signed one; ``None`` for what was said at this computer."""

    message: Answer | Order
    envelope: Envelope | None
    done: asyncio.Future[None]
    place: str = "hub"

    def finish(self, error: OutriderError | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Mail:
    def __init__(self, journal: Journal, device: Device) -> None:
        self._journal = journal
        self._device = device
        self._letters: dict[str, list[Letter]] = {}

    def post(self, letter: Letter) -> None:
        self._letters.setdefault(letter.message.run, []).append(letter)

    def return_all(self, run_id: str) -> None:
        """The run is over, or was never opened here: what comes for it changes nothing."""
        for letter in self._letters.pop(run_id, []):
            letter.finish()

    async def take(self, turn: Turn) -> None:
        """Write down what came, one commit each: what is wrong with one does not touch the others."""
        for letter in self._letters.pop(turn.run.id, []):
            try:
                match letter.message:
                    case Answer():
                        self._answer(turn, letter, letter.message)
                    case Order():
                        self._order(turn, letter, letter.message)
                await turn.commit()
                letter.finish()
            except OutriderError as error:  # among them ``entry.late``: it expired on its way to the disk
                turn.drop()
                turn.run = self._device.find(turn.run.id) or turn.run
                letter.finish(error)
            finally:
                letter.done.cancel()  # no more than a no-op, unless a fault of ours left somebody waiting

    # --- answers --------------------------------------------------------------------------------------------------

    def _answer(self, turn: Turn, letter: Letter, answer: Answer) -> None:
        step = turn.run.asked(answer.approval)
        backward = turn.run.undoing is not None and (step is None or not step.id.startswith(UNDO))
        if step is None or step.approval is None or answer.by in step.approvers or backward:
            if letter.place == "local":
                raise Conflict("approval.used", "this question is no longer open", advice="see the run")
            return  # answered before, or void: the same envelope may come twice
        if answer.answer == "correct":
            self._check_correction(turn, step, answer)
        facts = ApprovalAnswered(
            step=step.id,
            approval=answer.approval,
            action=answer.action,
            answer=answer.answer,
            corrected=answer.corrected,
            by=answer.by,
            place=letter.place,
            similar_until=self._similar_until(step, answer),
        )
        turn.add(facts, not_after=step.approval.expires_at, shared=_body(letter))

    def _similar_until(self, step: Step, answer: Answer) -> int:
        """How long the answer covers others like it: what the person said, within what the policy lets them."""
        asked = step.approval
        if not isinstance(asked, ApprovalAsked) or asked.needed > 1 or not asked.similar_s:
            return 0
        return min(answer.similar_until, self._journal.now() + asked.similar_s * 1_000_000)

    def _check_correction(self, turn: Turn, step: Step, answer: Answer) -> None:
        body = turn.body(step.plan_seq) or {}
        planned = msgspec.convert(body.get("action"), Action)
        corrected = Action(tool=planned.tool, arguments=answer.arguments or {}, subject=planned.subject)
        if corrected.digest != answer.corrected:
            raise Tampered(
                "approval.digest", "the correction is not the action it names", advice="ask the approver again"
            )

    # --- orders ---------------------------------------------------------------------------------------------------

    def _order(self, turn: Turn, letter: Letter, order: Order) -> None:
        if order.id in turn.run.orders:
            return
        step = turn.run.steps.get(order.step)
        facts = RunOrdered(order=order.order, id=order.id, step=order.step, by=order.by, place=letter.place)
        try:
            turn.add(facts, shared=_body(letter))
        except Tampered as error:  # the fold refuses it; an order that came too late is no tampering
            raise Conflict(
                "order.unfit", f"the run cannot be given the order {order.order!r} now", advice="look at the run"
            ) from error
        if order.order == "happened" and step is not None and step.intent is not None:
            told = ResultRecorded(
                step=step.id, key=step.intent.key, outcome="done", code="", how="told", attempts=0, latency_us=0
            )
            turn.add(told, shared={"receipt": {"told_by": order.by}})


def _body(letter: Letter) -> dict[str, Any]:
    if letter.envelope is not None:
        return {"envelope": msgspec.to_builtins(letter.envelope)}
    return {"reason": letter.message.reason}
