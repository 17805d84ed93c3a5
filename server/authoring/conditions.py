"""The conditions of a policy's rule, taken apart: alternatives, each a list of comparisons that must hold together.

What is not a comparison of one field of the context with something written out is left away: an alternative is then
thought possible. So what is called impossible is so.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

_MOST = 256  # alternatives of one rule
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_DENIED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "==", "in": "not in"}
_LONGS = {"confidence": (0, 1000), "local_hour": (0, 23), "local_weekday": (0, 6)}
_COUNTS = frozenset(("lease_age_s", "lease_left_s", "actions_since_sync", "run_actions"))  # never below zero
_END = 2**63
_HOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, values: value in values,
    "not in": lambda value, values: value not in values,
}


class Atom(msgspec.Struct, frozen=True):
    """A comparison that must hold: ``context.FIELD OP VALUE``; a value of ``in`` is a list. The field is empty for a
    constant, which ``value`` then is."""

    field: str
    op: str
    value: Any

    @property
    def words(self) -> list[str]:
        """The texts that the field is compared with."""
        return [word for word in (self.value if isinstance(self.value, list) else [self.value]) if type(word) is str]


Way = list[Atom]


def alternatives(conditions: Sequence[Mapping[str, Any]]) -> list[Way] | None:
    """The ways in which all conditions (``when`` and ``unless``) hold; ``None`` where there are too many."""
    try:
        return _all(_ways(part["body"], part["kind"] == "when") for part in conditions)
    except _TooManyError:
        return None


class _TooManyError(Exception):
    pass


def _all(parts: Iterable[list[Way]]) -> list[Way]:
    found: list[Way] = [[]]
    for part in parts:
        if len(found) * len(part) > _MOST:
            raise _TooManyError
        found = [[*one, *other] for one, other in itertools.product(found, part)]
    return found


def _ways(node: Any, holds: bool) -> list[Way]:
    """The ways in which an expression is true, or false where ``holds`` is not."""
    (kind, part), *_ = node.items()
    if kind == "!":
        return _ways(part["arg"], not holds)
    if kind in ("&&", "||"):
        both = [_ways(part["left"], holds), _ways(part["right"], holds)]
        if (kind == "&&") == holds:
            return _all(both)
        return [*both[0], *both[1]]
    return [_atoms(kind, part, node, holds)]


def _atoms(kind: str, part: Any, node: Any, holds: bool) -> Way:
    if kind == "Value" and isinstance(part, bool):
        return [] if part == holds else [Atom("", "==", False)]
    if _field(node):
        return [Atom(_field(node), "==", holds)]
    atom = None
    if kind in _FLIPPED:
        left, right = part["left"], part["right"]
        if _field(left) and "Value" in right:
            atom = Atom(_field(left), kind, right["Value"])
        elif _field(right) and "Value" in left:
            atom = Atom(_field(right), _FLIPPED[kind], left["Value"])
    elif kind == "contains" and "Set" in part["left"] and _field(part["right"]):
        values = [entry.get("Value") for entry in part["left"]["Set"]]
        if all(type(value) in (str, int) for value in values):
            atom = Atom(_field(part["right"]), "in", values)
    if atom is None:
        return []
    return [atom if holds else Atom(atom.field, _DENIED[atom.op], atom.value)]


def _field(node: Any) -> str:
    """The field of the context that an expression is, or nothing."""
    part = node.get(".") if isinstance(node, dict) else None
    return str(part["attr"]) if part and part["left"] == {"Var": "context"} else ""


def contradiction(way: Way, words: Mapping[str, frozenset[str]]) -> str:
    """Why the comparisons of one alternative cannot hold together; empty where they can."""
    if any(not atom.field for atom in way):
        return "its condition is false"
    for field in dict.fromkeys(atom.field for atom in way):
        mine = [atom for atom in way if atom.field == field]
        if not _possible(mine, words.get(field)):
            said = " and ".join(f"{atom.op} {_shown(atom.value)}" for atom in mine)
            return f"context.{field} cannot be {said}"
    return ""


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _possible(atoms: list[Atom], words: frozenset[str] | None) -> bool:
    kinds = {type(entry) for atom in atoms for entry in (atom.value if isinstance(atom.value, list) else [atom.value])}
    if kinds == {int}:
        return _possible_long(atoms)
    if len(kinds) != 1:
        return True  # Cedar has refused what cannot be compared
    candidates = {True, False} if kinds == {bool} else _candidates(atoms, words)
    return any(all(_fits(atom, value) for atom in atoms) for value in candidates)


def _candidates(atoms: list[Atom], words: frozenset[str] | None) -> set[Any]:
    """Enough values to find one that fits, if any does: those that are named, and one that nobody named."""
    return {word for atom in atoms for word in atom.words} | (set(words) if words is not None else {"\0"})


def _possible_long(atoms: list[Atom]) -> bool:
    field = atoms[0].field
    low, high = _LONGS.get(field, (0 if field in _COUNTS else -_END, _END - 1))
    named = {entry for atom in atoms for entry in (atom.value if isinstance(atom.value, list) else [atom.value])}
    around = {number + step for number in named | {low, high} for step in (-1, 0, 1)}
    return any(low <= number <= high and all(_fits(atom, number) for atom in atoms) for number in around)


def _fits(atom: Atom, value: Any) -> bool:
    return bool(_HOLDS[atom.op](value, atom.value))
