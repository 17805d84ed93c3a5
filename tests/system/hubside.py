"""The hub of a ``World``: its store, its log and its memory, without the network in front."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import event, insert, select
from sqlalchemy.util import LRUCache

from server.bus import Bus
from server.memory import Memory
from server.memory.access import places
from server.store import HubLog, Store, make_home
from server.store.memory_tables import MEMORY_RECORDS, MEMORY_SCOPES, MEMORY_TOMBSTONES
from server.store.tables import DEVICES, OUTBOX, USERS, DeviceRow
from shared.codec import parse
from shared.errors import Conflict, OutriderError
from shared.keys import Envelope, PublicKey
from shared.memory.feed import Hold, open_hold
from shared.protocol import Forget, Message, Recall, Remember, refusal
from tests.system.hubstore import Killed, OnDisk, OnPostgres
from tests.system.opened import Opened


def make_hub(folder: Path, rows: OnPostgres | None = None) -> Path:
    """A hub that has just been made, to be copied: making its tables takes longer than a world does."""
    home = folder / "new-hub"
    make_home(home, "World", random.Random(0).randbytes)
    store = Store(home, rows.url if rows else None)
    log = HubLog(store, clock=lambda: 1, random=random.Random(1).randbytes)
    with store.write() as conn:
        users = [{"name": name, "password": "", "roles": "[]", "added_at": 1} for name in ("ada", "bo")]
        conn.execute(insert(USERS), users)
    assert log.size == 1
    store.close()
    return home


_COMPILED = LRUCache(2_000)


class HubSide:
    """``clock`` in microseconds, ``noise`` gives random bytes; both are the world's."""

    def __init__(
        self,
        home: Path,
        clock: Callable[[], int],
        noise: Callable[[int], bytes],
        opened: Opened,
        rows: OnPostgres | None = None,
    ) -> None:
        self.home, self._clock, self._noise, self._opened = home, clock, noise, opened
        self.rows = rows or OnDisk(home)
        self.kills = 0
        self.open()

    def open(self) -> None:
        self.store = Store(self.home, self.rows.url)
        for engine in (self.store._engine, self.store._writer):
            engine._compiled_cache = _COMPILED  # what a statement comes to is the same in every world
        self.log = HubLog(self.store, clock=self._clock, random=self._noise)
        self.public: PublicKey = self.log.key.public
        self.memory = Memory(self.log, Bus(), self._opened)
        self.memory.finish()

    def close(self) -> None:
        self.memory.close()
        self.store.close()

    def kill(self) -> None:
        """Between two messages."""
        self.kills += 1
        self.rows.reborn(self.close)
        self.open()

    def serve(self, device: str, message: Message, killed_at: int) -> Message | None:
        """The answer; ``None`` where the hub was killed before it could give one."""
        if not killed_at:
            return self._answer(device, message)
        image = self.rows.dying(killed_at)

        def statement(_conn: object, _cursor: object, sql: str, *_: object) -> None:
            image.statement(sql)

        def commit(_conn: object) -> None:
            image.statement("COMMIT")

        event.listen(self.store._engine, "before_cursor_execute", statement)
        event.listen(self.store._engine, "commit", commit)
        answer: Message | None = None
        with contextlib.suppress(Killed):
            answer = self._answer(device, message)
        if not image.taken:
            event.remove(self.store._engine, "before_cursor_execute", statement)
            event.remove(self.store._engine, "commit", commit)
            return answer
        self.kills += 1
        self.close()
        image.put_back()
        self.open()
        return None

    def _answer(self, device: str, message: Message) -> Message:
        try:
            match message:
                case Remember():
                    return self.memory.remember(device, message)
                case Recall():
                    return self.memory.recall(device, message)
                case Forget():
                    return self.memory.forget(device, message)
        except OutriderError as error:
            return refusal(error)
        raise AssertionError(f"a device does not send {message}")

    # --- what operators do ----------------------------------------------------------------------------------------

    def enrol(self, device: str, person: str) -> None:
        row = DeviceRow(
            id=device,
            name=device,
            state="active",
            origin=f"world/{device}",
            log_key="",
            link_key="",
            software="world",
            enrolled_at=self._clock(),
            person=person,
        )
        with self.store.write() as conn:
            conn.execute(insert(DEVICES), [row.model_dump()])

    def grant(self, scope: str, member: str, role: str) -> None:
        try:
            if role:
                self.memory.grant(scope, member, role, "operator")
            else:
                self.memory.revoke(scope, member, "operator")
        except Conflict:
            return  # it had none

    def said(self, device: str, since: int) -> list[tuple[int, Hold]]:
        """What the hub has told a device beyond a number, with its numbers: of holds."""
        mine = (OUTBOX.c.device == device, OUTBOX.c.n > since)
        with self.store.read() as conn:
            rows = conn.execute(select(OUTBOX).where(*mine).order_by(OUTBOX.c.n)).all()
        found = [(row.n, parse(row.envelope, Envelope, code="envelope.form", what="a message")) for row in rows]
        return [(n, open_hold(envelope, self.public)) for n, envelope in found]

    # --- what is there --------------------------------------------------------------------------------------------

    def roles(self, device: str) -> dict[str, str]:
        return {name: place.role for name, place in self.memory.access.places(device).items()}

    def scopes(self) -> list[str]:
        with self.store.read() as conn:
            return list(conn.execute(select(MEMORY_SCOPES.c.scope).order_by(MEMORY_SCOPES.c.scope)).scalars())

    def end(self, device: str, scope: str) -> int:
        """The cursor of a device that has read all of a scope of its own."""
        with self.store.read() as conn:
            place = places(conn, device)[scope]
            seq = conn.execute(select(MEMORY_SCOPES.c.seq).where(MEMORY_SCOPES.c.scope == place.scope)).scalar()
        return 0 if seq is None else int(seq) + place.base

    def items(self, scope: str) -> dict[str, dict[str, bytes]]:
        """By item and hash, the changes of a feed."""
        found: dict[str, dict[str, bytes]] = {}
        at = (MEMORY_RECORDS.c.scope == scope, MEMORY_RECORDS.c.data != b"")
        with self.store.read() as conn:
            for row in conn.execute(select(MEMORY_RECORDS).where(*at).order_by(MEMORY_RECORDS.c.seq)):
                found.setdefault(row.item, {})[row.hash] = bytes(row.data)
        return found

    def stones(self, scope: str) -> set[str]:
        at = (MEMORY_RECORDS.c.scope == scope, MEMORY_RECORDS.c.data == b"")
        with self.store.read() as conn:
            return set(conn.execute(select(MEMORY_RECORDS.c.hash).where(*at)).scalars())

    def times(self) -> dict[str, int]:
        """What time each tombstone bears."""
        with self.store.read() as conn:
            rows = conn.execute(select(MEMORY_TOMBSTONES.c.id, MEMORY_TOMBSTONES.c.at)).all()
        return {row.id: row.at for row in rows}
