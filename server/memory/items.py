"""What there is to see and to edit: the hub's items as its pages show them. An edit here is a change like any other.

The hub writes as an actor of its own, new in every process: so a database that was restored from a copy never counts on
where another copy went on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Select, func, or_, select

from server.memory.feeds import Feeds
from server.store import HubLog
from server.store.memory_tables import MEMORY_HOLDS, MEMORY_ITEMS, MEMORY_RECORDS
from shared.errors import BadInput, Conflict, OutriderError, Refused
from shared.memory.feed import change as as_change
from shared.memory.item import Edit, Item, new_id

if TYPE_CHECKING:
    from shared.memory.conflicts import Conflict as Several
    from shared.memory.conflicts import Version
    from shared.memory.document import Document

_ALL = 100


class ItemView(msgspec.Struct, frozen=True):
    """An item as a list shows it. Times are µs, 0 for none; ``confidence`` is permille. ``conflicts`` counts fields
    with several values; ``held`` says that a legal hold covers it; ``changes`` counts the changes."""

    scope: str
    item: str
    kind: str
    title: str
    text: str
    source: str
    sensitivity: str
    subject: str
    fields: dict[str, str]
    tags: list[str]
    confidence: int
    valid_from: int
    expires_at: int
    pinned: bool
    conflicts: int
    changes: int
    size: int
    changed_at: int
    changed_by: str
    sha256: str
    held: bool


class Asked(msgspec.Struct, frozen=True):
    """Which items a list shows. Empty is every one; ``text`` are words that it has somewhere."""

    scopes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    text: str = ""
    subject: str = ""
    expired: bool = False
    conflicts: bool = False


class Items:
    """``by`` names who does it, as it stands in the item's history: ``user:NAME``."""

    def __init__(self, hublog: HubLog, feeds: Feeds) -> None:
        self._store = hublog.store
        self._log = hublog
        self._feeds = feeds
        self._actor = hublog.random(16)

    def list(self, asked: Asked | None = None, *, limit: int = _ALL, offset: int = 0) -> Sequence[ItemView]:
        """The newest change first."""
        found = self._wanted(asked or Asked())
        found = found.order_by(MEMORY_ITEMS.c.changed_at.desc(), MEMORY_ITEMS.c.item).limit(limit).offset(offset)
        return self._views(found)

    def count(self, asked: Asked | None = None) -> int:
        found = self._wanted(asked or Asked()).with_only_columns(func.count(), maintain_column_froms=True)
        with self._store.read() as conn:
            return int(conn.execute(found).scalar() or 0)

    def some(self, names: Sequence[tuple[str, str]]) -> Sequence[ItemView]:
        """Items by scope and id, in the order asked; those that are no more are left out."""
        found: dict[tuple[str, str], ItemView] = {}
        for scope in {scope for scope, _ in names}:
            mine = [item for one, item in names if one == scope]
            at = (MEMORY_ITEMS.c.scope == scope, MEMORY_ITEMS.c.item.in_(mine))
            found |= {(view.scope, view.item): view for view in self._views(select(MEMORY_ITEMS).where(*at))}
        return [found[name] for name in names if name in found]

    def get(self, scope: str, item: str) -> ItemView:
        """Raises ``BadInput('memory.unknown')``."""
        found = self.some([(scope, item)])
        if not found:
            raise _unknown(item)
        return found[0]

    def document(self, scope: str, item: str) -> Document:
        """The item's ``Document``, to be edited by the hub."""
        from shared.memory.document import Document

        chunks = self._feeds.chunks(scope, item)
        if not chunks:
            raise _unknown(item)
        return Document.load(chunks, self._actor)

    def history(self, scope: str, item: str) -> Sequence[Version]:
        """Its ``Version``s, oldest first."""
        return self.document(scope, item).history()

    def conflicts(self, scope: str, item: str) -> Sequence[Several]:
        """Its ``Conflict``s: fields with several values."""
        return self.document(scope, item).conflicts()

    def item_at(self, scope: str, item: str, version: str) -> Item:
        """What the item said after a change. Raises ``BadInput('memory.version')``."""
        return self.document(scope, item).item_at(version)

    def senders(self, scope: str, item: str) -> dict[str, tuple[str, int]]:
        """Which device brought each change (by hash), or ``file:USER`` for who brought it in from a file, and when
        (µs): what its history says of its writer proves nothing, this the hub saw itself."""
        at = (MEMORY_RECORDS.c.scope == scope, MEMORY_RECORDS.c.item == item, MEMORY_RECORDS.c.data != b"")
        with self._store.read() as conn:
            rows = conn.execute(select(MEMORY_RECORDS.c.hash, MEMORY_RECORDS.c.device, MEMORY_RECORDS.c.at).where(*at))
            return {row.hash: (row.device, row.at) for row in rows}

    def create(self, item: Item, scope: str, by: str) -> str:
        """Write a new item into a scope (as the hub names it); its id. Raises ``BadInput('memory.item')``."""
        from shared.memory.document import Document

        name = new_id(self._log.random)
        made = Document.create(item, self._actor, at=self._log.clock(), by=by)
        self._push(scope, name, made.changes())
        return name

    def edit(self, scope: str, item: str, edit: Edit, by: str) -> bool:
        """Change an item; whether there was anything to change. Raises ``BadInput('memory.item')``."""
        chunk = self.document(scope, item).edit(edit, at=self._log.clock(), by=by)
        if chunk is not None:
            self._push(scope, item, [chunk])
        return chunk is not None

    def restore(self, scope: str, item: str, version: str, by: str) -> bool:
        """Let an item say again what it said after a change: a new change, not a step back."""
        chunk = self.document(scope, item).restore(version, at=self._log.clock(), by=by)
        if chunk is not None:
            self._push(scope, item, [chunk])
        return chunk is not None

    def _push(self, scope: str, item: str, chunks: Sequence[bytes]) -> None:
        done = self._feeds.push(scope, [as_change(item, chunk) for chunk in chunks])
        if done.refused:
            raise _refusal(done.refused[0].code)

    def _wanted(self, asked: Asked) -> Select[Any]:
        table = MEMORY_ITEMS.c
        found = select(MEMORY_ITEMS)
        if asked.scopes:
            found = found.where(table.scope.in_(asked.scopes))
        if asked.kinds:
            found = found.where(table.kind.in_(asked.kinds))
        for tag in asked.tags:
            found = found.where(table.tags.contains(json.dumps(tag, ensure_ascii=False), autoescape=True))
        if asked.subject:
            found = found.where(table.subject == asked.subject)
        if asked.conflicts:
            found = found.where(table.conflicts > 0)
        if not asked.expired:
            found = found.where(or_(table.expires_at == 0, table.expires_at > self._log.clock()))
        for word in asked.text.split():
            places = (table.text, table.source, table.subject, table.fields, table.tags)
            found = found.where(or_(*(place.icontains(word, autoescape=True) for place in places)))
        return found

    def _views(self, found: Select[Any]) -> Sequence[ItemView]:
        standing = select(MEMORY_HOLDS.c.scope, MEMORY_HOLDS.c.item).where(MEMORY_HOLDS.c.lifted_at == 0)
        with self._store.read() as conn:
            held = {(row.scope, row.item) for row in conn.execute(standing)}
            rows = conn.execute(found).mappings().all()
        return [
            ItemView(
                **{name: row[name] for name in _PLAIN},
                fields=json.loads(row["fields"]),
                tags=json.loads(row["tags"]),
                held=bool(held & {(row["scope"], ""), (row["scope"], row["item"])}),
            )
            for row in rows
        ]


_PLAIN = [name for name in ItemView.__struct_fields__ if name not in ("fields", "tags", "held")]


def _refusal(code: str) -> OutriderError:
    if code == "memory.erased":
        return Refused(code, "the item was forgotten", advice="write a new one, if it may be known again")
    return Conflict(code, "the change is not taken", advice="load the page again, and look what the code means")


def _unknown(item: str) -> BadInput:
    return BadInput("memory.unknown", f"there is no item {item[:40]!r}", advice="see the list of items")
