"""The tables of memory. Whatever stands here is erased when it is forgotten; only tombstones and receipts stay.

A feed's records are the truth. Items are made from them, for pages and searches, and vectors from items.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from server.store.tables import BODIES, HUB_BODIES, OUTBOX, Row, core


class MemoryScopeRow(Row, table=True):
    """A feed. ``seq`` is the number of its newest record; ``size`` is its changes' bytes. A person's scope is
    ``person/USER``, or ``person/device:ID`` for a device that is nobody's."""

    __tablename__ = "memory_scopes"

    scope: str = Field(primary_key=True)
    seq: int = Field(default=0, sa_type=BigInteger)
    size: int = Field(default=0, sa_type=BigInteger)


class MemoryMemberRow(Row, table=True):
    """Who may use a team's scope: ``user:NAME`` (all devices of a person) or ``device:ID``."""

    __tablename__ = "memory_members"

    scope: str = Field(primary_key=True)
    member: str = Field(primary_key=True, index=True)
    role: str
    by: str
    at: int = Field(sa_type=BigInteger)


class MemoryRecordRow(Row, table=True):
    """One place in a feed: a change of an item, or, where ``hash`` is a tombstone's id, that tombstone. ``device`` is
    who sent it, or ``hub``."""

    __tablename__ = "memory_records"
    __table_args__ = (UniqueConstraint("scope", "item", "hash"),)

    scope: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    item: str
    hash: str
    data: bytes
    device: str
    at: int = Field(sa_type=BigInteger)


class MemoryItemRow(Row, table=True):
    """An item as its changes have made it, for pages and searches: made from the records, and can be made again.
    ``base`` is the saved document; ``fields`` and ``tags`` are JSON; ``seq`` is its newest record. ``conflicts`` counts
    fields with several values; ``first_at`` is the time that the first change claims."""

    __tablename__ = "memory_items"
    __table_args__ = (UniqueConstraint("scope", "item"), Index("memory_items_expiry", "expires_at"))

    n: int | None = Field(default=None, primary_key=True)
    scope: str
    item: str
    seq: int = Field(sa_type=BigInteger)
    kind: str
    title: str
    text: str
    source: str
    sensitivity: str
    subject: str = Field(index=True)
    fields: str
    tags: str
    confidence: int
    valid_from: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    pinned: bool
    conflicts: int
    changes: int
    size: int = Field(sa_type=BigInteger)
    first_at: int = Field(sa_type=BigInteger)
    changed_at: int = Field(sa_type=BigInteger)
    changed_by: str
    sha256: str
    base: bytes


class MemoryTombstoneRow(Row, table=True):
    """What was forgotten. ``envelope`` is the signed tombstone; ``scope`` as the hub names it, empty for every one.
    ``state`` is pending until no byte of it is left in the hub's files, then done; ``items`` is how many there were."""

    __tablename__ = "memory_tombstones"

    id: str = Field(primary_key=True)
    kind: str
    scope: str = Field(index=True)
    item: str = Field(index=True)
    subject: str
    salt: str
    run: str
    at: int = Field(sa_type=BigInteger)
    by: str
    reason: str
    items: int
    state: str
    envelope: str


class MemoryErasedRow(Row, table=True):
    """An item that has a tombstone, its own or that of its scope or subject. Nothing of it is taken ever again."""

    __tablename__ = "memory_erased"

    scope: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    tombstone: str = Field(index=True)


class MemoryDueRow(Row, table=True):
    """A device that was to erase something when the tombstone was made."""

    __tablename__ = "memory_due"

    tombstone: str = Field(primary_key=True)
    device: str = Field(primary_key=True)


class MemoryReceiptRow(Row, table=True):
    """A device's word, from its signed log, that it has erased: entry ``seq``."""

    __tablename__ = "memory_receipts"

    tombstone: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)


class MemoryHoldRow(Row, table=True):
    """A legal hold on a scope, or on one ``item`` of it. ``lifted_at`` is 0 while it stands."""

    __tablename__ = "memory_holds"

    id: str = Field(primary_key=True)
    scope: str = Field(index=True)
    item: str
    by: str
    reason: str
    at: int = Field(sa_type=BigInteger)
    lifted_by: str = ""
    lifted_at: int = Field(default=0, sa_type=BigInteger)


class MemoryVectorRow(Row, table=True):
    """What an item means, as the embedding model ``model`` has it: ``data`` are its numbers, ``scale`` what they are
    divided by."""

    __tablename__ = "memory_vectors"
    __table_args__ = (Index("memory_vectors_model", "model", "scope"),)

    scope: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    model: str
    scale: int
    data: bytes


class MemoryWordRow(Row, table=True):
    """How many times an item says a word: the index of words, which is alike in every database."""

    __tablename__ = "memory_words"
    __table_args__ = (Index("memory_words_item", "scope", "item"),)

    scope: str = Field(primary_key=True)
    word: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    times: int


class MemoryIndexedRow(Row, table=True):
    """Up to which record an item's words and vector were made, and how many words it has."""

    __tablename__ = "memory_indexed"

    scope: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    length: int


class MemoryDoorRow(Row, table=True):
    """A token by which another program may open one document. Only its hash is kept; ``origins`` is a JSON list."""

    __tablename__ = "memory_doors"

    id: str = Field(primary_key=True)
    token_sha256: str = Field(unique=True)
    scope: str
    item: str = Field(index=True)
    role: str
    origins: str
    label: str
    by: str
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    revoked_at: int = Field(default=0, sa_type=BigInteger)
    used_at: int = Field(default=0, sa_type=BigInteger)


MEMORY_SCOPES, MEMORY_MEMBERS = core(MemoryScopeRow), core(MemoryMemberRow)
MEMORY_RECORDS, MEMORY_ITEMS, MEMORY_VECTORS = core(MemoryRecordRow), core(MemoryItemRow), core(MemoryVectorRow)
MEMORY_TOMBSTONES, MEMORY_ERASED = core(MemoryTombstoneRow), core(MemoryErasedRow)
MEMORY_DUE, MEMORY_RECEIPTS, MEMORY_HOLDS = core(MemoryDueRow), core(MemoryReceiptRow), core(MemoryHoldRow)
MEMORY_WORDS, MEMORY_INDEXED, MEMORY_DOORS = core(MemoryWordRow), core(MemoryIndexedRow), core(MemoryDoorRow)

# What is erased stands in these alone.
ERASABLE = (
    MEMORY_RECORDS,
    MEMORY_ITEMS,
    MEMORY_VECTORS,
    MEMORY_WORDS,
    MEMORY_INDEXED,
    BODIES,
    HUB_BODIES,
    OUTBOX,
)
