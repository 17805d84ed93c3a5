"""Memory as one of many replicas: what is to be sent, what came, and how far each feed was read.

Nothing here talks to anybody, see ``replica``. Changes that come were screened before. They may come in any order, any
number of times, and before those that they were made upon: then they wait in ``chunk`` until the rest is there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from edge_agent.memory.forgetting import Forgetting
from edge_agent.memory.items import SENT
from shared import limits
from shared.errors import Conflict, OutriderError
from shared.memory.chunks import ParsedChange, read_change
from shared.memory.feed import Change, Rejected, Tombstone, change, change_hash, chunk_of
from shared.memory.stamp import written


@dataclass(frozen=True)
class Feed:
    """How far one scope was read, and this device's role in it."""

    cursor: int
    role: str


@dataclass
class Taken:
    """What became of what came: the items that changed, and the changes that were not taken."""

    items: list[str] = field(default_factory=list)
    refused: list[Rejected] = field(default_factory=list)


class Wish(msgspec.Struct, frozen=True):
    """What this device asks the hub to forget, until it has answered. Its fields are those of a tombstone."""

    id: str
    kind: str
    scope: str
    item: str = ""
    subject: str = ""
    salt: str = ""
    run: str = ""
    reason: str = "asked"
    at: int = 0


class Feeds(Forgetting):
    """The replica's side of memory."""

    # --- what goes out --------------------------------------------------------------------------------------------

    def outbox(
        self, scope: str, limit: int = limits.MEMORY_BATCH, size: int = limits.MEMORY_BATCH_BYTES
    ) -> list[Change]:
        """Changes that the hub does not have, item by item (it judges an item once for all of them), and of each the
        oldest first; at most ``limit``, and ``size`` bytes of base64 (one at least). Of the scope ``device`` there are
        none, ever."""
        found: list[Change] = []
        rows = self._all(
            "SELECT item, data FROM chunk WHERE scope = ? AND sent = 0 ORDER BY item, k LIMIT ?", scope, limit
        )
        for item, data in rows:
            made = change(item, data)
            size -= len(made.data)
            if found and size < 0:
                break
            found.append(made)
        return found

    def unsent(self) -> dict[str, int]:
        """How many changes wait to be sent, by scope."""
        return dict(self._all("SELECT scope, COUNT(*) FROM chunk WHERE sent = 0 GROUP BY scope"))

    def mark_sent(self, hashes: Iterable[str]) -> None:
        """The hub has these changes; they leave the outbox."""
        with self._change() as db:
            sql = "UPDATE chunk SET sent = 1 WHERE hash = ? AND sent = 0"
            db.executemany(sql, [(bytes.fromhex(name),) for name in hashes])

    def set_aside(self, refused: Mapping[str, str], *, now: int) -> list[Rejected]:
        """The hub refused these changes (hash to code) for good: they and all that was made upon them leave their
        items, which then say what they say elsewhere. Return what left."""
        left: list[Rejected] = []
        with self._change() as db:
            for name, code in refused.items():
                rows = db.execute("SELECT item, scope FROM chunk WHERE hash = ? AND sent = 0", (bytes.fromhex(name),))
                for item, scope in rows.fetchall():
                    left += self._without(db, item, scope, name, code, now)
        self.truncate()
        return left

    # --- what comes in --------------------------------------------------------------------------------------------

    def feeds(self) -> dict[str, Feed]:
        """The scopes that are shared with the hub."""
        return {scope: Feed(cursor, role) for scope, cursor, role in self._all("SELECT scope, cursor, role FROM feed")}

    def set_feeds(self, roles: Mapping[str, str]) -> list[str]:
        """Take note of all the scopes there are for this device and its role in each. Return those that were taken
        away: each is to be dropped (``drop_scope``)."""
        with self._change() as db:
            sql = "INSERT INTO feed VALUES (?, 0, ?) ON CONFLICT (scope) DO UPDATE SET role = excluded.role"
            db.executemany(sql, sorted(roles.items()))
            return [scope for (scope,) in db.execute("SELECT scope FROM feed ORDER BY scope") if scope not in roles]

    def chunks(self, item: str) -> tuple[str, list[bytes]] | None:
        """An item's scope and all its changes that are here, in the order they came."""
        rows = self._all("SELECT scope, data FROM chunk WHERE item = ? ORDER BY k", item)
        return (rows[0][0], [bytes(row[1]) for row in rows]) if rows else None

    def take(
        self, scope: str, changes: Iterable[Change], stones: Iterable[Tombstone], cursor: int, *, now: int
    ) -> Taken:
        """Apply what came by a scope's feed, and move its cursor, in one transaction. ``changes`` were screened; what
        still does not fit together is refused, item by item. ``stones`` were verified; they are obeyed later."""
        taken = Taken()
        fresh: dict[str, list[bytes]] = {}
        with self._change() as db:
            for stone in stones:
                self._file(db, stone)
            for came in changes:
                chunk = chunk_of(came)
                if self._admit(db, scope, came.item, chunk, taken):
                    fresh.setdefault(came.item, []).append(chunk)
            for item, chunks in fresh.items():
                self._apply(db, scope, item, chunks, taken)
            for lost in taken.refused:
                row = (lost.item, lost.hash, scope, lost.code, now)
                db.execute("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?)", row)
            sql = "INSERT INTO feed VALUES (?, ?, '') ON CONFLICT (scope) DO UPDATE SET cursor = excluded.cursor"
            db.execute(sql, (scope, cursor))
        return taken

    def aside(self, limit: int = 1_000) -> list[Rejected]:
        """Changes that were not taken, newest first. None of their bytes are kept."""
        rows = self._all("SELECT item, hash, code FROM aside ORDER BY at DESC LIMIT ?", limit)
        return [Rejected(*row) for row in rows]

    # --- what is asked of the hub ---------------------------------------------------------------------------------

    def wish(self, wish: Wish) -> None:
        """Keep what the hub is to be asked to forget. Asking twice under one id is one wish."""
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO wish VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(wish))
            self._moves.asked = True

    def wishes(self) -> list[Wish]:
        """What was not answered yet, the oldest first."""
        return [Wish(*row) for row in self._all("SELECT * FROM wish ORDER BY at, id")]

    def wish_done(self, id: str) -> None:
        """The hub has answered."""
        with self._change() as db:
            db.execute("DELETE FROM wish WHERE id = ?", (id,))

    # --- inside a transaction -------------------------------------------------------------------------------------

    def _admit(self, db: sqlite3.Connection, scope: str, item: str, chunk: bytes, taken: Taken) -> bool:
        """Whether a change is new here and may come in."""
        name = change_hash(chunk)
        key = (item, bytes.fromhex(name))
        if db.execute("SELECT 1 FROM chunk WHERE item = ? AND hash = ?", key).fetchone():
            db.execute("UPDATE chunk SET sent = 1 WHERE item = ? AND hash = ?", key)
            return False
        if self._refused(db, item, scope):
            taken.refused.append(Rejected(item, name, "memory.erased"))
            return False
        if self._scope_of(db, item) not in (None, scope):
            taken.refused.append(Rejected(item, name, "memory.other-scope"))
            return False
        return True

    def _apply(self, db: sqlite3.Connection, scope: str, item: str, chunks: list[bytes], taken: Taken) -> None:
        """Add changes to one item. Whatever is wrong with them stays between them and this item."""
        chunks = list(dict.fromkeys(chunks))
        db.execute("SAVEPOINT item")
        try:
            self._keep(db, item, scope, chunks, SENT)
            code = self._rebuild(db, item, scope, [read_change(chunk) for chunk in chunks])
        except OutriderError as error:
            code = error.code
        if code:
            db.execute("ROLLBACK TO item")
            taken.refused += [Rejected(item, change_hash(chunk), code) for chunk in chunks]
        else:
            taken.items.append(item)
        db.execute("RELEASE item")

    def _rebuild(self, db: sqlite3.Connection, item: str, scope: str, came: list[ParsedChange]) -> str:
        """Derive an item from all its changes, ``came`` among them; return why that cannot be, or nothing."""
        from shared.memory.document import Document

        rows = db.execute("SELECT data FROM chunk WHERE item = ? ORDER BY k", (item,)).fetchall()
        try:
            document = Document.load([row[0] for row in rows])
        except Conflict:
            return ""  # none of them stands on its own yet: they wait
        if document.item().scope != scope:
            return "memory.other-scope"
        times = {change.hash: written(change.time, change.message)[0] for change in came}
        begun = [times[change.hash] for change in came if not change.deps]
        if not self._derive(db, item, scope, document, *times.values(), begun=begun):
            return "memory.erased"
        return ""

    def _without(self, db: sqlite3.Connection, item: str, scope: str, name: str, code: str, now: int) -> list[Rejected]:
        """Take one change, and what was made upon it, out of an item."""
        rows = db.execute("SELECT data FROM chunk WHERE item = ? ORDER BY k", (item,)).fetchall()
        chunks = {change_hash(row[0]): bytes(row[0]) for row in rows}
        parsed = {key: read_change(chunk) for key, chunk in chunks.items()}
        out = {name}
        while more := {key for key, one in parsed.items() if key not in out and out & set(one.deps)}:
            out |= more
        out &= set(chunks)
        db.executemany("DELETE FROM chunk WHERE item = ? AND hash = ?", [(item, bytes.fromhex(key)) for key in out])
        if out == set(chunks) or self._rebuild(db, item, scope, []):
            self._remove(db, item)
        rows = [(item, key, scope, code, now) for key in sorted(out)]
        db.executemany("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?)", rows)
        return [Rejected(item, key, code) for key in sorted(out)]
