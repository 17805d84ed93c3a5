"""Messages of Automerge's sync protocol: who has which changes, and the changes themselves.

    0x42                      or 0x43, where the changes may be a whole saved document
    heads   count, 32 bytes each
    need    count, 32 bytes each: changes asked for by hash
    have    count, each: the heads of the last sync (count, 32 bytes each), length and bytes of a Bloom filter
    changes count, each: length and bytes of a chunk
    flags   length and bytes, or nothing at all

Counts and lengths are unsigned LEB128. A side that sends flags says with it that it takes the second form (0x43); this
one sends none, so clients send it changes one by one, which is what can be screened. The second form is read too, where
it holds change chunks; a saved document in either is refused. Every bound is tested before anything is made.
"""

from __future__ import annotations

import msgspec

from shared import limits
from shared.errors import BadInput
from shared.memory.repo import bloom, leb
from shared.memory.repo.bloom import Bloom

FIRST_FORM, SECOND_FORM = 0x42, 0x43
SYNC_RESET, READ_ONLY = 1, 2  # bits of a flag byte that has its highest bit set
_MAGIC = b"\x85\x6f\x4a\x83"
_CHANGES = (1, 2)  # a chunk's type: a change, or a deflated one; 0 is a saved document


class Have(msgspec.Struct, frozen=True):
    """What a side has since the last sync: the heads then, and a filter of what came after."""

    last_sync: tuple[str, ...] = ()
    bloom: Bloom = Bloom()


class Message(msgspec.Struct, frozen=True):
    """Hashes are hex. ``changes`` are chunks, not looked into. ``read_only``: the sender takes no changes;
    ``reset``: it has forgotten what it was sent."""

    heads: tuple[str, ...] = ()
    need: tuple[str, ...] = ()
    have: tuple[Have, ...] = ()
    changes: tuple[bytes, ...] = ()
    read_only: bool = False
    reset: bool = False


def parse(data: bytes) -> Message:
    """Read a message. Raises ``BadInput('repo.sync')`` where it is none, or out of bounds. What its changes say is not
    judged here."""
    if not data or data[0] not in (FIRST_FORM, SECOND_FORM):
        raise _bad("it begins otherwise")
    heads, at = _hashes(data, 1)
    need, at = _hashes(data, at)
    have, at = _haves(data, at)
    changes, at = _changes(data, at)
    flags = b""
    if at < len(data):
        flags, at = _bytes(data, at)
    if at != len(data):
        raise _bad("something follows its end")
    bits = 0
    for byte in flags:
        bits |= byte & 0x7F if byte & 0x80 else 0
    return Message(heads, need, have, changes, bool(bits & READ_ONLY), bool(bits & SYNC_RESET))


def encode(message: Message) -> bytes:
    """The bytes of a message, in the first form and without flags."""
    out = [bytes([FIRST_FORM]), _join(message.heads), _join(message.need), leb.write(len(message.have))]
    for have in message.have:
        out += [_join(have.last_sync), _prefixed(have.bloom.encode())]
    out.append(leb.write(len(message.changes)))
    out += [_prefixed(change) for change in message.changes]
    return b"".join(out)


def _join(hashes: tuple[str, ...]) -> bytes:
    return leb.write(len(hashes)) + b"".join(map(bytes.fromhex, hashes))


def _prefixed(data: bytes) -> bytes:
    return leb.write(len(data)) + data


def _hashes(data: bytes, at: int) -> tuple[tuple[str, ...], int]:
    count, at = leb.read(data, at)
    end = at + 32 * count
    if count > limits.REPO_HASHES or end > len(data):
        raise _bad("it names too many changes, or is cut off")
    return tuple(data[place : place + 32].hex() for place in range(at, end, 32)), end


def _haves(data: bytes, at: int) -> tuple[tuple[Have, ...], int]:
    count, at = leb.read(data, at)
    if count > limits.REPO_HAVES:
        raise _bad("it has too many Bloom filters")
    found = []
    for _ in range(count):
        last_sync, at = _hashes(data, at)
        raw, at = _bytes(data, at)
        found.append(Have(last_sync, bloom.parse(raw)))
    return tuple(found), at


def _changes(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    count, at = leb.read(data, at)
    if count > limits.REPO_CHANGES:
        raise _bad("it has too many changes")
    found: list[bytes] = []
    for _ in range(count):
        raw, at = _bytes(data, at)
        found += _chunks(raw, limits.REPO_CHANGES - len(found))
    return tuple(found), at


def _chunks(data: bytes, most: int) -> list[bytes]:
    """The chunks that stand one behind the other in ``data``: magic, checksum (4 bytes), type, length, content."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        if len(found) >= most:
            raise _bad("it has too many changes")
        if data[at : at + 4] != _MAGIC or len(data) < at + 10 or data[at + 8] not in _CHANGES:
            raise _bad("what it carries is no change; whole documents are not taken")
        length, body = leb.read(data, at + 9)
        end = body + length
        if end > len(data):
            raise _bad("a change is cut off")
        found.append(data[at:end])
        at = end
    return found


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = leb.read(data, at)
    if at + length > len(data):
        raise _bad("it is cut off")
    return data[at : at + length], at + length


def _bad(said: str) -> BadInput:
    return BadInput("repo.sync", f"a sync message does not read: {said}", advice="speak Automerge's sync protocol")
