"""The exact bytes of an entry, and of what stands beside it. Spec page: ``shared/spec/log.md``.

What entries say is in ``shared.facts``, whose names are all here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from shared import limits
from shared.codec import canonical, encode, parse, salted
from shared.errors import BadInput, Conflict, Tampered
from shared.facts import *  # noqa: F403 - whoever reads entries reads their facts: one name for both
from shared.facts import FACTS, Facts

_NAMES = {kind: name for name, kind in FACTS.items()}

BODY_NAMES = ("shared", "private")  # ``private`` bodies never leave the device


class Entry(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One entry as read. ``seq`` is its leaf index, ``at`` microseconds since 1970 UTC, never less than the one before;
    ``bodies`` maps a body's name to its salted hash; ``run`` is empty for entries about the device itself."""

    seq: int
    at: int
    type: str
    v: int
    run: str
    facts: Facts
    bodies: dict[str, str]


class _Raw(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    seq: int
    at: int
    type: str
    v: int
    run: str
    facts: msgspec.Raw
    bodies: dict[str, str]


class Body(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Erasable bytes beside an entry. ``data`` is canonical JSON, ``salt`` 64 hex digits."""

    salt: str
    data: str

    def hash(self) -> str:
        return salted(bytes.fromhex(self.salt), self.data.encode())


class Draft(msgspec.Struct, frozen=True, gc=False):
    """What a room hands to the journal: it has no place in the log until it is committed. ``not_after`` (microseconds,
    0 for none) is the latest entry time at which it may still be written."""

    facts: Facts
    run: str = ""
    bodies: dict[str, Any] = msgspec.field(default_factory=dict)
    not_after: int = 0


class Written(msgspec.Struct, frozen=True, gc=False):
    """An entry with its exact bytes and its bodies, ready to be stored."""

    entry: Entry
    data: bytes
    bodies: dict[str, Body]


def type_of(facts: Facts) -> tuple[str, int]:
    """The type name and version that ``facts`` are written under."""
    return _NAMES[type(facts)]


def write(draft: Draft, seq: int, at: int, salt: Callable[[int], bytes]) -> Written:
    """Fix a draft's place and bytes. ``salt(n)`` returns n random bytes."""
    name, version = type_of(draft.facts)
    if draft.not_after and at > draft.not_after:
        raise Conflict("entry.late", f"it is too late for {name}", advice="ask again; check this computer's clock")
    bodies = {}
    for key, value in draft.bodies.items():
        if key not in BODY_NAMES:
            raise BadInput("entry.body", f"{key!r} is not a body name", advice=f"use one of {', '.join(BODY_NAMES)}")
        data = canonical(value)
        if len(data) > limits.BODY_BYTES:
            raise BadInput("entry.too-large", f"the {name} body has {len(data)} bytes", advice="shorten its text")
        bodies[key] = Body(salt=salt(32).hex(), data=data.decode())
    entry = Entry(seq, at, name, version, draft.run, draft.facts, {k: b.hash() for k, b in bodies.items()})
    data = canonical(entry)
    if len(data) > limits.ENTRY_BYTES:
        raise BadInput("entry.too-large", f"the {name} entry has {len(data)} bytes", advice="move text to the body")
    return Written(entry, data, bodies)


def read(data: bytes) -> Entry:
    """Read an entry's exact bytes; refuse unknown types, versions and fields, and bytes that are not canonical."""
    raw = parse(data, _Raw, code="entry.form", what="the entry")
    kind = FACTS.get((raw.type, raw.v))
    if kind is None:
        raise BadInput(
            "entry.unknown", f"entry type {raw.type!r} version {raw.v} is not known", advice="update this software"
        )
    facts = parse(bytes(raw.facts), kind, code="entry.form", what=f"the {raw.type} entry")
    entry = Entry(raw.seq, raw.at, raw.type, raw.v, raw.run, facts, raw.bodies)
    if encode(entry) != data:  # of typed facts: none is a float
        raise BadInput("entry.form", "the entry's bytes are not canonical", advice="it was not written by an agent")
    return entry


def check_body(entry: Entry, name: str, body: Body) -> None:
    """Raise ``Tampered('body.hash')`` unless ``body`` is the one the entry committed to."""
    wanted = entry.bodies.get(name)
    try:
        found = body.hash()
    except (ValueError, BadInput) as error:
        raise Tampered("body.hash", f"the {name} body has no usable salt", advice="restore it from a copy") from error
    if wanted != found:
        raise Tampered(
            "body.hash",
            f"the {name} body of entry {entry.seq} is not the one that was written",
            advice="restore it from a copy, or erase it: the entry itself still stands",
        )
