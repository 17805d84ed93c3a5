"""Tools: what an agent can do to the world. Each adapter says what kind of effect it has and how it can be asked.

An adapter never decides whether to act: it is given an action the guard allowed, and the idempotency key under which
the intent was committed. What it declares is a promise that the acting room relies on, and ``tools.conformance`` holds
every adapter to it:

- ``effect`` is what kind of change it makes, ``risk`` how bad a wrong one is; policy reads both;
- ``idempotent``: the same key sent twice acts once. ``askable``: it can say what became of a key. One that is neither
  is never sent to again after a doubt;
- ``backoff``, ``rate`` and ``breaker`` bound how often it is called, ``timeout_s`` for how long;
- ``observe`` reads the outcome back, ``undo`` says how it is taken back.

Errors say what is known. ``BadInput``, ``Refused`` and ``NotSent`` mean that nothing happened; ``NotSent`` may be tried
again. Any other ``Unavailable`` means that nobody knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NoReturn

from shared.actions import Action
from shared.errors import BadInput, Unavailable

Effect = Literal["read", "reversible", "compensatable", "irreversible"]
Risk = Literal["low", "medium", "high"]
Kind = Literal["text", "integer", "boolean", "decimal", "list", "object"]

_TYPES: dict[str, type] = {
    "text": str,
    "integer": int,
    "boolean": bool,
    "decimal": str,  # a number as text: no floats stand in signed bytes
    "list": list,
    "object": dict,
}


class NotSent(Unavailable):
    """Out of reach, and surely nothing happened: the connection was refused, or the other side said 'later'."""


@dataclass(frozen=True)
class Argument:
    """One argument of a tool."""

    kind: Kind = "text"
    required: bool = True
    about: str = ""


@dataclass(frozen=True)
class Receipt:
    """What a tool says it did. ``details`` is JSON-plain without floats: it goes into the log, so no secrets, and no
    more text than a person needs."""

    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backoff:
    """How often a call is tried, and how long it waits in between: doubling from ``first_s`` to ``most_s``, with
    jitter."""

    attempts: int = 3
    first_s: float = 0.2
    most_s: float = 10.0


@dataclass(frozen=True)
class Rate:
    """At most ``calls`` in any ``per_s`` seconds."""

    calls: int
    per_s: float


@dataclass(frozen=True)
class Breaker:
    """After ``failures`` calls in a row that could not be completed, none is made for ``rest_s`` seconds."""

    failures: int = 5
    rest_s: float = 30.0


@dataclass(frozen=True)
class Manual:
    """What a person must do to take an effect back, because no tool can."""

    steps: list[str]


class Tool(ABC):
    """One thing an agent can do. ``about`` is a line for people and for assistants that choose among tools."""

    name: str
    about: str
    effect: Effect
    risk: Risk = "medium"
    idempotent: bool
    askable: bool
    arguments: dict[str, Argument]
    backoff: Backoff = Backoff()
    rate: Rate | None = None
    breaker: Breaker = Breaker()
    timeout_s: float = 60.0
    reads_back: ClassVar[bool] = True  # ``observe`` looks at the world, and not only at what was sent

    @abstractmethod
    async def send(self, action: Action, key: str) -> Receipt:
        """Do it. Raises ``BadInput`` or ``Refused`` when it was not and will not be done, ``NotSent`` when it was not
        done but may be later, ``Unavailable`` when nobody knows whether it happened."""

    async def ask(self, key: str, action: Action) -> Receipt | None:
        """What became of ``key``; ``None`` when the tool never heard of it. Only where ``askable``."""
        raise NotImplementedError(self.name)

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Read the outcome back: whether it is what the action said, and what was found (JSON-plain, no floats).
        A tool that cannot look says so with ``reads_back = False`` and answers ``(True, {})``."""
        return True, {}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        """How an effect is taken back: another action (which is judged, approved and logged like any), steps for a
        person, or ``None`` where there is nothing to take back (``read``). An irreversible tool answers ``Manual``."""
        if self.effect == "read":
            return None
        return Manual([f"Take back by hand what {self.name} did: {self.about}"])

    async def close(self) -> None:
        """Release connections and processes; most tools have none."""
        return


def check_arguments(tool: Tool, action: Action) -> None:
    """Raise ``BadInput('tool.arguments')`` unless the action's arguments are exactly what the tool declares."""
    for name in action.arguments:
        if name not in tool.arguments:
            _bad(tool, name, "is not an argument")
    for name, argument in tool.arguments.items():
        value = action.arguments.get(name)
        if value is None:
            if argument.required:
                _bad(tool, name, "is missing")
        elif not isinstance(value, _TYPES[argument.kind]) or (argument.kind == "integer" and isinstance(value, bool)):
            _bad(tool, name, f"is not {argument.kind}")
        elif argument.kind == "decimal" and not _is_decimal(str(value)):
            _bad(tool, name, "is not a plain decimal number such as 12.50")


def _is_decimal(text: str) -> bool:
    whole, _, part = text.removeprefix("-").partition(".")
    return whole.isascii() and whole.isdigit() and (part.isascii() and part.isdigit() if "." in text else True)


def _bad(tool: Tool, name: str, said: str) -> NoReturn:
    raise BadInput("tool.arguments", f"{name} {said}", advice="see the tool's arguments", where=tool.name)
