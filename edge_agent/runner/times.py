"""What only the clock brings: timers, deadlines, expiry and escalation of questions, and when to look again."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator

from edge_agent.runner.turn import Turn
from shared.entries import ApprovalEscalated, ApprovalVoided, Draft, ResultRecorded, StepFailed
from shared.errors import BadInput, OutriderError, Unavailable
from shared.playbook import Playbook, seconds
from shared.runs import UNDO, Run, Step, moves

_US = 1_000_000
_PATIENCE_S = 86_400  # how long a call that cannot be sent is tried again where the playbook sets no limit


class Times:
    """``local`` turns microseconds since 1970 UTC into this computer's own time."""

    def __init__(self, *, local: Callable[[int], datetime.datetime], monotonic: Callable[[], float]) -> None:
        self.local = local
        self.monotonic = monotonic

    def until(self, text: str) -> int:
        """An ISO date (its beginning, in local time) or time, in microseconds. Raises ``BadInput('wait.until')``."""
        try:
            at = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise BadInput(
                "wait.until", f"{text[:40]!r} is neither a date nor a time", advice="give it as 2026-03-01T09:00:00Z"
            ) from error
        if at.tzinfo is None:
            at = at.replace(tzinfo=self.local(0 if at.year <= 1970 else int(at.timestamp()) * _US).tzinfo)
        return int(at.timestamp()) * _US

    # --- limits -------------------------------------------------------------------------------------------------------

    def ends(self, turn: Turn, playbook: Playbook, step: Step, now: int) -> bool:
        """Let a step that has no open intent fail if a limit is over; whether it did."""
        for at, error in self._limits(turn.run, playbook, step):
            if now >= at:
                said = {"message": error.message, "advice": error.advice}
                turn.add(StepFailed(step=step.id, code=error.code), shared=said)
                return True
        return False

    def _limits(self, run: Run, playbook: Playbook, step: Step) -> Iterator[tuple[int, OutriderError]]:
        part = playbook.step(step.id.removeprefix(UNDO))
        if part.timeout is not None and not step.id.startswith(UNDO):
            yield (
                step.at + seconds(part.timeout) * _US,
                Unavailable("step.timeout", f"{step.id} took longer than {part.timeout}", advice="retry the run"),
            )
        limit = playbook.budgets.run.time
        if limit is not None and run.undoing is None:
            yield (
                run.began_at + seconds(limit) * _US,
                Unavailable("budget.time", f"the run took longer than {limit}", advice="retry the run"),
            )

    def gives_up(self, playbook: Playbook, step: Step, now: int) -> bool:
        """Whether a call that could never be sent has been tried for long enough."""
        part = playbook.step(step.id.removeprefix(UNDO))
        patience = seconds(part.timeout) if part.timeout is not None else _PATIENCE_S
        return now >= step.at + patience * _US

    def failed(self, run: str, step: Step, error: OutriderError) -> Draft:
        """The result of a call that was never sent."""
        assert step.intent is not None
        facts = ResultRecorded(
            step=step.id, key=step.intent.key, outcome="failed", code=error.code, how="unsent", attempts=0, latency_us=0
        )
        return Draft(facts, run, {"shared": {"receipt": {"message": error.message, "advice": error.advice}}})

    # --- questions ----------------------------------------------------------------------------------------------------

    def escalate(self, turn: Turn, step: Step, playbook: Playbook, now: int) -> None:
        """Void a question that has expired, so that it is asked anew; ask more people where nobody answered."""
        assert step.approval is not None
        name = step.approval.approval
        if now > step.approval.expires_at:
            turn.add(ApprovalVoided(step=step.id, approval=name, code="approval.expired"))
            return
        for level, escalation in enumerate(playbook.approvals.escalate[step.level :], step.level + 1):
            if now < step.asked_at + seconds(escalation.after) * _US:
                return
            turn.add(ApprovalEscalated(step=step.id, approval=name, level=level, roles=list(escalation.roles)))

    # --- when to look again -------------------------------------------------------------------------------------------

    def due(self, run: Run, playbook: Playbook) -> int | None:
        """When the clock alone will move this run, microseconds since 1970; ``None`` if it never will."""
        listed = (run.steps.get(move.step) for move in moves(run, playbook))
        found = [at for step in listed if step is not None for at in self._due(run, playbook, step)]
        return min(found, default=None)

    def _due(self, run: Run, playbook: Playbook, step: Step) -> Iterator[int]:
        if step.status == "left":
            return
        yield from (at for at, _ in self._limits(run, playbook, step))
        if step.entered is not None and step.entered.kind == "time":
            yield step.entered.until
        if step.status == "waiting" and step.approval is not None:
            yield step.approval.expires_at + 1
            for escalation in playbook.approvals.escalate[step.level : step.level + 1]:
                yield step.asked_at + seconds(escalation.after) * _US
