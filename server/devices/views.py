"""A device as the console and the commands show it, and who is connected at this moment."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row

from server.devices.networks import believed, network
from shared.protocol import Status


@dataclass(frozen=True)
class DeviceView:
    """Times are microseconds since 1970 UTC, 0 where it never was. ``log_size`` is what the device says it has,
    ``held`` what the hub has verified and countersigned. ``problem_*`` are empty while all is well. ``person`` is whose
    device it is, empty for nobody's. ``stops`` is the version of the stops that it obeys and ``peer`` where it hands
    models to other devices, empty for nowhere, as it said when it last spoke with this process of the hub."""

    id: str
    name: str
    state: str  # active | revoked
    enrolled_at: int
    last_seen_at: int
    online: bool
    release: int
    log_size: int
    held: int
    cosigned_at: int
    problem_code: str
    problem_message: str
    problem_advice: str
    problem_at: int
    lease_expires_at: int
    open_runs: int
    waiting: int
    software: str
    person: str = ""
    stops: int = 0
    peer: str = ""


@dataclass(frozen=True)
class Seen:
    """How a device last spoke. ``connection`` is 0 once it has gone, ``source`` the address that it came from."""

    connection: int
    at: int
    release: int
    log_size: int
    open_runs: int = 0
    waiting: int = 0
    stops: int = 0
    source: str = ""
    peer: str = ""


class Presence:
    """Who is connected, kept in memory: a heartbeat must not cost a disk sync. ``take`` hands over what to store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._near: dict[str, dict[str, str]] = {}  # by network: the devices that hand out models, and where
        self._changed: set[str] = set()
        self._last = 0

    def arrive(self, device: str, at: int, release: int, log_size: int, source: str = "") -> int:
        """A device connected; the number by which it later leaves."""
        with self._lock:
            self._last += 1
            old = self._seen.get(device)
            runs = (old.open_runs, old.waiting, old.stops) if old else (0, 0, 0)
            self._put(device, Seen(self._last, at, release, log_size, *runs, source=source))
            return self._last

    def status(self, device: str, at: int, status: Status) -> None:
        with self._lock:
            old = self._seen.get(device)
            if old is not None:
                peer = believed(status.peer, old.source) if status.peer and old.connection else ""
                counts = (status.release, status.size, status.open_runs, status.waiting, status.stops)
                self._put(device, Seen(old.connection, at, *counts, source=old.source, peer=peer))

    def leave(self, device: str, connection: int, at: int) -> bool:
        """That connection ended; false when a newer one has taken its place."""
        with self._lock:
            old = self._seen.get(device)
            if old is None or old.connection != connection:
                return False
            self._put(device, replace(old, connection=0, at=at, peer=""))
            return True

    def _put(self, device: str, seen: Seen) -> None:
        old = self._seen.get(device)
        if old is not None and old.peer:
            self._near.get(network(old.source), {}).pop(device, None)
        if seen.peer:
            self._near.setdefault(network(seen.source), {})[device] = seen.peer
        self._seen[device] = seen
        self._changed.add(device)

    def near(self, network: str) -> dict[str, str]:
        """Where the devices of a network hand out models, by device; nobody is in the network of no name."""
        with self._lock:
            return dict(self._near.get(network, {})) if network else {}

    def get(self, device: str) -> Seen | None:
        with self._lock:
            return self._seen.get(device)

    def take(self) -> dict[str, Seen]:
        """What changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return {device: self._seen[device] for device in changed}


def view(row: Row[Any], seen: Seen | None) -> DeviceView:
    """A stored device, brought up to the moment by what is known of its connection."""
    names = DeviceView.__dataclass_fields__.keys() - {"online", "stops", "peer"}
    stored = DeviceView(online=False, **{name: getattr(row, name) for name in names})
    if seen is None:
        return stored
    return replace(
        stored,
        online=seen.connection != 0,
        last_seen_at=max(stored.last_seen_at, seen.at),
        release=seen.release,
        log_size=seen.log_size,
        open_runs=seen.open_runs,
        waiting=seen.waiting,
        stops=seen.stops,
        peer=seen.peer,
    )
