"""What a person may put in an action's place: other values of its own arguments, of the same type, in the same case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from server.approvals.views import APPROVE, CONFIRM, CORRECT
from shared import limits
from shared.actions import Action, Arguments, Value
from shared.errors import BadInput


def corrected(
    planned: Mapping[str, Any], answer: str, corrections: Mapping[str, str], lanes: Sequence[str]
) -> Action | None:
    """The action to be done instead of ``planned``; ``None`` unless the answer corrects.

    Raises ``BadInput('approval.correction')``.
    """
    if not planned:
        if answer == CORRECT:
            raise wrong("the action's details were erased here", "approve or deny it")
        return None
    action = msgspec.convert(planned, Action)
    if answer == CORRECT and action.tool == CONFIRM:
        raise wrong("a question is not corrected", "say yes or no to it")
    arguments = merge(action, corrections, lanes)
    changed = arguments != action.arguments
    if answer == CORRECT and not changed:
        raise wrong("nothing was changed", "change a value, or approve the action as it is")
    if answer == APPROVE and changed:
        raise wrong("values were changed, but the answer approves the old ones", "answer with correct")
    return Action(action.tool, arguments, action.subject) if answer == CORRECT else None


def merge(action: Action, corrections: Mapping[str, str], lanes: Sequence[str]) -> Arguments:
    """The action's arguments with a person's values in place, types kept."""
    arguments = dict(action.arguments)
    for name, text in corrections.items():
        if name not in arguments:
            raise wrong(f"{action.tool} was not given {name[:80]!r}", f"correct one of {', '.join(arguments)}")
        value = typed(name, arguments[name], text)
        if value == arguments[name]:
            continue
        if arguments[name] == action.subject:
            raise wrong(f"{name} says which case this is", "deny this one, and open the right case")
        if name == "lane" and value not in lanes:
            raise wrong(f"{text[:80]!r} is not a lane", f"use one of {', '.join(lanes) or 'none known here'}")
        arguments[name] = value
    return arguments


def typed(name: str, old: Value, text: str) -> Value:
    """``text`` as a value of the same type as ``old``."""
    if isinstance(old, bool):
        if text.lower() not in ("true", "false"):
            raise wrong(f"{name} is yes or no", "use true or false")
        return text.lower() == "true"
    if isinstance(old, int):
        try:
            return int(text)
        except ValueError as error:
            raise wrong(f"{name} is a whole number", "use digits only") from error
    if isinstance(old, list | dict):
        raise wrong(f"{name} is made of several values", "deny it and say what should be done instead")
    if len(text) > limits.FIELD_CHARS:
        raise wrong(f"{name} has {len(text)} characters", f"use at most {limits.FIELD_CHARS}")
    if old is None and not text:
        return None
    return text


def wrong(said: str, advice: str) -> BadInput:
    return BadInput("approval.correction", said, advice=advice)
