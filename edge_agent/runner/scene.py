"""What a run is about: its playbook as pinned, its actions, and the values that its expressions read."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from edge_agent.runner.turn import Turn
from shared.actions import Action, Value
from shared.codec import parse
from shared.errors import BadInput, Tampered
from shared.expression import Expression, Template
from shared.playbook import Playbook, PlaybookStep
from shared.release import Answer, Release
from shared.runs import UNDO, Run, Step

NAMES = frozenset(("inputs", "steps", "run", "today", "item", "index", "result"))


def playbook_of(run: Run, release: Callable[[int], Release]) -> Playbook:
    """The playbook as pinned when the run was opened. Raises ``Tampered('run.playbook')``."""
    playbook = release(run.opened.release).playbooks.get(run.opened.playbook)
    if playbook is None or playbook.digest != run.opened.playbook_sha256:
        raise Tampered(
            "run.playbook",
            f"release {run.opened.release} does not hold the playbook {run.id} was opened with",
            advice="restore the agent's releases folder, or sync with the hub",
        )
    return playbook


class Scene:
    """One run in one turn."""

    def __init__(self, turn: Turn, playbook: Playbook, *, local: Callable[[int], datetime.datetime]) -> None:
        self.turn = turn
        self.playbook = playbook
        self._local = local
        self._actions: dict[str, Action] = {}
        self._event: dict[str, Any] | None = None

    # --- the event that opened it -------------------------------------------------------------------------------------

    @property
    def event(self) -> dict[str, Any]:
        """``inputs``, ``subject`` and ``source``. Raises ``BadInput('run.erased')``."""
        if self._event is None:
            self._event = self.turn.body(self.turn.run.seq)
        if self._event is None:
            raise _erased(f"the event of {self.turn.run.id}")
        return self._event

    @property
    def subject(self) -> str:
        return str(self.event.get("subject", ""))

    # --- actions ------------------------------------------------------------------------------------------------------

    def remember(self, action: Action, digest: str) -> None:
        self._actions[digest] = action

    def action(self, step: Step) -> Action:
        """The action in force, read back from its body and checked against its digest."""
        known = self._actions.get(step.action)
        if known is not None:
            return known
        action = self.planned(step)
        if step.corrected_seq != -1:
            action = self._corrected(step, action)
        if action.digest != step.action:
            raise Tampered(
                "run.action", f"the action of {self.turn.run.id} was changed", advice="run `outrider audit verify`"
            )
        self.remember(action, step.action)
        return action

    def planned(self, step: Step) -> Action:
        """The planner's action, whatever a person made of it."""
        body = self.turn.body(step.plan_seq)
        if body is None or not isinstance(body.get("action"), dict):
            raise _erased(f"the plan of {self.turn.run.id}")
        return msgspec.convert(body["action"], Action)

    def _corrected(self, step: Step, action: Action) -> Action:
        body = self.turn.body(step.corrected_seq)
        if body is None:
            raise _erased(f"the correction of {self.turn.run.id}")
        answer = parse(body["envelope"]["payload"], Answer, code="run.answer", what="the recorded answer")
        return Action(tool=action.tool, arguments=answer.arguments or {}, subject=action.subject)

    def receipt(self, step: Step) -> dict[str, Any]:
        """What the tool said it did; nothing where that was erased."""
        body = self.turn.body(step.result_seq) if step.result_seq != -1 else None
        found = (body or {}).get("receipt")
        return found if isinstance(found, dict) else {}

    # --- values -------------------------------------------------------------------------------------------------------

    def holds(self, source: str, name: str) -> bool:
        """A condition. Raises ``BadInput('expression.*')``, as do the others here."""
        expression = _expression(source, name.partition("#")[0])
        return expression.holds(self.names(name, expression.names))

    def value(self, source: str, name: str) -> Value:
        expression = _expression(source, name.partition("#")[0])
        return expression.evaluate(self.names(name, expression.names))

    def fill(self, template: Any, name: str, **more: Any) -> Any:
        """A template's value for one step of the run."""
        parsed = _template(msgspec.json.encode(template), name.partition("#")[0])
        return parsed.fill(self.names(name, parsed.names) | more)

    def names(self, name: str, wanted: frozenset[str]) -> dict[str, Any]:
        """The names an expression of this step reads. Inputs are all there, null where they were not given."""
        run, given = self.turn.run, self.event.get("inputs", {})
        found: dict[str, Any] = {}
        if "inputs" in wanted:
            public = (key for key in self.playbook.inputs if key not in self.playbook.private)
            found["inputs"] = dict.fromkeys(public) | given
        if "run" in wanted:
            found["run"] = {"id": run.id, "playbook": run.opened.playbook, "subject": self.subject}
        if "today" in wanted:
            found["today"] = self._local(run.at).date().isoformat()
        if "steps" in wanted:
            found["steps"] = self._results(name)
        found |= self._round(name) if wanted & {"item", "index"} else {}
        return found

    def _results(self, name: str) -> dict[str, Any]:
        """What earlier steps came to, by id: those outside any round, and those of the round this step is in."""
        suffixes = _suffixes(name)
        return {
            step.id.partition("#")[0]: self._result(step)
            for step in self.turn.run.steps.values()
            if not step.id.startswith(UNDO) and step.id.partition("#")[2] in suffixes
        }

    def _result(self, step: Step) -> dict[str, Any]:
        end = step.end
        found: dict[str, Any] = {"outcome": end[0] if end else "", "result": self.receipt(step), "fields": {}}
        if step.plan_seq != -1:
            body = self.turn.body(step.plan_seq) or {}
            found["fields"] = body.get("fields") or {}
            found["label"] = step.plan.label if step.plan else ""
        if step.ended_seq != -1:
            found["event"] = (self.turn.body(step.ended_seq) or {}).get("payload") or {}
        return found

    def _round(self, name: str) -> dict[str, Any]:
        """``item`` and ``index`` of the innermost round a step is in."""
        rounds = name.removeprefix(UNDO).partition("#")[2].split(".")
        if rounds == [""]:
            return {}
        outer = ".".join(rounds[:-1])
        for parent in self.playbook.all_steps:
            if parent.for_each is None or self.playbook.step(name.removeprefix(UNDO)) not in _within(parent):
                continue
            entered = self.turn.run.steps.get(parent.id + (f"#{outer}" if outer else ""))
            body = self.turn.body(entered.entered_seq) if entered is not None else None
            if body is not None and len(body.get("items", [])) > int(rounds[-1]):
                inner = int(rounds[-1])
                return {"item": body["items"][inner], "index": inner}
        raise _erased(f"the items of {self.turn.run.id}")

    def step(self, name: str) -> PlaybookStep:
        return self.playbook.step(name.removeprefix(UNDO))


@lru_cache(maxsize=1024)
def _expression(source: str, where: str) -> Expression:
    """Parsed once: a batch of a thousand runs asks the same of each."""
    return Expression.parse(source, where=where, names=NAMES)


@lru_cache(maxsize=1024)
def _template(text: bytes, where: str) -> Template:
    return Template.parse(json.loads(text), where=where, names=NAMES)


def _within(step: PlaybookStep) -> list[PlaybookStep]:
    """The steps of a ``for_each`` that are in no deeper one."""
    found: list[PlaybookStep] = []
    left = list(step.inner)
    while left:
        one = left.pop()
        found.append(one)
        if one.for_each is None:
            left.extend(one.inner)
    return found


def _suffixes(name: str) -> set[str]:
    """The rounds a step is in, outermost first: ``mail#3.1`` is in ``''``, ``3`` and ``3.1``."""
    rounds = name.removeprefix(UNDO).partition("#")[2].split(".")
    return {""} | {".".join(rounds[: n + 1]) for n in range(len(rounds)) if rounds != [""]}


def _erased(what: str) -> BadInput:
    return BadInput("run.erased", f"{what} was erased", advice="cancel the run")
