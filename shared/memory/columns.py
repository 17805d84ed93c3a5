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
_FEW = 0x80


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
        if byte < _FEW:
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
        if byte < _FEW:
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
    return _runs(data, unsigned)


def differences(data: bytes) -> list[tuple[int | None, int]]:
    """The runs of a column of differences, as they are written: each is added to the last value that was there."""
    return _runs(data, signed)


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


def _runs(data: bytes, read: Callable[[bytes, int, int], tuple[_T, int]]) -> list[tuple[_T | None, int]]:
    """Run-length encoding: N > 1 repeats what follows, N < 0 lists -N values, 0 and a number say how many are absent.

    Two neighbours are never equal, two lists never touch, and a column of nothing but absent values is not written.
    """
    runs: list[tuple[_T | None, int]] = []
    at, end, total = 0, len(data), 0
    last: _T | object | None = _NOTHING
    listed = False  # whether the run before was a list
    while at < end:
        times, at = signed(data, at, end)
        if times > 1:
            total = _counted(total, times)
            value, at = read(data, at, end)
            if value == last:
                raise odd("a run is written in pieces")
            runs.append((value, times))
            last, listed = value, False
        elif times < 0:
            if listed or -times > end - at:
                raise odd("a list of values is written in pieces, or is longer than its column")
            total = _counted(total, -times)
            for _ in range(-times):
                value, at = read(data, at, end)
                if value == last:
                    raise odd("equal values are not written as a run")
                runs.append((value, 1))
                last = value
            listed = True
        elif times == 0:
            absent, at = unsigned(data, at, end)
            if not absent or last is None or (at == end and not runs):
                raise odd("a run of absent values is empty, in pieces, or all there is")
            total = _counted(total, absent)
            runs.append((None, absent))
            last, listed = None, False
        else:
            raise odd("a run of one")
    return runs
