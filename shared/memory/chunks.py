"""Read one Automerge change in pure Python, without the native library and without expanding a run length.

Spec: https://automerge.org/automerge-binary-format-spec/ . A change chunk is the magic bytes, four bytes of checksum,
the type (1, or 2 where the rest is deflated), its length, and then: dependencies, actor, sequence number, first
operation, time, message, other actors, the column table, the columns. Its hash is SHA-256 over all from the type on.

Columns are run-length encoded, so a hundred bytes can stand for four thousand million operations; and one change can
be spelt in many ways, of which Automerge's own is the only one whose hash survives saving. So everything here keeps
runs as runs, and accepts that one spelling only: shortest LEB128 numbers, runs as long as can be, columns in order.
Whether what was read makes sense is judged in ``screen``; nothing else may be handed to the native library.
"""

from __future__ import annotations

import hashlib
import zlib

import msgspec

from shared import limits
from shared.memory.columns import (
    booleans,
    cut_off,
    differences,
    expanded,
    hostile,
    numbers,
    signed,
    strings,
    summed,
    unsigned,
)

MAGIC = b"\x85\x6f\x4a\x83"
CHANGE, DEFLATED = 1, 2
OBJ_ACTOR, OBJ_CTR, KEY_ACTOR, KEY_CTR, KEY_STR = 0x01, 0x02, 0x11, 0x13, 0x15
INSERT, ACTION, VALUE_META, VALUE = 0x34, 0x42, 0x56, 0x57
PRED_COUNT, PRED_ACTOR, PRED_CTR = 0x70, 0x71, 0x73
KNOWN = frozenset(
    (
        OBJ_ACTOR,
        OBJ_CTR,
        KEY_ACTOR,
        KEY_CTR,
        KEY_STR,
        INSERT,
        ACTION,
        VALUE_META,
        VALUE,
        PRED_COUNT,
        PRED_ACTOR,
        PRED_CTR,
    )
)
ACTIONS = ("make-map", "set", "make-list", "delete", "make-text", "increment", "make-table", "mark")
NULL, FALSE, TRUE, UINT, INT, FLOAT, STRING, BYTES, COUNTER, TIMESTAMP = range(10)


class Header(msgspec.Struct, frozen=True):
    """How a change begins. Hashes and actors are hex; ``time`` is as the writer put it."""

    actor: str
    seq: int
    start_op: int
    time: int
    message: str
    deps: tuple[str, ...]


class ParsedChange(Header, frozen=True):
    """What a change says of itself. ``ops`` is how many operations it has, ``inflated`` how many bytes the chunk has
    when it is not deflated, and ``raw`` those bytes. ``columns`` are the encoded columns by their number.
    """

    hash: str
    other_actors: tuple[str, ...]
    ops: int
    inflated: int
    raw: bytes
    columns: dict[int, bytes]


class Op(msgspec.Struct, frozen=True):
    """One operation. Ids are ``COUNTER@ACTOR``; the root object is ``_root``, a text's start ``_head``.

    In a map ``key`` names the field and ``elem`` is empty. In a text ``elem`` is the letter it is about, or stands
    after (``insert``), and ``key`` is empty. ``pred`` are the operations it overwrites. ``action`` is of ``ACTIONS``.
    """

    id: str
    obj: str
    key: str
    elem: str
    insert: bool
    action: str
    value: str | int | bool | None
    pred: tuple[str, ...]


def read_change(chunk: bytes) -> ParsedChange:
    """Take a change apart. Raises ``Tampered('memory.hostile.*')`` where it is not one, whole, in its one spelling."""
    raw = _whole(chunk)
    end = len(raw)
    header, at = _header(raw)
    count, at = unsigned(raw, at, end)
    others = []
    for _ in range(_few(count, end - at)):
        other, at = _bytes(raw, at, end)
        others.append(other.hex())
    columns = _columns(raw, at, end)
    return ParsedChange(
        actor=header.actor,
        seq=header.seq,
        start_op=header.start_op,
        time=header.time,
        message=header.message,
        deps=header.deps,
        hash=hashlib.sha256(memoryview(raw)[8:]).hexdigest(),
        other_actors=tuple(others),
        ops=sum(run[1] for run in numbers(columns.get(ACTION, b""))),
        inflated=end,
        raw=raw,
        columns=columns,
    )


def read_header(raw: bytes) -> Header:
    """How a change begins. Only for one that passed the screen, and is not deflated: nothing else of it is read."""
    return _header(raw)[0]


def operations(chunk: bytes) -> list[Op]:
    """Every operation of a change, in order. Only for one that passed the screen: here run lengths are expanded."""
    change = read_change(chunk)
    columns, count = change.columns, change.ops
    actors = (change.actor, *change.other_actors)

    def named(counter: int | None, actor: int | None, none: str) -> str:
        return none if counter is None or actor is None else f"{counter}@{actors[actor]}"

    rows = zip(
        expanded(numbers(columns.get(OBJ_CTR, b"")), count),
        expanded(numbers(columns.get(OBJ_ACTOR, b"")), count),
        expanded(strings(columns.get(KEY_STR, b"")), count),
        summed(differences(columns.get(KEY_CTR, b"")), count),
        expanded(numbers(columns.get(KEY_ACTOR, b"")), count),
        expanded([(int(insert), times) for insert, times in booleans(columns.get(INSERT, b""))], count),
        expanded(numbers(columns.get(ACTION, b"")), count),
        _values(change),
        _preds(change, actors),
        strict=True,
    )
    return [
        Op(
            id=f"{change.start_op + place}@{change.actor}",
            obj=named(obj, owner, "_root"),
            key=key or "",
            elem=named(letter, writer, "_head") if key is None else "",
            insert=bool(insert),
            action=ACTIONS[action or 0],
            value=value,
            pred=pred,
        )
        for place, (obj, owner, key, letter, writer, insert, action, value, pred) in enumerate(rows)
    ]


def references(change: ParsedChange) -> set[tuple[int, int]]:
    """The earlier operations that a change is about (objects, letters, and what is overwritten), as (counter, place of
    the actor: 0 is its own, then ``other_actors``). Only for one that passed the screen: run lengths are expanded."""
    found: set[tuple[int, int]] = set()
    for expand, decode, counters, owners in (
        (expanded, numbers, OBJ_CTR, OBJ_ACTOR),
        (summed, differences, KEY_CTR, KEY_ACTOR),
        (summed, differences, PRED_CTR, PRED_ACTOR),
    ):
        if owners in change.columns:  # else all of these are the root, or a text's start
            pairs = zip(
                expand(decode(change.columns[counters]), 0), expanded(numbers(change.columns[owners]), 0), strict=True
            )
            found.update(
                (counter, actor)
                for counter, actor in pairs
                if actor is not None and counter is not None and (actor or counter < change.start_op)
            )
    return found


def _whole(chunk: bytes) -> bytes:
    """The chunk, inflated where it is deflated, with its checksum proved."""
    if len(chunk) > limits.MEMORY_CHANGE_BYTES:
        raise hostile("memory.hostile.size", f"a change has {len(chunk)} bytes")
    if len(chunk) < 10 or chunk[:4] != MAGIC or chunk[8] not in (CHANGE, DEFLATED):
        raise hostile("memory.hostile.chunk", "these bytes are no Automerge change")
    length, at = unsigned(chunk, 9, len(chunk))
    if length != len(chunk) - at:
        raise hostile("memory.hostile.chunk", "a change has bytes too many or too few")
    if chunk[8] == DEFLATED:
        body = _inflate(chunk[at:])
        chunk = chunk[:8] + bytes([CHANGE]) + _leb(len(body)) + body
    if hashlib.sha256(memoryview(chunk)[8:]).digest()[:4] != chunk[4:8]:
        raise hostile("memory.hostile.checksum", "a change's checksum does not fit")
    return chunk


def _inflate(body: bytes) -> bytes:
    stream = zlib.decompressobj(-15)
    try:
        whole = stream.decompress(body, limits.MEMORY_CHANGE_INFLATED)
    except zlib.error as error:
        raise hostile("memory.hostile.inflated", "a deflated change does not inflate") from error
    if not stream.eof or stream.unused_data:
        raise hostile("memory.hostile.inflated", "a deflated change is too large or does not end where it should")
    return whole


def _header(raw: bytes) -> tuple[Header, int]:
    """A change's header, and where it ends."""
    end = len(raw)
    _, at = unsigned(raw, 9, end)
    deps, at = _hashes(raw, at, end)
    actor, at = _bytes(raw, at, end)
    seq, at = unsigned(raw, at, end)
    start_op, at = unsigned(raw, at, end)
    time, at = signed(raw, at, end)
    message, at = _bytes(raw, at, end)
    return Header(actor.hex(), seq, start_op, time, _text(message), tuple(deps)), at


def _leb(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes(raw: bytes, at: int, end: int) -> tuple[bytes, int]:
    length, at = unsigned(raw, at, end)
    if length > end - at:
        raise cut_off()
    return raw[at : at + length], at + length


def _hashes(raw: bytes, at: int, end: int) -> tuple[list[str], int]:
    count, at = unsigned(raw, at, end)
    if count * 32 > end - at:
        raise cut_off()
    return [raw[at + 32 * n : at + 32 * n + 32].hex() for n in range(count)], at + 32 * count


def _few(count: int, room: int) -> int:
    if count > room:
        raise cut_off()
    return count


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise hostile("memory.hostile.text", "a change has text that is not UTF-8") from error


def _columns(raw: bytes, at: int, end: int) -> dict[int, bytes]:
    """The encoded columns. Their table is in rising order, and names none that is unknown or empty."""
    count, at = unsigned(raw, at, end)
    table = []
    last = -1
    for _ in range(_few(count, end - at)):
        number, at = unsigned(raw, at, end)
        length, at = unsigned(raw, at, end)
        if number not in KNOWN or number <= last or (not length and number != VALUE):
            raise hostile("memory.hostile.columns", f"column {number} of a change is unknown, empty or out of order")
        table.append((number, length))
        last = number
    columns = {}
    for number, length in table:
        if length > end - at:
            raise cut_off()
        columns[number] = raw[at : at + length]
        at += length
    if at != end:
        raise hostile("memory.hostile.chunk", "a change has bytes after its columns")
    return columns


# What follows expands runs, and so is for screened changes alone.


def _preds(change: ParsedChange, actors: tuple[str, ...]) -> list[tuple[str, ...]]:
    columns = change.columns
    counters = iter(summed(differences(columns.get(PRED_CTR, b"")), 0))
    owners = iter(expanded(numbers(columns.get(PRED_ACTOR, b"")), 0))
    counts = expanded(numbers(columns.get(PRED_COUNT, b"")), change.ops)
    return [tuple(f"{next(counters)}@{actors[next(owners) or 0]}" for _ in range(times or 0)) for times in counts]


def _values(change: ParsedChange) -> list[str | int | bool | None]:
    data = change.columns.get(VALUE, b"")
    values: list[str | int | bool | None] = []
    at = 0
    for meta in expanded(numbers(change.columns.get(VALUE_META, b"")), change.ops):
        kind, length = (meta or 0) & 15, (meta or 0) >> 4
        values.append(_value(kind, data[at : at + length]))
        at += length
    return values


def _value(kind: int, data: bytes) -> str | int | bool | None:
    if kind == STRING:
        return _text(data)
    if kind in (INT, TIMESTAMP):
        return signed(data, 0, len(data))[0]
    return {NULL: None, FALSE: False, TRUE: True, FLOAT: 0}.get(kind)
