"""Trouble, chosen by a seed: what the people, the machines and the wires of a ``World`` do."""

from __future__ import annotations

from collections.abc import Callable

from shared.memory.feed import ROLES, STEWARD
from tests.system.station import Device
from tests.system.world import SECOND, World

SUBJECTS = ("Ada Ost", "Bo Lind")
TEAMS = ("team/red", "team/blue")
_SKEW_S = 20 * 60


class Schedule:
    """So many steps of one world. With ``wide`` there are legal holds too, and roles that single devices have: other
    worlds for the same seeds."""

    def __init__(self, world: World, *, wide: bool = False) -> None:
        self.world = world
        self.chance = world.chance
        self._moves: list[tuple[float, Callable[[], None]]] = [
            (34, self.talk),
            (34, self.serve),
            (34, self.hear),
            (10, self.write),
            (14, self.edit),
            (2, self.imported),
            (2, self.forget_item),
            (0.4, self.forget_subject),
            (0.2, self.forget_scope),
            (1.5, self.grant),
            (2, self.cut),
            (6, self.mend),
            (1, self.kill),
            (1, self.kill_hub),
            (1.5, self.backup),
            (1, self.restore),
            (1, self.skew),
            (0.5, self.join),
            (1, self.again),
        ]
        if wide:
            self._moves += [(1.5, self.hold), (1, self.lift), (12, self.heed), (1, self.grant_device)]
        self._weights = [weight for weight, _ in self._moves]

    def play(self, steps: int) -> None:
        for person in self.world.people:
            self.world.hub.grant(self.chance.choice(TEAMS), f"user:{person}", self.chance.choice(["writer", STEWARD]))
        for _ in range(steps):
            self.world.now += self.chance.randrange(1, 30 * SECOND)
            ((_, move),) = self.chance.choices(self._moves, self._weights)
            move()

    # --- who ------------------------------------------------------------------------------------------------------

    def device(self) -> Device:
        return self.chance.choice(self.world.devices)

    def _killed_at(self) -> int:
        """Sometimes the machine dies at some statement of what it does."""
        return self.chance.randrange(1, 40) if self.chance.random() < 0.05 else 0

    # --- wires ----------------------------------------------------------------------------------------------------

    def talk(self) -> None:
        free = [device for device in self.world.devices if device.up and not device.waiting]
        if not free:
            return
        device = self.chance.choice(free)
        device.step(device.talk, self._killed_at())

    def hear(self) -> None:
        waiting = [device for device in self.world.devices if device.inbox]
        if waiting:
            device = self.chance.choice(waiting)
            device.step(device.hear, self._killed_at())

    def serve(self) -> None:
        waiting = [device for device in self.world.devices if device.outbox]
        if waiting:
            device = self.chance.choice(waiting)
            session, frame = device.outbox.popleft()
            if self.chance.random() < 0.1:
                self.world.strays.append((device, frame))
            self.world.serve(device, session, frame, self._killed_at())

    def again(self) -> None:
        """A message arrives a second time, or long after its connection went."""
        if self.world.strays:
            device, frame = self.chance.choice(self.world.strays)
            self.world.serve(device, -1, frame, 0)

    def cut(self) -> None:
        device = self.device()
        for _, frame in device.outbox:
            if self.chance.random() < 0.5:
                self.world.strays.append((device, frame))
        device.outbox.clear()
        device.cut()

    def mend(self) -> None:
        down = [device for device in self.world.devices if not device.up]
        if down:
            self.chance.choice(down).mend()

    # --- people ---------------------------------------------------------------------------------------------------

    def write(self) -> None:
        device = self.device()
        scope = self.chance.choice(["device", "person", "person", *device.scopes()])
        subject = self.chance.choice(["", "", *SUBJECTS])
        device.step(lambda: self.world.write(device, scope, subject), self._killed_at())

    def imported(self) -> None:
        """The same thing from the same place, perhaps on several devices."""
        device = self.device()
        scope = self.chance.choice(["person", *device.scopes()])
        number = self.chance.randrange(3)
        device.step(lambda: self.world.take_in(device, scope, number), self._killed_at())

    def edit(self) -> None:
        device = self.device()
        items = device.items()
        if items:
            item = self.chance.choice(items)
            device.step(lambda: self.world.edit(device, item), self._killed_at())

    def forget_item(self) -> None:
        device = self.device()
        items = device.items()
        if items:
            item = self.chance.choice(items)
            device.step(lambda: self.world.forget_item(device, item), self._killed_at())

    def forget_subject(self) -> None:
        device = self.device()
        scope = self.chance.choice(["person", *device.scopes(STEWARD)])
        device.step(lambda: self.world.forget_subject(device, scope, self.chance.choice(SUBJECTS)))

    def forget_scope(self) -> None:
        device = self.device()
        scope = self.chance.choice(["person", *device.scopes(STEWARD)])
        device.step(lambda: self.world.forget_scope(device, scope))

    def grant(self) -> None:
        """A role in a team's scope is given, changed or taken away."""
        person = self.chance.choice(self.world.people)
        self.world.hub.grant(self.chance.choice(TEAMS), f"user:{person}", self.chance.choice([*ROLES, "writer", ""]))
        self.world.notify()

    def grant_device(self) -> None:
        """The same for one device alone, whoever's it is."""
        member = f"device:{self.device().name}"
        self.world.hub.grant(self.chance.choice(TEAMS), member, self.chance.choice([*ROLES, "writer", ""]))
        self.world.notify()

    def hold(self) -> None:
        """An item that somebody wrote, or the whole of its scope, is put on legal hold."""
        written = [key for key in self.world.written if not key[0].startswith("device/")]
        if written:
            scope, item = self.chance.choice(written)
            self.world.hold(scope, item if self.chance.random() < 0.7 else "")

    def lift(self) -> None:
        if self.world.held:
            self.world.lift(self.chance.choice(list(self.world.held)))

    def heed(self) -> None:
        device = self.device()
        device.heed(self.chance.randrange(1, 4))

    # --- machines -------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        device = self.device()
        device.step(device.tidy, 1)

    def kill_hub(self) -> None:
        self.world.hub.kill()
        for device in self.world.devices:
            device.cut()

    def backup(self) -> None:
        device = self.device()
        self.world.backups.append((device, device.backup()))

    def restore(self) -> None:
        if self.world.backups:
            device, backup = self.chance.choice(self.world.backups)
            device.restore(backup)

    def skew(self) -> None:
        self.device().skew = self.chance.randrange(-_SKEW_S, _SKEW_S) * SECOND

    def join(self) -> None:
        if len(self.world.devices) < 5:
            self.world.add(self.chance.choice(self.world.people))
