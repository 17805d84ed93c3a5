"""What evaluating an expression will cost, known before it is evaluated.

CEL always ends, but it has no clock: ``list.map(x, x + x)`` doubles at each link of a chain, and the library copies a
list whole for each element that ``map`` and ``filter`` add to it, so that a thousand elements cost half a million
copies. So an expression is walked once with the *shapes* of the values it is about to be given (how many elements, how
long the texts), and refused if the work that these shapes can lead to is more than ``limits.EXPRESSION_WORK``. Nothing
is estimated from luck: every price is an upper bound over all values of that shape, branches not taken included.

One unit is about a tenth of a microsecond: copying a number, or 64 characters of text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from shared import limits
from shared.errors import BadInput
from shared.expression import functions, patterns
from shared.expression.syntax import Node

_CROSSING = 30  # taking one value into the library or out of it
_STEP = 3  # visiting one node


class Shape(NamedTuple):
    """The most that values of one place can be.

    ``kind`` is ``plain`` (a number, true, false, null, a time, or nothing at all), ``text``, ``list``, ``map``, or
    ``any`` where it may be several of them. ``weight`` is what a copy costs, ``most`` the elements, ``chars`` the
    length of a text or of a map's keys, ``item`` what an element can be, ``fields`` a map's values by key where all
    keys are known (there is no ``item`` then).
    """

    kind: str
    weight: int
    most: int = 0
    chars: int = 0
    item: Shape | None = None
    fields: dict[str, Shape] | None = None

    @property
    def element(self) -> Shape:
        if self.fields is not None:
            return _either(self.fields.values()) or PLAIN
        return self.item or PLAIN

    def field(self, name: str) -> Shape:
        return self.element if self.fields is None else self.fields.get(name, PLAIN)


PLAIN = Shape("plain", 1)


def _text(chars: int) -> Shape:
    return Shape("text", 1 + chars // 64, 0, chars)


def shapes_of(values: dict[str, Any], where: str) -> dict[str, Shape]:
    """The shapes of plain values by name.

    Raises ``BadInput('expression.type')`` where one is not plain: only what JSON knows may enter, so that an expression
    can never reach a method of a Python object. ``('expression.too-large')`` where they are too many.
    """
    weigher = _Weigher(where)
    return {name: weigher.of(value, 0) for name, value in values.items()}


class _Weigher:
    def __init__(self, where: str) -> None:
        self._where = where
        self._left = limits.EXPRESSION_WORK // _CROSSING

    def of(self, value: Any, depth: int) -> Shape:
        self._left -= 1
        if self._left < 0:
            raise _too_much(self._where)
        kind = type(value)
        if value is None or kind is bool:
            return PLAIN
        if kind is int:
            if not -limits.EXPRESSION_INT <= value <= limits.EXPRESSION_INT:
                raise self._foreign("a number beyond 64 bits")
            return PLAIN
        if kind is str:
            self._check_unicode(value)
            return _text(len(value))
        if depth >= limits.EXPRESSION_VALUE_DEPTH:
            raise self._foreign(f"a value nested more than {limits.EXPRESSION_VALUE_DEPTH} deep")
        if kind is list:
            return _list([self.of(element, depth + 1) for element in value])
        if kind is not dict:
            raise self._foreign(f"a value of the type {kind.__name__}")
        for key in value:
            if type(key) is not str:
                raise self._foreign("a mapping whose keys are not text")
            self._check_unicode(key)
        return _map({key: self.of(element, depth + 1) for key, element in value.items()})

    def _check_unicode(self, text: str) -> None:
        try:
            text.isascii() or text.encode()
        except UnicodeEncodeError as error:
            raise self._foreign("text with half a character") from error

    def _foreign(self, said: str) -> BadInput:
        return BadInput(
            "expression.type",
            f"an expression cannot be given {said}",
            advice="give text, whole numbers, true, false, null, lists and mappings",
            where=self._where,
        )


def _too_much(where: str) -> BadInput:
    return BadInput(
        "expression.too-large",
        "with these values it could take too long or grow too large",
        advice="give it less, or do a part of it in an earlier step",
        where=where,
    )


def _list(shapes: list[Shape]) -> Shape:
    return Shape("list", 1 + sum(shape.weight for shape in shapes), len(shapes), 0, _either(shapes))


def _either(shapes: Iterable[Shape]) -> Shape | None:
    item: Shape | None = None
    for shape in shapes:
        item = shape if item is None else join(item, shape)
    return item


def _map(fields: dict[str, Shape]) -> Shape:
    weight = 1 + sum(shape.weight + 1 + len(key) // 64 for key, shape in fields.items())
    chars = max(map(len, fields), default=0)
    return Shape("map", weight, len(fields), chars, None, fields)


def join(one: Shape, two: Shape) -> Shape:
    """What can be either."""
    if one is two or two.kind == "plain":
        return one
    if one.kind == "plain":
        return two
    if one.kind == two.kind == "text":
        return one if one.chars >= two.chars else two
    fields = None
    if one.fields is not None and two.fields is not None:
        fields = dict(one.fields)
        for key, shape in two.fields.items():
            fields[key] = join(fields[key], shape) if key in fields else shape
    return Shape(
        one.kind if one.kind == two.kind else "any",
        max(one.weight, two.weight),
        max(one.most, two.most),
        max(one.chars, two.chars),
        _either((one.element, two.element)) if fields is None else None,
        fields,
    )


def price(node: Node, names: dict[str, Shape], where: str, most: int) -> int:
    """What evaluating ``node`` costs at most, its names taken in and its result taken out.

    Raises ``BadInput('expression.too-large')`` where that is more than ``most``, and ``('expression.type')`` where a
    mapping would be read in an order that it does not have.
    """
    meter = _Meter(where, most)
    for shape in names.values():
        meter.spend(_CROSSING * shape.weight)
    meter.spend(_CROSSING * meter.walk(node, names).weight)
    return meter.spent


class _Meter:
    def __init__(self, where: str, most: int) -> None:
        self._where = where
        self._most = most
        self.spent = 0
        self._times = 1  # how often what is being walked is evaluated

    def spend(self, units: int) -> None:
        self.spent += units * self._times
        if self.spent > self._most:
            raise _too_much(self._where)

    def walk(self, node: Node, names: dict[str, Shape]) -> Shape:
        """Spend what ``node`` costs and return what it can be."""
        self.spend(_STEP)
        kind = node.kind
        if kind == "name":
            return names[node.text]
        if kind == "text":
            return _text(len(node.text))
        if kind == "loop":
            return self._loop(node, names)
        shapes = [self.walk(part, names) for part in node.parts]
        if kind == "select":
            return self._copied(shapes[0].field(node.text))
        if kind == "index":
            key = node.parts[1]
            return self._copied(shapes[0].field(key.text) if key.kind == "text" else shapes[0].element)
        if kind == "choice":
            return join(shapes[1], shapes[2])
        if kind in ("list", "map"):
            return self._literal(node, shapes)
        self.spend(sum(shape.weight for shape in shapes))
        if kind == "call":
            return self._call(node, shapes)
        return self._sum(*shapes) if kind == "binary" and node.text == "+" else PLAIN

    def _copied(self, shape: Shape) -> Shape:
        self.spend(shape.weight)
        return shape

    def _literal(self, node: Node, shapes: list[Shape]) -> Shape:
        self.spend(sum(shape.weight for shape in shapes))
        if node.kind == "list":
            return _list(shapes)
        keys = node.parts[::2]
        if all(key.kind == "text" for key in keys):
            return _map({key.text: shape for key, shape in zip(keys, shapes[1::2], strict=True)})
        weight = 1 + sum(1 + shape.weight for shape in shapes)
        chars = max(shape.chars for shape in shapes[::2])
        return Shape("map", weight, len(keys), chars, _either(shapes[1::2]))

    def _sum(self, one: Shape, two: Shape) -> Shape:
        either = join(one, two)
        if either.kind == "plain":
            return PLAIN
        weight = one.weight + two.weight
        self.spend(weight)
        return Shape(either.kind, weight, one.most + two.most, one.chars + two.chars, either.item)

    def _loop(self, node: Node, names: dict[str, Shape]) -> Shape:
        """The library adds an element by copying all that it has so far, hence ``times * weight``."""
        ranged = self.walk(node.parts[0], names)
        if node.text in ("map", "filter") and ranged.kind in ("map", "any"):
            raise BadInput(
                "expression.type",
                f"{node.text} goes through a list; the keys of a mapping have no order",
                advice="name the keys: [m.first, m.second]",
                where=self._where,
            )
        element = _text(ranged.chars) if ranged.kind == "map" else ranged.element
        times = ranged.most
        self.spend(times * (2 * element.weight + 4 * _STEP))
        before, self._times = self._times, self._times * times
        bodies = [self.walk(body, {**names, node.name: element}) for body in node.parts[1:]]
        self._times = before
        if node.text not in ("map", "filter"):
            return PLAIN
        made = bodies[-1] if node.text == "map" else element
        weight = 1 + (times * made.weight if node.text == "map" else min(ranged.weight, times * made.weight))
        self.spend(times * weight)
        return Shape("list", weight, times, 0, made)

    def _call(self, node: Node, shapes: list[Shape]) -> Shape:
        first, name = shapes[0], node.text
        if name == "matches":
            self.spend(patterns.price(node.parts[1].text, first.chars))
        result = _result(name, shapes)
        if name in functions.OWN:
            self.spend(_CROSSING * (4 + result.weight + sum(shape.weight for shape in shapes)))
        return result


def _result(name: str, shapes: list[Shape]) -> Shape:
    """What a function can return."""
    first = shapes[0]
    if name in ("lowerAscii", "upperAscii", "trim", "substring"):
        return _text(first.chars)
    if name in ("string", "decimal", "addDays"):
        return _text(max(first.chars, 40))
    if name == "replace":
        return _text(first.chars + (first.chars + 1) * shapes[2].chars)
    if name == "split":
        pieces = first.chars + 1
        return Shape("list", 1 + pieces + first.chars // 64, pieces, 0, _text(first.chars))
    if name == "join":
        separator = shapes[1].chars if len(shapes) > 1 else 0
        return _text(min(first.most * first.element.chars, 64 * first.weight) + first.most * separator)
    return PLAIN
