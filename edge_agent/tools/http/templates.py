"""Values put into the parts of a request: ``{name}`` in a path, a query, a body or an undo's arguments.

A template never decides where a request goes: a path's values are percent-encoded whole, and one that could still climb
out of its place (empty, or with ``.`` or ``..`` between slashes) is refused. ``{{`` and ``}}`` stand for the braces
themselves. A query parameter, a member of a body or an undo's argument that is nothing but ``{name}`` takes the value
as it is and is left out when an optional argument was not given; ``{name:number}`` writes a decimal as a JSON number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from shared.errors import BadInput

_PART = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_-]*(?:\.[a-z][a-z0-9_-]*)?)(:number)?\}|[{}]")


class Missing:
    """No value: an optional argument that was not given, or a part of an answer that is not there."""


MISSING: Final = Missing()


@dataclass(frozen=True)
class Reference:
    name: str
    number: bool = False


class Template:
    """One text with references in it. Raises ``BadInput('tools.setting')`` where the braces do not fit."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.parts: list[str | Reference] = []
        end = 0
        for found in _PART.finditer(text):
            self._add(text[end : found.start()])
            end = found.end()
            if found[1]:
                self.parts.append(Reference(found[1], bool(found[2])))
            elif len(found[0]) == 2:
                self._add(found[0][0])
            else:
                raise _wrong(where, f"a brace stands alone in {text!r}")
        self._add(text[end:])
        self.names = [part.name for part in self.parts if isinstance(part, Reference)]
        if len(self.parts) != 1 and any(isinstance(part, Reference) and part.number for part in self.parts):
            raise _wrong(where, f"{text!r} mixes a number with text")

    def _add(self, text: str) -> None:
        if text:
            self.parts.append(text)

    @property
    def alone(self) -> Reference | None:
        """The reference, where there is nothing else."""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], Reference) else None

    def value(self, values: Mapping[str, Any]) -> Any:
        """The value itself where the reference stands alone, else the text; ``MISSING`` where a value is."""
        if self.alone is None:
            return self.text(values)
        found = values.get(self.alone.name)
        if found is None:
            return MISSING
        return msgspec.Raw(str(found).encode()) if self.alone.number else found

    def text(self, values: Mapping[str, Any]) -> str | Missing:
        made = [part if isinstance(part, str) else written(values.get(part.name)) for part in self.parts]
        return MISSING if any(isinstance(part, Missing) for part in made) else "".join(map(str, made))

    def path(self, values: Mapping[str, Any]) -> str:
        """The text as part of a path: what stands in the template as it is, values encoded. Raises
        ``BadInput('tool.arguments')`` for a value that would change which resource is meant."""
        return "".join(
            part if isinstance(part, str) else self._segment(part.name, written(values.get(part.name)))
            for part in self.parts
        )

    def _segment(self, name: str, text: str | Missing) -> str:
        pieces = [] if isinstance(text, Missing) else re.split(r"[/\\]", text)
        if not isinstance(text, str) or not text or {".", ".."} & set(pieces) or not text.isprintable():
            raise BadInput(
                "tool.arguments",
                f"{name} cannot stand in a path: {str(text)[:80]!r}",
                advice="give the name or number of one thing",
                where=self.where,
            )
        return quote(text, safe="")


Node = Template | dict[str, Any] | list[Any] | str | int | float | bool | None


def compiled(value: Any, where: str) -> Node:
    """A body as TOML gives it, with its texts as templates. Raises ``BadInput('tools.setting')`` for a date."""
    if isinstance(value, str):
        return Template(value, where)
    if isinstance(value, dict):
        return {name: compiled(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [compiled(item, where) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    raise _wrong(where, f"a {type(value).__name__} cannot stand here: write it as text")


def filled(node: Node, values: Mapping[str, Any]) -> Any:
    """The body, JSON-plain; members whose value is missing are left out."""
    if isinstance(node, Template):
        return node.value(values)
    if isinstance(node, dict):
        made = {name: filled(item, values) for name, item in node.items()}
        return {name: item for name, item in made.items() if item is not MISSING}
    if isinstance(node, list):
        return [item for item in (filled(part, values) for part in node) if item is not MISSING]
    return node


def templates_in(node: Node) -> Iterator[Template]:
    if isinstance(node, Template):
        yield node
    elif isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from templates_in(item)


def pointed(value: Any, pointer: str) -> Any:
    """What a JSON Pointer (RFC 6901) leads to, or ``MISSING``."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


def written(value: Any) -> str | Missing:
    """A scalar as text; anything else has no place within one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else MISSING


def _wrong(where: str, said: str) -> BadInput:
    return BadInput("tools.setting", said, advice="see docs/reference/tools.md", where=where)
