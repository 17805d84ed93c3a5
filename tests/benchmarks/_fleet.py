"""A fleet on simulated time, under the real rollout code.

Everything that decides is the product's own: ``fold``, ``assigned``, ``Outcomes``, ``judge``. Made up are the devices:
when they are online, how many runs they open, and how those go. Time goes in ticks of ten minutes, so whatever is said
to happen at once happens within one.

Four kinds of device: *always* on; at an *office* by day, from Monday to Friday; *travelling*, online now and then; in
the *field*, online for half an hour every other day or so. A device goes on working offline until its lease ends.
Devices are not alike: each has its own share of runs that fail (a beta distribution), and of a hundred one is broken
and fails three runs in ten, with any release. Now and then something outside fails for everybody for an hour or two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.facts import RolloutAdvanced, RolloutFinished, RolloutHalted, RolloutRolledBack, RolloutStarted
from shared.rollout import (
    FINISHED,
    MOST_RUNS,
    PARTS,
    Advance,
    Finish,
    Halt,
    Outcomes,
    Plan,
    Tally,
    assigned,
    default_plan,
    fold,
    judge,
    part,
    told_apart,
)

TICK_S = 600
DAY = 24 * 3600 // TICK_S  # ticks
KINDS = ("always", "office", "travelling", "field")
MIX = (0.2, 0.5, 0.2, 0.1)
LEASE_TICKS = 8 * 3600 // TICK_S
CONTROL, CANDIDATE = 1, 2

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Shares:
    """How runs go: the mean share that fails, is found to be otherwise, asks, is slow, is dear; and of those that were
    answered, the share a person did not agree with."""

    failures: float = 0.02
    mismatches: float = 0.005
    questions: float = 0.25
    slow: float = 0.10
    dear: float = 0.10
    overridden: float = 0.08

    def plus(self, **more: float) -> Shares:
        return Shares(**{name: min(0.99, value + more.get(name, 0.0)) for name, value in vars(self).items()})


@dataclass
class Result:
    """What became of a rollout. Times are hours since its start; ``halted`` is where it was halted, else -1."""

    status: str
    stage: int
    hours: float
    stages: list[float] = field(default_factory=list)  # when each stage began
    halted: float = -1.0
    halted_metric: str = ""
    devices: int = 0
    reached: int = 0  # devices that ever ran the candidate
    runs: int = 0  # with the candidate
    failed: int = 0
    back: list[float] = field(default_factory=list)  # hours after the halt until each reached device was back


class Fleet:
    """``size`` devices, the same for the same seed."""

    def __init__(self, size: int, seed: int, runs_a_day: float = 20.0) -> None:
        self.size = size
        self.chance = np.random.default_rng(seed)
        self.names = [f"dev_{number:06d}" for number in range(size)]
        self.kind = self.chance.choice(len(KINDS), size, p=MIX)
        self.starts = self.chance.normal(8.5, 0.7, size)
        self.ends = self.chance.normal(17.0, 0.8, size)
        self.rate = np.minimum(
            runs_a_day * self.chance.lognormal(-0.32, 0.8, size), runs_a_day * 10
        )  # mean: runs_a_day
        self.own = self.chance.beta(0.6, 29.4, size) / 0.02  # times the mean share that fails
        self.broken = self.chance.random(size) < 0.01
        self.fails = 0.3  # of the runs of one that is broken

    def days(self, first: int) -> Iterator[tuple[Flags, NDArray[np.float64], Flags]]:
        """Day by day from that weekday on: who is online at each tick, how many runs each opens a tick on average, and
        at which ticks something outside is broken."""
        hours = np.arange(DAY) * 24 / DAY
        day = first
        while True:
            at_work = day % 7 < 5
            within = (hours[:, None] >= self.starts) & (hours[:, None] < self.ends)
            present = at_work & (self.chance.random(self.size) < 0.95)
            awake = (hours[:, None] >= 7) & (hours[:, None] < 22)
            online = self.chance.random((DAY, self.size), dtype=np.float32) < 0.98
            episodes = np.repeat(self.chance.random((24, self.size)) < 0.3, DAY // 24, axis=0)
            online[:, self.kind == 1] &= (within & present)[:, self.kind == 1]
            online[:, self.kind == 2] &= (episodes & awake)[:, self.kind == 2]
            online[:, self.kind == 3] &= self._windows()[:, self.kind == 3]
            share = np.full((DAY, self.size), 1 / DAY)
            share[:, self.kind == 1] = ((within & present) / (8.5 * DAY / 24))[:, self.kind == 1]
            share[:, self.kind >= 2] = (awake / (15 * DAY / 24)).repeat(self.size, 1)[:, self.kind >= 2]
            outage = np.zeros(DAY, dtype=bool)
            if self.chance.random() < 0.15:
                begin = int(self.chance.integers(DAY))
                outage[begin : begin + int(self.chance.integers(3, 12))] = True
            yield online, share * self.rate, outage
            day += 1

    def _windows(self) -> Flags:
        """Half an hour online for about half of the devices."""
        begin = self.chance.integers(0, 2 * DAY, self.size)
        ticks = np.arange(DAY)[:, None]
        return np.asarray((ticks >= begin) & (ticks < begin + 3))


@dataclass
class _Arm:
    """Runs of one arm on their way to the hub, per device: those young, those that wait for the link, those counted;
    and of each part of the devices, how many runs asked and wait for a person."""

    shares: Shares
    size: int
    young: deque[tuple[Counts, Counts]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.young.clear()
        self.runs, self.failed, self.counted = (np.zeros(self.size, dtype=np.int64) for _ in range(3))
        self.asked = np.zeros(PARTS, dtype=np.int64)


class Trial:
    """One rollout over one fleet."""

    def __init__(self, fleet: Fleet, candidate: Shares, control: Shares, *, plan: Plan | None = None) -> None:
        self.fleet, self.chance = fleet, fleet.chance
        salt = f"salt-{int(self.chance.integers(2**40))}"
        self.plan = plan or default_plan(
            "rol_1", CANDIDATE, CONTROL, salt, devices=fleet.size, slow_ms=1000, dear_cents=5
        )
        self.arms = {CANDIDATE: _Arm(candidate, fleet.size), CONTROL: _Arm(control, fleet.size)}
        self.parts = np.array([part(self.plan.salt, name) for name in fleet.names])
        self.settle = -(-self.plan.settle_s // TICK_S)
        self.tick = 0
        self.state = fold(None, RolloutStarted(self.plan, "mara"), 0)
        self.outcomes = Outcomes()
        self.running = np.full(fleet.size, CONTROL)
        self.contact = np.zeros(fleet.size, dtype=np.int64)
        self.reached = np.zeros(fleet.size, dtype=bool)
        self.back_at = np.full(fleet.size, -1)
        self.result = Result("running", 0, 0.0, [0.0], devices=fleet.size)
        self._assign()

    def go(self, days: int = 21) -> Result:
        """Until it is over and everybody is back, or so many days have passed. Nobody helps it on."""
        begins = int(self.chance.integers(8, 16)) * DAY // 24
        source = self.fleet.days(int(self.chance.integers(5)))
        for day in range(days):
            online, rates, outage = next(source)
            for tick in range(begins if day == 0 else 0, DAY):
                self._step(online[tick], rates[tick], bool(outage[tick]))
                if self._is_over():
                    return self._told()
        return self._told()

    def _step(self, online: Flags, rates: NDArray[np.float64], outage: bool) -> None:
        self.contact[online] = self.tick
        changed = online & (self.running != self.wanted)
        self.running[changed] = self.wanted[changed]
        self.reached |= self.running == CANDIDATE
        if self.result.halted >= 0:
            self.back_at[changed] = self.tick
        alive = self.tick - self.contact < LEASE_TICKS
        runs = self.chance.poisson(rates * alive)
        for release, arm in self.arms.items():
            own = np.where(self.running == release, runs, 0)
            self._open(arm, own, outage)
            if release == CANDIDATE:
                self.result.runs += int(own.sum())
                self.result.failed += int(arm.young[-1][1].sum())
        self.tick += 1
        if self.state.active:
            self._look(online)

    def _open(self, arm: _Arm, runs: Counts, outage: bool) -> None:
        worse = self.fleet.own * 0.02 + (arm.shares.failures - 0.02)
        share = np.where(self.fleet.broken, self.fleet.fails, np.clip(worse, 0, 0.99))
        arm.young.append((runs, self.chance.binomial(runs, np.maximum(share, 0.3) if outage else share)))

    def _look(self, online: Flags) -> None:
        news = {release: self._heard(arm, online) for release, arm in self.arms.items()}
        self.outcomes = self.outcomes.taken_in_parts(news[CANDIDATE], sum(news[CONTROL], Tally()))
        at = self.tick * TICK_S * 1_000_000
        verdict = judge(self.state, told_apart(self.state, self.outcomes, self.candidates), at)
        match verdict:
            case Halt(code=code, metric=metric, evidence_permille=evidence):
                halted = RolloutHalted("rol_1", code, metric, evidence, "hub")
                self.state = fold(self.state, halted, at)
                self.state = fold(self.state, RolloutRolledBack("rol_1", CONTROL, "hub"), at)
                self.result.halted, self.result.halted_metric = self._hours(), metric
            case Advance(stage=stage):
                self.state = fold(self.state, RolloutAdvanced("rol_1", stage, "evidence", "hub"), at)
                self.result.stages.append(self._hours())
                self.outcomes = Outcomes()
                for arm in self.arms.values():
                    arm.clear()
            case Finish():
                self.state = fold(self.state, RolloutFinished("rol_1", "hub"), at)
            case _:
                return
        self._assign()

    def _heard(self, arm: _Arm, online: Flags) -> list[Tally]:
        """What the hub newly knows of an arm, by part: runs old enough, from devices that are online, of each device
        no more than count."""
        while len(arm.young) > self.settle:
            runs, failed = arm.young.popleft()
            arm.runs, arm.failed = arm.runs + runs, arm.failed + failed
        runs, failed = (np.where(online, given, 0) for given in (arm.runs, arm.failed))
        arm.runs, arm.failed = arm.runs - runs, arm.failed - failed
        room = MOST_RUNS - arm.counted
        for device in np.flatnonzero(runs > room):  # any of them, however they went
            failed[device] = self.chance.hypergeometric(failed[device], runs[device] - failed[device], room[device])
        runs = np.minimum(runs, room)
        arm.counted += runs
        counts, failures = (np.bincount(self.parts, given, PARTS).astype(np.int64) for given in (runs, failed))
        shares, draw = arm.shares, self.chance.binomial
        questions = draw(counts, shares.questions)
        arm.asked += questions
        answered = draw(arm.asked, 0.1 if online.mean() > 0.3 else 0.0)  # people answer by day
        arm.asked -= answered
        columns = (
            counts,
            failures,
            draw(counts, shares.mismatches),
            questions,
            draw(counts, shares.slow),
            draw(counts, shares.dear),
            answered,
            draw(answered, shares.overridden),
        )
        return [Tally(*(int(number) for number in row)) for row in zip(*columns, strict=True)]

    def _assign(self) -> None:
        self.wanted = np.array([assigned(self.state, CONTROL, name) for name in self.fleet.names])
        named = zip(self.fleet.names, self.wanted, strict=True)
        self.candidates = [name for name, release in named if release == CANDIDATE]

    def _is_over(self) -> bool:
        if self.state.active:
            return False
        return self.state.status == FINISHED or not bool((self.running == CANDIDATE).any())

    def _hours(self) -> float:
        return self.tick * TICK_S / 3600

    def _told(self) -> Result:
        told = self.result
        told.status, told.stage, told.hours = self.state.status, self.state.stage, self._hours()
        told.reached = int(self.reached.sum())
        if told.halted >= 0:
            waited = self.back_at[self.back_at >= 0] * TICK_S / 3600 - told.halted
            told.back = [max(0.0, float(hours)) for hours in waited]
        return told


def trial(size: int, seed: int, candidate: Shares, days: int = 21) -> Result:
    return Trial(Fleet(size, seed), candidate, Shares()).go(days)


def kill_switch(size: int, seed: int, lease_h: int, days: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Hours from the press of a fleet-wide switch until each device acts no more: at once where it is online, when it
    is back, or when its lease has ended, whichever comes first. The second array is each device's kind."""
    fleet = Fleet(size, seed)
    source = fleet.days(int(fleet.chance.integers(7)))
    seen = np.concatenate([next(source)[0] for _ in range(days)])
    pressed = 2 * DAY + int(fleet.chance.integers(DAY))
    ticks = np.arange(len(seen))[:, None]
    last = np.where(seen[: pressed + 1], ticks[: pressed + 1], -(10**6)).max(axis=0)
    back = np.where(seen[pressed:], ticks[pressed:], 10**6).min(axis=0)
    ends = np.maximum(last + lease_h * 3600 // TICK_S, pressed)
    stopped = np.minimum(back, ends) - pressed
    return stopped * TICK_S / 3600, fleet.kind
