"""Forgetting for good: rows, words, vectors, changes, the write-ahead log, and what SQLite leaves behind.

A tombstone is kept (``pending``) in the transaction that brings it, obeyed in another, and settled when the receipt is
in the log; a kill between any two costs nothing but doing it again. ``secure_delete`` overwrites what is deleted, but
when rows move from one page to another SQLite leaves copies in the unused middle of the old page; of random rows about
one in two hundred stays behind in this way. So after each erasure the file itself is looked through for what was
erased, and rewritten whole if something is found: see ``truncate``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edge_agent.memory import wipe
from edge_agent.memory.base import SELF
from edge_agent.memory.items import Items
from edge_agent.memory.words import marks
from shared.errors import Unavailable
from shared.memory import Item
from shared.memory.feed import DEVICE, ITEM, PERSON, RUN, SCOPE, SUBJECT, Hold, Tombstone, subject_digest

if TYPE_CHECKING:
    from shared.memory.rules import MemoryRules

PENDING, OBEYED, HELD, DONE = "pending", "obeyed", "held", "done"
_DIRTY = "SELECT value FROM self WHERE name = 'dirty'"
_FIELDS = 'id, kind, scope, item, subject, salt, run, at, "by", reason'


class Forgetting(Items):
    """Erasure of items, and the tombstones and holds that ask for it or forbid it."""

    _traces: wipe.Traces | None = None

    def pending(self) -> list[Tombstone]:
        """Tombstones that are not settled, those that a hold forbids left out."""
        rows = self._all(f"SELECT {_FIELDS} FROM tombstone WHERE state IN (?, ?) ORDER BY id", PENDING, OBEYED)  # noqa: S608 - our own columns
        return [Tombstone(*row) for row in rows]

    def tombstones(self, limit: int) -> list[tuple[Tombstone, str, int]]:
        """The newest tombstones: how far each is obeyed here (pending, obeyed, held by a legal hold, or done, with its
        receipt in the log), and how many items are refused because of it."""
        gone = "(SELECT COUNT(*) FROM gone WHERE tombstone = t.id)"
        rows = self._all(f"SELECT {_FIELDS}, state, {gone} FROM tombstone t ORDER BY at DESC, id LIMIT ?", limit)  # noqa: S608 - our own columns
        return [(Tombstone(*row[:-2]), row[-2], row[-1]) for row in rows]

    def refused(self, id: str, scope: str) -> bool:
        """Whether changes of this item are refused for ever."""
        with self._reading() as db:
            return self._refused(db, id, scope)

    def obey(self, stone: Tombstone) -> int | None:
        """Erase what a kept tombstone names, in one transaction; return how many items went, or None where a hold
        forbids it. ``truncate`` is to follow."""
        with self._change() as db:
            found = self._named_by(db, stone)
            if any(self._held(db, id, scope) for id, scope in found):
                db.execute("UPDATE tombstone SET state = ? WHERE id = ?", (HELD, stone.id))
                return None
            for id, scope in found:
                self._remove(db, id)
                db.execute("INSERT OR IGNORE INTO gone VALUES (?, ?, ?)", (id, scope, stone.id))
            db.execute("UPDATE tombstone SET state = ? WHERE id = ? AND state <> ?", (OBEYED, stone.id, DONE))
        return len(found)

    def settle(self, ids: Iterable[str]) -> None:
        """The receipts for these tombstones are in the log."""
        with self._change() as db:
            db.executemany(
                "UPDATE tombstone SET state = ? WHERE id = ? AND state = ?", [(DONE, id, OBEYED) for id in ids]
            )

    def erase(self, ids: Iterable[str]) -> int:
        """Erase items here and now, as for expiry or what never left the device; return how many. What others still
        have of them may come again; a tombstone stops that. Held items stay. Raises ``Unavailable('memory.busy')``
        where the files could not be cleaned yet: ``truncate`` again."""
        done = 0
        with self._change() as db:
            for id in ids:
                scope = self._scope_of(db, id)
                if scope is not None and not self._held(db, id, scope):
                    self._remove(db, id)
                    done += 1
        self.truncate()
        return done

    def drop_scope(self, scope: str) -> tuple[int, int]:
        """Erase all of a scope that was taken away, and its cursor; return how many items went, and how many changes
        that the hub has never seen. Raises as ``erase``."""
        with self._change() as db:
            (unsent,) = db.execute("SELECT COUNT(*) FROM chunk WHERE scope = ? AND sent = 0", (scope,)).fetchone()
            sql = "SELECT id FROM item WHERE scope = ? UNION SELECT item FROM chunk WHERE scope = ?"
            ids = [id for (id,) in db.execute(sql, (scope, scope))]
            for id in ids:
                self._remove(db, id)
            for table in ("feed", "hold", "aside", "wish"):
                db.execute(f"DELETE FROM {table} WHERE scope = ?", (scope,))  # noqa: S608 - the names above
        self.truncate()
        return len(ids), int(unsent)

    def truncate(self) -> None:
        """Fold the write-ahead log into the file and empty it, and leave no copy of what was erased since the last time
        in the file. Does nothing where nothing was erased. Raises ``Unavailable('memory.busy')``."""
        with self._lock:
            dirty = int(self._all(_DIRTY)[0][0])
            if not dirty:
                return
            self._fold()
            if self._traces is None or self._traces.erased != dirty or self._traces.found_in(self._pages()):
                self._all("VACUUM")
                self._fold()
            self._traces = None
            self._all(SELF, 0, "dirty")

    def put_hold(self, hold: Hold) -> None:
        """Take note that something may not be erased, or may be again; tombstones that it stopped are then pending."""
        with self._change() as db:
            if hold.held:
                row = (hold.id, hold.scope, hold.item, hold.at, hold.by, hold.reason)
                db.execute("INSERT OR REPLACE INTO hold VALUES (?, ?, ?, ?, ?, ?)", row)
            else:
                db.execute("DELETE FROM hold WHERE id = ?", (hold.id,))
                db.execute("UPDATE tombstone SET state = ? WHERE state = ?", (PENDING, HELD))

    def holds(self) -> list[Hold]:
        rows = self._all('SELECT id, scope, item, at, "by", reason FROM hold ORDER BY id')
        return [Hold(row[0], row[1], row[2], True, row[3], row[4], row[5]) for row in rows]

    def expired(self, now: int, limit: int = 1_000, *, scope: str = "", rules: MemoryRules | None = None) -> list[str]:
        """Items past their time (their own, or one of the rules') that no hold keeps, those with their own first; of
        one scope or of all. The rules' own function judges; the query only leaves out what cannot be meant."""
        from shared.memory.rules import MemoryRules, expiry, microseconds  # brings YAML along

        rules = rules or MemoryRules()
        old = "expires_at <> 0 AND expires_at <= ?"
        values: list[int | str] = [now]
        for rule in rules.expire:
            old += " OR MAX(made_at, valid_from) BETWEEN 1 AND ?" + (
                f" AND kind IN ({marks(rule.kinds)})" if rule.kinds else ""
            )
            values += [now - microseconds(rule.after), *rule.kinds]
        rows = self._all(
            f"SELECT id, kind, scope, valid_from, expires_at, made_at FROM item i WHERE ({old})"  # noqa: S608 - our own columns and question marks
            f"{' AND scope = ?' if scope else ''} AND NOT EXISTS (SELECT 1 FROM hold h"
            " WHERE h.item = i.id OR (h.item = '' AND h.scope = i.scope)) ORDER BY expires_at = 0, expires_at, id",
            *values,
            *([scope] if scope else []),
        )
        found = []
        for id, kind, at, valid_from, expires_at, made_at in rows:
            ends = expiry(Item(kind, "", "", at, valid_from=valid_from, expires_at=expires_at), rules, made_at)
            found += [id] if ends and ends <= now else []
        return found[:limit]

    def gone_by(self, tombstone: str) -> list[str]:
        """The items that went because of a tombstone, also before a restart."""
        return [row[0] for row in self._all("SELECT item FROM gone WHERE tombstone = ? ORDER BY item", tombstone)]

    # --- inside a transaction -------------------------------------------------------------------------------------

    def _file(self, db: sqlite3.Connection, stone: Tombstone) -> None:
        """Keep a tombstone. From now on what it names is refused."""
        row = (stone.id, stone.kind, stone.scope, stone.item, stone.subject, stone.salt, stone.run, stone.at)
        db.execute(
            "INSERT OR IGNORE INTO tombstone VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, stone.by, stone.reason, PENDING),
        )
        if stone.kind == ITEM:
            db.execute("INSERT OR IGNORE INTO gone VALUES (?, ?, ?)", (stone.item, stone.scope, stone.id))

    def _named_by(self, db: sqlite3.Connection, stone: Tombstone) -> list[tuple[str, str]]:
        """The (id, scope) of what is here of a tombstone."""
        if stone.kind == ITEM:
            scope = self._scope_of(db, stone.item)
            return [(stone.item, scope)] if scope is not None and covers(stone, scope) else []
        rows = db.execute("SELECT id, scope, source, subject, made_at FROM item").fetchall()
        names: dict[str, bool] = {}
        found = []
        for id, scope, source, subject, made_at in rows:
            if covers(stone, scope) and made_at <= stone.at and _names(stone, source, subject, names):
                found.append((id, scope))
        return found

    def _welcome(self, db: sqlite3.Connection, scope: str, item: Item, made_at: int) -> bool:
        rows = db.execute(f"SELECT {_FIELDS} FROM tombstone WHERE kind <> 'item'")  # noqa: S608 - our own columns
        stones = [Tombstone(*row) for row in rows]
        return not any(
            covers(stone, scope) and made_at <= stone.at and _names(stone, item.source, item.subject, {})
            for stone in stones
        )

    def _held(self, db: sqlite3.Connection, id: str, scope: str) -> bool:
        sql = "SELECT 1 FROM hold WHERE item = ? OR (item = '' AND scope = ?)"
        return db.execute(sql, (id, scope)).fetchone() is not None

    def _remove(self, db: sqlite3.Connection, id: str) -> None:
        """Delete all that there is of an item, and remember what to look for in the file."""
        row = db.execute("SELECT n, text, source, subject FROM item WHERE id = ?", (id,)).fetchone()
        if self._traces is None and not int(db.execute(_DIRTY).fetchone()[0]):
            self._traces = wipe.Traces()
        traces = self._traces or wipe.Traces()
        traces.erased += 1
        traces.add_blobs(db.execute("SELECT data FROM chunk WHERE item = ?", (id,)))
        if row is not None:
            n = row[0]
            stems = self._words.drop(db, n)
            traces.add_blobs(db.execute("SELECT data FROM vector WHERE n = ?", (n,)))
            for table in ("tag", "vector", "item"):
                db.execute(f"DELETE FROM {table} WHERE n = ?", (n,))  # noqa: S608 - the names above
            sql = "SELECT 1 FROM posting WHERE word = ?"
            traces.add(row[1:], [stem for stem in stems if db.execute(sql, (stem,)).fetchone() is None])
            self._moves.gone.append(n)
        db.execute("DELETE FROM chunk WHERE item = ?", (id,))
        db.execute("DELETE FROM aside WHERE item = ?", (id,))
        db.execute("UPDATE self SET value = value + 1 WHERE name = 'dirty'")

    # --- the file -------------------------------------------------------------------------------------------------

    def _fold(self) -> None:
        if int(self._all("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]):
            raise Unavailable(
                "memory.busy", f"{self._path} is read by another program", advice="close it; it is tried again"
            )

    def _pages(self) -> wipe.Pages:
        """The file's pages, read past SQLite. The handle stays open: closing it would drop SQLite's own locks."""
        if self._raw is None:
            self._raw = wipe.Pages(self._path)
            self._closing.callback(self._raw.close)
        return self._raw

    _raw: wipe.Pages | None = None


def covers(stone: Tombstone, scope: str) -> bool:
    """Whether a tombstone reaches into a scope. A person's reaches what never left the device, too."""
    if stone.scope in ("", scope):
        return True
    return scope == DEVICE and stone.scope == PERSON and stone.kind in (SUBJECT, RUN)


def _names(stone: Tombstone, source: str, subject: str, known: dict[str, bool]) -> bool:
    match stone.kind:
        case str(kind) if kind == SCOPE:
            return True
        case str(kind) if kind == RUN:
            return source == f"run {stone.run}" or source.startswith(f"run {stone.run} ")
        case str(kind) if kind == SUBJECT and subject:
            if subject not in known:
                known[subject] = subject_digest(subject, stone.salt) == stone.subject
            return known[subject]
    return False
