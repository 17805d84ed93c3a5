"""What types alone cannot say of a playbook: names that must exist, ids that must be single, expressions that parse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from shared import limits
from shared.errors import BadInput
from shared.playbook.parts import STEP_KINDS, Playbook, PlaybookStep, ToolUse, seconds

if TYPE_CHECKING:  # the expression language is loaded only where there are expressions
    from shared.expression import Expression, Template

Path = list[str]
Bad = Callable[[Path, str], BadInput]
Place = Callable[[Path], str]
Need = Callable[[bool, Path, str], None]

NAMES = frozenset(("inputs", "steps", "run", "today"))  # what every expression may read
_FIELDS = {  # what there is of a run, and of a step
    "run": frozenset(("id", "playbook", "subject")),
    "steps": frozenset(("outcome", "result", "fields", "label", "event")),
}
_GIVES = {
    "planner": ("tools", "prompt", "confidence"),
    "tool": ("with", "label"),
    "for_each": ("steps", "at_once"),
    "run": ("inputs",),
}


class _Spot(msgspec.Struct, frozen=True):
    """A step, its place in the file, the names its expressions may read, and the ``for_each`` steps it stands in."""

    step: PlaybookStep
    path: Path
    names: frozenset[str] = NAMES
    rounds: tuple[str, ...] = ()
    depth: int = 1


def check(playbook: Playbook, bad: Bad, place: Place, *, new: bool) -> None:
    """Raise ``bad(path, said)`` for the first thing that does not hold. ``place(path)`` is file and line."""

    def need(holds: bool, path: Path, said: str) -> None:
        if not holds:
            raise bad(path, said)

    _check_trigger(playbook, need)
    _check_inputs(playbook, need, new)
    _check_triage(playbook, need)
    _check_times(playbook, need)
    rounds: dict[str, tuple[str, ...]] = {}
    for number, spot in enumerate(_walk(playbook.steps, ["steps"])):
        need(number < limits.PLAYBOOK_STEPS, spot.path, f"there are more than {limits.PLAYBOOK_STEPS} steps in all")
        need(spot.depth <= limits.PLAYBOOK_DEPTH, spot.path, f"steps stand more than {limits.PLAYBOOK_DEPTH} deep")
        need(spot.step.id not in rounds, [*spot.path, "id"], f"{spot.step.id!r} stands twice")
        rounds[spot.step.id] = spot.rounds
        _check_step(spot.step, spot.path, need)
    for spot in _walk(playbook.steps, ["steps"]):
        _Expressions(playbook, spot, rounds, need, place).check()


def _walk(steps: list[PlaybookStep], path: Path, outer: _Spot | None = None) -> Iterator[_Spot]:
    """Every step, each before those within it."""
    for number, step in enumerate(steps):
        spot = _Spot(step, [*path, str(number)])
        if outer is not None:
            spot = _Spot(step, spot.path, outer.names, outer.rounds, outer.depth + 1)
        yield spot
        round_ = msgspec.structs.replace(spot, names=spot.names | {"item", "index"}, rounds=(*spot.rounds, step.id))
        yield from _walk(step.steps, [*spot.path, "steps"], round_)
        for branch, inner in enumerate(step.together or ()):
            yield from _walk(inner, [*spot.path, "together", str(branch)], spot)


def _check_trigger(playbook: Playbook, need: Need) -> None:
    trigger = playbook.trigger
    kinds = [trigger.folder is not None, trigger.event is not None, trigger.manual, trigger.assistant]
    need(sum(kinds) == 1, ["trigger"], "it must be exactly one of folder, event, manual and assistant")
    if trigger.assistant:
        need(not playbook.inputs, ["inputs"], "an assistant names its action itself: there are no inputs")
        need(
            [s.planner for s in playbook.steps] == ["assistant"], ["steps"], "it has one step, with planner: assistant"
        )
    else:
        need(bool(playbook.business_key), ["business_key"], "it must name at least one input")
        assisted = any(step.planner == "assistant" for step in playbook.all_steps)
        need(not assisted, ["steps"], "planner: assistant needs trigger: {assistant: true}")


def _check_inputs(playbook: Playbook, need: Need, new: bool) -> None:
    for number, key in enumerate(playbook.business_key):
        need(key in playbook.inputs, ["business_key", str(number)], f"there is no input {key!r}")
        need(playbook.inputs[key].required, ["inputs", key], "a business key must be required")
        need(not playbook.inputs[key].private, ["inputs", key], "a business key cannot be private: tools are given it")
    if playbook.value is not None:
        known = playbook.inputs.get(playbook.value)
        need(known is not None and known.type == "cents", ["value"], "it must name an input of type cents")
        private = known is not None and known.private
        need(not (new and private), ["value"], "a private input cannot be the value: policy is shown the value")
    taken: dict[str, str] = {}
    for name, entry in playbook.inputs.items():
        for column in [name, *entry.columns]:
            other = taken.setdefault(column.casefold(), name)
            need(other == name, ["inputs", name, "columns"], f"column {column!r} already feeds {other!r}")


def _check_triage(playbook: Playbook, need: Need) -> None:
    lanes = [lane.id for lane in playbook.lanes]
    for ids, at in ((lanes, "lanes"), ([rule.id for rule in playbook.rules], "rules")):
        for number, name in enumerate(ids):
            need(name not in ids[:number], [at, str(number), "id"], f"{name!r} stands twice")
    if playbook.fallback is not None:
        need(playbook.fallback in lanes, ["fallback"], f"there is no lane {playbook.fallback!r}")
    for number, rule in enumerate(playbook.rules):
        lane = rule.then.get("lane")
        need(lane is None or lane in lanes, ["rules", str(number), "then", "lane"], f"there is no lane {lane!r}")
    if any(step.planner == "triage" for step in playbook.all_steps):
        need(bool(lanes), ["lanes"], "a triage step needs lanes")
        need(playbook.fallback is not None, ["fallback"], "a triage step needs a fallback lane")


def _check_times(playbook: Playbook, need: Need) -> None:
    """Escalations come one after another, and before the question is void."""
    before, last = 0, seconds(playbook.approvals.expires)
    for number, level in enumerate(playbook.approvals.escalate):
        path = ["approvals", "escalate", str(number), "after"]
        need(before < seconds(level.after) < last, path, "it must come after the one before, and before expires")
        before = seconds(level.after)
    need(playbook.budgets.day.time is None, ["budgets", "day", "time"], "time is a budget of one run, not of a day")


def _check_step(step: PlaybookStep, path: Path, need: Need) -> None:
    kinds = [kind for kind in STEP_KINDS if getattr(step, kind) is not None]
    need(len(kinds) == 1, path, f"step {step.id!r} must have exactly one of {', '.join(STEP_KINDS)}")
    kind = kinds[0]
    for other, fields in _GIVES.items():
        for name in fields:
            attribute = "with_" if name == "with" else name
            default = getattr(PlaybookStep(id=step.id), attribute)
            need(other == kind or getattr(step, attribute) == default, [*path, name], f"only a {other} step has it")
    if kind == "planner":
        need(bool(step.tools), [*path, "tools"], "a planner needs the tools it may choose from")
    if kind == "for_each":
        need(bool(step.steps), [*path, "steps"], "there is nothing to do for each")
    if step.together is not None:
        need(
            len(step.together) > 1 and all(step.together), [*path, "together"], "it needs two branches, each with steps"
        )
    need(step.undo is None or kind in ("tool", "planner"), [*path, "undo"], "only an action is taken back")
    need(step.value is None or kind in ("tool", "planner"), [*path, "value"], "only an action has a value at stake")
    if step.wait is not None:
        wait = step.wait
        given = [wait.for_ is not None, wait.until is not None, wait.event is not None]
        need(sum(given) == 1, [*path, "wait"], "it must be exactly one of for, until and event")
        need((wait.key is None) or wait.event is not None, [*path, "wait", "key"], "only an event has a key")


# --- expressions --------------------------------------------------------------------------------------------------


class _Expressions:
    """The expressions of one step: each must parse, so that one that cannot be evaluated is never published, and read
    only what there is."""

    def __init__(
        self, playbook: Playbook, spot: _Spot, rounds: dict[str, tuple[str, ...]], need: Need, place: Place
    ) -> None:
        self._playbook = playbook
        self._spot = spot
        self._rounds = rounds
        self._need = need
        self._place = place

    def check(self) -> None:
        step, wait = self._spot.step, self._spot.step.wait
        for at, source in (
            (["when"], step.when),
            (["value"], step.value),
            (["for_each"], step.for_each),
            (["wait", "until"], wait.until if wait else None),
            (["wait", "key"], wait.key if wait else None),
        ):
            if source is not None:
                self._reads(self._expression(source, at), at)
        undo: dict[str, Any] = step.undo.with_ if isinstance(step.undo, ToolUse) else {}
        for at, value in (
            (["with"], step.with_),
            (["inputs"], step.inputs),
            (["undo", "with"], undo),
            (["confirm"], step.confirm),
        ):
            if value:
                self._reads(self._template(value, at), at)

    def _expression(self, source: str, at: Path) -> Expression:
        from shared.expression import Expression

        try:
            return Expression.parse(source, names=self._spot.names)
        except BadInput as error:
            raise self._named(error, at) from error

    def _template(self, value: Any, at: Path) -> Template:
        from shared.expression import Template

        names = self._spot.names | {"result"} if at[0] == "undo" else self._spot.names
        try:
            return Template.parse(value, names=names)
        except BadInput as error:
            raise self._named(error, at) from error

    def _named(self, error: BadInput, at: Path) -> BadInput:
        """The error with its field and line. A template says where in it: ``lines[0].text``."""
        within = re.findall(r"[^.\[\]]+", error.where)
        path = [*self._spot.path, *at, *within]
        return BadInput(error.code, f"{'.'.join(path)}: {error.message}", advice=error.advice, where=self._place(path))

    def _reads(self, parsed: Expression | Template, at: Path) -> None:
        for read in sorted(parsed.reads):
            said = self._missing(read)
            self._need(not said, [*self._spot.path, *at], said)

    def _missing(self, read: Iterable[str]) -> str:
        """Why there is nothing to be read there; empty where there is, or where only the run can tell."""
        root, name, field, *_ = *read, "", "", ""
        if root == "inputs" and name:
            known = self._playbook.inputs.get(name)
            if known is None:
                return f"there is no input {name!r}"
            return f"the input {name!r} is private: it is given to nothing" if known.private else ""
        if root == "run" and name and name not in _FIELDS["run"]:
            return f"a run has {', '.join(sorted(_FIELDS['run']))}, and no {name!r}"
        if root != "steps" or not name:
            return ""
        rounds = self._rounds.get(name)
        if rounds is None:
            return f"there is no step {name!r}"
        if rounds != self._spot.rounds[: len(rounds)]:
            return f"the step {name!r} stands in {rounds[-1]!r}, and is known only there"
        known_fields = _FIELDS["steps"]
        return (
            f"a step has {', '.join(sorted(known_fields))}, and no {field!r}"
            if field not in ("", *known_fields)
            else ""
        )
