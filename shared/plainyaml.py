"""YAML as people write settings in it, read strictly: every refusal names file, line and field.

Playbooks and memory rules are both read so. What a refusal is called is for the caller to say: it hands in how its
errors are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import yaml

from shared.errors import BadInput

T = TypeVar("T")
Path = list[str]


class Source(msgspec.Struct, frozen=True):
    """A file that was read: its plain value, and where in it everything stands."""

    plain: Any
    tree: Any
    where: str

    def place(self, path: Path) -> str:
        """``file:line`` of the deepest part of ``path`` that stands in the file."""
        return f"{self.where}:{_line(self.tree, path)}"


def read(text: str, where: str, broken: Callable[[str, str], BadInput]) -> Source:
    """Raises ``broken(said, place)`` for what is not YAML of this plain kind."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        plain = yaml.load(text, Loader=Strict)  # noqa: S506 - Strict derives from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise broken(getattr(error, "problem", None) or str(error), f"{where}{line}") from error
    except RecursionError as error:
        raise broken(TOO_DEEP, where) from error
    return Source(plain, tree, where)


def fit(
    source: Source, kind: type[T], bad: Callable[[Path, str], BadInput], broken: Callable[[str, str], BadInput]
) -> T:
    """The file as a struct. Raises ``bad(path, said)`` for the field that does not fit."""
    try:
        return msgspec.convert(source.plain, kind)
    except msgspec.ValidationError as error:
        said, path = _split_path(str(error))
        raise bad(_named(source.plain, path, kind), said) from error
    except RecursionError as error:
        raise broken(TOO_DEEP, source.where) from error


TOO_DEEP = "nested too deeply"

_SCALAR = re.compile(r"tag:yaml.org,2002:(str|int|bool|null)")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


class Strict(yaml.SafeLoader):
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


def _named(plain: Any, path: list[str], kind: Any) -> list[str]:
    """msgspec says ``[...]`` for 'some key of this mapping': try the keys one by one to find which."""
    if "..." not in path:
        return path
    at = path.index("...")
    for key in _child(plain, path[:at]):
        alone = _with_only(plain, path[:at], key)
        try:
            msgspec.convert(alone, kind)
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
