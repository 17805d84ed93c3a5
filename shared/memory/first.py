"""An item's first change, written without the codec: many times as fast, because letters are not put in one by one.

The bytes are those that Automerge writes for the same operations; a test holds the two against each other. The format
is told in ``chunks``; here one actor does nothing but put and insert where nothing was before. Spec page:
``shared/spec/memory.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from shared.memory import chunks
from shared.memory.item import INTEGERS, STRINGS, Item
from shared.memory.stamp import leb, message, seconds, signed_leb

_MAKE_MAP, _SET, _MAKE_TEXT = 0, 1, 4
_NULL, _TRUE, _INT, _STRING = 0, 2, 4, 6


class _Op(NamedTuple):
    """``times`` equal operations: in which object (None: the root), under which key (None: a letter), and what."""

    key: str | None
    action: int
    meta: int = _NULL
    data: bytes = b""
    within: int | None = None
    times: int = 1


def first_change(item: Item, actor: bytes, *, at: int, by: str) -> bytes:
    """The chunk of the change that makes ``item``, which is within bounds, by ``actor`` (16 bytes), at ``at`` (µs)."""
    said = message(at, by).encode()
    body = b"".join(
        (
            b"\x00",  # it builds on nothing
            leb(len(actor)) + actor,
            b"\x01\x01",  # it is the actor's first change, and begins with the first operation
            signed_leb(seconds(at)),
            leb(len(said)) + said,
            b"\x00",  # it names no other actor
            _table(_columns(item)),
        )
    )
    tail = bytes([chunks.CHANGE]) + leb(len(body)) + body
    return chunks.MAGIC + hashlib.sha256(tail).digest()[:4] + tail


def _operations(item: Item) -> tuple[list[_Op], list[_Op], list[_Op]]:
    """What comes before the text's letters, the letters, and what comes after them."""
    before = [_put(name, getattr(item, name)) for name in STRINGS]
    before += [_Op(name, _SET, len(data) << 4 | _INT, data) for name, data in _integers(item)]
    before.append(_Op("text", _MAKE_TEXT))
    text = len(before)  # objects are named by the operation that made them, counted from one
    if item.text.isascii():
        letters = [_Op(None, _SET, 1 << 4 | _STRING, item.text.encode(), text, len(item.text))]
    else:
        letters = [_same(list(same), size, text) for size, same in groupby(map(str.encode, item.text), key=len)]
    made = text + len(item.text) + 1
    after = [_Op("fields", _MAKE_MAP), *(_put(name, value, made) for name, value in sorted(item.fields.items()))]
    made += len(after)
    after += [_Op("tags", _MAKE_MAP), *(_Op(tag, _SET, _TRUE, b"", made) for tag in sorted(set(item.tags)))]
    if item.pinned:
        after.append(_Op("pinned", _SET, _TRUE))
    return before, letters, after


def _put(name: str, value: str, within: int | None = None) -> _Op:
    data = value.encode()
    return _Op(name, _SET, len(data) << 4 | _STRING, data, within)


def _integers(item: Item) -> list[tuple[str, bytes]]:
    return [(name, signed_leb(getattr(item, name))) for name in INTEGERS]


def _same(letters: list[bytes], size: int, text: int) -> _Op:
    """Neighbouring letters that take equally many bytes."""
    return _Op(None, _SET, size << 4 | _STRING, b"".join(letters), text, len(letters))


def _columns(item: Item) -> dict[int, bytes]:
    before, letters, after = _operations(item)
    ops, count = [*before, *letters, *after], len(item.text)
    # The first letter stands at the text's start (0), each other behind the one before, told as a difference.
    behind = [(len(before) + 1, 1), (1, count - 2)] if count > 1 else []
    return {
        chunks.OBJ_ACTOR: _runs(((None if op.within is None else 0, op.times) for op in ops), leb),
        chunks.OBJ_CTR: _runs(((op.within, op.times) for op in ops), leb),
        chunks.KEY_ACTOR: _runs([(None, len(before) + 1), (0, count - 1), (None, len(after))], leb),
        chunks.KEY_CTR: _runs([(None, len(before)), (0, 1), *behind, (None, len(after))], signed_leb),
        chunks.KEY_STR: _runs(((op.key, op.times) for op in ops), _name),
        chunks.INSERT: leb(len(before)) + leb(count) + leb(len(after)),
        chunks.ACTION: _runs(((op.action, op.times) for op in ops), leb),
        chunks.VALUE_META: _runs(((op.meta, op.times) for op in ops), leb),
        chunks.VALUE: b"".join([op.data for op in ops]),
        chunks.PRED_COUNT: _runs([(0, len(before) + count + len(after))], leb),
    }


def _table(columns: dict[int, bytes]) -> bytes:
    found = {number: data for number, data in sorted(columns.items()) if data}
    sizes = b"".join(leb(number) + leb(len(data)) for number, data in found.items())
    return leb(len(found)) + sizes + b"".join(found.values())


def _runs(values: Iterable[tuple[Any, int]], write: Callable[[Any], bytes]) -> bytes:
    """A column of (value, times), in the one spelling that ``columns`` reads. Of nothing but None it is empty."""
    out: list[bytes] = []
    single: list[bytes] = []

    def listed() -> None:
        if single:
            out.extend((signed_leb(-len(single)), *single))
            single.clear()

    there = [run for run in values if run[1]]
    if all(value is None for value, _ in there):
        return b""
    for value, same in groupby(there, key=itemgetter(0)):
        times = sum(run[1] for run in same)
        if value is None:
            listed()
            out.append(b"\x00" + leb(times))
        elif times > 1:
            listed()
            out.append(signed_leb(times) + write(value))
        else:
            single.append(write(value))
    listed()
    return b"".join(out)


def _name(name: str) -> bytes:
    data = name.encode()
    return leb(len(data)) + data
