"""Who is told to run what, what people may do about it, and what a kill of the hub leaves of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from server.rollouts import HUB, RolloutOrder, Wanted, carry_out
from shared import entries as e
from shared import rollout as r
from shared.errors import BadInput, Conflict, OutriderError, Refused, Unavailable
from shared.release import Assignment, open_signed
from tests.server.rollouts.conftest import HOUR, Fleet

Made = Callable[[int], Fleet]
ADMIN = ("admin",)


def refused(kind: type[OutriderError], code: str, call: Any, *args: Any) -> None:
    with pytest.raises(kind) as caught:
        call(*args)
    assert caught.value.code == code


def test_an_assignment_is_for_one_device_and_ends(fleet: Made) -> None:
    hub = fleet(0)
    refused(Unavailable, "release.none", hub.rollouts.assignment, "d1")
    hub.releases.publish()
    key = hub.rooms.hublog.key.public
    envelope = hub.rollouts.assignment("d1")
    said = open_signed(envelope, Assignment, key, "d1")
    assert (said.release, said.expires_at - said.issued_at) == (1, 24 * HOUR * 1_000_000)
    refused(Refused, "signed.device", open_signed, envelope, Assignment, key, "d2")


def test_what_is_published_for_all_counts_at_once_and_what_is_staged_for_nobody(fleet: Made) -> None:
    hub = fleet(0)
    assert hub.releases.publish(staged=True) == 1
    assert hub.rollouts.told().base == 1, "the very first: there is nothing to stay with"
    hub.releases.publish(staged=True)
    assert hub.rollouts.told().base == 1
    hub.releases.publish()
    assert hub.rollouts.told().base == 3
    hub.rooms.hublog.append([e.Draft(e.ReleasePublished(2, "eve", {}))])  # told twice, after a kill
    assert hub.rollouts.told().base == hub.again().told().base == 3


def test_stages_reach_more_and_more_devices_and_a_restart_changes_nothing(fleet: Made) -> None:
    hub = fleet(12)
    hub.releases.publish()
    hub.releases.publish(staged=True)
    hub.rollouts.start(hub.plan(250, 500, 1000), "mara")
    state = hub.rollouts.told().state
    assert state is not None and state.plan is not None
    reached: list[set[str]] = []
    for permille in (250, 500, 1000):
        due = hub.due()
        assert due == {d: 2 if r.takes_part(state.plan.salt, d, permille) else 1 for d in due}
        hub.again()
        assert hub.due() == due
        reached.append({device for device, number in due.items() if number == 2})
        hub.rollouts.advance("mara")
    assert reached[0] <= reached[1] <= reached[2] and len(reached[2]) == 12
    assert hub.again().told().base == 2
    (course,) = hub.rollouts.courses()
    assert [type(one.facts) for one in course.events] == [
        e.RolloutStarted, e.RolloutAdvanced, e.RolloutAdvanced, e.RolloutFinished,
    ]  # fmt: skip
    assert course.state.status == r.FINISHED


def test_a_release_published_for_all_in_the_middle_of_a_rollout_waits_for_its_own(fleet: Made) -> None:
    hub = fleet(1)
    hub.releases.publish()
    hub.releases.publish(staged=True)
    hub.rollouts.start(hub.plan(1000), "mara")
    hub.releases.publish()
    assert set(hub.due().values()) == {2}
    hub.rollouts.advance("mara")
    assert set(hub.due().values()) == {2}
    refused(Conflict, "rollout.same", hub.rollouts.plan, 2)
    hub.rollouts.start(hub.plan(1000), "mara")
    assert set(hub.due().values()) == {3}


def test_it_is_taken_back_during_and_after(fleet: Made) -> None:
    hub = fleet(2)
    hub.releases.publish()
    hub.releases.publish(staged=True)
    hub.rollouts.start(hub.plan(1000), "mara")
    hub.rollouts.roll_back("otto")
    assert set(hub.due().values()) == {1}
    assert hub.again().told().base == 1
    hub.rollouts.start(hub.plan(1000), "mara")
    hub.rollouts.advance("mara")
    hub.releases.publish()
    assert set(hub.due().values()) == {3}
    refused(Conflict, "rollout.order", hub.rollouts.pause, "mara")
    refused(Unavailable, "release.none", hub.rollouts.roll_back, "mara", 9)


def test_pinned_and_excluded_devices_keep_apart(fleet: Made) -> None:
    hub = fleet(3)
    pinned, excluded, other = hub.devices
    hub.releases.publish()
    hub.releases.publish()
    hub.rollouts.pin(pinned.id, 1, "mara")
    hub.releases.publish(staged=True)
    hub.rollouts.exclude(excluded.id, True, "mara")
    hub.rollouts.start(hub.plan(1000), "mara")
    assert hub.due() == {pinned.id: 1, excluded.id: 2, other.id: 3}
    assert {one.device.id: one.cohort for one in hub.rollouts.everybody()} == {
        pinned.id: "pinned", excluded.id: "excluded", other.id: "candidate",
    }  # fmt: skip
    hub.rollouts.advance("mara")
    hub.again()
    assert hub.due() == {pinned.id: 1, excluded.id: 3, other.id: 3}
    hub.rollouts.pin(pinned.id, 0, "mara")
    hub.rollouts.exclude(excluded.id, False, "mara")
    assert set(hub.due().values()) == {3}
    refused(BadInput, "device.unknown", hub.rollouts.pin, "nobody", 1, "mara")
    refused(Unavailable, "release.none", hub.rollouts.pin, pinned.id, 7, "mara")


def test_what_cannot_follow_is_refused_and_not_written(fleet: Made) -> None:
    hub = fleet(1)
    hub.releases.publish()
    refused(Conflict, "rollout.none", hub.rollouts.pause, "mara")
    refused(Conflict, "rollout.same", hub.rollouts.plan)
    hub.releases.publish(staged=True)
    size = hub.rooms.hublog.size
    refused(BadInput, "rollout.plan", hub.rollouts.start, hub.plan(500), "mara")
    hub.rollouts.start(hub.plan(1000), "mara")
    refused(Conflict, "rollout.order", hub.rollouts.start, hub.plan(1000), "mara")
    refused(Conflict, "rollout.order", hub.rollouts.resume, "mara")
    hub.rollouts.pause("mara")
    refused(Conflict, "rollout.order", hub.rollouts.advance, "mara")
    hub.rollouts.resume("mara")
    assert hub.rooms.hublog.size == size + 3


def test_orders_need_a_role_and_looking_does_not(fleet: Made) -> None:
    hub = fleet(3)
    hub.releases.publish()
    hub.releases.publish(staged=True)
    refused(Refused, "rollout.role", carry_out, hub.rollouts, RolloutOrder("start"), "lena", ("clerk",))
    wanted = Wanted(stages=[r.Stage(1000, 60, 0)], settle_s=5)
    carry_out(hub.rollouts, RolloutOrder("start", 2, plan=wanted), "rita", ("release",))
    shown = carry_out(hub.rollouts, RolloutOrder("show"), "lena", ())
    assert (shown["release"], shown["control"], shown["status"], shown["by"]) == (2, 1, "running", "rita")
    assert shown["plan"]["settle_s"] == 5 and shown["said"] == "this stage lasts 1 more minutes"
    assert shown["cohorts"] == [
        {"name": "candidate", "devices": 3, "online": 0, "drifting": 3, "offline_drifting": 3}
    ]  # fmt: skip
    for act in ("pause", "resume", "rollback"):
        carry_out(hub.rollouts, RolloutOrder(act), "mara", ADMIN)
    carry_out(hub.rollouts, RolloutOrder("pin", 2, device=hub.devices[0].id), "mara", ADMIN)
    carry_out(hub.rollouts, RolloutOrder("exclude", device=hub.devices[1].id), "mara", ADMIN)
    listed = carry_out(hub.rollouts, RolloutOrder("list"), "lena", ())
    assert listed["current"] == 1 and [one["status"] for one in listed["rollouts"]] == ["rolled-back"]
    events = [one["type"] for one in carry_out(hub.rollouts, RolloutOrder("show"), "lena", ())["events"]]
    assert events == ["rollout.started", "rollout.paused", "rollout.resumed", "rollout.reverted"]
    refused(BadInput, "rollout.act", carry_out, hub.rollouts, RolloutOrder("dance"), "mara", ADMIN)
    refused(BadInput, "rollout.unknown", carry_out, hub.rollouts, RolloutOrder("show", rollout="ro-0"), "mara", ADMIN)


def test_a_candidate_that_fails_is_halted_and_taken_back_and_everybody_is_told(fleet: Made) -> None:
    hub = fleet(6)
    hub.releases.publish()
    hub.releases.publish(staged=True)
    hub.rollouts.start(hub.plan(500, 1000, hold_s=HOUR), "mara")
    assert {1, 2} == set(hub.due().values()), "six devices, half of them: both arms are there"

    async def listen() -> list[dict[str, Any]]:
        with hub.rooms.bus.subscribe(["releases"]) as events:
            for number in range(60):
                hub.work(f"PA-{number}", bad=True)
                verdict = hub.rollouts.look()
                if isinstance(verdict, r.Halt):
                    assert verdict.metric == "failures"
                    return [event.payload for event in events.drain()]
        raise AssertionError("never halted")

    assert asyncio.run(listen()) == [{"release": 1}]
    assert set(hub.due().values()) == {1}
    state = hub.again().told().state
    assert state is not None and state.halted is not None
    assert (state.status, state.target, state.halted.by, state.halted.metric) == (r.ROLLED_BACK, 1, HUB, "failures")
    assert hub.rollouts.look() == r.Wait("none", "no rollout is under way")


def test_a_candidate_that_does_well_goes_on_by_itself_to_its_end(fleet: Made) -> None:
    hub = fleet(6)
    hub.releases.publish()
    hub.releases.publish(staged=True)
    hub.rollouts.start(hub.plan(500, 1000, hold_s=HOUR, runs=10), "mara")
    hub.work("early")
    assert hub.rollouts.look() == r.Wait("hold", "this stage lasts 60 more minutes")
    hub.rooms.clock.step(HOUR)
    assert isinstance(hub.rollouts.look(), r.Wait)
    for number in range(60):
        hub.work(f"PA-{number}")
        hub.again()  # what was counted before a restart still counts, once
        if isinstance(hub.rollouts.look(), r.Advance):
            break
    assert set(hub.due().values()) == {2}
    hub.work("late")
    hub.work("later")
    hub.rooms.clock.step(HOUR)
    assert hub.rollouts.look() == r.Finish()
    (course,) = hub.rollouts.courses()
    assert [(type(one.facts), getattr(one.facts, "by", "")) for one in course.events] == [
        (e.RolloutStarted, "mara"), (e.RolloutAdvanced, HUB), (e.RolloutFinished, HUB),
    ]  # fmt: skip
