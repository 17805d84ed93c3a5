"""Playbooks: YAML to a checked structure. Errors name file, line and field. Reference: ``docs/reference/playbook.md``.

A playbook says what starts a run, what it is given, how it is planned, which tools it may use, and who answers for it.
Unknown fields are refused: a misspelt ``extra_colums`` must not silently mean the default.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
import yaml

from shared import limits
from shared.codec import digest
from shared.errors import BadInput

# \Z and not $, which would let a newline end a name.
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}\Z")]
Permille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
PromptRef = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,63}@[1-9][0-9]{0,5}\Z")]
ToolName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]*\.[a-z][a-z0-9-]*\Z")]
Duration = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,4}[smhd]\Z")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every part: unknown fields are errors."""


class Trigger(_Part, frozen=True):
    """A watched folder below the agent's home, and what files in it are."""

    folder: Name
    format: Literal["csv"] = "csv"


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


class PlaybookStep(_Part, frozen=True):
    """A step: which planner proposes an action, with which prompt, and the tools it may choose from."""

    id: Name
    planner: Literal["triage"]
    tools: Annotated[list[ToolName], msgspec.Meta(min_length=1)]
    prompt: PromptRef | None = None
    confidence: Confidence = Confidence()


class Approvals(_Part, frozen=True):
    """Who may answer, and how long an unanswered question lives."""

    roles: Annotated[list[Name], msgspec.Meta(min_length=1)]
    expires: Duration = "14d"


class Rule(_Part, frozen=True):
    """A triage rule: ``when`` over the inputs, ``then`` a lane or a person. Its grammar belongs to the planner."""

    id: Name
    when: dict[str, Any]
    then: dict[str, Any]


class Playbook(_Part, frozen=True):
    """A validated playbook. ``fields`` are what a planner reads out of the text, in its own grammar. ``digest``
    identifies exactly what it says, whatever its YAML looked like.
    """

    playbook: Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    owner: str
    trigger: Trigger
    inputs: dict[str, Input]
    business_key: Annotated[list[str], msgspec.Meta(min_length=1)]
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

    @property
    def digest(self) -> str:
        return digest(self)

    @property
    def step_ids(self) -> list[str]:
        return [step.id for step in self.steps]

    @property
    def private(self) -> frozenset[str]:
        return frozenset(name for name, entry in self.inputs.items() if entry.private)

    def step(self, step_id: str) -> PlaybookStep:
        for step in self.steps:
            if step.id == step_id:
                return step
        raise BadInput("playbook.step", f"no step {step_id!r}", advice="the run was opened under another version")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> int:
    """``14d`` and the like, in seconds."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


def load(text: str, where: str) -> Playbook:
    """Parse and check a playbook. Raises ``BadInput('playbook.yaml' | 'playbook.field')`` with file, line and field."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        plain = yaml.load(text, Loader=_Strict)  # noqa: S506 - _Strict derives from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or str(error)
        raise BadInput("playbook.yaml", said, advice="correct the YAML", where=f"{where}{line}") from error
    except RecursionError as error:
        raise BadInput("playbook.yaml", "nested too deeply", advice="flatten it", where=where) from error
    try:
        playbook = msgspec.convert(plain, Playbook)
    except msgspec.ValidationError as error:
        said, path = _split_path(str(error))
        raise _bad(tree, where, _named(plain, path), said) from error
    _check(playbook, tree, where)
    return playbook


_SCALAR = re.compile(r"tag:yaml.org,2002:(str|int|bool|null)")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


class _Strict(yaml.SafeLoader):
    """Text, whole numbers, true, false and null in lists and mappings, and nothing else that YAML can mean.

    Refused: duplicate keys, which YAML readers resolve in silence; aliases, which can explode; ``yes`` and ``on`` as
    truth, ``1:30`` and ``010`` as numbers, dates and tags, which mean more than a clerk wrote; fractions and text that
    have no canonical bytes.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it bare
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        said = _unplain(node)
        if said:
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} is not text", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _unplain(node: Any) -> str:
    """Why a YAML node is refused, or nothing."""
    if not isinstance(node, yaml.ScalarNode):
        plain = node.tag in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
        return "" if plain else f"{node.tag} is not allowed: use plain lists and mappings"
    kind = _SCALAR.fullmatch(node.tag)
    value = node.value
    if kind is None:
        return f"{value!r} is neither text, a whole number, true nor false: quote it if it is text"
    if kind[1] == "str" and any("\ud800" <= c <= "\udfff" for c in value):
        return "the text holds half a character"
    if kind[1] == "int" and not _WHOLE.fullmatch(value):
        return f"{value[:40]!r} is not a plain whole number of at most 18 digits: quote it if it is text"
    if kind[1] == "bool" and value not in ("true", "false"):
        return f"{value!r} would mean true or false here: write that, or quote it if it is text"
    return ""


def _named(plain: Any, path: list[str]) -> list[str]:
    """msgspec says ``[...]`` for 'some key of this mapping': try the keys one by one to find which."""
    if "..." not in path:
        return path
    at = path.index("...")
    for key in _child(plain, path[:at]):
        alone = _with_only(plain, path[:at], key)
        try:
            msgspec.convert(alone, Playbook)
        except msgspec.ValidationError as error:
            if _split_path(str(error))[1] == path:
                return [*path[:at], key, *path[at + 1 :]]
    return path[:at]


def _child(plain: Any, path: list[str]) -> Any:
    for part in path:
        plain = plain[int(part)] if isinstance(plain, list) else plain[part]
    return plain


def _with_only(plain: Any, path: list[str], key: str) -> Any:
    """A copy of ``plain`` in which the mapping at ``path`` has only ``key``."""
    if not path:
        return {key: plain[key]}
    if isinstance(plain, list):
        at = int(path[0])
        return [*plain[:at], _with_only(plain[at], path[1:], key), *plain[at + 1 :]]
    return plain | {path[0]: _with_only(plain[path[0]], path[1:], key)}


def _split_path(message: str) -> tuple[str, list[str]]:
    """msgspec ends its message in `` - at `$.steps[0].tools` ``; take the path out of it."""
    said, _, place = message.partition(" - at `")
    if place.startswith("key` in `"):
        place = place.removeprefix("key` in `").rstrip("`") + "[...]"
    path = re.findall(r"[^.\[\]`$]+|\[\d+\]|\[\.\.\.\]", place)
    unknown = re.search(r"unknown field `([^`]+)`", said)
    missing = re.search(r"missing required field `([^`]+)`", said)
    parts = [part.strip("[]") for part in path]
    if unknown:
        parts.append(unknown.group(1))
    elif missing:
        parts.append(missing.group(1))
    return said, parts


def _line(node: Any, path: list[str]) -> int:
    """The line of the deepest part of ``path`` that stands in the file, from 1."""
    line = 1 if node is None else int(node.start_mark.line) + 1
    for part in path:
        if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = int(node.start_mark.line) + 1
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = int(key.start_mark.line) + 1, value
                    break
            else:
                break
        else:
            break
    return line


def _bad(tree: Any, where: str, path: list[str], said: str) -> BadInput:
    field = ".".join(path) or "the file"
    return BadInput(
        "playbook.field", f"{field}: {said}", advice="see the playbook reference", where=f"{where}:{_line(tree, path)}"
    )


def _check(playbook: Playbook, tree: Any, where: str) -> None:
    """What types alone cannot say: names that must exist, and ids that must be single."""

    def need(holds: bool, path: list[str], said: str) -> None:
        if not holds:
            raise _bad(tree, where, path, said)

    lanes = [lane.id for lane in playbook.lanes]
    for ids, at in (
        (lanes, "lanes"),
        ([rule.id for rule in playbook.rules], "rules"),
        (playbook.step_ids, "steps"),
    ):
        for number, name in enumerate(ids):
            need(name not in ids[:number], [at, str(number), "id"], f"{name!r} stands twice")
    for number, key in enumerate(playbook.business_key):
        need(key in playbook.inputs, ["business_key", str(number)], f"there is no input {key!r}")
        need(playbook.inputs[key].required, ["inputs", key], "a business key must be required")
        need(not playbook.inputs[key].private, ["inputs", key], "a business key cannot be private: tools are given it")
    if playbook.value is not None:
        known = playbook.inputs.get(playbook.value)
        need(known is not None and known.type == "cents", ["value"], "it must name an input of type cents")
    if playbook.fallback is not None:
        need(playbook.fallback in lanes, ["fallback"], f"there is no lane {playbook.fallback!r}")
    for number, rule in enumerate(playbook.rules):
        lane = rule.then.get("lane")
        need(lane is None or lane in lanes, ["rules", str(number), "then", "lane"], f"there is no lane {lane!r}")
    taken: dict[str, str] = {}
    for name, entry in playbook.inputs.items():
        for column in [name, *entry.columns]:
            other = taken.setdefault(column.casefold(), name)
            need(other == name, ["inputs", name, "columns"], f"column {column!r} already feeds {other!r}")
    if any(step.planner == "triage" for step in playbook.steps):
        need(bool(lanes), ["lanes"], "a triage step needs lanes")
        need(playbook.fallback is not None, ["fallback"], "a triage step needs a fallback lane")
