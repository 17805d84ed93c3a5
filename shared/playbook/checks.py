"""What types alone cannot say of a playbook: names that must exist, ids that must be single, expressions that parse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shared.errors import BadInput
from shared.playbook.parts import STEP_KINDS, Playbook, PlaybookStep, ToolUse

Bad = Callable[[list[str], str], BadInput]
Place = Callable[[list[str]], str]
Path = list[str]

NAMES = frozenset(("inputs", "steps", "run", "today"))  # what every expression may read
_GIVES = {
    "planner": ("tools", "prompt", "confidence"),
    "tool": ("with", "label"),
    "for_each": ("steps", "at_once"),
    "run": ("inputs",),
}


def check(playbook: Playbook, bad: Bad, place: Place) -> None:
    """Raise ``bad(path, said)`` for the first thing that does not hold. ``place(path)`` is file and line."""

    def need(holds: bool, path: Path, said: str) -> None:
        if not holds:
            raise bad(path, said)

    _check_trigger(playbook, need)
    _check_inputs(playbook, need)
    _check_triage(playbook, need)
    seen: set[str] = set()
    for step, path, names in _walk(playbook.steps, ["steps"], NAMES):
        need(step.id not in seen, [*path, "id"], f"{step.id!r} stands twice")
        seen.add(step.id)
        _check_step(step, path, need)
        _check_expressions(step, path, names, place)


Need = Callable[[bool, Path, str], None]


def _walk(
    steps: list[PlaybookStep], path: Path, names: frozenset[str]
) -> Iterator[tuple[PlaybookStep, Path, frozenset[str]]]:
    """Every step with its place in the file and the names its expressions may read."""
    for number, step in enumerate(steps):
        here = [*path, str(number)]
        yield step, here, names
        yield from _walk(step.steps, [*here, "steps"], names | {"item", "index"})
        for branch, inner in enumerate(step.together or ()):
            yield from _walk(inner, [*here, "together", str(branch)], names)


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


def _check_inputs(playbook: Playbook, need: Need) -> None:
    for number, key in enumerate(playbook.business_key):
        need(key in playbook.inputs, ["business_key", str(number)], f"there is no input {key!r}")
        need(playbook.inputs[key].required, ["inputs", key], "a business key must be required")
        need(not playbook.inputs[key].private, ["inputs", key], "a business key cannot be private: tools are given it")
    if playbook.value is not None:
        known = playbook.inputs.get(playbook.value)
        need(known is not None and known.type == "cents", ["value"], "it must name an input of type cents")
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


def _check_expressions(step: PlaybookStep, path: Path, names: frozenset[str], place: Place) -> None:
    """Parse every expression, so that a playbook that cannot be evaluated is never published."""
    wait = step.wait
    for at, source in (
        (["when"], step.when),
        (["value"], step.value),
        (["for_each"], step.for_each),
        (["wait", "until"], wait.until if wait else None),
        (["wait", "key"], wait.key if wait else None),
    ):
        if source is not None:
            from shared.expression import Expression

            Expression.parse(source, where=place([*path, *at]), names=names)
    undo: dict[str, Any] = step.undo.with_ if isinstance(step.undo, ToolUse) else {}
    for at, value in (
        (["with"], step.with_),
        (["inputs"], step.inputs),
        (["undo", "with"], undo),
        (["confirm"], step.confirm),
    ):
        if value:
            from shared.expression import Template

            known = names | {"result"} if at[0] == "undo" else names
            Template.parse(value, where=place([*path, *at]), names=known)
