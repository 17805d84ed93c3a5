"""Replay: a candidate release held against the last days, here and, in private, on each device.

Here the hub judges the devices' verdicts again, which hold all that was judged. What devices planned from stays with
them, so they are asked to try the release on their own runs (a signed ``Replay``) and answer with counts. The same
counts come by themselves, of the release in force, as drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, select

from server.authoring import Authoring
from server.bus import Bus
from server.releases import Releases
from server.releases.workspace import read_files
from server.replay.history import verdicts
from server.store import HubLog
from server.store.replay_tables import SCORES
from server.store.tables import DEVICES, HUB_ENTRIES
from shared import entries as e
from shared import limits
from shared.errors import BadInput, Conflict, Refused
from shared.keys import Envelope
from shared.release import Release, Replay, sign
from shared.replay import Differences, Told, compare, run_cases

ROLES = ("admin", "release")
DAYS = 30
MOST_DAYS = 366
MOST_VERDICTS = 1_000_000
_DAY_US = 86_400 * 1_000_000
_WAIT_US = 14 * _DAY_US  # an answer of a device that was away for longer would be of another world
_MOVED = 100  # permille by which a device's agreement must differ from what it was to be called drift
_LEAST = 10  # runs in a sample, below which it says nothing


@dataclass(frozen=True)
class Subject:
    """What is judged: release ``number``, or the workspace where that is 0."""

    release: Release
    number: int
    cases: list[Told]


@dataclass(frozen=True)
class Score:
    """A device's answer; counts as in ``replay.scored``. ``device_name`` is its name here."""

    device: str
    device_name: str
    at: int
    release: int
    sampled: int
    before: int
    now: int
    abstained: int
    unplanned: int
    golden: int
    golden_wrong: int
    code: str


@dataclass(frozen=True)
class Asked:
    """A request to devices: whom it went to, and who answered."""

    id: str
    at: int
    by: str
    release: int
    sample: int
    devices: int
    scores: list[Score]


@dataclass(frozen=True)
class Drift:
    """A device's newest sample of the release in force. ``moved`` is by how many permille fewer runs are planned as
    people decided than when they were planned first; ``alert`` that this is more than chance and rounding."""

    score: Score
    moved: int
    alert: bool


class Replays:
    def __init__(self, hublog: HubLog, bus: Bus, releases: Releases, authoring: Authoring) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._releases = releases
        self._authoring = authoring

    # --- here -----------------------------------------------------------------------------------------------------

    def subject(self, number: int) -> Subject:
        """A published release, or with 0 the newest version of the workspace. Raises ``Unavailable('release.none')``,
        ``BadInput('draft.none')`` and what is wrong with the workspace."""
        if number:
            release = self._releases.release(number)
        else:
            candidate = read_files(self._authoring.drafts.files(self._authoring.need()))
            release = Release(candidate.manifest(1, 0), candidate.files)
        return Subject(release, number, run_cases(release, release.beside))

    def compare(self, subject: Subject, days: int = DAYS, *, most: int = 200) -> Differences:
        """What the verdicts of the last ``days`` would be under it; at most ``most`` differences, the newest. Raises
        ``BadInput('replay.days')``."""
        if not 1 <= days <= MOST_DAYS:
            raise BadInput("replay.days", f"{days} is no number of days", advice=f"use 1 to {MOST_DAYS}")
        since = self._log.clock() - days * _DAY_US
        return compare(subject.release.policy, verdicts(self._store, since, MOST_VERDICTS), most=most)

    # --- on the devices -------------------------------------------------------------------------------------------

    def ask(self, release: int, sample: int, *, by: str, roles: Sequence[str]) -> str:
        """Ask every active device to try a release on its own runs. The request's id.

        Raises ``Refused('replay.role')``, ``Unavailable('release.none')``, ``BadInput('replay.sample')``,
        ``Conflict('replay.devices')``.
        """
        if not set(ROLES) & set(roles):
            raise Refused("replay.role", f"only {' or '.join(ROLES)} may do this", advice="ask somebody who is")
        if not 1 <= sample <= limits.REPLAY_SAMPLE:
            said = f"{sample} runs are no sample"
            raise BadInput("replay.sample", said, advice=f"use 1 to {limits.REPLAY_SAMPLE}")
        self._releases.release(release)
        with self._store.read() as conn:
            devices = list(conn.execute(select(DEVICES.c.id).where(DEVICES.c.state == "active")).scalars())
        if not devices:
            raise Conflict("replay.devices", "no device has joined", advice="let a device join first")
        name = f"rpl_{self._log.random(8).hex()}"
        self._log.append([e.Draft(e.ReplayAsked(name, release, sample, len(devices), by))])
        for device in devices:
            self._bus.publish(f"device:{device}", {"replay": name, "device": device})
        return name

    def waiting(self, device: str) -> list[Envelope]:
        """What a device was asked and has not answered, signed. It is told whenever it pulls, until it has answered or
        nobody waits any more: a device forgets what it was asked when it is switched off at work on it."""
        since = self._log.clock() - _WAIT_US
        asked = select(HUB_ENTRIES.c.data).where(HUB_ENTRIES.c.type == "replay.asked", HUB_ENTRIES.c.at > since)
        with self._store.read() as conn:
            entries = [e.read(data) for data in conn.execute(asked.order_by(HUB_ENTRIES.c.seq)).scalars()]
            if not entries:
                return []
            joined = conn.execute(select(DEVICES.c.enrolled_at).where(DEVICES.c.id == device)).scalar_one()
            answered = set(conn.execute(select(SCORES.c.asked).where(SCORES.c.device == device)).scalars())
        wanted = [
            Replay(facts.id, device, facts.release, facts.sample, entry.at + _WAIT_US)
            for entry in entries
            if isinstance(facts := entry.facts, e.ReplayAsked) and facts.id not in answered and joined <= entry.at
        ]
        return [sign(one, self._log.key) for one in wanted[: limits.REPLAYS_WAITING]]

    def asked(self, release: int) -> list[Asked]:
        """Requests to try a release, the newest first, with the answers so far."""
        found = [entry for entry in self._requests() if entry[1].release == release]
        with self._store.read() as conn:
            rows = conn.execute(_scores().where(SCORES.c.release == release, SCORES.c.asked != "")).all()
        scores = [(row.asked, _score(row)) for row in rows]
        return [
            Asked(
                id=facts.id,
                at=at,
                by=facts.by,
                release=facts.release,
                sample=facts.sample,
                devices=facts.devices,
                scores=[score for asked, score in scores if asked == facts.id],
            )
            for at, facts in reversed(found)
        ]

    def _requests(self) -> list[tuple[int, e.ReplayAsked]]:
        query = select(HUB_ENTRIES.c.data).where(HUB_ENTRIES.c.type == "replay.asked").order_by(HUB_ENTRIES.c.seq)
        with self._store.read() as conn:
            entries = [e.read(data) for data in conn.execute(query).scalars()]
        return [(entry.at, entry.facts) for entry in entries if isinstance(entry.facts, e.ReplayAsked)]

    def drift(self) -> list[Drift]:
        """Every active device's newest sample, those that moved most first."""
        newest = select(SCORES.c.device, SCORES.c.seq).where(SCORES.c.asked == "").order_by(SCORES.c.seq)
        with self._store.read() as conn:
            last = {row.device: row.seq for row in conn.execute(newest)}
            rows = conn.execute(_scores().where(SCORES.c.asked == "", DEVICES.c.state == "active")).all()
        found = [_drift(_score(row)) for row in rows if last.get(row.device) == row.seq]
        return sorted(found, key=lambda one: -one.moved)

    def drifted(self) -> int:
        """How many devices plan otherwise than people decide, for the menu."""
        return sum(one.alert for one in self.drift())


def _scores() -> Select[Any]:
    return select(SCORES, DEVICES.c.name).join(DEVICES, DEVICES.c.id == SCORES.c.device).order_by(SCORES.c.at)


def _score(row: Row[Any]) -> Score:
    return Score(
        device=row.device,
        device_name=row.name,
        at=row.at,
        release=row.release,
        sampled=row.sampled,
        before=row.before,
        now=row.now,
        abstained=row.abstained,
        unplanned=row.unplanned,
        golden=row.golden,
        golden_wrong=row.golden_wrong,
        code=row.code,
    )


def _drift(score: Score) -> Drift:
    """Held against the plans of the time: these people accepted or corrected as they did, so what fell is the plan."""
    looked = score.sampled - score.unplanned
    moved = 1000 * (score.before - score.now) // looked if looked else 0
    return Drift(score, moved, looked >= _LEAST and moved >= _MOVED)
