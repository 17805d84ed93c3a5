"""The word index: which stems stand in which item, in a plain table, ranked by BM25.

SQLite's FTS5 cuts and stems the words (in a table in memory), but does not keep the index. Its own index keeps words of
deleted rows in its segments (secure deletion came with SQLite 3.42, and many computers have an older one), and scores
three times slower: ``tests/benchmarks/memory_search.py`` compares. Rows here are erased like all others.

A word in the text counts twice as much as one in a tag, a field or the subject. Stop words are not kept.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.memory import Item
from shared.memory.ranking import STOP, terms

_K1, _B = 1.2, 0.75
_TEXT_HITS, _MORE_HITS = 2, 1
_MOST_POSTINGS = 4_000  # of the rarest stems, of which rows are taken
# BM25 of one row: the stem's worth and the mean size are given. Hits and sizes are in half words, hence the 2.
_SCORE = f"? * p.hits * {_K1 + 1} / (p.hits + {2 * _K1} * ({1 - _B} + {_B} * p.size / ?))"
_SPARE = (2, 16)  # times the wanted number is looked at before conditions are joined in
_TOTALS = "SELECT value FROM self WHERE name IN ('items', 'size') ORDER BY name"
_COUNT = "UPDATE self SET value = value + CASE name WHEN 'items' THEN ? ELSE ? END WHERE name IN ('items', 'size')"


Worth = list[tuple[str, float]]  # stems, and what each is worth


@dataclass(frozen=True)
class Where:
    """A condition on ``item i`` in our own SQL, and its values; ``narrow`` where it keeps out more than a few."""

    sql: str = ""
    values: tuple[Any, ...] = ()
    narrow: bool = False

    def keep(self, db: sqlite3.Connection, rows: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
        """Those of the rows that it lets in, in their order."""
        places = [n for n, _ in rows]
        sql = f"SELECT i.n FROM item i WHERE i.n IN ({marks(places)}) AND {self.sql}"  # noqa: S608 - see above
        let = {n for (n,) in db.execute(sql, (*places, *self.values))}
        return [row for row in rows if row[0] in let]


class Stemmer:
    """Texts to stems, as FTS5's ``porter unicode61`` makes them. Not for several threads at once."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("CREATE VIRTUAL TABLE cut USING fts5 (text, content = '', tokenize = 'porter unicode61')")
        self._db.execute("CREATE VIRTUAL TABLE found USING fts5vocab (cut, 'instance')")

    def close(self) -> None:
        self._db.close()

    def stems(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """For each text its stems, and how often each stands there."""
        made: list[dict[str, int]] = [{} for _ in texts]
        self._db.execute("BEGIN")
        try:
            # A broken character half (from a keyboard or a file name) is no word, and SQLite takes none.
            rows = ((place, text.encode("utf-8", "replace").decode()) for place, text in enumerate(texts))
            self._db.executemany("INSERT INTO cut (rowid, text) VALUES (?, ?)", rows)
            for place, stem, hits in self._db.execute("SELECT doc, term, COUNT(*) FROM found GROUP BY doc, term"):
                made[place][stem] = hits
        finally:
            self._db.execute("ROLLBACK")
        return made


class Words:
    """The index in one database. Its writing methods run inside the caller's transaction."""

    def __init__(self) -> None:
        self._stemmer = Stemmer()
        self._stop = {stem for stems in self._stemmer.stems(sorted(STOP)) for stem in stems} | STOP

    def close(self) -> None:
        self._stemmer.close()

    def put(self, db: sqlite3.Connection, n: int, item: Item) -> None:
        """Index an item that is not in the index."""
        more = " \n ".join([item.subject, *item.tags, *item.fields.values()])
        text, rest = self._stemmer.stems([item.text, more])
        hits = {stem: _TEXT_HITS * count for stem, count in text.items() if stem not in self._stop}
        for stem, count in rest.items():
            if stem not in self._stop:
                hits[stem] = hits.get(stem, 0) + _MORE_HITS * count
        size = sum(hits.values())
        db.executemany(
            "INSERT INTO posting VALUES (?, ?, ?, ?)", [(stem, n, count, size) for stem, count in hits.items()]
        )
        db.execute("INSERT INTO indexed VALUES (?, ?, ?)", (n, " ".join(hits), size))
        db.execute(_COUNT, (1, size))

    def drop(self, db: sqlite3.Connection, n: int) -> list[str]:
        """Take an item out; return the stems it had."""
        row = db.execute("SELECT words, size FROM indexed WHERE n = ?", (n,)).fetchone()
        if row is None:
            return []
        stems: list[str] = row[0].split()
        db.executemany("DELETE FROM posting WHERE word = ? AND n = ?", [(stem, n) for stem in stems])
        db.execute("DELETE FROM indexed WHERE n = ?", (n,))
        db.execute(_COUNT, (-1, -row[1]))
        return stems

    def asked(self, text: str) -> dict[str, list[str]]:
        """The stems asked for, each with the words it stands for."""
        words = terms(text)
        asked: dict[str, list[str]] = {}
        for word, stems in zip(words, self._stemmer.stems(words), strict=True):
            for stem in stems:
                if stem not in self._stop:
                    asked.setdefault(stem, []).append(word)
        return asked

    def scores(self, db: sqlite3.Connection, asked: Iterable[str], where: Where, limit: int) -> dict[int, float]:
        """BM25 scores of the rows that have some of the stems, the best ``limit`` of those that ``where`` lets in.

        What it costs is bounded: the rarest stems say which rows there are, and the common ones only add to the scores
        of the best of these. Of a stem that is common and all there is, the newest rows are looked at."""
        items, size = (row[0] for row in db.execute(_TOTALS))
        rare, common = _worth(db, asked, items)
        if not rare:
            return {}
        mean = max(size / items, 1.0) if items else 1.0
        kept: list[tuple[int, float]] = []
        for spare in _SPARE[
            where.narrow :
        ]:  # most items are let in by most conditions: to join them to every row would be dear
            some = _scored(db, rare, mean, Where(), limit * spare)
            kept = where.keep(db, some) if where.sql else some
            if len(kept) >= limit or len(some) < limit * spare:
                break
        else:
            kept = _scored(db, rare, mean, where, 2 * limit)
        scores = dict(kept[: 2 * limit])
        for word, worth in common:
            sql = f"SELECT n, {_SCORE} FROM posting p WHERE word = ? AND n IN ({marks(scores)})"  # noqa: S608 - question marks and our own constants
            for n, more in db.execute(sql, (worth, mean, word, *scores)):
                scores[n] += more
        return dict(sorted(scores.items(), key=lambda one: (-one[1], one[0]))[:limit])

    def named(self, db: sqlite3.Connection, asked: Mapping[str, list[str]], rows: Sequence[int]) -> dict[int, set[str]]:
        """Which of the words asked for each row has."""
        sql = f"SELECT n, word FROM posting WHERE word = ? AND n IN ({marks(rows)})"  # noqa: S608 - question marks only
        found: dict[int, set[str]] = {}
        for stem, words in asked.items():
            for n, _ in db.execute(sql, (stem, *rows)):
                found.setdefault(n, set()).update(words)
        return found


def marks(values: Collection[Any]) -> str:
    """A question mark for each, as SQL wants them."""
    return ",".join("?" * len(values))


def _worth(db: sqlite3.Connection, asked: Iterable[str], items: int) -> tuple[Worth, Worth]:
    """What each stem is worth (its inverse frequency): the rarest ones, as many as may be looked up, and the rest."""
    counted = "SELECT COUNT(*) FROM (SELECT 1 FROM posting WHERE word = ? LIMIT ?)"
    found = sorted((db.execute(counted, (stem, 4 * _MOST_POSTINGS)).fetchone()[0], stem) for stem in asked)
    rare: Worth = []
    common: Worth = []
    room = _MOST_POSTINGS
    for count, stem in found:
        if count:
            into = common if rare and count > room else rare
            into.append((stem, math.log(1 + (items - count + 0.5) / (count + 0.5))))
            room -= count
    return rare, common


def _scored(db: sqlite3.Connection, worth: Worth, mean: float, where: Where, limit: int) -> list[tuple[int, float]]:
    """The best rows by the given stems."""
    join, more = ("JOIN item i ON i.n = p.n", f"AND {where.sql}") if where.sql else ("", "")
    # Only constants of this module and conditions of ours are put in.
    one = f"SELECT p.n AS n, {_SCORE} AS s FROM posting p {join} WHERE p.word = ? {more} ORDER BY p.n DESC LIMIT ?"  # noqa: S608
    every = " UNION ALL ".join([f"SELECT * FROM ({one})"] * len(worth))  # noqa: S608 - made above
    given = [value for stem, value in worth for value in (value, mean, stem, *where.values, _MOST_POSTINGS)]
    sql = f"SELECT n, SUM(s) AS s FROM ({every}) GROUP BY n ORDER BY s DESC, n LIMIT ?"  # noqa: S608 - made above
    return db.execute(sql, (*given, limit)).fetchall()
