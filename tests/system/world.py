"""A small world of devices and a hub that can be cut, killed, restored and lied to by the clock, all from one seed.

Everything in it is real but the wire and the clock: each device is a ``Memory`` on SQLite with a ``Replica``, the hub
its store, its log and its memory. Nothing runs at the same time as anything else; the seed decides who moves next,
which message is lost, late or doubled, and at which SQL statement a machine is killed. A killed machine comes back from
a copy of its files made at that very statement, which is what ``kill -9`` leaves behind.

``tests.system.schedule`` makes the trouble; ``World.settle`` mends all of it and lets everybody talk until nobody has
anything to say; ``tests.system.verdict`` then says what does not hold.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.memory.feeds import Wish
from edge_agent.memory.replica import Replica
from edge_agent.memory.store import Memory
from shared.entries import MemoryErased, MemoryRefused
from shared.errors import OutriderError
from shared.memory import Item
from shared.memory.feed import Tombstone, change_hash, chunk_of, may, subject_digest
from shared.memory.item import Edit, item_id, new_id
from shared.protocol import Forgotten, Message, Notice, Recall, Remember, Remembered, decode, encode
from tests.system import bugs
from tests.system.hubside import HubSide
from tests.system.image import Image, copy
from tests.system.opened import Opened

START = 1_795_000_000_000_000
SECOND = 1_000_000


class Stuck(Exception):
    """Everything was mended, and they go on talking."""


@dataclass
class Written:
    """What a person wrote: its scope as the device names it, and the words to look for when it must be gone."""

    scope: str
    person: str
    subject: str
    made_at: int
    words: list[str] = field(default_factory=list)
    chunks: set[bytes] = field(default_factory=set)


@contextmanager
def suppress_ours(world: World) -> Iterator[None]:
    """A person's wish that may not be (the item was forgotten meanwhile) is told to them; the world goes on."""
    try:
        yield
    except OutriderError as error:
        world.troubles.append(error.code)


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
        self.open()

    def open(self) -> None:
        self.memory = Memory(self.home / "memory.sqlite3", random=self.world.bytes)
        self.replica = Replica(
            self.memory, self.world.opened, self.world.hub.public, now=self.now, outside=self._outside
        )
        self.session += 1
        self.waiting = False
        self.inbox.clear()

    def _outside(self, stone: Tombstone) -> None:
        for path in self.home.glob("export-*"):
            path.unlink()

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
        self.lost |= before - set(self.hashes())
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


class World:
    """``folder`` is where its machines keep their files; ``hub_home`` a hub made before, which is copied."""

    def __init__(self, seed: int, folder: Path, hub_home: Path) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.folder = folder
        self.now = START
        self.opened = Opened()
        shutil.copytree(hub_home, folder / "hub")
        self.hub = HubSide(folder / "hub", lambda: self.now, self.bytes, self.opened)
        self.people = ["ada", "bo"]
        self.devices: list[Device] = []
        self.written: dict[tuple[str, str], Written] = {}  # by the hub's name of the scope, and item
        self.local: dict[str, tuple[str, str, str]] = {}  # change: where, item, device that acknowledged it to its user
        self.acked: dict[str, tuple[str, str]] = {}  # change that the hub acknowledged: where, item
        self.dead: set[tuple[str, str]] = set()  # forgotten: where, item
        self.asked: dict[str, tuple[str, Wish]] = {}  # tombstones that people wished for: where, what
        self.stand: set[str] = set()  # those of which the hub has said that they stand
        self.strays: list[tuple[Device, str]] = []
        self.backups: list[tuple[Device, Path]] = []
        self.troubles: list[str] = []
        self.moved = 0
        for person in ("ada", "ada", "bo"):
            self.add(person)
        bugs.BETWEEN[:] = [self._between]

    def bytes(self, count: int) -> bytes:
        return self.chance.randbytes(count)

    def add(self, person: str) -> None:
        name = f"d{len(self.devices)}"
        self.hub.enrol(name, person)
        self.devices.append(Device(self, name, person))

    def count(self) -> Counter[str]:
        """What happened, for the reader of a long run."""
        return Counter(
            changes=len(self.local),
            acknowledged=len(self.acked),
            forgotten=len(self.dead),
            kills=self.hub.kills + sum(device.kills for device in self.devices),
            refusals=len(self.troubles),
        )

    def close(self) -> None:
        for device in self.devices:
            device.memory.close()
        self.hub.close()

    # --- what people do -------------------------------------------------------------------------------------------

    def where(self, device: Device, scope: str) -> str:
        """What the hub calls a device's scope; the device's own has a name of its own here."""
        return {"person": f"person/{device.person}", "device": f"device/{device.name}"}.get(scope, scope)

    def _word(self) -> str:
        self.moved += 1
        return f"zq{self.moved}{self.chance.randbytes(5).hex()}"

    def _note(self, device: Device, scope: str, item: str, word: str, subject: str = "", at: int = 0) -> None:
        first = Written(scope, device.person, subject, at)
        self.written.setdefault((self.where(device, scope), item), first).words.append(word)

    def write(self, device: Device, scope: str, subject: str) -> None:
        word = self._word()
        item = new_id(self.bytes)
        self._note(device, scope, item, word, subject, device.now())
        said = Item(kind="note", text=f"they said {word} at noon", source="a person", scope=scope, subject=subject)
        with suppress_ours(self):
            device.memory.write(said, at=device.now(), by=device.person, id=item)
            self._keep(device, scope, item)

    def take_in(self, device: Device, scope: str, number: int) -> None:
        word = f"zqi{number}{scope.replace('/', '')}{device.person if scope == 'person' else ''}"
        said = Item(kind="decision", text=f"as {word} was", source=f"past.csv row {number}", scope=scope)
        self._note(device, scope, item_id(said), word)
        with suppress_ours(self):
            device.memory.add([said])
            self._keep(device, scope, item_id(said))

    def edit(self, device: Device, item: tuple[str, str]) -> None:
        name, scope = item
        word = self._word()
        chance = self.chance
        change = chance.choice(
            [
                Edit(fields={chance.choice("ab"): word}),
                Edit(add_tags=[word]),
                Edit(confidence=chance.randrange(1000)),
                Edit(text=f"{chance.randrange(99)} {word} {device.memory.get(name).text}"[:400]),
                Edit(remove_tags=device.memory.get(name).tags[:1]),
            ]
        )
        self._note(device, scope, name, word)
        with suppress_ours(self):
            device.memory.edit(name, change, at=device.now(), by=device.person)
            self._keep(device, scope, name)

    def _keep(self, device: Device, scope: str, item: str) -> None:
        """The person was told that it is kept: from here on it must not be lost."""
        where = self.where(device, scope)
        held = device.memory.chunks(item)
        for chunk in held[1] if held is not None else []:
            self.written[where, item].chunks.add(chunk)
            kept = (change_hash(chunk), (where, item, device.name))
            device.then.append(lambda kept=kept: self.local.setdefault(*kept) and None)

    def forget_item(self, device: Device, item: tuple[str, str]) -> None:
        name, scope = item
        if scope == "device":
            device.memory.erase([name])
            device.then.append(lambda: self.dead.add((self.where(device, scope), name)))
        else:
            self._wish(device, kind="item", scope=scope, item=name)

    def forget_subject(self, device: Device, scope: str, subject: str) -> None:
        salt = self.bytes(32).hex()
        self._wish(device, kind="subject", scope=scope, subject=subject_digest(subject, salt), salt=salt)

    def forget_scope(self, device: Device, scope: str) -> None:
        self._wish(device, kind="scope", scope=scope)

    def _wish(self, device: Device, **fields: str) -> None:
        wish = Wish(f"tmb_{self.bytes(12).hex()}", **fields, at=device.now())
        self.asked[wish.id] = (self.where(device, wish.scope), wish)
        device.memory.wish(wish)

    # --- the wires ------------------------------------------------------------------------------------------------

    def notify(self) -> None:
        for device in self.devices:
            if device.up:
                device.inbox.append((device.session, encode(Notice(["memory"]))))

    def serve(self, device: Device, session: int, frame: str, killed_at: int) -> None:
        """The hub takes one message, perhaps of a connection that is gone, and answers into the one it came by."""
        message = decode(frame)
        answer = self.hub.serve(device.name, message, killed_at)
        if answer is None:  # it was killed
            for other in self.devices:
                other.cut()
            return
        if isinstance(answer, Remembered):
            self._acknowledged(device, message, answer)
        if isinstance(answer, Forgotten):
            self.stand.add(answer.id)
        if not isinstance(message, Recall):
            self.notify()
        if session == device.session and device.up:
            device.inbox.append((session, encode(answer)))

    def _between(self) -> None:
        """Others who ask for news while the hub is in the middle of something."""
        for device in self.devices:
            if device.outbox and isinstance(decode(device.outbox[0][1]), Recall) and self.chance.random() < 0.5:
                self.serve(device, *device.outbox.popleft(), 0)

    def _acknowledged(self, device: Device, asked: Message, answer: Remembered) -> None:
        assert isinstance(asked, Remember)
        items = {change_hash(chunk_of(change)): change.item for change in asked.changes}
        for name in answer.stored:
            self.acked[name] = (self.where(device, asked.scope), items[name])

    # --- the end --------------------------------------------------------------------------------------------------

    def settle(self, rounds: int = 2_000) -> None:
        """Everything is mended, late messages come, and all talk until nobody has anything to say."""
        for device, frame in self.strays:
            self.serve(device, -1, frame, 0)
        for device in self.devices:
            device.cut()
            device.mend()
        for _ in range(rounds):
            busy = False
            for device in self.devices:
                device.talk()
                while device.outbox:
                    busy = True
                    self.serve(device, *device.outbox.popleft(), 0)
                while device.inbox:
                    device.hear()
                    busy = True
            if not busy:
                self.hub.memory.finish()
                times = self.hub.times()
                self.dead |= {key for key, kept in self.written.items() if self._is_forgotten(key, kept, times)}
                return
        raise Stuck(f"seed {self.seed}: still talking after {rounds} rounds")

    def _is_forgotten(self, key: tuple[str, str], kept: Written, times: dict[str, int]) -> bool:
        """Whether some tombstone that stands is also this item's, by what the people did and not by what anybody says
        is left: the hub is asked for nothing but the tombstones' times."""
        where, item = key
        for name, (scope, asked) in self.asked.items():
            mine = scope == where or (asked.kind == "subject" and scope == self._person_of(where))
            about = bool(kept.subject) and asked.salt and subject_digest(kept.subject, asked.salt) == asked.subject
            old = kept.made_at <= times.get(name, -1)
            if name in times and mine and (asked.item == item or (old and (asked.kind == "scope" or about))):
                return True
        return False

    def _person_of(self, where: str) -> str:
        """The person's scope whose tombstones of subjects reach into a device's own."""
        owners = {f"device/{device.name}": f"person/{device.person}" for device in self.devices}
        return owners.get(where, "")
