"""Finding items by words and by meaning, within scopes, kinds, tags, subject and time, and saying why each was found.

Words are ranked by BM25 (``words``), meaning by the cosine of the question's vector (``vectors``), and both become one
list in ``shared.memory.ranking``. Whatever is typed is words to look for, never a query language.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.memory.base import Base
from edge_agent.memory.items import COLUMNS, Kept, kept_of
from edge_agent.memory.moves import Moves, Traits
from edge_agent.memory.words import Where, marks
from shared.memory.ranking import Ranked, mix
from shared.memory.vector import Embedding

if TYPE_CHECKING:
    from edge_agent.memory.vectors import Matrix, Traited

_CANDIDATES = 100  # taken from each side before they are mixed
_BLOCK = 4_096


class Query(msgspec.Struct, frozen=True):
    """What to look for. Empty lists and texts let in everything; an empty ``text`` lists what is let in, pinned items
    first and then the newest. ``tags`` must all be there. ``since`` (included) and ``until`` (not) bound when an item
    last changed, in microseconds. Expired items are left out unless asked for."""

    text: str
    scopes: list[str] = msgspec.field(default_factory=list)
    kinds: list[str] = msgspec.field(default_factory=list)
    tags: list[str] = msgspec.field(default_factory=list)
    subject: str = ""
    since: int = 0
    until: int = 0
    limit: int = 20
    include_expired: bool = False


class Why(msgspec.Struct, frozen=True):
    """Why an item was found: which of the words asked for it has, how near its meaning is (permille, None where that
    was not compared), which of its tags were asked for, and whether it is pinned."""

    words: tuple[str, ...] = ()
    similarity: int | None = None
    tags: tuple[str, ...] = ()
    pinned: bool = False


@dataclass(frozen=True)
class Found:
    """``score`` is permille of the best there could be for this question."""

    kept: Kept
    score: int
    why: Why


class Finding(Base):
    """Search over what ``Items`` keeps."""

    _matrix: Matrix | None = None
    _traited: Traited | None = None
    _fresh: int = -1

    def find(self, query: Query, *, now: int, vector: Embedding | None = None, model: str = "") -> list[Found]:
        """Items that match, best first. ``vector`` is that of ``query.text`` by ``model``; without it words decide."""
        with self._reading() as db:
            where = _where(query, now)
            asked = self._words.asked(query.text)
            if not query.text.strip():
                return [Found(kept, 0, Why(pinned=kept.pinned)) for kept in _listed(db, where, query.limit)]
            most = max(_CANDIDATES, query.limit)
            spoken = self._words.scores(db, asked, where, most) if asked else {}
            meant = self._meant(db, query, where, vector, model, now, spoken, most) if vector is not None else {}
            ranked = mix(_named(spoken), _named(meant), limit=query.limit)
            return self._explained(db, ranked, asked, meant, query)

    def ids(self, query: Query, *, now: int) -> list[str]:
        """The items that ``find`` would list without words, all of them, by id and nothing else of them."""
        where = _where(query, now)
        sql = f"SELECT i.id FROM item i {'WHERE ' + where.sql if where.sql else ''} ORDER BY i.id"  # noqa: S608 - our own SQL
        return [id for (id,) in self._all(sql, *where.values)]

    def _meant(
        self,
        db: sqlite3.Connection,
        query: Query,
        where: Where,
        vector: Embedding,
        model: str,
        now: int,
        spoken: Mapping[int, float],
        most: int,
    ) -> dict[int, float]:
        """Cosines of the items nearest in meaning, and of those that words have found."""
        matrix, traited = self._caches(db, model, len(vector.values))
        only = None
        if query.tags or query.subject:
            rows = db.execute(f"SELECT i.n FROM item i WHERE {where.sql}", where.values)  # noqa: S608 - our own SQL
            only = [n for (n,) in rows]
        until_now = None if query.include_expired else now
        allowed = traited.allowed(query.scopes, query.kinds, query.since, query.until, until_now, only)
        return matrix.cosines(vector, list(spoken)) | matrix.nearest(vector, allowed, most)

    def _explained(
        self,
        db: sqlite3.Connection,
        ranked: Sequence[Ranked],
        asked: Mapping[str, list[str]],
        meant: Mapping[int, float],
        query: Query,
    ) -> list[Found]:
        rows = [int(one.id) for one in ranked]
        words = self._words.named(db, asked, rows)
        columns = db.execute(f"SELECT i.n, {COLUMNS} FROM item i WHERE i.n IN ({marks(rows)})", rows)  # noqa: S608 - our own columns and question marks
        kept = {row[0]: kept_of(row[1:]) for row in columns}
        spoken = {word for found in asked.values() for word in found} | set(query.tags)
        tags: dict[int, list[str]] = {}
        for n, tag in db.execute(f"SELECT n, tag FROM tag WHERE n IN ({marks(rows)})", rows):  # noqa: S608 - question marks
            if tag in spoken or tag.lower() in spoken:
                tags.setdefault(n, []).append(tag)
        found = []
        for one, n in zip(ranked, rows, strict=True):
            order = [word for stems in asked.values() for word in stems if word in words.get(n, ())]
            near = round(meant[n] * 1000) if n in meant else None
            why = Why(tuple(dict.fromkeys(order)), near, tuple(sorted(tags.get(n, ()))), kept[n].pinned)
            found.append(Found(kept[n], round(one.score * 1000), why))
        return found

    # --- the caches -----------------------------------------------------------------------------------------------

    def _caches(self, db: sqlite3.Connection, model: str, width: int) -> tuple[Matrix, Traited]:
        """The matrix of a model and the traits of all items, built anew where they are not those of the database."""
        from edge_agent.memory.vectors import Matrix, Traited

        written = int(db.execute("PRAGMA data_version").fetchone()[0])  # moves when another connection commits
        if written != self._fresh:
            self._matrix = self._traited = None
            self._fresh = written
        if self._traited is None:
            rows = db.execute("SELECT n, scope, kind, expires_at, changed_at FROM item")
            self._traited = Traited((row[0], Traits(*row[1:])) for row in rows)
        if self._matrix is None or self._matrix.model != model:
            self._matrix = None  # the old one's memory first
            (size,) = db.execute("SELECT COUNT(*) FROM item").fetchone()
            rows = db.execute("SELECT n, part, scale, data FROM vector WHERE model = ?", (model,))
            self._matrix = Matrix(model, width, _blocks(rows), size)
        return self._matrix, self._traited

    def _moved(self, moves: Moves) -> None:
        if self._traited is not None:
            for n, traits in moves.rows.items():
                self._traited.put(n, traits)
            for n in moves.gone:
                if n not in moves.rows:
                    self._traited.drop(n)
        if self._matrix is not None:
            for n in (*moves.gone, *moves.stripped):
                self._matrix.drop(n)
            for n, part, model, vector in moves.vectors:
                if model == self._matrix.model:
                    self._matrix.put(n, part, vector)


def _where(query: Query, now: int) -> Where:
    parts: list[str] = []
    values: list[Any] = []
    for column, wanted in (("scope", query.scopes), ("kind", query.kinds)):
        if wanted:
            parts.append(f"i.{column} IN ({marks(wanted)})")
            values += wanted
    for tag in query.tags:
        parts.append("EXISTS (SELECT 1 FROM tag t WHERE t.tag = ? AND t.n = i.n)")
        values.append(tag)
    bounds = (("subject = ?", query.subject), ("changed_at >= ?", query.since), ("changed_at < ?", query.until))
    for sql, value in bounds:
        if value:
            parts.append("i." + sql)
            values.append(value)
    narrow = bool(parts)
    if not query.include_expired:
        parts.append("(i.expires_at = 0 OR i.expires_at > ?)")
        values.append(now)
    return Where(" AND ".join(parts), tuple(values), narrow)


def _listed(db: sqlite3.Connection, where: Where, limit: int) -> list[Kept]:
    sql = f"SELECT {COLUMNS} FROM item i {'WHERE ' + where.sql if where.sql else ''}"  # noqa: S608 - our own SQL
    rows = db.execute(sql + " ORDER BY i.pinned DESC, i.changed_at DESC, i.id LIMIT ?", (*where.values, limit))
    return [kept_of(row) for row in rows]


def _named(scores: Mapping[int, float]) -> dict[str, float]:
    """Row numbers as the names that ranking wants: of one width, so that ties keep the rows' order."""
    return {f"{n:012}": score for n, score in scores.items()}


def _blocks(rows: sqlite3.Cursor) -> Iterator[list[tuple[int, int, int, bytes]]]:
    while block := rows.fetchmany(_BLOCK):
        yield block
