"""Automerge's column encodings, read as runs and never expanded: each reader gives ``(value, times)`` pairs.

Spec: https://automerge.org/automerge-binary-format-spec/ . Only the one spelling that Automerge itself writes is
accepted: another one changes the hash when the document is saved, and then the document does not load again.
A column whose runs stand for more than ``limits.MEMORY_CHANGE_OPS`` rows is refused as soon as that shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from shared import limits
from shared.errors import Tampered

_T = TypeVar("_T", int, str)
_NOTHING = object()
ADVICE = "do not apply it; find out which device or person wrote it"
_MORE = 0x80  # set in every byte of a number but its last
_UNSIGNED = tuple(range(128))  # numbers of one byte
_SIGNED = (*range(64), *range(-64, 0))


def hostile(code: str, said: str) -> Tampered:
    """The error for a change that no honest writer makes."""
    return Tampered(code, said, advice=ADVICE)


def cut_off() -> Tampered:
    """The error for bytes that end before they should."""
    return hostile("memory.hostile.chunk", "a change ends in the middle")


def odd(said: str) -> Tampered:
    """The error for a spelling that Automerge does not write."""
    return hostile("memory.hostile.encoding", said)


def unsigned(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned LEB128 number below 2**63 and where it ends. Raises ``Tampered`` where it is cut off or overlong."""
    value = shift = 0
    while True:
        if at >= end:
            raise cut_off()
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            if not byte and shift:
                raise odd("a number is written longer than it need be")
            return value, at
        shift += 7
        if shift > 56:
            raise odd("a number is too large")


def signed(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A signed LEB128 number of 64 bits and where it ends. Raises ``Tampered`` as ``unsigned``."""
    value = shift = before = 0
    while True:
        if at >= end:
            raise cut_off()
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < _MORE:
            if shift > 7 and byte == (0x7F if before & 0x40 else 0):
                raise odd("a number is written longer than it need be")
            value = value - (1 << shift) if byte & 0x40 else value
            if not -(2**63) <= value < 2**63:
                raise odd("a number is too large")
            return value, at
        if shift > 63:
            raise odd("a number is too large")
        before = byte


def numbers(data: bytes) -> list[tuple[int | None, int]]:
    """The runs of a column of unsigned numbers; None stands for absent ones."""
    return _runs(data, unsigned, _UNSIGNED)


def differences(data: bytes) -> list[tuple[int | None, int]]:
    """The runs of a column of differences, as they are written: each is added to the last value that was there."""
    return _runs(data, signed, _SIGNED)


def strings(data: bytes) -> list[tuple[str | None, int]]:
    """The runs of a column of strings."""
    return _runs(data, _string)


def booleans(data: bytes) -> list[tuple[bool, int]]:
    """The runs of a column of booleans: lengths by turns, of false first. Only the first length may be nothing."""
    runs: list[tuple[bool, int]] = []
    at, end, total, value = 0, len(data), 0, False
    while at < end:
        times, at = unsigned(data, at, end)
        if not times and (value or runs):
            raise odd("a run of nothing")
        total = _counted(total, times)
        if times:
            runs.append((value, times))
        value = not value
    return runs


def expanded(runs: list[tuple[_T | None, int]], rows: int) -> list[_T | None]:
    """The runs of a column as a value a row; a column that is not written is absent in all ``rows``."""
    values: list[_T | None] = []
    for value, times in runs or [(None, rows)]:
        values += [value] * times
    return values


def summed(runs: list[tuple[int | None, int]], rows: int) -> list[int | None]:
    """The same of a column of differences, as what they add up to."""
    values: list[int | None] = []
    at = 0
    for step, times in runs or [(None, rows)]:
        if step:
            last = at + step * times
            values += range(at + step, last + (1 if step > 0 else -1), step)
            at = last
        else:
            values += [None if step is None else at] * times
    return values


def _counted(total: int, more: int) -> int:
    """Rows so far. This bound is what makes it safe to expand a column that was read whole."""
    if total + more > limits.MEMORY_CHANGE_OPS:
        raise hostile("memory.hostile.run-length", f"a column of a change stands for {total + more} rows")
    return total + more


def _string(data: bytes, at: int, end: int) -> tuple[str, int]:
    length, at = unsigned(data, at, end)
    if length > end - at:
        raise cut_off()
    try:
        return data[at : at + length].decode(), at + length
    except UnicodeDecodeError as error:
        raise hostile("memory.hostile.text", "a change has text that is not UTF-8") from error


def _runs(
    data: bytes, read: Callable[[bytes, int, int], tuple[_T, int]], short: tuple[_T, ...] = ()
) -> list[tuple[_T | None, int]]:
    """Run-length encoding: N > 1 repeats what follows, N < 0 lists -N values, 0 and a number say how many are absent.

    Two neighbours are never equal, two lists never touch, and a column of nothing but absent values is not written.
    ``short`` are the values of one byte, which most are: looked up here, they take a third of the time.
    """
    runs: list[tuple[_T | None, int]] = []
    at, end, total = 0, len(data), 0
    last: _T | object | None = _NOTHING
    listed = False  # whether the run before was a list
    while at < end:
        times = data[at]
        if times < _MORE:
            times, at = _SIGNED[times], at + 1
        else:
            times, at = signed(data, at, end)
        if not times:
            times, at = unsigned(data, at, end)
            if not times or last is None or (at == end and not runs):
                raise odd("a run of absent values is empty, in pieces, or all there is")
            total = _counted(total, times)
            runs.append((None, times))
            last, listed = None, False
            continue
        if times == 1 or (times < 0 and (listed or -times > end - at)):
            raise odd("a run of one, or a list of values in pieces, or longer than its column")
        total = _counted(total, abs(times))
        listed = times < 0
        many, rest = (1, -times) if listed else (times, 1)
        while rest:
            if short and at < end and data[at] < _MORE:
                value, at = short[data[at]], at + 1
            else:
                value, at = read(data, at, end)
            if value == last:
                raise odd("equal values are not written as one run")
            runs.append((value, many))
            last = value
            rest -= 1
    return runs
