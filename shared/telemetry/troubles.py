"""When something went wrong, and when it was well again: the time to recovery.

A trouble is one of four. What begins and what ends it is exact:

    trouble    begins with the entry after which     is recovered with the entry after which
    failure    the run is closed as failed           a retry has opened it again
    doubt      a step's intent is in doubt           a result, or a person, has settled it
    hold       the host holds a step back            a verdict has let it go
    operator   an effect is left to a person         the person has handled it

It is given up instead where a failure is dismissed, or where the step is dropped while it is held. Times are those of
the entries, so a log that arrives late counts the same.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from shared import entries as e
from shared.runs import FAILED, UNDO, Run

FAILURE = "failure"
RECOVERED, GIVEN_UP = "recovered", "given-up"
_RUNS = 10_000  # troubled runs that are followed; beyond them the oldest is forgotten

_OF_STATUS = {"doubted": "doubt", "held": "hold", "left": "operator"}
_STILL = {"doubt": ("doubted",), "hold": ("held", "planned"), "operator": ("left",)}


@dataclass(frozen=True)
class Turn:
    """A trouble began (``end`` is empty), or came to its end after ``lasted`` microseconds."""

    trouble: str
    end: str = ""
    lasted: int = 0


class Troubles:
    """The open troubles of all runs, by device and run."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], dict[tuple[str, str], int]] = OrderedDict()

    def take(self, device: str, entry: e.Entry, run: Run) -> list[Turn]:
        """What began and ended with an entry; ``run`` is the run after it."""
        mine, begun = self._open.get((device, run.id)), _begun(entry, run)
        if mine is None and not begun:
            return []
        mine = mine or {}
        turns = []
        for (step, trouble), since in [*mine.items()]:
            end = _end(run, step, trouble)
            if end:
                del mine[step, trouble]
                turns.append(Turn(trouble, end, max(0, entry.at - since)))
        for found in begun:
            if found not in mine:
                mine[found] = entry.at
                turns.append(Turn(found[1]))
        self._keep((device, run.id), mine)
        return turns

    def failed(self, device: str, run: str, at: int) -> None:
        """A run that failed before this process began, and waits."""
        self._keep((device, run), self._open.get((device, run), {}) | {("", FAILURE): at})

    def _keep(self, name: tuple[str, str], mine: dict[tuple[str, str], int]) -> None:
        if not mine:
            self._open.pop(name, None)
            return
        self._open[name] = mine
        while len(self._open) > _RUNS:
            self._open.popitem(last=False)


def _begun(entry: e.Entry, run: Run) -> list[tuple[str, str]]:
    """Troubles that the run is in and that this entry is about."""
    facts = entry.facts
    if isinstance(facts, e.RunClosed):
        return [("", FAILURE)] if facts.outcome == FAILED else []
    name = UNDO + facts.step if isinstance(facts, e.UndoLeft) else getattr(facts, "step", "")
    step = run.steps.get(name)
    trouble = _OF_STATUS.get(step.status) if step is not None else None
    return [(name, trouble)] if trouble is not None else []


def _end(run: Run, step: str, trouble: str) -> str:
    """How a trouble ended, empty while it goes on."""
    if trouble == FAILURE:
        if run.closed is None:
            return RECOVERED
        return GIVEN_UP if run.dismissed else ""
    found = run.steps.get(step)
    if found is None or found.status == "failed":
        return GIVEN_UP
    return "" if found.status in _STILL[trouble] else RECOVERED
