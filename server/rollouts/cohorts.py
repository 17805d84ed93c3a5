"""The devices by what they are to run, and whether they do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from server.devices import DeviceView
from server.rollouts.told import Told
from shared import rollout as r


@dataclass(frozen=True)
class Placed:
    """A device and the release it is to run. ``cohort`` is ``candidate``, ``control``, ``pinned`` or ``excluded``;
    ``bucket`` (0 to 9999) is its place in the rollout's order."""

    device: DeviceView
    due: int
    cohort: str
    bucket: int

    @property
    def drifts(self) -> bool:
        """It runs another release than it is to; of one that is offline, as far as is known."""
        return self.device.release != self.due


@dataclass(frozen=True)
class Cohort:
    """How a cohort is, in numbers of devices; ``offline`` ones that ``drift`` have not heard of it yet."""

    name: str
    devices: int
    online: int
    drifting: int
    offline_drifting: int


def placed(told: Told, devices: Iterable[DeviceView]) -> list[Placed]:
    """The active devices: those that drift first, then by their place in the newest rollout, if there was one."""
    state = told.state
    salt = state.plan.salt if state is not None and state.plan is not None else ""
    found = [
        Placed(one, told.due(one.id), _cohort(state, one.id), r.bucket(salt, one.id))
        for one in devices
        if one.state == "active"
    ]
    return sorted(found, key=lambda one: (not one.drifts, one.bucket, one.device.name))


def _cohort(state: r.Rollout | None, device: str) -> str:
    if state is not None and device in state.pins:
        return "pinned"
    if state is not None and device in state.excluded:
        return "excluded"
    return "candidate" if state is not None and state.plan is not None and r.in_candidate(state, device) else "control"


def cohorts(everybody: list[Placed]) -> list[Cohort]:
    """Those that have a device, in a fixed order."""
    found = []
    for name in ("candidate", "control", "pinned", "excluded"):
        members = [one for one in everybody if one.cohort == name]
        drifting = [one for one in members if one.drifts]
        if members:
            online = sum(one.device.online for one in members)
            offline = sum(not one.device.online for one in drifting)
            found.append(Cohort(name, len(members), online, len(drifting), offline))
    return found
