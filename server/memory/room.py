"""The room as the others see it: every part of the hub's memory, made once."""

from __future__ import annotations

from collections.abc import Sequence

from server.bus import Bus
from server.memory import moving, status
from server.memory.access import Access
from server.memory.bringing import Bringing
from server.memory.erasure import Erasure
from server.memory.feeds import Feeds, Watcher
from server.memory.holds import Holds
from server.memory.items import Items
from server.memory.judging import Screener
from server.store import HubLog
from shared.memory.bench import Bench
from shared.memory.feed import Change
from shared.memory.rules import MemoryRules
from shared.protocol import Forget, Forgotten, Recall, Recalled, Remember, Remembered


class Memory:
    """Blocking; any number of threads. ``screener`` judges what comes in: a worker process, unless a test brings its
    own. ``close`` ends it."""

    def __init__(self, hublog: HubLog, bus: Bus, screener: Screener | None = None) -> None:
        self._log = hublog
        self._bus = bus
        self._bench: Bench | None = None
        if screener is None:
            screener = self._bench = Bench()
        self.access = Access(hublog)
        self.feeds = Feeds(hublog, bus, screener)
        self.items = Items(hublog, self.feeds)
        self.bringing = Bringing(self.feeds, self.access)
        self.holds = Holds(hublog, bus)
        self.erasure = Erasure(hublog, self.feeds.tell)

    # --- the link ---------------------------------------------------------------------------------------------

    def remember(self, device: str, asked: Remember) -> Remembered:
        return self.feeds.remember(device, asked)

    def recall(self, device: str, asked: Recall) -> Recalled:
        return self.feeds.recall(device, asked)

    def forget(self, device: str, asked: Forget) -> Forgotten:
        return self.erasure.forget(device, asked)

    # --- other doors ------------------------------------------------------------------------------------------

    def push(self, scope: str, changes: Sequence[Change], by: str) -> Remembered:
        return self.feeds.push(scope, changes, by)

    def chunks(self, scope: str, item: str, skip: int = 0) -> list[bytes]:
        return self.feeds.chunks(scope, item, skip)

    def role(self, scope: str, member: str) -> str:
        return self.access.role(scope, member)

    def watch(self, watcher: Watcher) -> None:
        self.feeds.watch(watcher)

    # --- operators --------------------------------------------------------------------------------------------

    def own(self, device: str, person: str, by: str) -> str:
        """Say whose device this is; see ``moving``."""
        scope = moving.own(self._log, device, person, by)
        for place in self.access.places(device).values():  # their teams' too
            self.holds.catch_up(place.scope, [device])
        self._hint([device])
        return scope

    def grant(self, scope: str, member: str, role: str, by: str) -> None:
        """See ``Access.grant``. The member's devices hear of it."""
        before = set(self.access.devices(scope))
        self.access.grant(scope, member, role, by)
        after = self.access.devices(scope)
        self.holds.catch_up(scope, [device for device in after if device not in before])
        self._hint(after)

    def revoke(self, scope: str, member: str, by: str) -> None:
        """See ``Access.revoke``. The member's devices hear of it, and drop the scope."""
        before = self.access.devices(scope)
        self.access.revoke(scope, member, by)
        self._hint(before)

    def tombstones(self, ids: Sequence[str] = ()) -> list[status.TombstoneView]:
        return status.tombstones(self._log.store, ids)

    def expire(self, rules: MemoryRules | None = None) -> int:
        """Forget what has expired, by its own word or by the release's rules, and is not held; how many items. Called
        now and then."""
        gone = 0
        while more := self.erasure.expire(rules or MemoryRules()):
            gone += more
        return gone

    def finish(self) -> int:
        """Let no byte of what was forgotten be left in the database's files, also of what an earlier process left
        undone; how many tombstones that finished. Called soon after, and at the start."""
        done = self.erasure.finish()
        if done:
            self._hint([])
        return done

    def close(self) -> None:
        if self._bench is not None:
            self._bench.close()

    def _hint(self, devices: Sequence[str]) -> None:
        self._bus.publish("memory", {"scope": "", "items": [], "erased": []})
        for device in devices:
            self._bus.publish(f"device:{device}", {"memory": True})
