"""What is written about memory: who may use which scope, what was forgotten, held and refused. Never what it said."""

from __future__ import annotations

from shared.facts.base import Facts


class MemoryGranted(Facts, frozen=True):
    """A member (``user:NAME`` or ``device:ID``) has a role in a scope from here on; an empty role is none any more."""

    scope: str
    member: str
    role: str
    by: str


class MemoryTombstoned(Facts, frozen=True):
    """Something was erased for ever. ``kind`` is ``item``, ``subject``, ``scope`` or ``run``; ``items`` counts those
    that the hub had. A subject is named by its salted digest alone."""

    tombstone: str
    kind: str
    scope: str
    item: str
    subject: str
    run: str
    items: int
    by: str
    reason: str


class MemoryHeld(Facts, frozen=True):
    """A legal hold: nothing it covers expires or is erased."""

    hold: str
    scope: str
    item: str
    by: str
    reason: str


class MemoryUnheld(Facts, frozen=True):
    """A hold was lifted."""

    hold: str
    by: str


class MemoryErased(Facts, frozen=True):
    """The device has erased what these tombstones name, wherever it had it: the receipt. ``items`` counts the items."""

    tombstones: list[str]
    items: int


class MemoryRefused(Facts, frozen=True):
    """A change that came to this device was not taken."""

    scope: str
    item: str
    hash: str
    code: str
