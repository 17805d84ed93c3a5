"""Rollouts over real logs of real-looking devices; releases stand in the hub's log, and their files nowhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from server.rollouts import Rollouts
from shared import rollout as r
from shared.codec import parse
from shared.entries import Draft, ReleasePublished
from shared.errors import Unavailable
from shared.release import Assignment, Release
from tests.fakes import FakeDevice, make_release
from tests.server.conftest import Rooms

HOUR = 3600
GATES = [r.Gate("failures", 20, 200), r.Gate("overridden", 50, 300)]


class Published:
    """What was published, by number."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._newest = 0

    def publish(self, *, staged: bool = False) -> int:
        self._newest += 1
        self._rooms.hublog.append([Draft(ReleasePublished(self._newest, "eve", {}, staged))])
        return self._newest

    def current(self) -> int:
        return self._newest

    def release(self, number: int) -> Release:
        if not 1 <= number <= self._newest:
            raise Unavailable("release.none", f"there is no release {number}", advice="publish it")
        return make_release(number)


@dataclass
class Fleet:
    """A hub's rollouts and its devices."""

    rooms: Rooms
    releases: Published
    rollouts: Rollouts
    devices: list[FakeDevice]

    def again(self) -> Rollouts:
        """As after a restart: nothing but the database."""
        self.rollouts = Rollouts(self.rooms.hublog, self.rooms.bus, self.releases, self.rooms.devices)
        return self.rollouts

    def due(self) -> dict[str, int]:
        return {device.id: self.assigned(device) for device in self.devices}

    def assigned(self, device: FakeDevice) -> int:
        envelope = self.rollouts.assignment(device.id)
        return parse(envelope.payload, Assignment, code="t", what="the assignment").release

    def plan(self, *permille: int, hold_s: int = 0, runs: int = 0, settle_s: int = 0) -> r.Plan:
        """A plan whose first stage has the share of these few devices that it names: chance may give it all or none."""
        stages = [r.Stage(share, hold_s, runs) for share in permille]
        wanted = len(self.devices) * permille[0] // 1000
        salts = (f"salt {number}" for number in itertools.count())
        salt = next(one for one in salts if sum(r.bucket(one, d.id) < permille[0] * 10 for d in self.devices) == wanted)
        return msgspec.structs.replace(self.rollouts.plan(), salt=salt, stages=stages, gates=GATES, settle_s=settle_s)

    def work(self, subject: str, *, bad: bool = False) -> None:
        """Every device does one run under the release it is told to run; with ``bad``, the candidate's fail."""
        state = self.rollouts.told().state
        candidate = state.plan.release if state is not None and state.plan is not None else 0
        for device in self.devices:
            device.release = self.assigned(device)
            if bad and device.release == candidate:
                device.failed(f"{subject} {device.name}")
            else:
                device.decide_alone(f"{subject} {device.name}")
            self.rooms.sync(device)


@pytest.fixture
def fleet(rooms: Rooms) -> Callable[[int], Fleet]:
    def make(devices: int) -> Fleet:
        releases = Published(rooms)
        rollouts = Rollouts(rooms.hublog, rooms.bus, releases, rooms.devices)
        return Fleet(rooms, releases, rollouts, [rooms.join(f"desk {number}") for number in range(devices)])

    return make
