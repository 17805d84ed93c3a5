"""One expression: read once, evaluated often."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from shared import limits
from shared.actions import Value
from shared.errors import BadInput
from shared.expression import engine, functions, price
from shared.expression.syntax import Node, parse

Path = tuple[str, ...]
_Tree = dict[str, "_Tree"]  # the fields that are read; none means the whole


class Expression:
    """A parsed expression. ``names`` are the top-level names it reads; ``reads`` are the fields it reads of them, as
    far as they are written out: ``("inputs", "amount")``, ``("steps", "decide", "result")``.
    """

    def __init__(self, source: str, node: Node, program: Any, where: str) -> None:
        self.source = source
        self.reads = frozenset(_reads(node, frozenset()))
        self.names = frozenset(path[0] for path in self.reads)
        self._node = node
        self._program = program
        self._where = where
        self._tree = _tree(self.reads)
        self._used = frozenset(_calls(node)) & functions.OWN.keys()

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    @classmethod
    def parse(cls, source: str, *, where: str = "", names: frozenset[str]) -> Expression:
        """Read an expression that may use ``names``.

        Raises ``BadInput``: ``expression.syntax``, ``expression.name`` (a name that is not known here),
        ``expression.function``, ``expression.too-large``.
        """
        node = parse(source, names, where)
        return cls(source, node, engine.compiled(source, where), where)

    def evaluate(self, names: Mapping[str, Any]) -> Value:
        """Its value: text, a whole number, true, false, null, a list or a mapping with text keys. A time becomes RFC
        3339 text in UTC.

        Raises ``BadInput``: ``expression.failed`` (a missing key, null where a number is needed, division by zero),
        ``expression.type`` (a value that is not plain, given or made), ``expression.too-large`` (too much work).
        """
        return self.measured(names, limits.EXPRESSION_WORK)[0]

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether a condition holds. Raises as ``evaluate`` does, and ``BadInput('expression.not-boolean')`` where its
        value is neither true nor false."""
        value = self.evaluate(names)
        if isinstance(value, bool):
            return value
        raise BadInput(
            "expression.not-boolean",
            f"the condition is {_kind(value)}, neither true nor false",
            advice='compare it: x == "yes", x > 0, size(x) > 0, x != null',
            where=self._where,
        )

    def measured(self, names: Mapping[str, Any], most: int) -> tuple[Value, int]:
        """Its value, and the units of work it was held to cost; refused if those are more than ``most``."""
        given = {name: _pruned(self._given(names, name), tree) for name, tree in self._tree.items()}
        work = price.price(self._node, price.shapes_of(given, self._where), self._where, most)
        return _plain(engine.run(self._program, given, self._used, self._where), self._where), work

    def _given(self, names: Mapping[str, Any], name: str) -> Any:
        if name not in names:
            raise BadInput(
                "expression.failed",
                f"{name} has no value here",
                advice="use it where the playbook gives it one",
                where=self._where,
            )
        return names[name]


def _reads(node: Node, bound: frozenset[str]) -> Iterator[Path]:
    path = _path(node)
    if path:
        if path[0] not in bound:
            yield path
        return
    inner = bound | {node.name} if node.kind == "loop" else bound
    for number, part in enumerate(node.parts):
        yield from _reads(part, inner if number else bound)


def _path(node: Node) -> Path:
    """``("inputs", "a")`` for ``inputs.a`` and ``inputs["a"]``; empty for what is not a written-out path."""
    if node.kind == "name":
        return (node.text,)
    if node.kind == "select":
        before = _path(node.parts[0])
        return (*before, node.text) if before else ()
    if node.kind == "index" and node.parts[1].kind == "text":
        before = _path(node.parts[0])
        return (*before, node.parts[1].text) if before else ()
    return ()


def _calls(node: Node) -> Iterator[str]:
    if node.kind == "call":
        yield node.text
    for part in node.parts:
        yield from _calls(part)


def _tree(paths: frozenset[Path]) -> _Tree:
    """The paths as a tree; a path that ends within another takes all of it."""
    tree: _Tree = {}
    for path in sorted(paths, key=len, reverse=True):
        here = tree
        for field in path[:-1]:
            here = here.setdefault(field, {})
        here[path[-1]] = {}
    return tree


def _pruned(value: Any, tree: _Tree) -> Any:
    """Only what is read: taking values into the library costs more than most expressions, and a step's result is
    long."""
    if not tree or type(value) is not dict:
        return value
    return {field: _pruned(value[field], inner) for field, inner in tree.items() if field in value}


def _plain(value: Any, where: str) -> Value:
    """What CEL made, as plain JSON values with sorted keys: its own mappings have no order."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > limits.EXPRESSION_INT:
            raise _unplain("a number beyond 64 bits", "use smaller numbers", where)
        return value
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise _unplain("a mapping whose keys are not text", "use string(x) for its keys", where)
        return {key: _plain(value[key], where) for key in sorted(value)}
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().removesuffix("+00:00") + "Z"
    if isinstance(value, dt.timedelta):
        raise _unplain("a span of time", "take its .getHours() or .getSeconds()", where)
    raise _unplain(f"a value of the type {type(value).__name__}", "see the expression reference", where)


def _unplain(said: str, advice: str, where: str) -> BadInput:
    return BadInput("expression.type", f"its value would be {said}", advice=advice, where=where)


def _kind(value: Value) -> str:
    names = {type(None): "null", str: "a text", int: "a number", list: "a list", dict: "a mapping"}
    return names[type(value)]
