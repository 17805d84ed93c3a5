"""The agent's long-term memory: items as Automerge documents in SQLite, with words and vectors to find them by.

SQLite is the only truth. The columns beside a document, the word index and the vectors are derived from it and can be
made again. A vector carries the hash of the model that made it; vectors of another model are not used and are made
anew.
"""

from __future__ import annotations

import csv
import io
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.database import connect
from edge_agent.vector import Embedding
from shared.codec import hex_sha256
from shared.errors import BadInput, OutriderError, Tampered, Unavailable
from shared.memory import Item, check, item_id

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, scope TEXT NOT NULL, source TEXT NOT NULL, text TEXT NOT NULL,
    label TEXT NOT NULL, expires_at INTEGER NOT NULL, sha256 TEXT NOT NULL, document BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_kind ON item (kind, scope);
CREATE TABLE IF NOT EXISTS vector (id TEXT PRIMARY KEY, model TEXT NOT NULL, scale INTEGER NOT NULL, data BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS self (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (id UNINDEXED, text, tokenize = 'porter unicode61');
"""

_WORD = re.compile(r"\w+")
# Words so common that they only slow the index down and blur its ranking.
_STOP = frozenset(
    "a an and are as at be by for from has have in is it its of on or that the this to was were will with".split()  # noqa: SIM905 - a list of words reads best as one line
)


@dataclass(frozen=True)
class Kept:
    """An item as search and planning need it. ``label`` is a decision's lane; ``sha256`` is of the whole document."""

    id: str
    sha256: str
    kind: str
    scope: str
    source: str
    text: str
    label: str
    vector: Embedding | None = None


class Memory:
    """One device's memory. Its methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._db = connect(path, writable=True)
            self._db.executescript(_SCHEMA)
            self._actor = self._own_actor()
        except sqlite3.Error as error:
            raise _failed(path, error) from error
        self._changes = 0

    def _own_actor(self) -> bytes:
        """This database's Automerge actor. A restored copy must be given another; see ``docs/how-to/restore.md``."""
        self._db.execute("INSERT OR IGNORE INTO self VALUES ('actor', ?)", (secrets.token_bytes(16),))
        return bytes(self._db.execute("SELECT value FROM self WHERE name = 'actor'").fetchone()[0])

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._undo()
                raise _failed(self._path, error) from error
            except BaseException:
                self._undo()
                raise
            self._changes += 1

    @property
    def version(self) -> int:
        """Grows with every change since it was opened, by this process or another."""
        return self._changes + int(self._all("PRAGMA data_version")[0][0])

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _failed(self._path, error) from error

    def add(self, items: Iterable[Item]) -> tuple[int, int]:
        """Keep items; return how many are new and how many were known. Raises ``BadInput('memory.item')``."""
        from shared.memory.document import create

        new = known = 0
        with self._change() as db:
            for item in items:
                name = item_id(item)
                if db.execute("SELECT 1 FROM item WHERE id = ?", (name,)).fetchone():
                    known += 1
                    continue
                document = create(item, self._actor)
                label = item.fields.get("lane", "")
                row = (name, item.kind, item.scope, item.source, item.text, label, item.expires_at)
                db.execute("INSERT INTO item VALUES (?,?,?,?,?,?,?,?,?)", (*row, hex_sha256(document), document))
                db.execute("INSERT INTO words VALUES (?, ?)", (name, item.text))
                new += 1
        return new, known

    def get(self, item_id: str) -> Item:
        from shared.memory.document import open_item

        rows = self._all("SELECT document, sha256 FROM item WHERE id = ?", item_id)
        if not rows:
            raise BadInput("memory.unknown", f"there is no item {item_id}", advice="see `outrider memory list`")
        document, sha256 = rows[0]
        if hex_sha256(document) != sha256:
            raise Tampered("memory.document", f"{item_id} was changed on disk", advice="restore memory from a backup")
        return open_item(document)

    def count(self) -> int:
        return int(self._all("SELECT COUNT(*) FROM item")[0][0])

    def items(self, *, kinds: Sequence[str] = (), limit: int = 100) -> list[Kept]:
        """Items by id, of some kinds or of all."""
        marks = ",".join("?" * len(kinds))
        where = f"WHERE kind IN ({marks})" if kinds else ""
        # Only question marks are put in.
        sql = f"SELECT id, sha256, kind, scope, source, text, label FROM item {where} ORDER BY id LIMIT ?"  # noqa: S608
        return [Kept(*row) for row in self._all(sql, *kinds, limit)]

    def recall(self, kinds: Sequence[str], scope: str, model: str, now: int) -> list[Kept]:
        """What a planner compares with: unexpired items of some kinds in a scope, with their vectors of ``model``."""
        marks = ",".join("?" * len(kinds))
        sql = (  # only question marks are put in
            "SELECT i.id, i.sha256, i.kind, i.scope, i.source, i.text, i.label, v.data, v.scale FROM item i"  # noqa: S608
            " LEFT JOIN vector v ON v.id = i.id AND v.model = ?"
            f" WHERE i.kind IN ({marks}) AND i.scope IN (?, 'device') AND (i.expires_at = 0 OR i.expires_at > ?)"
            " ORDER BY i.id"
        )
        rows = self._all(sql, model, *kinds, scope, now)
        return [
            replace(Kept(*row[:7]), vector=Embedding(row[7], row[8]) if row[7] is not None else None) for row in rows
        ]

    def search(self, text: str, *, limit: int = 20) -> list[Kept]:
        """Items whose words match, best first. Anything may be typed; it is never a query language."""
        wanted = [word for word in _WORD.findall(text.lower()) if word not in _STOP]
        if not wanted:
            return []
        query = " OR ".join(f'"{word}"' for word in wanted[:32])
        sql = (
            "SELECT i.id, i.sha256, i.kind, i.scope, i.source, i.text, i.label FROM words w JOIN item i ON i.id = w.id"
            " WHERE words MATCH ? ORDER BY bm25(words), i.id LIMIT ?"
        )
        return [Kept(*row) for row in self._all(sql, query, limit)]

    def without_vector(self, model: str, limit: int) -> list[tuple[str, str]]:
        """(id, text) of items that have no vector of this model yet."""
        sql = (
            "SELECT i.id, i.text FROM item i LEFT JOIN vector v ON v.id = i.id AND v.model = ?"
            " WHERE v.id IS NULL ORDER BY i.id LIMIT ?"
        )
        return [(row[0], row[1]) for row in self._all(sql, model, limit)]

    def put_vectors(self, model: str, vectors: Iterable[tuple[str, Embedding]]) -> None:
        """Keep vectors made by ``model``; one item has one vector, the newest."""
        with self._change() as db:
            db.executemany(
                "INSERT INTO vector VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET model = excluded.model,"
                " scale = excluded.scale, data = excluded.data",
                [(name, model, vector.scale, vector.values) for name, vector in vectors],
            )


def read_decisions(data: bytes, name: str, scope: str) -> list[Item]:
    """Past decisions from a CSV with the columns ``description`` and ``lane``, and optionally ``reason``,
    ``decided_by``, ``decided_on``. Raises ``BadInput('memory.import')`` with the row."""
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput("memory.import", str(error), advice="save the file as 'CSV UTF-8'", where=name) from error
    if not rows or not {"description", "lane"} <= set(rows[0]):
        raise BadInput(
            "memory.import", "columns description and lane are needed", advice="name the columns so", where=name
        )
    items = []
    for number, row in enumerate(rows, 1):
        text, lane = (row["description"] or "").strip(), (row["lane"] or "").strip()
        if not text or not lane:
            raise BadInput(
                "memory.import", "description or lane is empty", advice="fill them in", where=f"{name} row {number}"
            )
        extra = {key: (row.get(key) or "").strip() for key in ("reason", "decided_by", "decided_on")}
        fields = {"lane": lane} | {key: value for key, value in extra.items() if value}
        item = Item(kind="decision", text=text, source=f"{name} row {number}", scope=scope, fields=fields)
        try:
            check(item)
        except BadInput as error:
            raise BadInput("memory.import", error.message, advice=error.advice, where=f"{name} row {number}") from error
        items.append(item)
    return items


def _failed(path: Path, error: sqlite3.Error) -> OutriderError:
    if "full" in str(error):
        return Unavailable(
            "memory.disk-full", f"the disk of {path} is full", advice="free some space; nothing was lost"
        )
    return Unavailable("memory.storage", f"{path}: {error}", advice="check the disk, restore memory from a backup")
