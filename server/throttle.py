"""Slows guessing: so many failures in a while, then nothing is tried until the while is over.

Counts failures only, so a whole office enrolling or signing in behind one address is never held up.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from shared.errors import Refused

_KEYS = 10_000  # the least recently failing are forgotten beyond this


class Throttle:
    """At most ``failures`` in any ``seconds`` for one key. ``clock`` gives microseconds."""

    def __init__(self, failures: int, seconds: int, clock: Callable[[], int], *, code: str) -> None:
        self._most = failures
        self._window = seconds * 1_000_000
        self._clock = clock
        self._code = code
        self._failed: OrderedDict[str, deque[int]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, key: str) -> None:
        """Raise ``Refused`` with this throttle's code while ``key`` has failed too often."""
        now = self._clock()
        with self._lock:
            times = self._failed.get(key)
            while times and times[0] <= now - self._window:
                times.popleft()
            if times and len(times) >= self._most:
                wait = max(1, (times[0] + self._window - now) // 1_000_000)
                raise Refused(self._code, "too many failed attempts", advice=f"wait {wait} seconds and try again")

    def fail(self, key: str) -> None:
        with self._lock:
            times = self._failed.setdefault(key, deque(maxlen=self._most))
            times.append(self._clock())
            self._failed.move_to_end(key)
            while len(self._failed) > _KEYS:
                self._failed.popitem(last=False)

    def forget(self, key: str) -> None:
        """A success: earlier failures no longer count."""
        with self._lock:
            self._failed.pop(key, None)
