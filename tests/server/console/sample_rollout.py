"""A hub where a release was taken back, and another is under way: what the pages of rollouts are looked at with."""

from __future__ import annotations

import itertools
from dataclasses import replace

import msgspec

from shared import entries as e
from shared import rollout as r
from tests.server.console.sample_agent import SECOND, SampleAgent
from tests.server.console.sample_cases import ALONE
from tests.server.console.sample_hub import SampleHub

HOUR = 3600
DESKS = 12


def a_rollout(hub: SampleHub) -> list[SampleAgent]:
    """Release 2 failed and was taken back by itself, release 3 is in its second stage. One desk is pinned, one takes no
    part, one is offline."""
    desks = [hub.agent(f"Counter {number + 3}") for number in range(DESKS)]
    for desk in desks:
        desk.connect()
    pinned, excluded, offline = desks[:3]
    _publish(hub, "// stricter")
    hub.rollouts.start(_plan(hub, desks), "maria")
    _work(hub, desks, bad=True)
    _publish(hub, "// and better")
    hub.rollouts.pin(pinned.device, 1, "maria")
    hub.rollouts.exclude(excluded.device, True, "maria")
    hub.rollouts.start(_plan(hub, desks), "maria")
    _work(hub, desks, bad=False)
    offline.disconnect()
    return desks


def _publish(hub: SampleHub, change: str) -> None:
    policy = hub.store.home / "workspace" / "policy.cedar"
    policy.write_text(f"{policy.read_text()}{change}\n")
    hub.releases.publish("maria", staged=True)


def _plan(hub: SampleHub, desks: list[SampleAgent]) -> r.Plan:
    """Four desks come first, then eight; little evidence is enough."""
    stages = [r.Stage(300, HOUR, 40), r.Stage(600, 4 * HOUR, 120), r.Stage(1000, 24 * HOUR, 0)]
    plan = hub.rollouts.plan()
    gates = [msgspec.structs.replace(gate, bad_permille=400) for gate in plan.gates]

    def first(salt: str, permille: int) -> int:
        return sum(r.takes_part(salt, desk.device, permille) for desk in desks[2:])

    salt = next(salt for salt in map(str, itertools.count()) if (first(salt, 300), first(salt, 600)) == (4, 8))
    return msgspec.structs.replace(plan, salt=salt, stages=stages, gates=gates, settle_s=60)


def _work(hub: SampleHub, desks: list[SampleAgent], *, bad: bool) -> None:
    """Desks do what comes in until the rollout moves on."""
    state = hub.rollouts.told().state
    assert state is not None and state.plan is not None
    for number in range(60):
        for desk in desks:
            due = hub.rollouts.told().due(desk.device)
            case = replace(ALONE[number % len(ALONE)], number=f"PA-{state.plan.release}-{number:03}")
            run, action, _ = desk.open(case, due)
            if bad and due == state.plan.release:
                desk.write(e.IntentRecorded("triage", action.digest, action.tool, action.key, ""), run)
                desk.write(e.ResultRecorded("triage", action.key, "failed", "tool.refused", "sent", 1, 2_900), run)
                desk.write(e.RunClosed("failed", "tool.refused"), run)
            else:
                desk.act(run, action)
            desk.sync()
            desk.report(release=due, open_runs=0, waiting=0)
        hub.clock.step(120 * SECOND)
        verdict = hub.rollouts.look()
        if isinstance(verdict, r.Halt | r.Advance):
            return
    raise AssertionError(f"it never moved on: {verdict}")
