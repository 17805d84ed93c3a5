"""Values with expressions in them: what a step is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared import limits
from shared.actions import Value
from shared.errors import BadInput
from shared.expression.expression import Expression, Path
from shared.expression.syntax import tokens

_Part = str | Expression


class _Text:
    """A text with expressions in it: each becomes text where it stands."""

    def __init__(self, parts: list[_Part], where: str) -> None:
        self.parts = parts
        self.where = where


class Template:
    """A parsed value. In its texts ``${...}`` stands for the value of an expression:

    - a text that is one ``${...}`` and nothing else *is* that value, of whatever type;
    - among other text, text and whole numbers stand as they are, true and false as ``true`` and ``false``, null as
      nothing; lists and mappings are refused;
    - ``$${`` is a plain ``${``.

    ``names`` and ``reads`` are those of all its expressions.
    """

    def __init__(self, tree: Any, expressions: list[Expression]) -> None:
        self._tree = tree
        self.reads: frozenset[Path] = frozenset().union(*(one.reads for one in expressions))
        self.names = frozenset(path[0] for path in self.reads)

    @classmethod
    def parse(cls, value: Any, *, where: str = "", names: frozenset[str]) -> Template:
        """Read a value of texts, whole numbers, true, false, null, lists and mappings; keys are taken as they stand.

        Raises ``BadInput`` as ``Expression.parse`` does, and ``expression.type`` for a value of another type.
        """
        reader = _Reader(where, names)
        return cls(reader.read(value, "", 0), reader.found)

    def fill(self, names: Mapping[str, Any]) -> Value:
        """The value with every expression replaced. Raises as ``Expression.evaluate`` does; the work and the text of
        all its expressions together are held to the bounds of one."""
        return _Filling(names).value(self._tree)


class _Reader:
    """Reads one value; ``found`` are its expressions."""

    def __init__(self, where: str, names: frozenset[str]) -> None:
        self.found: list[Expression] = []
        self._where = where
        self._names = names

    def read(self, value: Any, path: str, depth: int) -> Any:
        where = f"{self._where} {path}".strip()
        if isinstance(value, str):
            return self._text(value, where)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) <= limits.EXPRESSION_INT:
            return value
        if depth >= limits.EXPRESSION_VALUE_DEPTH:
            raise _unfit("nested too deeply", where)
        if isinstance(value, list):
            return [self.read(item, f"{path}[{number}]", depth + 1) for number, item in enumerate(value)]
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str) or "${" in key:
                    raise _unfit(f"the key {key!r} cannot be used: a key is text without ${{", where)
            return {key: self.read(item, f"{path}.{key}".lstrip("."), depth + 1) for key, item in value.items()}
        raise _unfit(f"a value of the type {type(value).__name__}, or beyond 64 bits", where)

    def _text(self, text: str, where: str) -> Any:
        parts: list[_Part] = []
        for part, is_expression in _split(text, where):
            if is_expression:
                self._count(where)
                self.found.append(Expression.parse(part, where=where, names=self._names))
                parts.append(self.found[-1])
            else:
                parts.append(part)
        if len(parts) == 1:
            return parts[0]
        return _Text(parts, where) if parts else ""

    def _count(self, where: str) -> None:
        if len(self.found) == limits.EXPRESSION_PARTS:
            raise BadInput(
                "expression.too-large",
                f"it holds more than {limits.EXPRESSION_PARTS} expressions",
                advice="split it over several steps",
                where=where,
            )


def _unfit(said: str, where: str) -> BadInput:
    return BadInput(
        "expression.type", said, advice="use text, whole numbers, true, false, null, lists and mappings", where=where
    )


def _split(text: str, where: str) -> Iterator[tuple[str, bool]]:
    """Plain pieces and, marked, the sources of expressions. The end of one is found by CEL's own rules, so braces and
    quotes within it count for what they are."""
    plain: list[str] = []
    at = 0

    def fail(place: int, said: str) -> BadInput:
        return BadInput(
            "expression.syntax",
            f"at character {place + 1}: {said}",
            advice="end it with }, or write $${ for a plain ${",
            where=where,
        )

    while at < len(text):
        mark = text.find("${", at)
        if mark < 0:
            plain.append(text[at:])
            break
        if mark > at and text[mark - 1] == "$":
            plain.append(text[at : mark - 1] + "${")
            at = mark + 2
            continue
        plain.append(text[at:mark])
        end = tokens(text, fail, within=mark + 2)[-1].at
        if end == len(text):
            raise fail(mark, "a ${ without its }")
        if any(plain):
            yield "".join(plain), False
        plain = []
        yield text[mark + 2 : end], True
        at = end + 1
    if any(plain):
        yield "".join(plain), False


class _Filling:
    """One filling: what is left of the work and of the text."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._work = limits.EXPRESSION_WORK

    def value(self, tree: Any) -> Value:
        if isinstance(tree, Expression):
            value, spent = tree.measured(self._names, self._work)
            self._work -= spent
            return value
        if isinstance(tree, _Text):
            return "".join(part if isinstance(part, str) else self._text(part, tree.where) for part in tree.parts)
        if isinstance(tree, list):
            return [self.value(item) for item in tree]
        if isinstance(tree, dict):
            return {key: self.value(item) for key, item in tree.items()}
        plain: Value = tree
        return plain

    def _text(self, expression: Expression, where: str) -> str:
        value = self.value(expression)
        if isinstance(value, list | dict):
            raise BadInput(
                "expression.type",
                f"a {'list' if isinstance(value, list) else 'mapping'} cannot stand among text",
                advice='join its texts: ${names.join(", ")}',
                where=where,
            )
        if value is None:
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)
