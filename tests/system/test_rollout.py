"""A release comes to real agents in stages; one that does badly is taken back, whatever happens to the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import City, Desk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROWS = [f"T-{n:03},Tear off shingles and reroof the garage,{4000 + n}" for n in range(15)]
HOUR = 3600
FORBIDDEN = '@id("nobody-may") @about("Nothing may be done.")\nforbid (principal, action, resource);\n'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[City]:
    """A hub that looks at its rollout every second, and three desks on release 1."""
    made = City(tmp_path, wires=3, settings={"OUTRIDER_HUB_ROLLOUT_SECONDS": "1"})
    try:
        yield made
    finally:
        made.close()


def desks(city: City) -> list[Desk]:
    found = [city.desk(f"desk-{number}") for number in range(3)]
    for desk in found:
        desk.start()
    for desk in found:
        runs(desk, 1)
    return found


def runs(desk: Desk, release: int) -> None:
    """Once the desk runs it, and the hub has heard so."""
    desk.until(lambda s: s["release"] == release and s["linked"] and s["lease"] and s["idle"])


def change(city: City, text: str) -> None:
    """The next release's policy, published for nobody yet."""
    policy = city.home / "workspace" / "policy.cedar"
    policy.write_text(policy.read_text() + text)
    assert city.publish(staged=True) > 1


def plan(city: City, *stages: tuple[int, int]) -> str:
    """A file of stages (permille, seconds) and one gate."""
    wanted: dict[str, Any] = {
        "stages": [{"permille": share, "hold_s": hold, "least_runs": 0} for share, hold in stages],
        "gates": [{"metric": "failures", "worse_permille": 20, "bad_permille": 200}],
        "settle_s": 1,
    }
    file = city.folder / "plan.json"
    file.write_text(json.dumps(wanted))
    return str(file)


def test_a_bad_candidate_is_halted_and_taken_back_though_the_hub_is_killed(fleet: City) -> None:
    everybody = desks(fleet)
    (fleet.home / "workspace" / "playbooks" / "permit-triage.cases.yaml").unlink()  # they would have found it
    change(fleet, FORBIDDEN)
    file = plan(fleet, (500, HOUR), (1000, HOUR))
    while True:  # who comes first is drawn anew for every rollout: until there is somebody on either side
        fleet.rollout("start", "--plan", file)
        sides = {one["name"]: one["devices"] for one in fleet.course()["cohorts"]}
        if len(sides) == 2:
            break
        fleet.rollout("rollback")
    by_release: dict[int, list[Desk]] = {1: [], 2: []}
    for desk in everybody:
        desk.until(lambda s: s["linked"] and s["idle"])
    everybody[0].until(lambda _: not any(one["drifting"] for one in fleet.course()["cohorts"]))
    for desk in everybody:
        by_release[desk.status()["release"]].append(desk)
    assert (len(by_release[2]), len(by_release[1])) == (sides["candidate"], sides["control"])

    before = fleet.course()
    fleet.kill_and_start()
    after = fleet.course()
    assert (after["rollout"], after["status"], after["stage"]) == (before["rollout"], "running", 0)
    assert after["events"] == before["events"]

    for desk in everybody:
        desk.drop("a.csv", ROWS)
    for desk in everybody:
        runs(desk, 1)
    shown = fleet.course()
    assert shown["status"] == "rolled-back"
    halted = next(one for one in shown["events"] if one["type"] == "rollout.halted")
    assert (halted["metric"], halted["by"]) == ("failures", "hub") and halted["evidence_permille"] >= 1000
    for desk in by_release[1]:
        status = desk.until(lambda s: s["runs"]["closed"] == len(ROWS))
        assert status["outcomes"] == {"done": len(ROWS)}
    all_denied = 0
    for desk in by_release[2]:  # what was opened under release 2 was denied, and nothing was done
        denied = desk.until(lambda s: s["runs"]["closed"] == len(ROWS))["outcomes"].get("denied", 0)
        all_denied += denied
        assert desk.books.count() == len(ROWS) - denied
        desk.drop("b.csv", [row.replace("T-", "U-") for row in ROWS[:3]])
        status = desk.until(lambda s: s["runs"]["closed"] == len(ROWS) + 3)
        assert {"denied": 0, **status["outcomes"]} == {"denied": denied, "done": len(ROWS) - denied + 3}
        assert desk.verify()["error"] is None
    assert all_denied > 0, "of two such desks, one may have read its file after the other's work told enough"


def test_pinned_excluded_and_paused_through_a_kill_of_the_hub(fleet: City) -> None:
    pinned, excluded, other = desks(fleet)
    ids = {desk.name: desk.status()["device"] for desk in (pinned, excluded, other)}
    change(fleet, "// says the same\n")
    for desk in (pinned, excluded, other):
        runs(desk, 1)
    fleet.rollout("pin", ids[pinned.name], "1")
    fleet.rollout("exclude", ids[excluded.name])
    fleet.rollout("start", "2", "--plan", plan(fleet, (1000, HOUR)))
    fleet.rollout("pause")
    runs(other, 2)
    fleet.kill_and_start()
    shown = fleet.course()
    assert (shown["status"], shown["pins"], shown["excluded"]) == (
        "paused", {ids[pinned.name]: 1}, [ids[excluded.name]],
    )  # fmt: skip
    assert [one.status()["release"] for one in (pinned, excluded)] == [1, 1]
    fleet.rollout("resume")
    fleet.rollout("advance")
    runs(excluded, 2)  # the rollout has finished: who takes no part follows then
    assert fleet.course()["status"] == "finished"
    runs(pinned, 1)
    fleet.rollout("pin", ids[pinned.name], "0")
    runs(pinned, 2)
    fleet.rollout("rollback")
    for desk in (pinned, excluded, other):
        runs(desk, 1)
