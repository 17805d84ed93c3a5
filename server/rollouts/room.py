"""Which release each device is told to run, and how a new one comes to them: all at once, or in stages.

What is so follows from the hub's own log alone: releases published, rollouts and what became of them, pins. It is
folded again at every start, and further with whatever is appended, so a kill at any moment leaves no doubt. Evidence is
counted in a table of its own, because it is derived from the devices' logs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import select

from server.bus import Bus
from server.devices import DeviceView
from server.rollouts import tally
from server.rollouts.cohorts import Placed, placed
from server.rollouts.told import TYPES, Course, Event, Told
from server.store import HubLog
from server.store.tables import HUB_ENTRIES
from shared import entries as e
from shared import rollout as r
from shared.entries import Draft, Facts
from shared.errors import BadInput, Conflict, Unavailable
from shared.keys import Envelope
from shared.release import Assignment, Release, sign

# An assignment is made anew whenever a device asks. A day bounds how long a captured one could hold a device back.
ASSIGNMENT_US = 24 * 3600 * 1_000_000
HUB = "hub"  # who acts where the evidence does


class Library(Protocol):
    """Where releases are; ``releases`` provides it."""

    def current(self) -> int: ...

    def release(self, number: int, /) -> Release: ...


class Fleet(Protocol):
    """Who the devices are; ``devices`` provides it."""

    def list(self) -> Sequence[DeviceView]: ...

    def get(self, device: str, /) -> DeviceView: ...


class Rollouts:
    """Safe from any thread. ``by`` is always the user who acts."""

    def __init__(self, hublog: HubLog, bus: Bus, releases: Library, devices: Fleet) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._releases = releases
        self._devices = devices
        self._lock = threading.Lock()
        self._read = 0  # so many entries of the log were read
        self._told = Told()
        self._courses: dict[str, Course] = {}

    # --- what devices run -----------------------------------------------------------------------------------------

    def assignment(self, device: str) -> Envelope:
        """The signed order to run a release. Raises ``Unavailable('release.none')`` before the first one."""
        number = self.told().due(device)
        if not number:
            raise Unavailable(
                "release.none", "no release is published yet", advice="run `outrider hub release publish`"
            )
        now = self._log.clock()
        return sign(Assignment(device, number, now, now + ASSIGNMENT_US), self._log.key)

    def told(self) -> Told:
        """What the log says by now."""
        with self._lock:
            size = self._log.size
            if size > self._read:
                fresh = HUB_ENTRIES.c.seq.between(self._read, size - 1)
                with self._store.read() as conn:
                    rows = conn.execute(
                        select(HUB_ENTRIES.c.data)
                        .where(HUB_ENTRIES.c.type.in_(TYPES), fresh)
                        .order_by(HUB_ENTRIES.c.seq)
                    ).all()
                for row in rows:
                    self._take(e.read(row.data))
                self._read = size
            return self._told

    def _take(self, entry: e.Entry) -> None:
        self._told = self._told.further(entry.facts, entry.at)
        state = self._told.state
        about_it = not isinstance(entry.facts, e.ReleasePublishedV1 | e.DevicePinned | e.DeviceExcluded)
        if state is None or state.plan is None or not (about_it or state.active):
            return
        course = self._courses.setdefault(state.plan.rollout, Course(state))
        course.state = state
        course.events.append(Event(entry.at, entry.facts))

    def courses(self) -> list[Course]:
        """Every rollout there was, the newest first."""
        self.told()
        with self._lock:
            return [Course(one.state, list(one.events)) for one in reversed(self._courses.values())]

    def course(self, rollout: str = "") -> Course:
        """By its id; the newest one by none. Raises ``BadInput('rollout.unknown')``, ``Conflict('rollout.none')``."""
        wanted = rollout or self._newest().rollout
        found = next((one for one in self.courses() if one.state.plan and one.state.plan.rollout == wanted), None)
        if found is None:
            raise BadInput(
                "rollout.unknown", f"there is no rollout {rollout[:80]!r}", advice="see the list of rollouts"
            )
        return found

    def evidence(self, state: r.Rollout) -> r.Outcomes:
        """What the present or last stage of a rollout has counted."""
        assert state.plan is not None
        with self._store.read() as conn:
            return self._told_apart(state, tally.evidence(conn, state.plan.rollout, state.stage))

    def judged(self, state: r.Rollout) -> r.Verdict:
        """What the evidence says at this moment. Nothing follows from asking."""
        return r.judge(state, self.evidence(state), self._log.clock())

    def everybody(self) -> list[Placed]:
        """Every active device, what it is to run and in which cohort of the newest rollout it is."""
        return placed(self.told(), self._devices.list())

    # --- what people do -------------------------------------------------------------------------------------------

    def plan(self, release: int = 0) -> r.Plan:
        """The default plan of a release, of the newest one if none is named. Raises ``Unavailable('release.none')``,
        ``Conflict('rollout.same')`` where everybody runs it already."""
        release, control = release or self._releases.current(), self.told().base
        self._releases.release(release)
        if control in (0, release):
            raise Conflict("rollout.same", f"release {release} is what everybody runs", advice="publish another first")
        with self._store.read() as conn:
            thought_ms, cents = tally.usual(conn, control)
        return r.default_plan(
            f"ro-{self._log.random(6).hex()}",
            release,
            control,
            self._log.random(8).hex(),
            devices=sum(device.state == "active" for device in self._devices.list()),
            slow_ms=r.usual_bound(thought_ms),
            dear_cents=r.usual_bound(cents),
        )

    def start(self, plan: r.Plan, by: str) -> None:
        """Begin. Raises ``Conflict('rollout.order')`` while another is under way, ``BadInput('rollout.plan')``."""
        self._write(e.RolloutStarted(plan, by))

    def pause(self, by: str) -> None:
        """Everybody stays as they are. Like all that follows, raises ``Conflict('rollout.none' | 'rollout.order')``."""
        self._write(e.RolloutPaused(self._newest().rollout, by))

    def resume(self, by: str) -> None:
        self._write(e.RolloutResumed(self._newest().rollout, by))

    def advance(self, by: str) -> None:
        """To the next stage, or behind the last one to the end, on a person's word instead of the evidence's."""
        self._write(self._next("person", by))

    def roll_back(self, by: str, target: int = 0) -> None:
        """Everybody to the control, or to another release."""
        if target:
            self._releases.release(target)
        plan = self._newest()
        self._write(e.RolloutRolledBack(plan.rollout, target or plan.control, by))

    def pin(self, device: str, release: int, by: str) -> None:
        """Let a device run this release whatever is rolled out; 0 for no longer."""
        self._devices.get(device)
        if release:
            self._releases.release(release)
        self._write(e.DevicePinned(device, release, by))

    def exclude(self, device: str, on: bool, by: str) -> None:
        """Let a device take no part in rollouts, or take part again."""
        self._devices.get(device)
        self._write(e.DeviceExcluded(device, on, by))

    # --- what the evidence does -----------------------------------------------------------------------------------

    def look(self) -> r.Verdict:
        """Count what has come in, judge, and do what follows. Call it every minute."""
        with self._store.writing:
            now, state = self._log.clock(), self.told().state
            if state is None or not state.active:
                return r.Wait("none", "no rollout is under way")
            with self._store.write() as conn:
                outcomes = tally.gather(conn, state, now)
            verdict = r.judge(state, self._told_apart(state, outcomes), now)
            match verdict:
                case r.Halt(code, metric, evidence):
                    plan = self._newest()
                    self._write(
                        e.RolloutHalted(plan.rollout, code, metric, evidence, HUB),
                        e.RolloutRolledBack(plan.rollout, plan.control, HUB),
                    )
                case r.Advance() | r.Finish():
                    self._write(self._next("evidence", HUB))
            return verdict

    # --- within ---------------------------------------------------------------------------------------------------

    def _told_apart(self, state: r.Rollout, outcomes: r.Outcomes) -> r.Outcomes:
        return r.told_apart(state, outcomes, (one.id for one in self._devices.list() if one.state == "active"))

    def _newest(self) -> r.Plan:
        state = self.told().state
        if state is None or state.plan is None:
            raise Conflict("rollout.none", "there was no rollout yet", advice="start one")
        return state.plan

    def _next(self, why: str, by: str) -> Facts:
        plan, state = self._newest(), self.told().state
        assert state is not None
        if state.is_last:
            return e.RolloutFinished(plan.rollout, by)
        return e.RolloutAdvanced(plan.rollout, state.stage + 1, why, by)

    def _write(self, *facts: Facts) -> None:
        with self._store.writing:
            told, now = self.told(), self._log.clock()
            for one in facts:
                told = told.further(one, now)  # refuses what cannot follow before it is written
            self._log.append([Draft(one) for one in facts])
        self._bus.publish("releases", {"release": told.base})
