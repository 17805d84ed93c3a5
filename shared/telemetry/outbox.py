"""Runs that have ended and whose traces are still to be sent. It is bounded: telemetry may be lost, the log is not."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from shared import entries as e

_MOST = 2048
_AT_ONCE = 16  # runs whose traces are in memory together


@dataclass(frozen=True)
class Parcel:
    """A run of a device, as it was when ``run.closed`` was entry ``seq``."""

    device: str
    run: str
    seq: int


class Outbox:
    """Filled where entries are committed, emptied in a thread. ``lost`` counts what was pushed out."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[Parcel] = deque()
        self.lost = 0

    def take(self, entry: e.Entry, device: str = "") -> None:
        """Note an entry; only the end of a run is anything to send."""
        if isinstance(entry.facts, e.RunClosed):
            with self._lock:
                self._waiting.append(Parcel(device, entry.run, entry.seq))
                self._trim()

    def next(self) -> list[Parcel]:
        """The oldest ones, no more than are sent at once."""
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]

    def again(self, parcels: list[Parcel]) -> None:
        """They could not be sent."""
        with self._lock:
            self._waiting.extendleft(reversed(parcels))
            self._trim()

    def lose(self, number: int) -> None:
        """So many were given up."""
        with self._lock:
            self.lost += number

    def _trim(self) -> None:
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            self.lost += 1
