"""The parts of a playbook, as types say them. Unknown fields are refused."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec

from shared import limits
from shared.codec import digest
from shared.errors import BadInput

# \Z and not $, which would let a newline end a name.
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}\Z")]
Permille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
PromptRef = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,63}@[1-9][0-9]{0,5}\Z")]
ToolName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,39}\.[A-Za-z][A-Za-z0-9_-]{0,79}\Z")]
Duration = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,4}[smhd]\Z")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every part: unknown fields are errors."""


class Trigger(_Part, frozen=True):
    """What opens a run, exactly one: files in a watched ``folder`` below the agent's home, an ``event`` by name, a
    person's start (``manual``), or an ``assistant`` that asks for one action."""

    folder: Name | None = None
    format: Literal["csv"] = "csv"
    event: Name | None = None
    manual: bool = False
    assistant: bool = False


class Input(_Part, frozen=True):
    """One named input. ``columns`` are the headings it is known by; ``private`` keeps it on the device."""

    columns: list[str] = msgspec.field(default_factory=list)
    type: Literal["text", "cents", "date"] = "text"
    required: bool = False
    private: bool = False
    about: str = ""


class MemoryContext(_Part, frozen=True):
    """Which memory is put before the planner."""

    kinds: list[Name]
    scope: str = "person"
    nearest: Annotated[int, msgspec.Meta(ge=1, le=50)] = 12


class Context(_Part, frozen=True):
    memory: MemoryContext


class Lane(_Part, frozen=True):
    """One outcome the planner may recommend."""

    id: Name
    label: str
    about: str = ""


class Confidence(_Part, frozen=True):
    """Permille. Below ``floor`` the planner abstains. What is sure enough to be done alone is for the policy to say."""

    floor: Permille = 300


class ToolUse(_Part, frozen=True):
    """One call of a tool. ``with`` gives its arguments; texts in it may hold ``${...}``."""

    tool: ToolName
    with_: dict[str, Any] = msgspec.field(name="with", default_factory=dict)


class Wait(_Part, frozen=True):
    """What a step waits for, exactly one: ``for`` a while, ``until`` a date or an ISO time (an expression gives it), or
    an ``event`` by name, whose key an expression gives."""

    for_: Duration | None = msgspec.field(name="for", default=None)
    until: str | None = None
    event: Name | None = None
    key: str | None = None


class PlaybookStep(_Part, frozen=True):
    """A step, exactly one of: a ``planner`` that proposes an action with the ``tools`` it may choose from; a ``tool``
    called ``with`` arguments; a ``confirm``, a question to a person; a ``wait``; branches ``together``, each a list of
    steps; ``for_each`` item of a list its ``steps``; or a child ``run`` of another playbook with its ``inputs``.

    ``when`` is a condition; ``timeout`` bounds the step from its begin; ``undo`` replaces how the tool takes its effect
    back, or with ``none`` leaves it; ``value`` is an expression for the cents at stake."""

    id: Name
    when: str | None = None
    timeout: Duration | None = None
    on_failure: Literal["stop", "continue"] = "stop"
    planner: Literal["triage", "assistant"] | None = None
    tools: list[ToolName] = msgspec.field(default_factory=list)
    prompt: PromptRef | None = None
    confidence: Confidence = Confidence()
    tool: ToolName | None = None
    with_: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    label: str = ""
    value: str | None = None
    undo: Literal["none"] | ToolUse | None = None
    confirm: str | None = None
    wait: Wait | None = None
    together: list[list[PlaybookStep]] | None = None
    for_each: str | None = None
    at_once: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4
    steps: list[PlaybookStep] = msgspec.field(default_factory=list)
    run: Name | None = None
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Which of ``STEP_KINDS`` it is."""
        return next((kind for kind in STEP_KINDS if getattr(self, kind) is not None), "")

    @property
    def inner(self) -> list[PlaybookStep]:
        """The steps within it."""
        return [*self.steps, *(step for branch in self.together or () for step in branch)]


STEP_KINDS = ("planner", "tool", "confirm", "wait", "together", "for_each", "run")


class Escalation(_Part, frozen=True):
    """Who may answer too, once a question has waited this long."""

    after: Duration
    roles: Annotated[list[Name], msgspec.Meta(min_length=1)]


class Approvals(_Part, frozen=True):
    """Who may answer, how long an unanswered question lives, and who is asked besides when nobody does."""

    roles: Annotated[list[Name], msgspec.Meta(min_length=1)]
    expires: Duration = "14d"
    escalate: list[Escalation] = msgspec.field(default_factory=list)


class Budget(_Part, frozen=True):
    """The most that may be spent. Beyond its actions or cents a person is asked; beyond its tokens or time a step
    fails."""

    actions: Annotated[int, msgspec.Meta(ge=0)] | None = None
    cents: Annotated[int, msgspec.Meta(ge=0)] | None = None
    tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    time: Duration | None = None


class Budgets(_Part, frozen=True):
    """Of one run, and of all runs of this playbook on one device within a day (UTC)."""

    run: Budget = Budget()
    day: Budget = Budget()


class Rule(_Part, frozen=True):
    """A triage rule: ``when`` over the inputs, ``then`` a lane or a person. Its grammar belongs to the planner."""

    id: Name
    when: dict[str, Any]
    then: dict[str, Any]


class Playbook(_Part, frozen=True, dict=True):
    """A validated playbook. ``fields`` are what a planner reads out of the text, in its own grammar. ``digest``
    identifies exactly what it says, whatever its YAML looked like.
    """

    playbook: Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    owner: str
    trigger: Trigger
    inputs: dict[str, Input]
    business_key: list[str]
    steps: Annotated[list[PlaybookStep], msgspec.Meta(min_length=1, max_length=limits.PLAYBOOK_STEPS)]
    approvals: Approvals
    about: str = ""
    urgency: Literal["interactive", "background", "batch"] = "background"
    extra_columns: Literal["refuse", "drop"] = "refuse"
    context: Context | None = None
    lanes: list[Lane] = msgspec.field(default_factory=list)
    fallback: Name | None = None
    rules: list[Rule] = msgspec.field(default_factory=list)
    fields: dict[Name, dict[str, Any]] = msgspec.field(default_factory=dict)
    value: str | None = None
    on_failure: Literal["undo", "stop"] = "undo"
    budgets: Budgets = Budgets()

    @cached_property
    def digest(self) -> str:
        return digest(_as_hashed(self))

    @cached_property
    def all_steps(self) -> list[PlaybookStep]:
        """Every step, those within others after them."""
        found: list[PlaybookStep] = []
        left = [*reversed(self.steps)]
        while left:
            step = left.pop()
            found.append(step)
            left.extend(reversed(step.inner))
        return found

    @property
    def private(self) -> frozenset[str]:
        return frozenset(name for name, entry in self.inputs.items() if entry.private)

    def step(self, step_id: str) -> PlaybookStep:
        """The step of this name, or of the name a run gave one of its rounds (``mail#3``)."""
        base = step_id.partition("#")[0]
        for step in self.all_steps:
            if step.id == base:
                return step
        raise BadInput("playbook.step", f"no step {step_id!r}", advice="the run was opened under another version")


# Runs are pinned to a playbook by its digest, and outlive many versions of this software. So what is hashed never
# changes for a playbook that stays the same: these fields, which there were at first, are always in it, a later one
# only where it says something.
_FIRST: dict[type[_Part], frozenset[str]] = {
    Trigger: frozenset(("folder", "format")),
    Input: frozenset(("columns", "type", "required", "private", "about")),
    MemoryContext: frozenset(("kinds", "scope", "nearest")),
    Context: frozenset(("memory",)),
    Lane: frozenset(("id", "label", "about")),
    Confidence: frozenset(("floor",)),
    PlaybookStep: frozenset(("id", "planner", "tools", "prompt", "confidence")),
    Approvals: frozenset(("roles", "expires")),
    Rule: frozenset(("id", "when", "then")),
    Playbook: frozenset(
        (
            *("playbook", "version", "owner", "trigger", "inputs", "business_key", "steps", "approvals", "about"),
            *("urgency", "extra_columns", "context", "lanes", "fallback", "rules", "fields", "value"),
        )
    ),
}


def _as_hashed(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_hashed(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_hashed(item) for key, item in value.items()}
    if not isinstance(value, _Part):
        return value
    first = _FIRST.get(type(value), frozenset())
    return {
        field.encode_name: _as_hashed(found)
        for field in msgspec.structs.fields(value)
        if (found := getattr(value, field.name)) != _default(field) or field.name in first
    }


def _default(field: msgspec.structs.FieldInfo) -> Any:
    made = field.default_factory is not msgspec.NODEFAULT
    return field.default_factory() if made else field.default


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> int:
    """``14d`` and the like, in seconds."""
    return int(duration[:-1]) * _UNITS[duration[-1]]
