"""A day with a stricter release: a device that worked offline under the one before, and what devices scored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.entries import ContextRecalled, DriftSampled, ReplayScored, RunClosed, RunOrdered, UndoLeft
from tests.server.console.sample_agent import SampleAgent
from tests.server.console.sample_cases import ALONE
from tests.server.console.sample_hub import SampleHub

STRICTER = """
@id("signs-ask") @about("Since June, signs are for a person.")
forbid(principal, action == Action::"execute_unattended", resource) when { context.label == "sign" };
@id("nothing-dear") @about("Work of more than $9,000 is not recorded at all for now.")
forbid(principal, action, resource) when { context.value_cents > 900000 };
"""
CASES = """
- case: a like-for-like roof
  inputs: {application_id: G1, description: Tear off and re-roof}
  expect: {lane: express}
"""


@dataclass
class Day:
    hub: SampleHub
    van: SampleAgent
    runs: list[str]


def publish(hub: SampleHub, more: str = STRICTER) -> int:
    """Release the sample's workspace with further rules."""
    policy = hub.store.home / "workspace" / "policy.cedar"
    policy.write_text(policy.read_text() + more)
    return hub.releases.publish("maria")


def a_day_offline(hub: SampleHub, *, release: bool = True) -> Day:
    """Three cases decided alone without a link, under release 1, while release 2 came out."""
    van = hub.agent("Field van 3")
    van.offline = True
    runs = []
    for number, case in enumerate(ALONE[:3]):
        run, action, verdict = van.open(replace(case, number=f"PA-2026-03{number:02d}"))
        assert verdict is not None and verdict.verdict == "allow"
        van.act(run, action)
        runs.append(run)
    if release:
        publish(hub)
    van.offline = False
    van.connect()
    van.sync()
    return Day(hub, van, runs)


def taken_back(day: Day, run: str) -> None:
    """The device obeys the hub's order, and a person at it says that it is done."""
    day.hub.obey(day.van)
    day.van.write(ContextRecalled("~triage", [], 0), run)
    day.van.write(UndoLeft("triage", "undo.manual"), run, steps=["Write it out of the register."])
    day.van.write(RunOrdered("handled", "o-by-hand", "~triage", "omar", "local"), run)
    day.van.write(RunClosed("cancelled", "run.recalled"), run)
    day.van.sync()


def scored(day: Day, asked: str) -> None:
    """The device answers, and has sampled its drift before."""
    day.van.write(DriftSampled(1, 25, 24, 18, 2, 0))
    day.van.write(ReplayScored(2, 48, 44, 46, 1, 0, asked, 1, 0, ""))
    day.van.sync()
