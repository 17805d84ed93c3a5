"""The part of CBOR (RFC 8949) that automerge-repo uses, and no more.

Text, bytes, whole numbers, lists, mappings with text keys, true, false, null; ``undefined`` reads as null, and a
floating-point number is read because clients may send one where it does not matter. Tags, indefinite lengths, other
simple values and a key that comes twice are refused: libraries that know all of CBOR build dates, patterns and cycles
out of what a stranger sends. Lengths are held against what is there before anything is made of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from shared import limits
from shared.errors import BadInput

Plain = None | bool | int | float | str | bytes | Sequence["Plain"] | Mapping[str, "Plain"]

_UINT, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_CONSTANTS = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}


def decode(data: bytes) -> Any:
    """The one value that ``data`` is. Raises ``BadInput('repo.cbor')`` for anything else, however it is broken."""
    if len(data) > limits.REPO_MESSAGE_BYTES:
        raise _bad("it is too large")
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise _bad("something follows its end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = limits.REPO_VALUES
        self.at = 0

    def value(self, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > limits.REPO_DEPTH:
            raise _bad("it has too many values, or too many within each other")
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        if major == _SIMPLE:
            return self._simple(info)
        number = self._number(info)
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2:
                return self._take(number)
            case 3:
                return self._text(number)
            case 4:
                return [self.value(depth + 1) for _ in range(self._count(number))]
            case 5:
                return self._map(number, depth)
        raise _bad("it has a tag")

    def _map(self, number: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self._count(2 * number) // 2):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise _bad("a key is not text, or comes twice")
            found[key] = self.value(depth + 1)
        return found

    def _simple(self, info: int) -> bool | float | None:
        if info in _CONSTANTS:
            return _CONSTANTS[info]
        if info in _FLOATS:
            form, width = _FLOATS[info]
            (number,) = struct.unpack(form, self._take(width))
            return float(number)
        raise _bad("it has a value of no known kind")

    def _number(self, info: int) -> int:
        if info < 24:
            return info
        if info not in _WIDTHS:
            raise _bad("a length is not said beforehand")
        return int.from_bytes(self._take(_WIDTHS[info]), "big")

    def _count(self, number: int) -> int:
        """So many values can follow: each takes a byte at least."""
        if number > len(self._data) - self.at:
            raise _bad("it is cut off")
        return number

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise _bad("it is cut off")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise _bad("a text is not UTF-8") from error


def encode(value: Plain) -> bytes:
    """``value`` in the shortest form. Keys stay in their order."""
    out = bytearray()
    _write(out, value)
    return bytes(out)


def _write(out: bytearray, value: Plain) -> None:
    match value:
        case None:
            out.append(0xF6)
        case bool():
            out.append(0xF5 if value else 0xF4)
        case int() if value >= 0:
            _head(out, _UINT, value)
        case int():
            _head(out, _NEGATIVE, -1 - value)
        case float():
            out += b"\xfb" + struct.pack(">d", value)
        case str():
            raw = value.encode()
            _head(out, _TEXT, len(raw))
            out += raw
        case bytes():
            _head(out, _BYTES, len(value))
            out += value
        case Mapping():
            _head(out, _MAP, len(value))
            for key, inner in value.items():
                _write(out, key)
                _write(out, inner)
        case _:
            _head(out, _LIST, len(value))
            for inner in value:
                _write(out, inner)


def _head(out: bytearray, major: int, number: int) -> None:
    if number < 24:
        out.append(major << 5 | number)
        return
    for info, width in _WIDTHS.items():
        if number < 1 << 8 * width:
            out.append(major << 5 | info)
            out += number.to_bytes(width, "big")
            return
    raise _bad("a number is too large")


def _bad(said: str) -> BadInput:
    return BadInput("repo.cbor", f"a message does not read: {said}", advice="speak the automerge-repo protocol")
