"""The kill switch between processes: pressed, held through cuts and kills of both sides, and let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.config import Config
from server.admin import Operator
from server.config import HubConfig
from tests.system.test_fleet import ROWS, ready_desk, synced

if TYPE_CHECKING:
    from tests.system.conftest import City

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def operator(city: City) -> Operator:
    return Operator(HubConfig(home=city.home))


def stopped(status: dict[str, Any]) -> list[str]:
    return [f"{stop['kind']}:{stop['name']}" for stop in status["stops"]]


def test_a_device_that_was_away_learns_it_first_and_goes_on_when_it_is_let(city: City) -> None:
    """The hub is killed after the press and before anybody could be told; the agent is killed when it knows."""
    desk = ready_desk(city, "away")
    desk.wire.cut()
    desk.until(lambda s: not s["linked"])
    made = operator(city).stop("press", kind="fleet", reason="drill", note="practice")
    city.kill_and_start()
    desk.wire.mend()
    desk.until(lambda s: stopped(s) == ["fleet:"])
    desk.process.kill()
    desk.start()
    desk.drop("a.csv", ROWS)
    status = desk.until(lambda s: s["runs"]["held"] == len(ROWS))
    assert (desk.books.count(), status["decided_alone"], stopped(status)) == (0, 0, ["fleet:"])
    desk.wire.cut()  # being away does not free it
    desk.until(lambda s: not s["linked"])
    operator(city).stop("release", switch=made["id"])
    desk.process.kill()
    desk.start()
    status = desk.until(lambda s: s["idle"] and s["runs"]["held"] == len(ROWS))
    assert desk.books.count() == 0
    desk.wire.mend()
    desk.until(lambda s: synced(s) and s["outcomes"] == {"done": len(ROWS)})
    assert desk.books.count() == len(ROWS)
    assert list(desk.books.faults()) == [], "each once"
    assert desk.verify()["error"] is None


def test_pressed_in_the_middle_nothing_begins_any_more(city: City) -> None:
    desk = ready_desk(city, "middle")
    desk.drop("a.csv", ROWS)
    desk.until(lambda s: desk.books.count() >= 3)
    made = operator(city).stop("press", kind="playbook", name="permit-triage", reason="wrong")
    status = desk.until(lambda s: bool(stopped(s)) and s["idle"])
    done = desk.books.count()
    assert stopped(status) == ["playbook:permit-triage"]
    runs = status["runs"]
    assert runs["open"] + runs["closed"] == len(ROWS)
    # All the rest is held, but for what was caught between its intent and its sending: it keeps the intent, unsent.
    assert 0 <= runs["open"] - runs["held"] <= Config().runs_at_once
    assert runs["in_doubt"] == 0
    city.kill_and_start()
    desk.until(synced)
    assert desk.books.count() == done
    operator(city).stop("release", switch=made["id"])
    desk.until(lambda s: synced(s) and s["outcomes"] == {"done": len(ROWS)})
    assert list(desk.books.faults()) == []
    assert desk.verify()["error"] is None


def test_the_hub_knows_who_obeys_and_what_each_runs(city: City) -> None:
    desk = ready_desk(city, "obeys")
    device = desk.status()["device"]
    made = operator(city).stop("press", kind="device", name=device, reason="drill")

    def seen() -> dict[str, Any]:
        return next(one for one in operator(city).devices() if one["id"] == device)

    desk.until(lambda s: seen()["stops"] >= made["version"])
    assert seen()["release"] == desk.status()["release"] > 0
    assert [one["id"] for one in operator(city).stop("list")["stops"]] == [made["id"]]
    operator(city).stop("release", switch=made["id"])
    desk.until(lambda s: not s["stops"])
