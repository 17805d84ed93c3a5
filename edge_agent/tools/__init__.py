"""Tools: what an agent can do to the world. Each adapter says what kind of effect it has and how it can be asked.

An adapter never decides whether to act: it is given an action the guard allowed, and the idempotency key under which
the intent was committed. ``send`` may be called again with the same key only where ``idempotent`` or ``askable`` says
so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from shared.actions import Action
from shared.errors import BadInput

Effect = Literal["read", "reversible", "compensatable", "irreversible"]


@dataclass(frozen=True)
class Argument:
    """One argument of a tool. ``kind`` is ``text``, ``integer`` or ``boolean``."""

    kind: Literal["text", "integer", "boolean"] = "text"
    required: bool = True
    about: str = ""


@dataclass(frozen=True)
class Receipt:
    """What a tool says it did. ``details`` is JSON-plain, integers only."""

    details: dict[str, Any] = field(default_factory=dict)


class Tool(Protocol):
    """An adapter. ``askable``: the tool can say what became of a key. ``idempotent``: a key sent twice acts once."""

    name: str
    effect: Effect
    idempotent: bool
    askable: bool
    arguments: dict[str, Argument]

    async def send(self, action: Action, key: str) -> Receipt:
        """Do it. Raises ``Refused`` when the tool says no, ``Unavailable`` when nobody knows whether it happened."""
        ...

    async def ask(self, key: str) -> Receipt | None:
        """What became of ``key``; ``None`` when the tool never heard of it."""
        ...

    async def observe(self, action: Action, key: str) -> tuple[bool, dict[str, Any]]:
        """Read the outcome back: whether it is what the action said, and what was found."""
        ...


def check_arguments(tool: Tool, action: Action) -> None:
    """Raise ``BadInput('tool.arguments')`` unless the action's arguments are exactly what the tool declares."""
    kinds: dict[str, type] = {"text": str, "integer": int, "boolean": bool}
    for name in action.arguments:
        if name not in tool.arguments:
            raise _bad(tool, name, "is not an argument")
    for name, argument in tool.arguments.items():
        value = action.arguments.get(name)
        if value is None:
            if argument.required:
                raise _bad(tool, name, "is missing")
        elif not isinstance(value, kinds[argument.kind]) or (argument.kind == "integer" and isinstance(value, bool)):
            raise _bad(tool, name, f"is not {argument.kind}")


def _bad(tool: Tool, name: str, said: str) -> BadInput:
    return BadInput("tool.arguments", f"{name} {said}", advice="see the tool's arguments", where=tool.name)
