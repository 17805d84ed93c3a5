"""Hub and agent as processes: a release tried on a device's own runs, and what was done offline taken back by order."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from demo_console import Console
from demo_kit import outrider

from edge_agent.config import Home
from edge_agent.journal import LogReader

if TYPE_CHECKING:
    from tests.system.conftest import City, Desk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOFS = [f"T-{n:03},Tear off shingles and reroof the garage,{4000 + n}" for n in range(3)]
STRICTER = """
@id("roofs-stop")
@about("No roof of more than $4,000 for now.")
forbid (principal, action, resource == Tool::"register.decide")
when { context.value_cents > 400000 };
"""


def ready_desk(city: City, name: str) -> Desk:
    desk = city.desk(name)
    desk.start()
    desk.until(lambda s: bool(s["linked"] and s["lease"] and s["idle"] and s["release"] > 0))
    return desk


def ask(city: City, *words: str) -> Any:
    return json.loads(outrider("hub", *words, "--home", str(city.home), "--json"))


def stricter(city: City) -> int:
    """A policy under which two of the three roofs would be denied; its golden cases still hold."""
    policy = city.home / "workspace" / "policy.cedar"
    policy.write_text(policy.read_text() + STRICTER)
    cases = city.home / "workspace" / "playbooks" / "permit-triage.cases.yaml"
    cases.write_text("- case: a garage\n  inputs: {description: Raze a garage}\n  expect: {lane: demolition}\n")
    return city.publish()


def test_what_was_done_offline_is_listed_and_taken_back_by_the_agent(own_city: City) -> None:
    city = own_city
    desk = ready_desk(city, "desk")
    desk.wire.cut()
    desk.until(lambda s: not s["linked"])
    desk.drop("offline.csv", ROOFS)
    desk.until(lambda s: s["idle"] and s["runs"]["closed"] == 3)
    assert desk.books.count() == 3
    stricter(city)
    desk.wire.mend()
    desk.until(lambda s: bool(s["linked"] and s["cosigned"] and s["release"] == 2))
    found = ask(city, "reconcile", "list")
    assert {(one["was"], one["now"], tuple(one["rules"])) for one in found} == {("allow", "deny", ("roofs-stop",))}
    assert sorted(one["subject"] for one in found) == ["T-001", "T-002"]
    one, other = found
    done = ask(city, "reconcile", "undo", str(one["n"]))
    assert done["order"] == "undo"
    desk.until(lambda s: bool(s["cosigned"] and s["outcomes"] == {"done": 2, "cancelled": 1}))
    ask(city, "reconcile", "excuse", str(other["n"]), "--reason", "The owner had it in writing.")
    deadline = time.monotonic() + 90
    while ask(city, "reconcile", "list"):
        assert time.monotonic() < deadline
    assert desk.verify()["error"] is None
    assert desk.books.count() == 2, "the register does not have the decision any more"


def test_a_release_is_tried_on_the_device_and_only_counts_come_back(city: City) -> None:
    desk = ready_desk(city, "tried")
    desk.drop("wreck.csv", ["T-900,Wreck and remove a two story frame residence of Mrs Quillfeather,4000"])
    desk.until(lambda s: bool(s["cosigned"] and s["runs"]["waiting"] == 1))
    person = Console(city.address)
    person.sign_in("mara", "a-long-password")
    person.answer(person.waiting()[0], "approve", "Agreed.")
    desk.until(lambda s: bool(s["cosigned"] and s["outcomes"] == {"done": 1}))
    asked = ask(city, "replay", "--release", "1", "--devices", "--sample", "5")["replay"]
    deadline = time.monotonic() + 90
    scores: list[dict[str, Any]] = []
    while not scores:
        assert time.monotonic() < deadline, desk.process.tail()
        given = ask(city, "replay", "--release", "1", "--devices", "--sample", "5")["asked"]
        scores = [score for one in given for score in one["scores"] if one["id"] == asked]
    (score,) = scores
    assert (score["sampled"], score["before"], score["now"], score["code"]) == (1, 1, 1, "")
    assert score["golden"] > 5
    log = LogReader(Home(desk.home).log)
    told = list(log.of_types("replay.scored"))
    log.close()
    assert told and all(entry.bodies == {} for entry in told)
    same = ask(city, "replay", "--release", "1", "--days", "1")
    assert same["looked"] >= 1 and same["denied"] == same["asked"] == same["allowed"] == 0
