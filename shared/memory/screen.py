"""Judge one change before the native library sees it: let through what honest writers write, and nothing else.

Spec page: ``shared/spec/memory.md``, section Screening. Automerge trusts its input: a hundred hostile bytes can take a
gigabyte, crash the process, or be accepted and make a document that never loads again. So a change is first read here,
in pure Python, without expanding a run length: its frame and spelling (``chunks``, ``columns``), then its header, then
its operations, run by run. What is known of the whole document is judged in ``scratch``.

Let through are maps, texts, strings, integers, booleans and times, as this product and JavaScript's Automerge write
them. Counters, lists, tables, marks, bytes, nulls and fractions are not part of an item, and are not let through.
"""

from __future__ import annotations

import itertools
import operator
from typing import TypeVar

import msgspec

from shared import limits
from shared.errors import Tampered
from shared.memory import chunks
from shared.memory.chunks import ParsedChange, read_change
from shared.memory.columns import booleans, differences, expanded, hostile, numbers, odd, signed, strings, summed
from shared.memory.item import NAME_CHARS

_SET, _DELETE, _MAKE_MAP, _MAKE_TEXT = 1, 3, 0, 4
_ACTIONS = frozenset((_SET, _DELETE, _MAKE_MAP, _MAKE_TEXT))
_ACTOR_HEX = 32
_TIME = 2**53
_JS_ZERO = bytes(
    8
)  # JavaScript's Automerge writes the number 0 of a new document as a fraction, and no other number so
_LETTER_BYTES = 4
_STARTS = bytes(byte for byte in range(256) if byte & 0xC0 != 0x80)  # where a character of UTF-8 may start
_T = TypeVar("_T", int, str)


def screen(chunk: bytes) -> ParsedChange:
    """Read and judge one change chunk, deflated or not. About 60 µs for a usual change.

    Raises ``Tampered('memory.hostile.*')`` for a change that no honest writer makes. Hand on ``raw``, not the chunk:
    it is the same change, not deflated.
    """
    change = read_change(chunk)
    _check_header(change)
    _check_rows(change)
    return change


def _check_header(change: ParsedChange) -> None:
    if not 1 <= change.ops <= limits.MEMORY_CHANGE_OPS:
        raise hostile("memory.hostile.ops", f"a change has {change.ops} operations")
    others = change.other_actors
    if len(others) > limits.MEMORY_CHANGE_ACTORS or any(len(actor) != _ACTOR_HEX for actor in (change.actor, *others)):
        raise hostile("memory.hostile.actor", "a change names too many actors, or one that is not 16 bytes")
    if change.actor in others or list(others) != sorted(set(others)):
        raise odd("other actors are not sorted, or named twice")
    deps = change.deps
    if len(deps) > limits.MEMORY_CHANGE_DEPS or list(deps) != sorted(set(deps)):
        raise hostile("memory.hostile.order", "what a change follows is too much, not sorted, or named twice")
    if not 1 <= change.seq <= change.start_op or change.start_op + change.ops > limits.MEMORY_DOCUMENT_OPS:
        raise hostile("memory.hostile.order", "a change counts its place or its operations wrong")
    if bool(deps) != (change.start_op > 1):
        raise hostile("memory.hostile.order", "a change that follows nothing is not a first one, or the reverse")
    if not 0 <= change.time < _TIME:
        raise hostile("memory.hostile.time", "a change was made at no possible time")
    if len(change.message.encode()) > limits.MEMORY_MESSAGE_BYTES or "\x00" in change.message:
        raise hostile("memory.hostile.message", "what a change says of itself is too long, or has NUL in it")


# What a row may be: object, name, letter, insert, action, value, overwritten. Everything else is refused.
_ROOT, _WITHIN = 0, 1
_UNNAMED, _NAMED = 0, 1
_NOWHERE, _AT_START, _AT_LETTER = 0, 1, 2
_NOTHING, _PLAIN, _LETTER = 0, 1, 2
_NONE, _ONE, _MANY = 0, 1, 2
_OWNED = bytes.maketrans(bytes((_AT_START, _AT_LETTER)), b"\0\1")  # a letter has a writer, the start has none
_LETTER_GONE = (_WITHIN, _UNNAMED, _AT_LETTER, 0, _DELETE, _NOTHING, _ONE)
_SHAPES = frozenset(
    [
        (at, _NAMED, _NOWHERE, 0, action, value, over)
        for at in (_ROOT, _WITHIN)
        for over in (_NONE, _ONE, _MANY)
        for action, value in (
            (_SET, _PLAIN),
            (_SET, _LETTER),
            (_MAKE_MAP, _NOTHING),
            (_MAKE_TEXT, _NOTHING),
            (_DELETE, _NOTHING),
        )
        if (action, over) != (_DELETE, _NONE)
    ]
    + [(_WITHIN, _UNNAMED, place, 1, _SET, _LETTER, _NONE) for place in (_AT_START, _AT_LETTER)]
    + [_LETTER_GONE]
)


def _check_rows(change: ParsedChange) -> None:
    """The operations: every column has a row for each, and each row's shape is one of ``_SHAPES``.

    Expanding to one byte a row is safe here: no column stands for more rows than ``limits.MEMORY_CHANGE_OPS``.
    """
    used = {0}
    objects = _references(change, chunks.OBJ_CTR, chunks.OBJ_ACTOR, used)
    names = _names(change)
    letters = _letters(change, used)
    inserts = _expand(change, [(int(value), times) for value, times in booleans(_column(change, chunks.INSERT))])
    actions = _expand(change, [(_action(value), times) for value, times in numbers(_column(change, chunks.ACTION))])
    over = _overwritten(change, used)
    rows = (objects, names, letters, inserts, actions, _values(change), over.how)
    kinds = set(zip(*rows, strict=True))
    if not kinds <= _SHAPES or names.count(1) > limits.MEMORY_CHANGE_NAMED:
        raise hostile("memory.hostile.operation", "a change has an operation that no item needs, or too many")
    if _LETTER_GONE in kinds:
        _check_gone(change, [row == _LETTER_GONE for row in zip(*rows, strict=True)], over)
    if len(used) <= len(change.other_actors):
        raise odd("a change names an actor that it has no use for")


def _column(change: ParsedChange, number: int) -> bytes:
    return change.columns.get(number, b"")


def _expand(change: ParsedChange, runs: list[tuple[int, int]]) -> bytes:
    rows = b"".join([bytes((value,)) * times for value, times in runs])
    if len(rows) != change.ops:
        raise hostile("memory.hostile.columns", "the columns of a change are not equally long")
    return rows


def _references(change: ParsedChange, counters: int, actors: int, used: set[int]) -> bytes:
    """Which rows are within another object: those whose object is named. It must be older than the row."""
    named = _absent_or(change, numbers(_column(change, counters)))
    owners = _absent_or(change, numbers(_column(change, actors)))
    row = change.start_op
    for counter, times in named:
        if counter is not None and not 1 <= counter < row:
            raise _reference()
        row += times
    within = _expand(change, [(counter is not None, times) for counter, times in named])
    if within != _expand(change, [(_owner(change, owner, used), times) for owner, times in owners]):
        raise _reference()
    return within


def _letters(change: ParsedChange, used: set[int]) -> bytes:
    """Where in a text each row is: nowhere, at its start, or at a letter, which must be older than the row."""
    places: list[tuple[int, int]] = []
    row, at = change.start_op, 0
    for step, times in _absent_or(change, differences(_column(change, chunks.KEY_CTR))):
        if step is None:
            places.append((_NOWHERE, times))
        else:
            first, at = at + step, at + step * times
            if min(first, at) < 0 or first >= row or at >= row + times - 1:
                raise _reference()
            heads = times if first == at == 0 else int(first == 0) or int(at == 0)
            places += [(_AT_START, heads), (_AT_LETTER, times - heads)]
            if at == 0 != first:
                places[-2:] = [(_AT_LETTER, times - heads), (_AT_START, heads)]
        row += times
    letters = _expand(change, places)
    owners = _absent_or(change, numbers(_column(change, chunks.KEY_ACTOR)))
    owned = _expand(change, [(_owner(change, owner, used), times) for owner, times in owners])
    if owned != letters.translate(_OWNED):
        raise _reference()
    return letters


def _names(change: ParsedChange) -> bytes:
    runs = _absent_or(change, strings(_column(change, chunks.KEY_STR)))
    for name, _ in runs:
        if name is not None and (not 1 <= len(name) <= NAME_CHARS or "\x00" in name):
            raise hostile(
                "memory.hostile.text", "a change names a field that has no name, too long a one, or NUL in it"
            )
    return _expand(change, [(name is not None, times) for name, times in runs])


class _Overwritten(msgspec.Struct, frozen=True):
    """How many others each row overwrites (none, one, many), and every one of them with its row: counter and owner."""

    how: bytes
    rows: list[int]
    preds: list[tuple[int, int]]


def _overwritten(change: ParsedChange, used: set[int]) -> _Overwritten:
    """What is overwritten must be older than the row, sorted within it, and nothing is overwritten twice."""
    rows: list[int] = []
    how: list[tuple[int, int]] = []
    row = change.start_op
    for count, times in numbers(_column(change, chunks.PRED_COUNT)):
        if count is None or len(rows) + count * times > limits.MEMORY_CHANGE_OPS:
            raise hostile("memory.hostile.run-length", "a change does not say how much it overwrites, or too much")
        if count == 1:
            rows += range(row, row + times)
        elif count:
            rows += [which for which in range(row, row + times) for _ in range(count)]
        how.append((min(count, _MANY), times))
        row += times
    owned = numbers(_column(change, chunks.PRED_ACTOR))
    for owner, _ in owned:
        _owner(change, owner, used)
    counted = summed(differences(_column(change, chunks.PRED_CTR)), 0)
    counters = [counter for counter in counted if counter is not None]
    owners = [owner for owner in expanded(owned, 0) if owner is not None]
    if not len(rows) == len(counters) == len(counted) == len(owners) == sum(times for _, times in owned):
        raise hostile("memory.hostile.columns", "what is overwritten is not told in full, or of too much")
    preds = list(zip(counters, owners, strict=True))
    if rows and not (min(counters) >= 1 and all(map(operator.lt, counters, rows)) and len(set(preds)) == len(preds)):
        raise _reference()
    if any(kind == _MANY for kind, _ in how):
        _check_sorted(change, rows, preds)
    return _Overwritten(_expand(change, how), rows, preds)


def _check_sorted(change: ParsedChange, rows: list[int], preds: list[tuple[int, int]]) -> None:
    actors = (change.actor, *change.other_actors)
    whole = [(row, counter, actors[owner]) for row, (counter, owner) in zip(rows, preds, strict=True)]
    if any(one >= other for one, other in itertools.pairwise(whole)):
        raise odd("what a row overwrites is not sorted")


def _check_gone(change: ParsedChange, gone: list[bool], over: _Overwritten) -> None:
    """A letter is taken away by overwriting what put it there, and by nothing else."""
    counters = summed(differences(_column(change, chunks.KEY_CTR)), change.ops)
    owners = expanded(numbers(_column(change, chunks.KEY_ACTOR)), change.ops)
    letters = list(itertools.compress(zip(counters, owners, strict=True), gone))
    if letters != list(itertools.compress(over.preds, [gone[row - change.start_op] for row in over.rows])):
        raise _reference()


def _values(change: ParsedChange) -> bytes:
    """What kind of value each row has. Every value is looked at, in the spelling of its kind and length."""
    data = _column(change, chunks.VALUE)
    kinds = bytearray()
    at = 0
    for meta, times in numbers(_column(change, chunks.VALUE_META)):
        kind, length = (meta or 0) & 15, (meta or 0) >> 4
        end = at + length * times
        if end > len(data):
            raise hostile("memory.hostile.columns", "the values of a change are cut off")
        kinds += _kinds(kind, length, data[at:end], times)
        at = end
    if at != len(data) or (not data and chunks.VALUE in change.columns):
        raise hostile("memory.hostile.columns", "a change has bytes that are no value")
    if len(kinds) != change.ops:
        raise hostile("memory.hostile.columns", "the columns of a change are not equally long")
    return bytes(kinds)


def _kinds(kind: int, length: int, data: bytes, times: int) -> bytes:
    if kind == chunks.STRING:
        return _strings(length, data, times)
    if kind in (chunks.NULL, chunks.TRUE, chunks.FALSE) and not length:
        return bytes((_NOTHING if kind == chunks.NULL else _PLAIN,)) * times
    if kind in (chunks.INT, chunks.TIMESTAMP) and length:
        if any(signed(data, at, at + length)[1] != at + length for at in range(0, len(data), length)):
            raise odd("an integer does not fill its place")
        return bytes((_PLAIN,)) * times
    if kind == chunks.FLOAT and data == _JS_ZERO * times:
        return bytes((_PLAIN,)) * times
    raise hostile("memory.hostile.value", f"a value of kind {kind} with {length} bytes is none that an item has")


def _strings(length: int, data: bytes, times: int) -> bytes:
    if 0 in data:
        raise hostile("memory.hostile.text", "a text has NUL in it")
    if not length:
        return bytes((_PLAIN,)) * times
    if length <= _LETTER_BYTES and not data[::length].translate(None, _STARTS) and len(_decode(data)) == times:
        return bytes((_LETTER,)) * times  # as many characters as places, and one starts at each
    texts = [_decode(data[at : at + length]) for at in range(0, len(data), length)]
    return bytes([_LETTER if len(text) == 1 else _PLAIN for text in texts])


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise hostile("memory.hostile.text", "a text is not UTF-8") from error


def _action(value: int | None) -> int:
    if value not in _ACTIONS:
        raise hostile("memory.hostile.action", f"an operation of kind {value} is none that an item needs")
    return value or 0


def _owner(change: ParsedChange, owner: int | None, used: set[int]) -> bool:
    if owner is None:
        return False
    if owner > len(change.other_actors):
        raise _reference()
    used.add(owner)
    return True


def _absent_or(change: ParsedChange, runs: list[tuple[_T | None, int]]) -> list[tuple[_T | None, int]]:
    """A column that is not written stands for absent values throughout."""
    return runs or [(None, change.ops)]


def _reference() -> Tampered:
    return hostile("memory.hostile.reference", "an operation is about another that cannot be older than it")
