"""What devices and hub exchange about memory: changes, records of a feed, tombstones, holds, and who may do what.

Spec page: ``shared/spec/link.md``. A feed is one scope's changes in the order in which the hub took them: record 1, 2,
3 and so on, without a gap that a reader could see. A change is one Automerge change chunk exactly as it was made, known
by its hash, so that sending it again is harmless. A tombstone takes a place in the feed too; what it names is erased
wherever it arrives. This module is bytes and values only, and does not load the codec.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import msgspec

from shared.codec import b64, canonical, hex_sha256, parse, salted, unb64
from shared.errors import BadInput
from shared.keys import Envelope, PublicKey, SigningKey, seal, unseal

DEVICE, PERSON, TEAM = "device", "person", "team/"
READER, WRITER, STEWARD = "reader", "writer", "steward"
ROLES = (READER, WRITER, STEWARD)
ITEM, SUBJECT, SCOPE, RUN = "item", "subject", "scope", "run"
FORGETTING = (ITEM, SUBJECT, SCOPE, RUN)
# Codes of changes that the hub may take another time; all others will be refused again.
LATER = frozenset({"memory.early", "memory.incomplete", "memory.forked", "memory.full", "memory.role", "memory.scope"})

_MEM = re.compile(r"mem_[0-9a-f]{24}")
_TMB = re.compile(r"tmb_[0-9a-f]{24}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"run_[0-9a-f]{24}")
_TEAM_NAME = re.compile(r"team/[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_REASON = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change of one item. ``data`` is the base64 of the chunk."""

    item: str
    data: str


class Tombstone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was forgotten, for ever, and by whom: the payload of an envelope for the purpose ``tombstone``.

    ``kind`` says which of the fields counts. ``scope`` is named as devices name it; empty, it is every scope there is,
    also the one that never leaves a device. ``subject`` is ``subject_digest`` of a name that stands nowhere; ``reason``
    is a code. An item's tombstone refuses all its changes; that of a scope or subject refuses items whose first change
    is not younger than ``at`` (microseconds)."""

    id: str
    kind: str
    scope: str
    item: str
    subject: str
    salt: str
    run: str
    at: int
    by: str
    reason: str


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing that this covers may expire or be erased while ``held``: the payload of an envelope for ``hold``. It
    covers one item, or a whole scope where ``item`` is empty."""

    id: str
    scope: str
    item: str
    held: bool
    at: int
    by: str
    reason: str


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One place in a feed: a change of ``item``, or a tombstone."""

    seq: int
    item: str
    data: str = ""
    tombstone: Envelope | None = None


class Rejected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change that the hub does not take, and the code that says why."""

    item: str
    hash: str
    code: str


def may(role: str, needed: str) -> bool:
    """Whether whoever has ``role`` may do what ``needed`` may. An unknown role may nothing."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def change_hash(chunk: bytes) -> str:
    """The hash that Automerge knows a change by: SHA-256 of the chunk behind its magic and checksum."""
    return hex_sha256(chunk[8:])


def chunk_of(change: Change) -> bytes:
    """The chunk of a change. Raises ``BadInput('memory.change')`` where its item has no name or it is not base64."""
    if not is_item(change.item):
        raise _bad(f"{change.item[:40]!r} names no item")
    return unb64(change.data, what="a change")


def change(item: str, chunk: bytes) -> Change:
    return Change(item, b64(chunk))


def is_item(name: str) -> bool:
    return _MEM.fullmatch(name) is not None


def is_reason(text: str) -> bool:
    """Whether ``text`` is a code that may stand in a log: small letters, digits, ``.`` and ``-``."""
    return _REASON.fullmatch(text) is not None


def is_team(scope: str) -> bool:
    """Whether ``scope`` can name what a team shares: ``team/`` and up to 64 letters, digits, spaces and ``. _ -``."""
    return _TEAM_NAME.fullmatch(scope) is not None and scope == scope.strip()


def new_tombstone_id(random: Callable[[int], bytes]) -> str:
    return f"tmb_{random(12).hex()}"


def subject_digest(name: str, salt: str) -> str:
    """The salted digest that stands for a person's name. ``salt`` is 64 hex digits. Case, width and the space around
    the name make no difference."""
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return salted(bytes.fromhex(salt), plain.encode("utf-8", "surrogatepass"))


def check_tombstone(stone: Tombstone) -> None:
    """Raise ``BadInput('memory.tombstone')`` unless exactly what its kind needs is there and well-formed."""
    wanted = {
        ITEM: (_MEM.fullmatch(stone.item), stone.scope, not stone.subject, not stone.salt, not stone.run),
        SUBJECT: (_HEX64.fullmatch(stone.subject), _HEX64.fullmatch(stone.salt), not stone.item, not stone.run),
        SCOPE: (stone.scope, not stone.item, not stone.subject, not stone.salt, not stone.run),
        RUN: (_RUN.fullmatch(stone.run), not stone.item, not stone.subject, not stone.salt),
    }.get(stone.kind)
    named = stone.scope in ("", PERSON) or is_team(stone.scope)
    if wanted is None or not all(wanted) or not named or not _TMB.fullmatch(stone.id) or stone.at < 0:
        raise BadInput("memory.tombstone", "that is no tombstone", advice="name one item, subject, scope or run")
    if not is_reason(stone.reason):
        raise BadInput("memory.tombstone", "the reason is no code", advice="use small letters, digits, . and -")


def seal_tombstone(stone: Tombstone, key: SigningKey) -> Envelope:
    check_tombstone(stone)
    return seal("tombstone", canonical(stone), key)


def open_tombstone(envelope: Envelope, key: PublicKey) -> Tombstone:
    """What the hub signed. Raises ``Tampered('envelope.*')`` or ``BadInput('memory.tombstone')``."""
    payload = unseal(envelope, "tombstone", key)
    stone = parse(payload, Tombstone, code="memory.tombstone", what="the tombstone")
    check_tombstone(stone)
    return stone


def seal_hold(hold: Hold, key: SigningKey) -> Envelope:
    return seal("hold", canonical(hold), key)


def open_hold(envelope: Envelope, key: PublicKey) -> Hold:
    """What the hub signed. Raises ``Tampered('envelope.*')`` or ``BadInput('memory.hold')``."""
    return parse(unseal(envelope, "hold", key), Hold, code="memory.hold", what="the hold")


def _bad(said: str) -> BadInput:
    return BadInput("memory.change", said, advice="send changes of items, as they were made")
