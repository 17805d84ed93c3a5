"""Who and when, put into a change: the codec's binding writes neither, and Automerge has a place for both.

A change's header has its time, in whole seconds since 1970 UTC as every Automerge reads it, and a message, which here
is who made it, and behind that the microseconds of that second where there are any: ``user:ada .250000``. The binding
leaves both empty; they are filled in before anybody sees the change, and its checksum and hash are made anew.
Spec page: ``shared/spec/memory.md``.
"""

from __future__ import annotations

import hashlib
import re

from shared.errors import BadInput, Tampered

BY_CHARS = 200
_SECOND = 1_000_000
_MOST = 2**63 - 1
_MAGIC = b"\x85\x6f\x4a\x83"
_CHANGE = 1
_FRACTION = re.compile(r"(?:(.*) )?\.([0-9]{6})", re.DOTALL)


def check_stamp(at: int, by: str) -> None:
    """Raise ``BadInput('memory.stamp')`` unless ``at`` is a time in µs and ``by`` a name without odd characters."""
    if not 0 <= at <= _MOST:
        raise BadInput("memory.stamp", "a time is out of range", advice="use microseconds since 1970 UTC")
    if len(by) > BY_CHARS or not by.isprintable() or _FRACTION.fullmatch(by):
        raise BadInput(
            "memory.stamp", "a writer's name is too long or odd", advice=f"keep to {BY_CHARS} plain characters"
        )


def stamp(raw: bytes, *, deps: int, actor: bytes, seq: int, start_op: int, at: int, by: str) -> bytes:
    """The change ``raw`` (not deflated, without time and message) with ``at`` in µs and ``by`` in it.

    ``deps`` is how many changes it builds on; with actor, ``seq`` and ``start_op`` it says where the header ends.
    """
    begin = 9 + _length(raw, 9)
    place = begin + len(leb(deps)) + 32 * deps + len(leb(len(actor))) + len(actor) + len(leb(seq) + leb(start_op))
    if raw[:4] != _MAGIC or raw[8] != _CHANGE or raw[place : place + 2] != b"\x00\x00":
        raise Tampered("memory.document", "the codec made an odd change", advice="reinstall Outrider")
    name = message(at, by).encode()
    body = b"".join((raw[begin:place], signed_leb(seconds(at)), leb(len(name)), name, raw[place + 2 :]))
    tail = bytes([_CHANGE]) + leb(len(body)) + body
    return _MAGIC + hashlib.sha256(tail).digest()[:4] + tail


def written(time: int, message: str) -> tuple[int, str]:
    """When (µs) and by whom, from a change's time and message. Others write there what they like: times are held to
    what a time may be, and a message that is not ours is a name of its writer all the same."""
    second = min(max(time, 0) * _SECOND, _MOST)
    found = _FRACTION.fullmatch(message)
    if found is None:
        return second, message[:BY_CHARS]
    return min(second + int(found[2]), _MOST), (found[1] or "")[:BY_CHARS]


def seconds(at: int) -> int:
    """The time of a change that was made at ``at`` (µs)."""
    return at // _SECOND


def message(at: int, by: str) -> str:
    """The message of a change that ``by`` made at ``at`` (µs)."""
    fraction = at % _SECOND
    return " ".join([*([by] if by else []), f".{fraction:06}"]) if fraction else by


def leb(number: int) -> bytes:
    """A number in LEB128, the shortest spelling."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def signed_leb(number: int) -> bytes:
    """As ``leb``; the highest bit of the last seven is the sign."""
    out = bytearray()
    while not -0x40 <= number < 0x40:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number & 0x7F)
    return bytes(out)


def _length(raw: bytes, at: int) -> int:
    """How many bytes a LEB128 number takes."""
    size = 1
    while raw[at + size - 1] & 0x80:
        size += 1
    return size
