"""Items in the database: written, edited and read, each with its whole history, and what is derived from them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_agent.memory import actor, schema
from edge_agent.memory.base import Base, erased
from edge_agent.memory.moves import Traits
from edge_agent.memory.passages import passages
from edge_agent.memory.words import marks
from shared.codec import hex_sha256
from shared.errors import BadInput, OutriderError, Refused, Tampered
from shared.memory import Edit, Item, item_id, new_id
from shared.memory.feed import DEVICE, READER, change_hash
from shared.memory.vector import Embedding

if TYPE_CHECKING:
    from shared.memory.document import Conflict, Document, Version

COLUMNS = "i.id, i.sha256, i.kind, i.scope, i.source, i.text, i.label, i.subject, i.expires_at, i.changed_at, i.pinned"
_ROW = (
    "INSERT INTO item VALUES (:n, :id, :scope, :kind, :source, :text, :label, :subject, :sensitivity, :confidence,"
    " :valid_from, :expires_at, :made_at, :changed_at, :pinned, :sha256, :embedded) ON CONFLICT (n) DO UPDATE SET"
    " kind = excluded.kind, source = excluded.source, text = excluded.text, label = excluded.label,"
    " subject = excluded.subject, sensitivity = excluded.sensitivity, confidence = excluded.confidence,"
    " valid_from = excluded.valid_from, expires_at = excluded.expires_at, made_at = excluded.made_at,"
    " changed_at = excluded.changed_at, pinned = excluded.pinned, sha256 = excluded.sha256,"
    " embedded = excluded.embedded"
)
UNSENT, SENT = 0, 1


@dataclass(frozen=True)
class Kept:
    """An item as search and planning need it. ``label`` is a decision's lane; ``sha256`` is of its newest versions,
    alike on every device that has the same changes; times are microseconds, 0 for none or not known."""

    id: str
    sha256: str
    kind: str
    scope: str
    source: str
    text: str
    label: str
    subject: str = ""
    expires_at: int = 0
    changed_at: int = 0
    pinned: bool = False
    vector: Embedding | None = None


class Items(Base):
    """Items, and nothing yet of finding, syncing or forgetting them."""

    # --- writing --------------------------------------------------------------------------------------------------

    def add(self, items: Iterable[Item]) -> tuple[int, int]:
        """Keep items that came from somewhere else, under content ids; return how many are new, and how many were known
        or are forgotten for good. Raises ``BadInput('memory.item')``, ``Refused('memory.reader')``."""
        return self.bring(("", item, []) for item in items)

    def bring(self, items: Iterable[tuple[str, Item, Sequence[bytes]]]) -> tuple[int, int]:
        """The same for items of an export, each as (id, item, changes): under its own id, where it has one, and with
        its history, where the changes came along. They are screened. Raises ``Tampered('memory.hostile.*')`` too."""
        from shared.memory.document import Document
        from shared.memory.screen import screen

        new = known = 0
        with self._change() as db:
            mine = self._actor(db)
            for id, item, changes in items:
                for change in changes:
                    screen(change)
                name = id or item_id(item)
                if self._scope_of(db, name) is not None or self._refused(db, name, item.scope):
                    known += 1
                    continue
                document = Document.load(changes, mine) if changes else Document.imported(item, mine)
                made = [version.at for version in document.history()]
                if not self._welcome(db, item.scope, item, made[0]):
                    known += 1
                    continue
                self._may_write(db, item.scope)
                self._keep(db, name, item.scope, document.changes(), UNSENT)
                self._derive(db, name, item.scope, document, *made)
                new += 1
        return new, known

    def write(self, item: Item, *, at: int, by: str, id: str = "") -> str:
        """Keep an item that was written here, at ``at`` (µs) by a person or ``run ID``; return its id. Raises
        ``BadInput('memory.item')``, ``BadInput('memory.exists')``, ``Refused('memory.erased')``,
        ``Refused('memory.reader')``."""
        from shared.memory.document import Document

        with self._change() as db:
            name = id or new_id(self._random)
            if self._refused(db, name, item.scope):
                raise erased()
            if self._scope_of(db, name) is not None:
                raise BadInput("memory.exists", f"there is an item {name}", advice="edit it instead")
            self._may_write(db, item.scope)
            document = Document.create(item, self._actor(db), at=at, by=by)
            self._keep(db, name, item.scope, document.changes(), UNSENT)
            if not self._derive(db, name, item.scope, document, at):
                raise erased()
        return name

    def edit(self, id: str, edit: Edit, *, at: int, by: str) -> str | None:
        """Change an item; return the hash of its new version, or None where nothing changed. Raises as ``write``, and
        ``BadInput('memory.unknown')``."""
        return self._edited(id, lambda document: document.edit(edit, at=at, by=by), at)

    def restore(self, id: str, version: str, *, at: int, by: str) -> str | None:
        """Bring back what an item said at a version, as a new version; None where it says that already. Raises as
        ``edit``, and ``BadInput('memory.version')``."""
        return self._edited(id, lambda document: document.restore(version, at=at, by=by), at)

    def _edited(self, id: str, change: Any, at: int) -> str | None:
        with self._change() as db:
            scope = self._scope_of(db, id)
            if scope is None:
                raise _unknown(id)
            self._may_write(db, scope)
            document = self._document(db, id, self._actor(db))
            chunk = change(document)
            if chunk is None:
                return None
            self._keep(db, id, scope, [chunk], UNSENT)
            if not self._derive(db, id, scope, document, at, begun=()):
                raise erased()
            return change_hash(chunk)

    def _actor(self, db: sqlite3.Connection) -> bytes:
        return actor.read(db)[0]

    def _may_write(self, db: sqlite3.Connection, scope: str) -> None:
        role = db.execute("SELECT role FROM feed WHERE scope = ?", (scope,)).fetchone()
        if role is not None and role[0] == READER:
            raise Refused(
                "memory.reader", f"{scope} may be read only", advice="ask one of its stewards to let you write"
            )

    def _refused(self, db: sqlite3.Connection, id: str, scope: str) -> bool:
        found = db.execute("SELECT 1 FROM gone WHERE item = ? AND scope IN (?, '')", (id, scope)).fetchone()
        return found is not None

    def _scope_of(self, db: sqlite3.Connection, id: str) -> str | None:
        """The scope of an item, or of changes that wait for its first one."""
        found = db.execute(
            "SELECT scope FROM item WHERE id = ? UNION ALL SELECT scope FROM chunk WHERE item = ? LIMIT 1", (id, id)
        ).fetchone()
        return str(found[0]) if found else None

    def _keep(self, db: sqlite3.Connection, id: str, scope: str, chunks: Iterable[bytes], sent: int) -> None:
        state = SENT if scope == DEVICE else sent
        db.executemany(
            "INSERT INTO chunk (item, scope, hash, data, sent) VALUES (?, ?, ?, ?, ?)",
            [(id, scope, bytes.fromhex(change_hash(chunk)), chunk, state) for chunk in chunks],
        )

    def _derive(
        self,
        db: sqlite3.Connection,
        id: str,
        scope: str,
        document: Document,
        *times: int,
        begun: Iterable[int] | None = None,
    ) -> bool:
        """Make all that is derived from a document anew. False where a tombstone forbids what the item now is; the
        caller undoes or erases. ``times`` are those of the changes that came, ``begun`` of those among them that build
        on nothing, where that is not all of them: an item is as old as they are, whatever the clocks of its editors
        said. The hub counts so too, and both must erase the same."""
        item = document.item()
        old = db.execute(
            "SELECT n, text, embedded, made_at, changed_at, pinned FROM item WHERE id = ?", (id,)
        ).fetchone()
        roots = list(times if begun is None else begun)
        made_at = min([*roots, old[3]] if old else roots or times)
        if not self._welcome(db, scope, item, made_at):
            return False
        changed_at = max(*times, old[4] if old else 0, 0)
        same_text = old is not None and old[1] == item.text
        row = {name: getattr(item, name) for name in item.__struct_fields__ if name not in ("fields", "tags", "scope")}
        row |= {"id": id, "scope": scope, "label": item.fields.get("lane", ""), "pinned": int(item.pinned)}
        row |= {"n": old[0] if old else None, "made_at": made_at, "changed_at": changed_at or item.valid_from}
        row |= {"sha256": _digest(document), "embedded": old[2] if same_text else ""}
        n = int(db.execute(_ROW + " RETURNING n", row).fetchone()[0])
        if old is not None:
            self._words.drop(db, n)
            db.execute("DELETE FROM tag WHERE n = ?", (n,))
            if not same_text:
                db.execute("DELETE FROM vector WHERE n = ?", (n,))
                self._moves.stripped.append(n)
        self._words.put(db, n, item)
        db.executemany("INSERT INTO tag VALUES (?, ?)", [(n, tag) for tag in sorted(set(item.tags))])
        self._moves.rows[n] = Traits(scope, item.kind, item.expires_at, row["changed_at"])
        return True

    def _welcome(self, db: sqlite3.Connection, scope: str, item: Item, made_at: int) -> bool:
        """Whether no tombstone forbids such an item. See ``forgetting``."""
        return True

    # --- reading --------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Item:
        """What an item says. Raises ``BadInput('memory.unknown')``, ``Tampered('memory.document')``."""
        return self.document(id).item()

    def document(self, id: str) -> Document:
        """An item with its history, for reading. Raises as ``get``."""
        with self._reading() as db:
            return self._document(db, id, b"")

    def history(self, id: str) -> list[Version]:
        """Every version of an item, oldest first. Raises as ``get``."""
        return self.document(id).history()

    def conflicts(self, id: str) -> list[Conflict]:
        """What several have written without knowing of each other, until it is settled. Raises as ``get``."""
        return self.document(id).conflicts()

    def kept(self, id: str) -> Kept:
        """An item's row. Raises ``BadInput('memory.unknown')``."""
        found = self._all(f"SELECT {COLUMNS} FROM item i WHERE id = ?", id)  # noqa: S608 - our own columns
        if not found:
            raise _unknown(id)
        return kept_of(found[0])

    def count(self) -> int:
        return int(self._all("SELECT COUNT(*) FROM item")[0][0])

    def scopes(self) -> dict[str, int]:
        """How many items each scope holds; of those that hold any."""
        return dict(self._all("SELECT scope, COUNT(*) FROM item GROUP BY scope ORDER BY scope"))

    def items(self, *, kinds: Sequence[str] = (), limit: int = 100) -> list[Kept]:
        """Items by id, of some kinds or of all."""
        where = f"WHERE i.kind IN ({marks(kinds)})" if kinds else ""
        sql = f"SELECT {COLUMNS} FROM item i {where} ORDER BY i.id LIMIT ?"  # noqa: S608 - our own columns and marks
        return [kept_of(row) for row in self._all(sql, *kinds, limit)]

    def said(self, now: int) -> list[tuple[str, Item, int]]:
        """Every item that has not expired, with when it last changed, from its row and so without tags and fields: to
        go through all of them, opening each document would take minutes where there are many."""
        rows = self._all(
            "SELECT id, changed_at, kind, text, source, scope, subject, sensitivity, confidence, valid_from,"
            " expires_at, pinned FROM item WHERE expires_at = 0 OR expires_at > ?",
            now,
        )
        names = ("kind", "text", "source", "scope", "subject", "sensitivity", "confidence", "valid_from", "expires_at")
        return [
            (row[0], Item(**dict(zip(names, row[2:-1], strict=True)), pinned=bool(row[-1])), row[1]) for row in rows
        ]

    def recall(self, kinds: Sequence[str], scope: str, model: str, now: int) -> list[Kept]:
        """What a planner compares with: unexpired items of some kinds in a scope, with their vectors of ``model`` (of a
        long item: that of its beginning)."""
        sql = (  # only our own columns and question marks are put in
            f"SELECT {COLUMNS}, v.data, v.scale FROM item i"  # noqa: S608
            " LEFT JOIN vector v ON v.n = i.n AND v.part = 0 AND v.model = ?"
            f" WHERE i.kind IN ({marks(kinds)}) AND i.scope IN (?, 'device') AND (i.expires_at = 0 OR i.expires_at > ?)"
            " ORDER BY i.id"
        )
        rows = self._all(sql, model, *kinds, scope, now)
        return [
            replace(kept_of(row), vector=Embedding(row[-2], row[-1]) if row[-2] is not None else None) for row in rows
        ]

    def _document(self, db: sqlite3.Connection, id: str, mine: bytes) -> Document:
        from shared.memory.document import Document

        row = db.execute("SELECT sha256 FROM item WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise _unknown(id)
        chunks = []
        for digest, data in db.execute("SELECT hash, data FROM chunk WHERE item = ? ORDER BY k", (id,)):
            if change_hash(data) != bytes(digest).hex():
                raise _changed(id)
            chunks.append(bytes(data))
        if not chunks:
            raise _changed(id)
        document = Document.load(chunks, mine)
        if _digest(document) != row[0]:
            raise _changed(id)
        return document

    # --- vectors --------------------------------------------------------------------------------------------------

    def without_vector(self, model: str, limit: int) -> list[tuple[str, str]]:
        """Up to ``limit`` texts that have no vector of this model yet, each with the name to hand back to
        ``put_vectors``: an item's id, or for the later passages of a long item ``ID#1``, ``ID#2``, …"""
        found: list[tuple[str, str]] = []
        with self._reading() as db:
            rows = db.execute(
                "SELECT n, id, text FROM item WHERE embedded < ? UNION ALL"
                " SELECT n, id, text FROM item WHERE embedded > ? LIMIT ?",
                (model, model, limit),
            )
            for n, id, text in rows.fetchall():
                have = {part for (part,) in db.execute("SELECT part FROM vector WHERE n = ? AND model = ?", (n, model))}
                parts = [(part, text) for part, text in enumerate(passages(text)) if part not in have]
                found += [(f"{id}#{part}" if part else id, text) for part, text in parts]
                if len(found) >= limit:
                    break
        return found[:limit]

    def put_vectors(self, model: str, vectors: Iterable[tuple[str, Embedding]]) -> None:
        """Keep vectors made by ``model``, by the names that ``without_vector`` gave. A passage has one, the newest;
        those of items that are gone meanwhile are dropped."""
        with self._change() as db:
            for name, vector in vectors:
                id, _, part = name.partition("#")
                row = db.execute("SELECT n, text FROM item WHERE id = ?", (id,)).fetchone()
                if row is None:
                    continue
                n, place = row[0], int(part or 0)
                db.execute(
                    "INSERT OR REPLACE INTO vector VALUES (?, ?, ?, ?, ?)",
                    (n, place, model, vector.scale, vector.values),
                )
                self._moves.vectors.append((n, place, model, vector))
                (have,) = db.execute("SELECT COUNT(*) FROM vector WHERE n = ? AND model = ?", (n, model)).fetchone()
                if have >= len(passages(row[1])):
                    db.execute("UPDATE item SET embedded = ? WHERE n = ?", (model, n))

    # --- an older form --------------------------------------------------------------------------------------------

    def _migrate(self, db: sqlite3.Connection) -> None:
        """From form 1, where an item was one saved document. What cannot be read is set aside, and the rest kept."""
        from shared.memory.document import Document

        items, vectors = schema.put_away(db)
        schema.make(db)
        self._name(db)
        for id, saved, sha256 in items:
            try:
                if hex_sha256(saved) != sha256:
                    raise _changed(id)
                document = Document.load([saved])
                scope = document.item().scope
                self._keep(db, id, scope, document.changes(), UNSENT)
                self._derive(db, id, scope, document, 0)
            except OutriderError as error:
                db.execute("INSERT INTO aside VALUES (?, '', '', ?, 0)", (id, error.code))
                continue
            model, scale, data = vectors.get(id, ("", 0, b""))
            if model and len(passages(document.item().text)) == 1:
                db.execute("INSERT INTO vector SELECT n, 0, ?, ?, ? FROM item WHERE id = ?", (model, scale, data, id))
                db.execute("UPDATE item SET embedded = ? WHERE id = ?", (model, id))


def kept_of(row: Sequence[Any]) -> Kept:
    return replace(Kept(*row[:11]), pinned=bool(row[10]))


def _digest(document: Document) -> str:
    return hex_sha256("\n".join(document.heads()).encode())


def _unknown(id: str) -> BadInput:
    return BadInput("memory.unknown", f"there is no item {id}", advice="see `outrider memory list`")


def _changed(id: str) -> Tampered:
    return Tampered("memory.document", f"{id} was changed on disk", advice="restore memory from a backup")
