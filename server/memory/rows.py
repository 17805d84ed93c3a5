"""The rows that are made from an item's changes, and how all of an item is deleted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from server.store.memory_tables import (
    MEMORY_INDEXED,
    MEMORY_ITEMS,
    MEMORY_RECORDS,
    MEMORY_SCOPES,
    MEMORY_VECTORS,
    MEMORY_WORDS,
)
from shared.codec import encode, hex_sha256
from shared.memory.item import Item

_TITLE_CHARS = 80
_AT_ONCE = 500  # parameters of one statement


def derived(item: Item) -> dict[str, Any]:
    """The columns that say what an item says."""
    first = next((line.strip() for line in item.text.splitlines() if line.strip()), "")
    return {
        "kind": item.kind,
        "title": first if len(first) <= _TITLE_CHARS else first[: _TITLE_CHARS - 1].rstrip() + "…",
        "text": item.text,
        "source": item.source,
        "sensitivity": item.sensitivity,
        "subject": item.subject,
        "fields": json.dumps(item.fields, ensure_ascii=False, sort_keys=True),
        "tags": json.dumps(sorted(set(item.tags)), ensure_ascii=False),
        "confidence": item.confidence,
        "valid_from": item.valid_from,
        "expires_at": item.expires_at,
        "pinned": item.pinned,
        "sha256": hex_sha256(encode(item)),
    }


def in_parts(values: Iterable[str]) -> list[list[str]]:
    """Values for ``IN``, as many at once as one statement takes without effort."""
    whole = list(values)
    return [whole[i : i + _AT_ONCE] for i in range(0, len(whole), _AT_ONCE)]


def delete_items(conn: Connection, scope: str, items: Sequence[str]) -> None:
    """Delete every byte of these items from the tables: changes, derived rows, words and vectors. Their tombstones in
    the feed stay. The feed's size shrinks; its numbers never do."""
    for part in in_parts(items):
        mine = (MEMORY_RECORDS.c.scope == scope, MEMORY_RECORDS.c.item.in_(part), MEMORY_RECORDS.c.data != b"")
        sizes = conn.execute(
            select(MEMORY_ITEMS.c.size).where(MEMORY_ITEMS.c.scope == scope, MEMORY_ITEMS.c.item.in_(part))
        )
        freed = sum(sizes.scalars())
        conn.execute(delete(MEMORY_RECORDS).where(*mine))
        for table in (MEMORY_ITEMS, MEMORY_VECTORS, MEMORY_WORDS, MEMORY_INDEXED):
            conn.execute(delete(table).where(table.c.scope == scope, table.c.item.in_(part)))
        at = MEMORY_SCOPES.c.scope == scope
        conn.execute(update(MEMORY_SCOPES).where(at).values(size=MEMORY_SCOPES.c.size - freed))
