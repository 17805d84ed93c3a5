"""What a run does next, as a pure function of its state and its playbook.

The playbook is walked from the top each time: what is over is passed by, what is not gives moves. Nothing here looks at
a clock or at what a condition says: the engine does, writes down what it found, and walks again. So a run can always go
on from its entries alone.

A step that does not end well ends what it stands in: the round, the branch, the group, the run, up to the first step
with ``on_failure: continue``, behind which the walk goes on. What was side by side with it begins nothing new. Where an
effect may have happened it is found out and looked at, whatever became of the rest; everything else is dropped. A retry
begins with the step that ended the run: what was passed over before stays passed over.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import msgspec

from shared.playbook import Playbook, PlaybookStep
from shared.runs.state import CANCELLED, DONE, FAILED, REHEARSED, UNDO, Run, Step


class Move(enum.Enum):
    """What the engine does next."""

    START = "start"  # a step that has no entry yet: see whether its condition holds, then plan it or enter it
    JUDGE = "judge"
    ASK = "ask"
    REHEARSE = "rehearse"  # what a dry run does in place of asking and acting
    WAIT = "wait"  # for a person, a time, an event or a child run; or for a group, to see whether its time is over
    HOLD = "hold"  # for a lease, or whatever else the hub mends
    ACT = "act"
    SETTLE = "settle"  # an intent without a result: it may or may not have happened
    OBSERVE = "observe"
    DROP = "drop"  # the run goes on without this step: write down that it failed
    BACK = "back"  # it failed or was cancelled: begin to take back what was done
    UNDO = "undo"  # find out how to take back a step's effect
    LEAVE = "leave"  # no tool can: leave it to a person
    CLOSE = "close"
    STOP = "stop"  # closed, or paused


class Next(msgspec.Struct, frozen=True, gc=False):
    """A move, the step it concerns as the run names it, and for ``CLOSE``, ``BACK``, ``DROP`` and ``LEAVE`` why."""

    move: Move
    step: str = ""
    outcome: str = ""
    code: str = ""


Failure = tuple[str, str] | None  # an outcome and a code; ``None`` where nothing went wrong so far


def moves(run: Run, playbook: Playbook) -> list[Next]:
    """Every move that can be made now, in the order of the playbook; several where branches go side by side."""
    if run.closed is not None:
        return [Next(Move.STOP)]
    if run.undoing is not None:
        return [_backward(run)]
    if run.paused:
        return _in_flight(run) or [Next(Move.STOP)]
    failure: Failure = (CANCELLED, "run.cancelled") if run.cancelled else None
    if failure is None:
        walk = _Walk(run)
        _, failure = walk.sequence(playbook.steps, "")
        if failure is None:
            again = run.began_at != run.at  # a retry looks once more at what came out otherwise, wherever it stands
            found = walk.moves + (walk.unlisted() if walk.dropped or again else [])
            return found or [Next(Move.CLOSE, outcome=REHEARSED if run.opened.dry_run else DONE)]
    under_way = _in_flight(run)
    if under_way:  # what was begun side by side with the failure is brought to its end first
        return under_way + _drops(run.steps.values())
    outcome, code = failure
    if run.effects and playbook.on_failure == "undo":
        return [Next(Move.BACK, outcome=outcome, code=code)]
    return [Next(Move.CLOSE, outcome=outcome, code=code)]


def _in_flight(run: Run) -> list[Next]:
    """Moves that only find out or note what has happened."""
    return [Next(_after(step), step.id) for step in run.steps.values() if step.in_flight]


def _drops(steps: Iterable[Step]) -> list[Next]:
    """What is neither over nor under way is not gone on with."""
    left = (step for step in steps if step.end is None and not step.in_flight and not step.is_group)
    return [Next(Move.DROP, step.id, code="step.dropped") for step in left]


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
    """One walk over a playbook's steps. ``dropped`` tells that it went on behind a group that was not brought to its
    end: steps of it may still be in flight, and are not among ``moves``."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.moves: list[Next] = []
        self.dropped = False

    def unlisted(self) -> list[Next]:
        listed = {move.step for move in self.moves}
        return [move for move in _in_flight(self._run) if move.step not in listed]

    def sequence(self, steps: list[PlaybookStep], suffix: str, *, caught: bool = False) -> tuple[bool, Failure]:
        """The moves of the first step that is not over. Whether all are over, and what went wrong. ``caught`` tells
        that a failure in here does not reach the run."""
        for step in steps:
            over, failure = self._one(step, suffix, caught or step.on_failure == "continue")
            if failure is not None and step.on_failure == "stop":
                return True, failure
            if not over:
                return False, None
        return True, None

    def _one(self, step: PlaybookStep, suffix: str, caught: bool) -> tuple[bool, Failure]:
        name = step.id + suffix
        state = self._run.steps.get(name)
        if state is None or state.status == "recalled" or (state.again and not state.is_group and not caught):
            self.moves.append(Next(Move.START, name))
            return False, None
        end = state.end
        if state.is_group:
            if end is None and state.again and caught:  # before a retry its time was over, and it was passed over
                end = FAILED, state.code
            if end is None:
                return self._group(step, state, suffix, caught)
            self._leave(step, suffix)
            return True, end
        if end is not None:
            return True, end if end[0] != DONE else None
        move = _after(state)
        if self._run.opened.dry_run and move in (Move.ASK, Move.ACT):
            move = Move.REHEARSE
        self.moves.append(Next(move, name))
        return False, None

    def _group(self, step: PlaybookStep, state: Step, suffix: str, caught: bool) -> tuple[bool, Failure]:
        """Branches side by side; or rounds, at most ``at_once`` of them unfinished."""
        begin, busy = len(self.moves), 0
        failure: Failure = None
        for steps, inner in _ways(step, state, suffix):
            if self._is_through(steps, inner):
                continue
            over, wrong = self.sequence(steps, inner, caught=caught)
            failure = failure or wrong
            if wrong is not None and step.on_failure == "stop":
                del self.moves[begin:]
                self._leave(step, suffix)
                return True, wrong
            busy += not over
            if step.for_each is not None and busy == step.at_once:
                break
        if not busy:
            return True, failure
        if step.timeout is not None:
            self.moves.append(Next(Move.WAIT, state.id))
        return False, None

    def _is_through(self, steps: list[PlaybookStep], suffix: str) -> bool:
        """Whether plain actions in a row were all done well. Only quicker than to walk them: of a thousand rounds most
        are over."""
        known = self._run.steps
        for step in steps:
            state = known.get(step.id + suffix)
            if state is None or state.observed is None or not state.observed.matches or state.status != "observed":
                return False
        return True

    def _leave(self, step: PlaybookStep, suffix: str) -> None:
        """Go on behind a group: what is in flight within it is listed apart, the rest of it is dropped."""
        self.dropped = True
        within = _within(step)
        self.moves += _drops(
            state
            for state in self._run.steps.values()
            if state.id.partition("#")[0] in within and _is_below(state.id, suffix)
        )


def _ways(step: PlaybookStep, state: Step, suffix: str) -> Iterator[tuple[list[PlaybookStep], str]]:
    """The sequences of a group, each with what the names of its steps end in."""
    if step.together is not None:
        yield from ((branch, suffix) for branch in step.together)
        return
    assert state.entered is not None
    for number in range(state.entered.count):
        yield step.steps, f"{suffix}.{number}" if suffix else f"#{number}"


def _within(step: PlaybookStep) -> set[str]:
    found: set[str] = set()
    left = list(step.inner)
    while left:
        one = left.pop()
        found.add(one.id)
        left.extend(one.inner)
    return found


def _is_below(name: str, suffix: str) -> bool:
    """Whether a step is in the round that ``suffix`` names, or in one within it."""
    _, mark, rounds = name.partition("#")
    return not suffix or mark + rounds == suffix or (mark + rounds).startswith(f"{suffix}.")


def _backward(run: Run) -> Next:
    """The newest effect that is not yet taken back or left to a person, one at a time."""
    for name in reversed(run.effects):
        undo = run.steps.get(UNDO + name)
        if undo is None:
            return Next(Move.STOP) if run.paused else Next(Move.UNDO, name)
        if undo.status == "left":
            continue
        end = undo.end
        if end is None:
            return Next(Move.STOP) if run.paused and not undo.in_flight else Next(_after(undo), undo.id)
        if end[0] != DONE:
            return Next(Move.STOP) if run.paused else Next(Move.LEAVE, name, code=end[1] or end[0])
    if run.left:
        return Next(Move.WAIT, run.left[0].id)
    assert run.undoing is not None
    if run.paused:
        return Next(Move.STOP)
    return Next(Move.CLOSE, outcome=run.undoing.outcome, code=run.undoing.code)
