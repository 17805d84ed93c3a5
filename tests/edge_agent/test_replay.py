"""A release tried on a device's own past, against a real log, register and planner; and that no text leaves with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from edge_agent.models.engine import Models
from edge_agent.plan.planner import Planner
from edge_agent.replay import Lender, Replays, accepted
from shared import limits
from shared.entries import Draft, DriftSampled, ReplayScored, type_of
from shared.errors import Refused, Unavailable
from shared.release import ModelRef, Release, Replay
from tests.edge_agent.rig import HOUR, PLAYBOOK, POLICY, SCHEMA, START, Rig, make_release

DECKS_ARE_PLANS = PLAYBOOK.replace("{lane: express, confidence: 700", "{lane: plan_review, confidence: 700")
CASES = """
- case: a roof
  inputs: {application_id: G1, description: New roof}
  expect: {lane: express, verdict: allow}
- case: a deck is express
  inputs: {application_id: G2, description: A deck}
  expect: {lane: express}
"""


class Shelf:
    """Releases by number; fetching one that is not there is refused as the hub's repository would."""

    def __init__(self, releases: dict[int, Release]) -> None:
        self._releases = releases
        self.fetched: list[int] = []

    async def fetch(self, number: int) -> Release:
        self.fetched.append(number)
        if number not in self._releases:
            raise Refused("release.unlisted", "nobody has published it", advice="publish it")
        return self._releases[number]


def rooms(rig: Rig, *, drift_days: int = 7) -> Replays:
    planner = Planner(rig.memory, now=rig.clock, monotonic_us=rig.clock, models=None, embedder="")

    @asynccontextmanager
    async def lend(release: Release) -> AsyncIterator[Planner]:
        yield planner

    return Replays(
        rig.journal,
        rig.folder / "log.sqlite3",
        Shelf(rig.releases),  # type: ignore[arg-type]  # all that is asked of the releases is to fetch one
        planner_of=lend,
        tools=rig.hands.find,
        in_force=lambda: rig.releases[1],
        drift_days=drift_days,
        trouble=rig.troubles.append,
    )


def with_cases(release: Release, cases: str) -> Release:
    release.beside["playbooks/triage.cases.yaml"] = cases.encode()
    return release


async def worked(folder: Path) -> Rig:
    """Two decks approved as express, one corrected to plan review, one denied; a roof that nobody was asked about."""
    releases = {
        1: make_release(),
        2: with_cases(make_release(2, playbook=DECKS_ARE_PLANS), CASES),
        3: make_release(3, playbook=PLAYBOOK.replace("{id: triage,", "{id: sort,")),
    }
    rig = Rig(folder, releases=releases)
    await rig.install()
    await rig.lend()
    await rig.open("A0", "New roof on the house")
    for number, (said, lane) in enumerate(
        [("approve", ""), ("approve", ""), ("correct", "plan_review"), ("deny", "")], start=1
    ):
        run = await rig.open(f"A{number}", f"A deck in the yard of Mrs Featherstone number {number}")
        await rig.settle()
        await rig.answer(run, said, lane=lane)
        await rig.settle()
    return rig


@pytest.fixture
async def rig(tmp_path: Path) -> Any:
    made = await worked(tmp_path)
    yield made
    made.close()


def wanted(release: int, name: str = "rpl_1", sample: int = 50, expires_at: int = START + 1000 * HOUR) -> Replay:
    return Replay(name, "dev", release, sample, expires_at)


async def test_what_people_accepted_is_read_from_the_log(rig: Rig) -> None:
    found = accepted(rig.folder / "log.sqlite3", 50)
    assert [(one.accepted["lane"], one.planned["lane"], one.subject) for one in found] == [
        ("plan_review", "express", "A3"),
        ("express", "express", "A2"),
        ("express", "express", "A1"),
    ]
    assert len(accepted(rig.folder / "log.sqlite3", 1)) == 1


async def test_the_release_in_force_and_a_candidate_are_scored(rig: Rig) -> None:
    replays = rooms(rig)
    same = await replays.score(wanted(1))
    assert (same.sampled, same.before, same.now, same.abstained, same.unplanned, same.code) == (3, 2, 2, 0, 0, "")
    other = await replays.score(wanted(2))
    assert (other.sampled, other.before, other.now) == (3, 2, 1)
    assert (other.golden, other.golden_wrong) == (2, 1), "the candidate breaks the deck's golden case"


async def test_what_the_candidate_lacks_is_unplanned_and_what_is_erased_is_not_looked_at(rig: Rig) -> None:
    assert (await rooms(rig).score(wanted(3))).unplanned == 3
    run = next(e.run for e in rig.journal.entries() if type_of(e.facts)[0] == "approval.answered")
    await rig.journal.erase(run)
    assert (await rooms(rig).score(wanted(1))).sampled == 2


async def test_a_release_that_cannot_be_fetched_is_told_by_its_code(rig: Rig) -> None:
    found = await rooms(rig).score(wanted(9))
    assert (found.code, found.sampled) == ("release.unlisted", 0)


async def until(rig: Rig, kind: type, count: int) -> list[Any]:
    async with asyncio.timeout(60):
        while True:
            found = [entry.facts for entry in rig.journal.entries() if isinstance(entry.facts, kind)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_asked_once_it_is_scored_once_also_after_a_restart_and_nothing_else_changes(rig: Rig) -> None:
    before = rig.journal.committed
    for _ in range(2):
        replays = rooms(rig)
        work = asyncio.create_task(replays.run())
        await asyncio.sleep(0.05)
        for name in ("rpl_1", "rpl_1", "rpl_2"):
            replays.ask(wanted(2, name))
        replays.ask(wanted(2, "rpl_late", expires_at=START - 1))
        await until(rig, ReplayScored, 2)
        await asyncio.sleep(0.05)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    assert rig.journal.committed == before + 2 and not rig.troubles
    assert rig.device.release is not None and rig.device.release.release == 1, "tried, and not put into force"


async def test_what_was_answered_is_not_scored_again_however_early_it_is_asked(rig: Rig) -> None:
    """Its answer may not be at the hub yet, which then asks again as soon as there is a link."""
    for _ in range(2):
        replays = rooms(rig)
        replays.ask(wanted(2, "rpl_1"))
        work = asyncio.create_task(replays.run())
        replays.ask(wanted(2, "rpl_1"))
        await until(rig, ReplayScored, 1)
        replays.ask(wanted(2, "rpl_2"))
        await until(rig, ReplayScored, 2)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    found = [entry.facts.id for entry in rig.journal.entries() if isinstance(entry.facts, ReplayScored)]
    assert found == ["rpl_1", "rpl_2"]


async def test_only_numbers_and_names_leave_the_device(rig: Rig) -> None:
    """Neither the entry nor what goes up with it holds a word of any case, plan or lane."""
    replays = rooms(rig)
    start = rig.journal.committed
    await rig.journal.append(*[Draft(await replays.score(wanted(number))) for number in (1, 2, 3, 9)])
    await replays.sample()
    batch = rig.journal.batch(start)
    assert batch is not None
    sent = batch[0]
    assert len(sent) == 5 and all(one.body is None for one in sent)
    for one in sent:
        entry = json.loads(one.data)
        assert entry["bodies"] == {} and entry["run"] == ""
        texts = {name: value for name, value in entry["facts"].items() if isinstance(value, str)}
        assert texts.keys() <= {"id", "code"}
        assert texts.get("code", "") in ("", "release.unlisted") and texts.get("id", "rpl_1") == "rpl_1"
        assert all(isinstance(value, int | str) for value in entry["facts"].values())


@pytest.mark.parametrize("kind", [ReplayScored, DriftSampled])
def test_the_entries_have_no_room_for_text(kind: type[msgspec.Struct]) -> None:
    room = {field.name for field in msgspec.structs.fields(kind) if field.type not in (int, "int")}
    assert room <= {"id", "code"}


async def test_drift_is_sampled_when_its_time_has_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.replay._LOOK_S", 0.02)
    for days, due in ((0, False), (7, False), (7, True)):
        if due:
            rig.clock.now += 8 * 24 * HOUR
        replays = rooms(rig, drift_days=days)
        work = asyncio.create_task(replays.run())
        if due:
            (found,) = await until(rig, DriftSampled, 1)
            assert (found.release, found.sampled, found.before, found.now) == (1, 3, 2, 2)
        else:
            await asyncio.sleep(0.3)
            assert not [e for e in rig.journal.entries() if isinstance(e.facts, DriftSampled)]
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_no_more_requests_wait_than_may(rig: Rig) -> None:
    replays = rooms(rig)
    for number in range(limits.REPLAYS_WAITING + 5):
        replays.ask(wanted(1, f"rpl_{number}"))
    assert replays._asked.qsize() == limits.REPLAYS_WAITING


# --- planners with the models of a release ----------------------------------------------------------------------------


class Engine:
    """Models that note what becomes of them."""

    def __init__(self) -> None:
        self.used: dict[str, str] = {}
        self.closed = False

    async def use(self, **names: str) -> None:
        self.used = names

    async def close(self) -> None:
        self.closed = True


def of_model(number: int, sha256: str) -> Release:
    release = make_release(number)
    model = ModelRef("small", "language", sha256 * 64, 1, "hub")
    texts = {"policy.cedar": POLICY, "schema.cedarschema": SCHEMA, "playbooks/triage.yaml": PLAYBOOK}
    manifest = msgspec.structs.replace(release.manifest, models=[model])
    return Release(manifest, {path: text.encode() for path, text in texts.items()})


async def test_a_release_with_other_models_is_tried_with_those_and_they_end_with_it(rig: Rig) -> None:
    own = Planner(rig.memory, now=rig.clock, monotonic_us=rig.clock, models=None, embedder="")
    engine = Engine()
    obtained: list[ModelRef] = []

    lender = Lender(
        own,
        lambda: of_model(1, "a"),
        models=lambda: cast(Models, engine),
        obtain=obtained.append,
    )
    async with lender.of(of_model(2, "a")) as lent:
        assert lent is own and not obtained
    async with lender.of(of_model(2, "b")) as lent:
        assert lent is not own and not engine.closed
        assert engine.used == {"language": "b" * 64, "embedder": ""} and [one.sha256[0] for one in obtained] == ["b"]
    assert engine.closed

    def missing(model: ModelRef) -> None:
        raise Unavailable("model.no-source", "it is nowhere", advice="add it")

    nowhere = Lender(own, lambda: None, models=lambda: cast(Models, engine), obtain=missing)
    with pytest.raises(Unavailable):
        async with nowhere.of(of_model(2, "b")):
            raise AssertionError("a release is not tried without its models")
