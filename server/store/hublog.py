"""The hub's own log: the same entries, tree and checkpoints as a device's (``shared/spec/log.md``), written here.

One writer, one checkpoint per commit. A caller hands in drafts and, where tables follow from them, a callback that
writes those rows in the same transaction: either the log says it happened and the tables agree, or neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from server.store.database import Store
from server.store.home import Identity, load_identity, load_key
from server.store.tables import HUB_BODIES as _BODIES
from server.store.tables import HUB_CHECKPOINTS as _NOTES
from server.store.tables import HUB_ENTRIES as _ENTRIES
from server.store.tables import HUB_NODES as _NODES
from shared import __version__
from shared.codec import b64
from shared.entries import ClockStepped, Draft, LogOpened, Written, write
from shared.errors import Conflict, Tampered
from shared.tlog import Checkpoint, Frontier, consistency_proof, leaf_hash

# Writes the rows that follow from entries just written, in the same transaction.
Rows = Callable[[Connection, Sequence[Written]], None]


class HubLog:
    """The log in a store. Hold the home's lock (``take_lock``) while one is open.

    ``clock`` gives microseconds since 1970 UTC, ``random`` that many random bytes. ``key`` signs, ``origin`` names.
    """

    def __init__(self, store: Store, *, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self.store = store
        self.identity: Identity = load_identity(store.home)
        self.key = load_key(store.home)
        self.clock = clock
        self.random = random
        self._stepped = False
        self._frontier, self._newest_at, self._note = self._load()
        if self._frontier.size == 0:
            self.append([Draft(LogOpened(origin=self.origin, key=self.key.public.text, software=f"hub {__version__}"))])

    @property
    def home(self) -> Path:
        return self.store.home

    @property
    def hub(self) -> str:
        """The hub's name in handshakes and cosignatures."""
        return self.identity.hub

    @property
    def origin(self) -> str:
        """The name that the log's own checkpoints carry."""
        return f"{self.identity.hub}/log"

    @property
    def size(self) -> int:
        return self._frontier.size

    def checkpoint(self) -> str:
        """The newest signed note."""
        return self._note

    def append(self, drafts: Sequence[Draft], extra_sql: Rows | None = None) -> list[Written]:
        """Commit entries, their checkpoint, and the rows that ``extra_sql`` derives from them, together.

        Whatever ``extra_sql`` raises rolls all of it back and passes through.
        """
        with self.store.writing:  # so that the tree in memory moves exactly when the transaction has
            grown = self._frontier.copy()
            written, stepped = self._write(drafts, grown.size)
            nodes = grown.extend(leaf_hash(w.data) for w in written)
            note = Checkpoint(self.origin, grown.size, grown.root()).sign(self.key).decode()
            asked = written[-len(drafts) :]
            with self.store.write() as conn:
                self._insert(conn, written, nodes, grown.size, note)
                if extra_sql is not None:
                    extra_sql(conn, asked)
            self._frontier, self._newest_at, self._note = grown, written[-1].entry.at, note
            self._stepped = stepped
        return asked

    def _write(self, drafts: Sequence[Draft], start: int) -> tuple[list[Written], bool]:
        """Fix the drafts' places and times; a clock set back is noted once, and time stands until it caught up."""
        now, stepped = self.clock(), False
        whole = list(drafts)
        if now < self._newest_at:
            stepped = True
            if not self._stepped:
                whole.insert(0, Draft(ClockStepped(behind_us=self._newest_at - now)))
            now = self._newest_at
        return [write(draft, start + i, now, self.random) for i, draft in enumerate(whole)], stepped

    def _insert(
        self, conn: Connection, written: list[Written], nodes: list[tuple[int, int, bytes]], size: int, note: str
    ) -> None:
        rows = [{"seq": w.entry.seq, "at": w.entry.at, "type": w.entry.type, "data": w.data} for w in written]
        conn.execute(insert(_ENTRIES), rows)
        bodies = [
            {"seq": w.entry.seq, "name": name, "salt": body.salt, "data": body.data}
            for w in written
            for name, body in w.bodies.items()
        ]
        if bodies:
            conn.execute(insert(_BODIES), bodies)
        conn.execute(insert(_NODES), [{"level": level, "idx": index, "hash": node} for level, index, node in nodes])
        conn.execute(insert(_NOTES), [{"size": size, "note": note}])

    def consistency(self, old_size: int) -> tuple[str, list[str]]:
        """The newest note, and the proof (base64 hashes) that it extends the log of ``old_size`` entries.

        Raises ``Conflict('hub.behind')`` when this log is shorter than that: it was restored from an old copy.
        """
        with self.store.read() as conn:
            size, note = conn.execute(
                select(_NOTES.c.size, _NOTES.c.note).order_by(_NOTES.c.size.desc()).limit(1)
            ).one()
            if not 0 <= old_size <= size:
                raise Conflict(
                    "hub.behind",
                    f"{old_size} entries of the hub's log were seen, but it has {size}",
                    advice="the hub was restored from an old copy: restore the newest one",
                )
            proof = consistency_proof(old_size, size, lambda level, index: _node(conn, level, index))
        return note, [b64(node) for node in proof]

    def entries(self, start: int = 0, limit: int = 512) -> list[tuple[int, bytes]]:
        """Exact bytes by sequence number, from ``start`` on."""
        with self.store.read() as conn:
            found = conn.execute(
                select(_ENTRIES.c.seq, _ENTRIES.c.data)
                .where(_ENTRIES.c.seq >= start)
                .order_by(_ENTRIES.c.seq)
                .limit(limit)
            )
            return [(seq, data) for seq, data in found]

    def body(self, seq: int) -> dict[str, Any] | None:
        """The ``shared`` body of an entry, or ``None`` where it has none or it was erased."""
        with self.store.read() as conn:
            data = conn.execute(select(_BODIES.c.data).where(_BODIES.c.seq == seq, _BODIES.c.name == "shared")).scalar()
        return None if data is None else json.loads(data)

    def _load(self) -> tuple[Frontier, int, str]:
        """Read the tree's edge back and check it against the newest signed checkpoint."""
        with self.store.read() as conn:
            size, newest_at = conn.execute(
                select(func.count(), func.coalesce(func.max(_ENTRIES.c.at), 0)).select_from(_ENTRIES)
            ).one()
            if size == 0:
                return Frontier(), 0, ""
            frontier = Frontier.load(size, lambda level, index: _node(conn, level, index))
            note = conn.execute(select(_NOTES.c.note).order_by(_NOTES.c.size.desc()).limit(1)).scalar()
        expected = Checkpoint(self.origin, size, frontier.root()).sign(self.key).decode()
        if note != expected:  # Ed25519 signatures are deterministic
            raise Tampered(
                "hub.log",
                "the hub's log does not match its newest checkpoint",
                advice="restore the database from a copy",
            )
        return frontier, newest_at, note


def _node(conn: Connection, level: int, index: int) -> bytes:
    node = conn.execute(select(_NODES.c.hash).where(_NODES.c.level == level, _NODES.c.idx == index)).scalar()
    if node is None:
        raise Tampered("hub.log", f"tree node {level}/{index} is missing", advice="restore the database from a copy")
    return bytes(node)
