"""What a run does next, as a pure function of its state and its playbook.

The playbook is walked from the top each time: what is over is passed by, what is not gives moves. Nothing here looks at
a clock or at what a condition says: the engine does, writes down what it found, and walks again. So a run can always go
on from its entries alone.
"""

from __future__ import annotations

import enum

import msgspec

from shared.playbook import Playbook, PlaybookStep
from shared.runs.state import CANCELLED, DONE, REHEARSED, UNDO, Run, Step


class Move(enum.Enum):
    """What the engine does next."""

    START = "start"  # a step that has no entry yet: see whether its condition holds, then plan it or enter it
    JUDGE = "judge"
    ASK = "ask"
    REHEARSE = "rehearse"  # what a dry run does in place of asking and acting
    WAIT = "wait"  # for a person, a time, an event or a child run
    HOLD = "hold"  # for a lease, or whatever else the hub mends
    ACT = "act"
    SETTLE = "settle"  # an intent without a result: it may or may not have happened
    OBSERVE = "observe"
    BACK = "back"  # it failed or was cancelled: begin to take back what was done
    UNDO = "undo"  # find out how to take back a step's effect
    LEAVE = "leave"  # no tool can: leave it to a person
    CLOSE = "close"
    STOP = "stop"  # closed, or paused


class Next(msgspec.Struct, frozen=True):
    """A move, the step it concerns as the run names it, and for ``CLOSE``, ``BACK`` and ``LEAVE`` why."""

    move: Move
    step: str = ""
    outcome: str = ""
    code: str = ""


def moves(run: Run, playbook: Playbook) -> list[Next]:
    """Every move that can be made now, in the order of the playbook; several where branches go side by side."""
    if run.closed is not None:
        return [Next(Move.STOP)]
    if run.undoing is not None:
        return _backward(run)
    if run.paused:
        return _in_flight(run) or [Next(Move.STOP)]
    failure = (CANCELLED, "run.cancelled") if run.cancelled else None
    if failure is None:
        walk = _Walk(run)
        failure = walk.sequence(playbook.steps, "")
        if failure is None:
            done = REHEARSED if run.opened.dry_run else DONE
            return walk.moves or [Next(Move.CLOSE, outcome=done)]
    under_way = _in_flight(run)
    if under_way:  # what was begun side by side with the failure is brought to its end first
        return under_way
    outcome, code = failure
    if run.effects and playbook.on_failure == "undo":
        return [Next(Move.BACK, outcome=outcome, code=code)]
    return [Next(Move.CLOSE, outcome=outcome, code=code)]


def _in_flight(run: Run) -> list[Next]:
    """Moves that only find out or note what has happened."""
    found = [_after(step) for step in run.steps.values()]
    return [
        Next(move, step.id)
        for step, move in zip(run.steps.values(), found, strict=True)
        if step.open or move is Move.OBSERVE
    ]


def _after(step: Step) -> Move:
    """The move that follows a step's state, ``STOP`` where it is over."""
    if step.end is not None:
        return Move.STOP
    match step.status:
        case "recalled":
            return Move.START
        case "planned":
            return Move.JUDGE
        case "judged":
            assert step.verdict is not None
            return Move.ACT if step.verdict.verdict == "allow" else Move.ASK
        case "approved":
            verdict = step.verdict
            again = verdict is None or verdict.action != step.action or verdict.context.get("approved") is not True
            return Move.JUDGE if again else Move.ACT
        case "held":
            return Move.HOLD
        case "intended":
            return Move.SETTLE
        case "resulted":
            return Move.OBSERVE
        case _:  # waiting, doubted, entered, left
            return Move.WAIT


class _Walk:
    """One walk over a playbook's steps. A failure is an outcome and a code; ``None`` means none so far."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.moves: list[Next] = []

    def sequence(self, steps: list[PlaybookStep], suffix: str) -> tuple[str, str] | None:
        """The moves of the first step that is not over."""
        for step in steps:
            before = len(self.moves)
            failure = self._one(step, suffix)
            if failure is not None and step.on_failure == "stop":
                return failure
            if len(self.moves) > before:
                return None
        return None

    def _one(self, step: PlaybookStep, suffix: str) -> tuple[str, str] | None:
        name = step.id + suffix
        state = self._run.steps.get(name)
        if state is None or state.status == "recalled":
            self.moves.append(Next(Move.START, name))
            return None
        if state.end is not None:
            return state.end if state.end[0] != DONE else None
        if state.entered is not None and state.entered.kind == "together":
            return self._together(step, suffix)
        if state.entered is not None and state.entered.kind == "each":
            return self._each(step, suffix, state.entered.count)
        move = _after(state)
        if self._run.opened.dry_run and move in (Move.ASK, Move.ACT):
            move = Move.REHEARSE
        self.moves.append(Next(move, name))
        return None

    def _together(self, step: PlaybookStep, suffix: str) -> tuple[str, str] | None:
        failures = [self.sequence(branch, suffix) for branch in step.together or ()]
        return next((failure for failure in failures if failure is not None), None)

    def _each(self, step: PlaybookStep, suffix: str, count: int) -> tuple[str, str] | None:
        """Rounds side by side, at most ``at_once`` of them unfinished."""
        busy = 0
        for number in range(count):
            before = len(self.moves)
            failure = self.sequence(step.steps, f"{suffix}.{number}" if suffix else f"#{number}")
            if failure is not None:
                return failure
            busy += len(self.moves) > before
            if busy == step.at_once:
                break
        return None


def _backward(run: Run) -> list[Next]:
    """The newest effect that is not yet taken back or left to a person, one at a time."""
    for name in reversed(run.effects):
        undo = run.steps.get(UNDO + name)
        if undo is None:
            return [Next(Move.STOP)] if run.paused else [Next(Move.UNDO, name)]
        if undo.status == "left":
            continue
        end = undo.end
        if end is None:
            move = _after(undo)
            return [Next(Move.STOP)] if run.paused and not undo.open else [Next(move, undo.id)]
        if end[0] != DONE:
            return [Next(Move.LEAVE, name, code=end[1] or end[0])]
    if run.left:
        return [Next(Move.WAIT, run.left[0].id)]
    assert run.undoing is not None
    return [Next(Move.CLOSE, outcome=run.undoing.outcome, code=run.undoing.code)]
