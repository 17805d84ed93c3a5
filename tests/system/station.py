"""One machine of a ``World``: a real memory on SQLite with its replica, one end of a wire, and a person before it."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.memory.replica import Replica
from edge_agent.memory.store import Memory
from shared.entries import MemoryErased, MemoryRefused
from shared.memory.feed import may
from shared.protocol import Notice, decode, encode
from tests.system.image import Image, copy

if TYPE_CHECKING:
    from tests.system.world import World


class Device:
    """One machine with a memory, and its end of the wire."""

    def __init__(self, world: World, name: str, person: str) -> None:
        self.world, self.name, self.person = world, name, person
        self.home = world.folder / name
        self.home.mkdir()
        self.skew = 0
        self.up = True
        self.session = 0
        self.waiting = False
        self.inbox: deque[tuple[int, str]] = deque()  # what the hub sent: connection, frame
        self.outbox: deque[tuple[int, str]] = deque()
        self.entries: list[Any] = []  # the log, as far as memory writes it
        self.lost: set[str] = set()  # changes that went with a disk that was put back
        self.dropped: set[str] = set()  # scopes that were taken away when something of them was not sent yet
        self.kills = 0
        self.then: list[Callable[[], None]] = []
        self.heard = 0  # the last message of the hub's that it took to heart
        self.open()

    def open(self) -> None:
        self.memory = Memory(self.home / "memory.sqlite3", random=self.world.bytes)
        self.replica = Replica(
            self.memory, self.world.opened, self.world.hub.public, now=self.now, outside=lambda stone: None
        )
        self.session += 1
        self.waiting = False
        self.inbox.clear()

    def now(self) -> int:
        return max(1, self.world.now + self.skew)

    # --- its steps ------------------------------------------------------------------------------------------------

    def step(self, work: Callable[[], object], killed_at: int = 0) -> bool:
        """Do something; with ``killed_at``, be killed at that statement if there are so many. False when killed."""
        self.then.clear()
        if not killed_at:
            work()
            self._told()
            return True
        db: sqlite3.Connection = self.memory._db
        told = [0]
        to = self.world.folder / f"{self.name}.image"
        image = Image(self.home, to, killed_at, lambda: told.append(len(self.entries)))
        sent = list(self.outbox)
        db.set_trace_callback(image.statement)
        try:
            work()
        finally:
            db.set_trace_callback(None)
        if not image.taken:
            self._told()
            return True
        self.kills += 1
        self.memory.close()
        image.put_back()
        del self.entries[told[-1] :]
        self.outbox = deque(sent)
        self.cut()
        self.open()
        return False

    def _told(self) -> None:
        """What the person at the device was told, now that it has lived to tell."""
        for say in self.then:
            say()

    def cut(self) -> None:
        """The wire is gone: what was on its way up may still arrive, what was on its way down does not."""
        self.session += 1
        self.up = self.waiting = False
        self.inbox.clear()

    def mend(self) -> None:
        if not self.up:
            self.up = True
            self.session += 1
            self.waiting = False
            self.replica.begin()

    def tidy(self) -> None:
        """What stands in the database to be done, and its receipt."""
        while (report := self.replica.report()) is not None:
            self.entries += [draft.facts for draft in report.drafts]
            self.replica.reported(report)

    def talk(self) -> None:
        """Say the next thing, if the last was answered."""
        self.tidy()
        if not self.up or self.waiting:
            return
        message = self.replica.next()
        if message is not None:
            self.waiting = True
            self.outbox.append((self.session, encode(message)))

    def hear(self) -> None:
        """Take in one message from the wire."""
        session, frame = self.inbox.popleft()
        if session != self.session or not self.up:
            return
        message = decode(frame)
        if isinstance(message, Notice):
            self.replica.news()
            if self.replica.waiting:
                self.replica.retry()
            return
        self.waiting = False
        self.world.troubles += [error.code for error in self.replica.answer(message)]

    def heed(self, most: int) -> None:
        """Take in so many of the holds that the hub has told it of."""
        for number, hold in self.world.hub.said(self.name, self.heard)[:most]:
            self.memory.put_hold(hold)
            self.heard = number

    @property
    def receipts(self) -> set[str]:
        return {stone for fact in self.entries if isinstance(fact, MemoryErased) for stone in fact.tombstones}

    def refused(self) -> set[str]:
        """Changes of which the log says that they were not taken; and scopes that went with changes unsent."""
        facts = [fact for fact in self.entries if isinstance(fact, MemoryRefused)]
        return {fact.hash for fact in facts} | {fact.scope for fact in facts if not fact.item}

    def backup(self) -> Path:
        to = self.world.folder / f"{self.name}.backup{len(self.world.backups)}"
        copy(self.home, to)
        return to

    def restore(self, backup: Path) -> None:
        """The disk is as it was then, and the database takes a new actor. The log is another file, and stays."""
        before = set(self.hashes())
        self.memory.close()
        copy(backup, self.home)
        self.cut()
        self.open()
        self.memory.new_actor()
        # What never left the device, and was erased since, is in the backup as it was then; nobody else knows better.
        back = self.world.dead & {(f"device/{self.name}", item) for item, _ in self.items()}
        self.world.dead -= back
        gone = {name for name, (where, item, _) in self.world.local.items() if (where, item) in back}
        self.lost |= (before | gone) - set(self.hashes())
        self.heard = 0  # what it was told since is told again
        self.mend()

    def hashes(self) -> list[str]:
        rows = self.memory._db.execute("SELECT hash FROM chunk").fetchall()
        return [bytes(row[0]).hex() for row in rows]

    def items(self) -> list[tuple[str, str]]:
        """(id, scope) of what is here."""
        rows = self.memory._db.execute("SELECT id, scope FROM item ORDER BY id").fetchall()
        return [(row[0], row[1]) for row in rows]

    def scopes(self, least: str = "writer") -> list[str]:
        """The teams' scopes in which this device believes it may do that."""
        return sorted(
            scope for scope, held in self.memory.feeds().items() if scope.startswith("team/") and may(held.role, least)
        )
