"""The rows that searching team memory needs: words and vectors, made from items and made again when those change.

Nothing here is truth. A row is written only while its item still is what it was made from, in one transaction with
that check, so that a vector never outlives the item it speaks of; erasing an item erases them in its own transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select

from server.embedding.words import counted
from server.store import Store
from server.store.memory_tables import MEMORY_INDEXED, MEMORY_ITEMS, MEMORY_VECTORS, MEMORY_WORDS
from shared.memory.vector import Embedding

TEAM = "team/"
NONE = Embedding(b"", 0)  # of a text that no vector can be made of


class Stale(msgspec.Struct, frozen=True):
    """An item whose words or vector are missing or of an earlier state. ``seq`` is the state to be indexed."""

    scope: str
    item: str
    seq: int
    text: str


class Filter(msgspec.Struct, frozen=True):
    """Where to look: scopes, kinds (none: all), and ``now`` in microseconds since 1970 UTC for what has expired."""

    scopes: tuple[str, ...]
    now: int
    kinds: tuple[str, ...] = ()

    @property
    def where(self) -> ColumnElement[bool]:
        items = MEMORY_ITEMS.c
        kinds = [items.kind.in_(self.kinds)] if self.kinds else []
        alive = or_(items.expires_at == 0, items.expires_at > self.now)
        return and_(items.scope.in_(self.scopes), alive, *kinds)


class Shown(msgspec.Struct, frozen=True):
    """An item as a list of results shows it."""

    scope: str
    item: str
    kind: str
    title: str
    text: str
    source: str


class Postings(msgspec.Struct, frozen=True):
    """Where the words asked for are said: word to item key to times; the lengths of those items; and how many items
    of which average length were searched."""

    found: dict[str, dict[str, int]]
    lengths: dict[str, int]
    items: int
    average: float


def key(scope: str, item: str) -> str:
    return f"{scope}\n{item}"


class Shelf:
    """Words and vectors in the hub's database. Any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- indexing -----------------------------------------------------------------------------------------------

    def stale(self, model: str, limit: int) -> list[Stale]:
        """Items of teams to index, oldest change first. Without a ``model`` only words are looked at."""
        items, done, vectors = MEMORY_ITEMS.c, MEMORY_INDEXED.c, MEMORY_VECTORS.c
        both = MEMORY_ITEMS.outerjoin(MEMORY_INDEXED, _same(MEMORY_INDEXED))
        wrong = or_(done.seq.is_(None), done.seq != items.seq)
        if model:
            both = both.outerjoin(MEMORY_VECTORS, _same(MEMORY_VECTORS))
            wrong = or_(wrong, vectors.model.is_(None), vectors.model != model)
        query = (
            select(items.scope, items.item, items.seq, items.text)
            .select_from(both)
            .where(items.scope.startswith(TEAM, autoescape=True), wrong)
            .order_by(items.n)
            .limit(limit)
        )
        with self._store.read() as conn:
            return [Stale(*row) for row in conn.execute(query)]

    def count(self, model: str) -> tuple[int, int]:
        """Items of teams that have a vector of the model, and items of teams."""
        items, vectors = MEMORY_ITEMS.c, MEMORY_VECTORS.c
        team = items.scope.startswith(TEAM, autoescape=True)
        joined = MEMORY_ITEMS.join(MEMORY_VECTORS, _same(MEMORY_VECTORS))
        with self._store.read() as conn:
            there = conn.execute(select(func.count()).select_from(joined).where(team, vectors.model == model)).scalar()
            every = conn.execute(select(func.count()).select_from(MEMORY_ITEMS).where(team)).scalar()
        return int(there or 0), int(every or 0)

    def put(self, items: Sequence[Stale], model: str, vectors: Sequence[Embedding]) -> int:
        """Write the words of ``items``, and their vectors where there are any (then one for each). Returns how many
        still were what they had been; the others were changed or erased meanwhile, and nothing is written of them."""
        written = 0
        with self._store.write() as conn:
            for place, one in enumerate(items):
                if not _still(conn, one):
                    continue
                written += 1
                _write_words(conn, one)
                if vectors:
                    _write_vector(conn, one, model, vectors[place])
        return written

    # --- searching ----------------------------------------------------------------------------------------------

    def postings(self, words: Sequence[str], where: Filter) -> Postings:
        said, done = MEMORY_WORDS.c, MEMORY_INDEXED.c
        joined = MEMORY_WORDS.join(MEMORY_INDEXED, and_(done.scope == said.scope, done.item == said.item)).join(
            MEMORY_ITEMS, and_(MEMORY_ITEMS.c.scope == said.scope, MEMORY_ITEMS.c.item == said.item)
        )
        query = (
            select(said.word, said.scope, said.item, said.times, done.length)
            .select_from(joined)
            .where(said.scope.in_(where.scopes), said.word.in_(words), where.where)
        )
        whole = select(func.count(), func.sum(done.length)).where(done.scope.in_(where.scopes))
        found: dict[str, dict[str, int]] = {}
        lengths: dict[str, int] = {}
        with self._store.read() as conn:
            items, length = conn.execute(whole).one()
            for word, scope, item, times, long in conn.execute(query):
                name = key(scope, item)
                found.setdefault(word, {})[name] = times
                lengths[name] = long
        return Postings(found, lengths, int(items), int(length or 0) / max(int(items), 1))

    def vectors(self, model: str, where: Filter, rows: int) -> Iterator[Sequence[Any]]:
        """All vectors of the model there, some ``rows`` at a time: scope, item, and an ``Embedding``'s two parts."""
        made = MEMORY_VECTORS.c
        query = (
            select(made.scope, made.item, made.data, made.scale)
            .select_from(MEMORY_VECTORS.join(MEMORY_ITEMS, _same(MEMORY_VECTORS)))
            .where(made.model == model, made.scale > 0, made.scope.in_(where.scopes), where.where)
        )
        with self._store.read() as conn:
            yield from conn.execution_options(yield_per=rows).execute(query).partitions()

    def show(self, keys: Sequence[str]) -> dict[str, Shown]:
        """The items behind keys; those erased since are left out."""
        items = MEMORY_ITEMS.c
        wanted = [name.split("\n", 1) for name in keys]
        query = select(items.scope, items.item, items.kind, items.title, items.text, items.source).where(
            items.item.in_([item for _, item in wanted]), items.scope.in_({scope for scope, _ in wanted})
        )
        with self._store.read() as conn:
            return {key(row[0], row[1]): Shown(*row) for row in conn.execute(query)}


def _same(table: object) -> ColumnElement[bool]:
    columns = table.c  # type: ignore[attr-defined] # a Table, which SQLAlchemy types as FromClause here
    return and_(columns.scope == MEMORY_ITEMS.c.scope, columns.item == MEMORY_ITEMS.c.item)


def _still(conn: Connection, one: Stale) -> bool:
    items = MEMORY_ITEMS.c
    query = select(items.seq).where(items.scope == one.scope, items.item == one.item)
    return conn.execute(query).scalar() == one.seq


def _write_words(conn: Connection, one: Stale) -> None:
    words = counted(one.text)
    for table in (MEMORY_WORDS, MEMORY_INDEXED):
        conn.execute(delete(table).where(table.c.scope == one.scope, table.c.item == one.item))
    if words:
        rows = [{"scope": one.scope, "word": word, "item": one.item, "times": times} for word, times in words.items()]
        conn.execute(insert(MEMORY_WORDS), rows)
    length = sum(words.values())
    conn.execute(insert(MEMORY_INDEXED), {"scope": one.scope, "item": one.item, "seq": one.seq, "length": length})


def _write_vector(conn: Connection, one: Stale, model: str, vector: Embedding) -> None:
    made = MEMORY_VECTORS.c
    conn.execute(delete(MEMORY_VECTORS).where(made.scope == one.scope, made.item == one.item))
    row = {"scope": one.scope, "item": one.item, "model": model, "scale": vector.scale, "data": vector.values}
    conn.execute(insert(MEMORY_VECTORS), row)
