"""Which runs count, when, and as what: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.rollouts import tally
from server.store import Store
from shared import entries as e
from shared import rollout as r
from shared.entries import Draft
from tests.fakes import FakeDevice
from tests.server.conftest import new_database
from tests.server.rollouts.conftest import HOUR, Fleet

Made = Callable[[int], Fleet]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[Store]:
    url = None
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("postgres"))
    opened = Store(home, url)
    yield opened
    opened.close()


def begun(hub: Fleet, settle_s: int = 0) -> FakeDevice:
    """A rollout to everybody; its one device runs the candidate."""
    hub.releases.publish()
    hub.releases.publish(staged=True)
    hub.rollouts.start(hub.plan(1000, hold_s=100 * HOUR, settle_s=settle_s), "mara")
    (device,) = hub.devices
    device.release = 2
    return device


def counted(hub: Fleet, metric: r.Metric) -> tuple[int, int]:
    """How many are worse, of how many, with the candidate."""
    (device,) = hub.devices
    if device.size > hub.rooms.ingest.frontier(device.id).size:
        hub.rooms.sync(device)
    hub.rollouts.look()
    state = hub.rollouts.told().state
    assert state is not None
    total = hub.rollouts.evidence(state).total(metric)
    return total.worse, total.runs


def test_each_run_counts_once_by_what_is_known_when_it_has_settled(fleet: Made) -> None:
    hub = fleet(1)
    device = begun(hub, settle_s=600)
    device.decide_alone("PA-1")
    device.failed("PA-2")
    late = device.open("PA-3")
    assert counted(hub, "failures") == (0, 0)
    hub.rooms.clock.step(601)
    assert counted(hub, "failures") == (1, 3)
    action = device.plan(late, "PA-3", confidence=950)
    device.judge(late, action, "allow")
    device.act(late, action, fail="tool.full")
    device.close(late, "failed", "tool.full")
    hub.rooms.clock.step(601)
    assert counted(hub, "failures") == (1, 3)
    hub.again()
    assert counted(hub, "failures") == (1, 3)


def test_what_policy_denies_is_a_failure_and_what_is_left_to_people_a_question(fleet: Made) -> None:
    hub = fleet(1)
    device = begun(hub)
    denied = device.open("PA-1")
    device.judge(denied, device.plan(denied, "PA-1"), "deny")
    device.close(denied, "denied", "register-only")
    referred = device.open("PA-2")
    abstained = e.PlanMade("triage", "rules", "", "", "", 0, [], 900, 0, 0, 0, 0, "", "", "plan.unsure")
    device.add(Draft(abstained, run=referred))
    device.close(referred, "referred", "plan.unsure")
    device.ask("PA-9")
    assert counted(hub, "failures") == (1, 3)
    assert counted(hub, "questions") == (2, 3)


def test_an_answer_counts_once_when_it_is_given(fleet: Made) -> None:
    hub = fleet(1)
    device = begun(hub)
    asked = [device.ask(f"PA-{number}") for number in range(3)]
    assert counted(hub, "overridden") == (0, 0)
    decide = hub.rooms.approvals.decide
    decide(asked[0], by="clara", roles=["clerk"], answer="approve")
    assert counted(hub, "overridden") == (0, 1)
    decide(asked[1], by="clara", roles=["clerk"], answer="deny", reason="Listed.")
    assert counted(hub, "overridden") == (1, 2)
    assert counted(hub, "overridden") == (1, 2)
    assert counted(hub, "failures") == (0, 3)


def test_an_answer_in_a_run_that_a_run_opened_counts(fleet: Made) -> None:
    """The run itself stands for its parent; but somebody was asked in it, and said no."""
    hub = fleet(1)
    device = begun(hub)
    parent = device.decide_alone("PA-1")
    asked = device.ask("PA-1/1", parent=parent)
    assert counted(hub, "failures") == (0, 1)
    hub.rooms.approvals.decide(asked, by="clara", roles=["clerk"], answer="deny", reason="Listed.")
    assert counted(hub, "overridden") == (1, 1)
    assert counted(hub, "failures") == (0, 1)


def test_a_device_counts_no_more_than_its_share(fleet: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has beyond that is not counted later either. Which runs count has nothing to do with how they went."""
    monkeypatch.setattr(tally, "MOST_RUNS", 3)
    hub = fleet(2)
    one, other = hub.devices
    hub.releases.publish()
    hub.releases.publish(staged=True)
    hub.rollouts.start(hub.plan(1000, hold_s=100 * HOUR, settle_s=0), "mara")
    one.release = other.release = 2

    def total() -> tuple[int, int]:
        for device in (one, other):
            if device.size > hub.rooms.ingest.frontier(device.id).size:
                hub.rooms.sync(device)
        hub.rollouts.look()
        state = hub.rollouts.told().state
        assert state is not None
        block = hub.rollouts.evidence(state).total("failures")
        return block.worse, block.runs

    one.failed("PA-1")
    assert total() == (1, 1)
    for number in range(2, 7):
        one.failed(f"PA-{number}")
    other.decide_alone("PB-1")
    assert total() == (3, 4)
    other.failed("PB-2")
    one.failed("PA-7")
    assert total() == (4, 5)
    hub.again()
    assert total() == (4, 5)


def test_effects_that_were_not_so_and_slow_plans_are_seen(fleet: Made) -> None:
    hub = fleet(1)
    hub.releases.publish()
    hub.releases.publish(staged=True)
    (device,) = hub.devices
    for number in range(20):
        run = device.open(f"PB-{number}")
        action = device.plan(run, f"PB-{number}", confidence=950, latency_us=1_000 * number)
        device.judge(run, action, "allow")
        device.finish(run, action)
    hub.rooms.sync(device)
    with hub.rooms.hublog.store.read() as conn:
        assert sorted(tally.usual(conn, 1)[0]) == list(range(20))
    plan = hub.rollouts.plan()
    assert next(gate.over for gate in plan.gates if gate.metric == "latency") == 18
    quick = r.Plan(plan.rollout, 2, 1, plan.salt, [r.Stage(1000, HOUR, 0)], plan.gates, 50, 10, 0)
    hub.rollouts.start(quick, "mara")
    device.release = 2
    for number, latency_us in ((1, 18_000), (2, 19_000)):
        run = device.open(f"PC-{number}")
        action = device.plan(run, f"PC-{number}", confidence=950, latency_us=latency_us)
        device.judge(run, action, "allow")
        device.add(Draft(e.IntentRecorded("triage", action.digest, action.tool, action.key, ""), run=run))
        device.add(Draft(e.ResultRecorded("triage", action.key, "done", "", "sent", 1, 500), run=run))
        device.add(Draft(e.EffectObserved("triage", action.key, number != 1), run=run))
    assert counted(hub, "latency") == (1, 2)
    assert counted(hub, "mismatches") == (1, 2)


def test_what_is_not_of_the_stage_does_not_count(fleet: Made) -> None:
    hub = fleet(1)
    (device,) = hub.devices
    device.failed("before")
    hub.rooms.sync(device)
    begun(hub)
    device.open("rehearsal", dry_run=True)
    device.open("child", parent=device.decide_alone("parent"))
    device.release = 7
    device.failed("another release")
    assert counted(hub, "failures") == (0, 1)
    hub.rollouts.exclude(device.id, True, "mara")
    device.release = 2
    device.failed("apart")
    assert counted(hub, "failures") == (0, 1)
