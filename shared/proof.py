"""One entry of a log, proved: a file that a stranger checks with public keys alone. Spec: ``shared/spec/log.md``.

The file is a C2SP tlog-proof. Its ``extra`` line, which that format leaves to the application, holds the entry's exact
bytes, so that nothing else is needed, and may hold a body of the entry with its salt.

    1. the checkpoint is signed by the log's key, and names the log as its origin
    2. it is countersigned by the witness, where its key is given
    3. the entry's bytes stand at the index, in the tree with the root that the checkpoint names
    4. the entry is read, and says of itself that it stands there
    5. every body in the file is the one the entry committed to
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from shared import limits
from shared.codec import b64, canonical, parse, unb64
from shared.entries import Body, Entry, check_body, read
from shared.errors import BadInput, Tampered
from shared.keys import PublicKey, key_id, read_vkey, split_note, verify_cosignature
from shared.tlog import NodeReader, inclusion_proof, leaf_hash, open_checkpoint, parse_checkpoint, verify_inclusion

HEADER = "c2sp.org/tlog-proof@v1"
MOST_BYTES = 4 * (limits.ENTRY_BYTES + limits.BODY_BYTES)  # quoted twice and in base64, an entry and one body fit
LOG, WITNESS = b"\x01", b"\x04"  # kinds of C2SP keys: of who signs notes, and of who countersigns checkpoints

_NAMED = re.compile(r"[^\s+]+\+[0-9a-f]{8}\+\S")  # base64 alone may have a plus as well


class _Extra(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entry: str
    bodies: dict[str, Body]


@dataclass(frozen=True)
class Verifier:
    """A public key that somebody trusts, and the name it signs by; empty where any name will do."""

    key: PublicKey
    name: str = ""


@dataclass(frozen=True)
class Proved:
    """What a proof shows. ``cosigned_at`` is in seconds since 1970 UTC; 0 where no witness was asked for."""

    origin: str
    index: int
    size: int
    root: bytes
    entry: Entry
    bodies: dict[str, Body]
    witness: str
    cosigned_at: int


@dataclass(frozen=True)
class _File:
    entry: bytes
    bodies: dict[str, Body]
    index: int
    path: list[bytes]
    note: bytes


# --- keys as text -------------------------------------------------------------------------------------------------


def read_verifier(text: str, kind: bytes = LOG) -> Verifier:
    """A key as ``shared.keys.vkey`` writes it, or the base64 of its 32 bytes alone; else ``BadInput``."""
    if _NAMED.match(text):
        name, key = read_vkey(text, kind)
        return Verifier(key, name)
    return Verifier(PublicKey.from_text(text))


# --- making -------------------------------------------------------------------------------------------------------


def make(entry: bytes, index: int, node: NodeReader, note: bytes, bodies: Mapping[str, Body]) -> bytes:
    """The file that proves ``entry`` to stand at ``index``, by a signed checkpoint of a tree that has it."""
    size = parse_checkpoint(split_note(note)[0]).size
    return _encode(_File(entry, dict(bodies), index, inclusion_proof(index, size, node), note))


def _encode(file: _File) -> bytes:
    extra = canonical(_Extra(file.entry.decode(), file.bodies))
    lines = [HEADER, f"extra {b64(extra)}", f"index {file.index}", *map(b64, file.path), "", ""]
    return "\n".join(lines).encode() + file.note


# --- checking -----------------------------------------------------------------------------------------------------


def check(data: bytes, log: Verifier, witness: Verifier | None = None) -> Proved:
    """Judge a proof. ``BadInput('proof.form')`` where it is none; ``Tampered`` where it shows nothing."""
    file = _decode(data)
    text, lines = split_note(file.note)
    origin = log.name or parse_checkpoint(text).origin
    checkpoint = open_checkpoint(file.note, origin, log.key)  # 1
    name, cosigned_at = "", 0
    if witness is not None:
        name = _cosigner(lines, witness)
        cosigned_at = verify_cosignature(file.note, name, witness.key)  # 2
    verify_inclusion(leaf_hash(file.entry), file.index, checkpoint.size, file.path, checkpoint.root)  # 3
    entry = read(file.entry)  # 4
    if entry.seq != file.index:
        raise Tampered("proof.index", f"entry {entry.seq} stands at {file.index}", advice="the log itself is unsound")
    for body_name, body in file.bodies.items():  # 5
        check_body(entry, body_name, body)
    return Proved(origin, file.index, checkpoint.size, checkpoint.root, entry, file.bodies, name, cosigned_at)


def _cosigner(lines: list[tuple[str, bytes]], witness: Verifier) -> str:
    """The name under which the witness's key stands in a note; the witness's own where it does not."""
    for name, line in lines:
        if witness.name in ("", name) and line[:4] == key_id(name, witness.key, WITNESS):
            return name
    return witness.name or "the witness"


def _decode(data: bytes) -> _File:
    """Read a proof's one form: what it comes to, written again, must be the same bytes."""
    if len(data) > MOST_BYTES:
        raise _malformed(f"it has {len(data)} bytes")
    head, gap, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _malformed("it is not text") from error
    if not gap or lines[0] != HEADER or len(lines) < 3:
        raise _malformed(f"a proof begins with {HEADER}, a line extra and a line index")
    extra = _word(lines[1], "extra")
    index = _word(lines[2], "index")
    if not (index.isdigit() and len(index) <= 18):
        raise _malformed("the index is a plain decimal")
    found = parse(unb64(extra, what="the extra line"), _Extra, code="proof.form", what="the extra line")
    path = [unb64(line, what="the proof's path") for line in lines[3:]]
    if len(path) > 64 or any(len(node) != hashlib.sha256().digest_size for node in path):
        raise _malformed("its path is no list of hashes")
    file = _File(found.entry.encode(), found.bodies, int(index), path, note)
    if _encode(file) != data:
        raise _malformed("it is not in the one form a proof has")
    return file


def _word(line: str, name: str) -> str:
    before, _, value = line.partition(" ")
    if before != name or not value:
        raise _malformed(f"there is no line {name!r} where it belongs")
    return value


def _malformed(said: str) -> BadInput:
    return BadInput(
        "proof.form", f"this is no proof of an entry: {said}", advice="ask for the file again, made by audit prove"
    )
