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
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.memory.feeds import Wish
from shared.errors import OutriderError
from shared.memory import Item
from shared.memory.feed import change_hash, chunk_of, subject_digest
from shared.memory.item import Edit, item_id, new_id
from shared.protocol import Forgotten, Message, Notice, Recall, Remember, Remembered, decode, encode
from tests.system import bugs
from tests.system.hubside import HubSide
from tests.system.hubstore import OnPostgres
from tests.system.opened import Opened
from tests.system.station import Device

START = 1_795_000_000_000_000
SECOND = 1_000_000
_NOTICED = 0.4
_ROUNDS = 30  # of all devices, until nobody has said anything new
_MESSAGES = 300  # of one device in one of them


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


class World:
    """``folder`` is where its machines keep their files; ``hub_home`` a hub made before, which is copied; ``rows`` its
    database, where that is not in there."""

    def __init__(self, seed: int, folder: Path, hub_home: Path, rows: OnPostgres | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.folder = folder
        self.now = START
        self.opened = Opened()
        shutil.copytree(hub_home, folder / "hub")
        self.hub = HubSide(folder / "hub", lambda: self.now, self.bytes, self.opened, rows)
        self.people = ["ada", "bo"]
        self.devices: list[Device] = []
        self.written: dict[tuple[str, str], Written] = {}  # by the hub's name of the scope, and item
        self.local: dict[str, tuple[str, str, str]] = {}  # change: where, item, device that acknowledged it to its user
        self.acked: dict[str, tuple[str, str]] = {}  # change that the hub acknowledged: where, item
        self.dead: set[tuple[str, str]] = set()  # forgotten: where, item
        self.perhaps: set[tuple[str, str]] = set()  # to be erased by a device alone, which may have been killed over it
        self.asked: dict[str, tuple[str, Wish]] = {}  # tombstones that people wished for: where, what
        self.stand: set[str] = set()  # those of which the hub has said that they stand
        self.strays: list[tuple[Device, str]] = []
        self.backups: list[tuple[Device, Path]] = []
        self.held: dict[str, tuple[str, set[str]]] = {}  # holds that stand: where, items that were there
        self.holds = 0
        self.broken: list[str] = []  # what went although it was held, and holds that did not arrive
        self.troubles: list[str] = []
        self.news = False  # whether the hub has taken something in
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
        for place in self.hub.memory.access.places(name).values() if self.holds else ():
            self.hub.memory.holds.catch_up(place.scope, [name])

    def count(self) -> Counter[str]:
        """What happened, for the reader of a long run."""
        return Counter(
            changes=len(self.local),
            acknowledged=len(self.acked),
            forgotten=len(self.dead),
            held=self.holds,
            kills=self.hub.kills + sum(device.kills for device in self.devices),
            refusals=len(self.troubles),
        )

    def close(self) -> None:
        for device in self.devices:
            device.memory.close()
        self.hub.close()
        self.hub.rows.close()

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
            self.perhaps.add((self.where(device, scope), name))
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

    # --- what lawyers do ------------------------------------------------------------------------------------------

    def hold(self, where: str, item: str) -> None:
        there = self.hub.items(where).keys()
        name = self.hub.memory.holds.hold(where, item, "operator", "legal")
        self.held[name] = (where, there & {item} if item else set(there))
        self.holds += 1

    def lift(self, hold: str) -> None:
        where, items = self.held.pop(hold)
        for item in sorted(items - self.hub.items(where).keys()):
            self.broken.append(f"{where} {item} was held by {hold}, and is gone")
        self.hub.memory.holds.lift(hold, "operator")

    def _lift_all(self) -> None:
        """Every device has heard of every hold of its scopes; then all are lifted, and what they stopped goes on."""
        for device in self.devices:
            device.heed(2**31)
            scopes = {place.scope for place in self.hub.memory.access.places(device.name).values()}
            wanted = {hold for hold, (where, _) in self.held.items() if where in scopes}
            if (known := {hold.id for hold in device.memory.holds()}) != wanted:
                self.broken.append(f"{device.name} knows of the holds {sorted(known)}, not {sorted(wanted)}")
        for hold in list(self.held):
            self.lift(hold)
        for device in self.devices:
            device.heed(2**31)

    # --- the wires ------------------------------------------------------------------------------------------------

    def notify(self) -> None:
        """Hints, which may be lost."""
        self.news = True
        for device in self.devices:
            if device.up and self.chance.random() < _NOTICED:
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

    def settle(self) -> None:
        """Everything is mended, late messages come, and all talk until nobody has anything to say."""
        for device, frame in self.strays:
            self.serve(device, -1, frame, 0)
        for device in self.devices:
            device.cut()
            device.mend()
        self._talk_it_out()
        if self.holds:
            self._lift_all()
            self._talk_it_out()
        self.hub.memory.finish()
        times = self.hub.times()
        self.dead |= {key for key, kept in self.written.items() if self._is_forgotten(key, kept, times)}

    def _talk_it_out(self) -> None:
        for _ in range(_ROUNDS):
            self.news = False
            for device in self.devices:
                self._speak(device)
            if not self.news:
                break
            for device in self.devices:
                device.replica.retry()
        else:
            raise Stuck(f"seed {self.seed}: there is still news after {_ROUNDS} rounds")

    def _speak(self, device: Device) -> None:
        """All that one device has to say, each message answered at once."""
        for _ in range(_MESSAGES):
            device.talk()
            if not device.outbox and not device.inbox:
                return
            while device.outbox:
                self.serve(device, *device.outbox.popleft(), 0)
            while device.inbox:
                if isinstance(decode(device.inbox[0][1]), Notice):  # everybody will ask once more anyway
                    device.inbox.popleft()
                else:
                    device.hear()
        raise Stuck(f"seed {self.seed}: {device.name} talks without end: {device.replica._asked}")

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
