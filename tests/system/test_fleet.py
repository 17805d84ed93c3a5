"""Hub and agents as processes: cut, killed, copied, revoked, lied to. What each must do, its log and books say."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from demo_console import Console
from demo_kit import Stop, outrider

from edge_agent.config import Home
from edge_agent.status import runs

if TYPE_CHECKING:
    from tests.system.conftest import City, Desk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROWS = [f"T-{n:03},Tear off shingles and reroof the garage,{4000 + n}" for n in range(30)]


def synced(status: dict[str, Any]) -> bool:
    return bool(status["linked"] and status["cosigned"] and status["lease"] and status["idle"])


def ready_desk(city: City, name: str) -> Desk:
    desk = city.desk(name)
    desk.start()
    desk.until(lambda s: synced(s) and s["release"] > 0)
    return desk


def test_cut_kill_restart_mend_loses_nothing_and_does_nothing_twice(city: City) -> None:
    desk = ready_desk(city, "cut")
    desk.wire.cut()
    desk.until(lambda s: not s["linked"])
    held = desk.status()["synced"]
    desk.drop("offline.csv", ROWS)
    desk.process.kill_at(lambda: desk.books.count() >= 5, patience=90)
    assert 5 <= desk.books.count() < len(ROWS), "killed in the middle"
    desk.start()
    desk.until(lambda s: s["idle"] and s["runs"]["closed"] == len(ROWS))
    assert desk.status()["synced"] == held, "the hub has heard nothing yet"
    desk.wire.mend()
    status = desk.until(synced)
    assert status["outcomes"] == {"done": len(ROWS)}
    assert desk.books.count() == len(ROWS)
    assert list(desk.books.faults()) == []
    report = desk.verify()
    assert report["error"] is None
    assert report["cosigned_size"] == report["entries"] == status["log"]["size"]


def test_hub_killed_while_it_takes_entries_keeps_what_it_countersigned(city: City) -> None:
    desk = ready_desk(city, "hub-killed")
    desk.drop("a.csv", ROWS)
    desk.until(lambda s: s["runs"]["closed"] > 3)
    before = desk.status()["synced"]
    city.kill_and_start()
    status = desk.until(lambda s: synced(s) and s["runs"]["closed"] == len(ROWS))
    assert status["synced"] >= before
    assert desk.verify()["error"] is None


def test_revoked_device_stops_acting_and_says_why(city: City) -> None:
    desk = ready_desk(city, "revoked")
    city.revoke(desk.status()["device"])
    desk.until(lambda s: s["revoked"])
    desk.drop("late.csv", ROWS[:3])
    status = desk.until(lambda s: s["runs"]["held"] == 3)
    assert status["decided_alone"] == 0
    assert desk.books.count() == 0
    assert desk.problem("device.revoked")["advice"]


def test_restored_backup_is_refused_as_a_rollback(city: City) -> None:
    desk = ready_desk(city, "restored")
    desk.process.stop()
    backup = city.folder / "restored-backup"
    shutil.copytree(desk.home, backup)
    desk.start()
    desk.drop("a.csv", ROWS[:4])
    desk.until(lambda s: synced(s) and s["runs"]["closed"] == 4)
    desk.process.stop()
    shutil.rmtree(desk.home)
    backup.rename(desk.home)
    desk.start()
    assert desk.problem("log.rollback")["advice"]


def test_two_copies_of_a_device_are_found_as_a_fork(city: City) -> None:
    desk = ready_desk(city, "copied")
    desk.process.stop()
    twin = city.clone(desk, "twin")
    desk.start()
    desk.drop("a.csv", ROWS[:6])
    desk.until(lambda s: synced(s) and s["runs"]["closed"] == 6)
    desk.process.stop()
    desk.wire.cut()
    twin.start()
    twin.drop("b.csv", [row.replace("T-", "U-") for row in ROWS[:12]])
    twin.until(lambda s: s["runs"]["closed"] == 12)
    desk.wire.mend()
    assert twin.problem("log.fork")["advice"]
    assert twin.verify()["error"] is None, "each copy is consistent with itself; only the witness can tell"


def test_a_tampered_release_is_refused_and_the_old_one_stays(own_city: City) -> None:
    city = own_city
    desk = ready_desk(city, "desk")
    policy = city.home / "workspace" / "policy.cedar"
    assert "> 10000000 " in policy.read_text()
    policy.write_text(policy.read_text().replace("> 10000000 ", "> 90000000 "))
    desk.wire.cut()
    desk.until(lambda s: not s["linked"])
    number = city.publish()
    (published,) = [
        file
        for file in (city.home / "repository" / "targets").rglob("*policy.cedar")
        if "> 90000000 " in file.read_text()
    ]
    published.write_text(published.read_text().replace("> 90000000 ", "> 99000000 "))
    desk.wire.mend()
    problem = desk.problem("release.tampered")
    assert problem["advice"]
    status = desk.status()
    assert status["release"] == number - 1
    desk.drop("a.csv", ROWS[:2])
    desk.until(lambda s: s["runs"]["closed"] == 2)


def test_a_second_agent_on_the_same_home_is_refused(city: City) -> None:
    desk = ready_desk(city, "second")
    with pytest.raises(Stop, match=r"agent\.running"):
        outrider("agent", "run", "--home", str(desk.home))


def test_broken_files_are_set_aside_with_the_reason(city: City) -> None:
    desk = ready_desk(city, "broken")
    desk.put("latin.csv", "application_id,description\nX-1,caf\xe9\n".encode("latin-1"))
    desk.put("quote.csv", b'application_id,description\nX-2,"never closed\n')
    desk.put("columns.csv", b"number,words\nX-3,roof\n")
    status = desk.until(lambda s: len(s["sources"]) == 3)
    codes = {row["file"]: row["code"] for row in status["sources"]}
    assert codes == {
        "latin.csv": "intake.encoding",
        "quote.csv": "intake.csv",
        "columns.csv": "intake.column.missing",
    }
    # A file is told of in the log first and moved then: the last of them may still be on its way.
    names = [name for stem in ("columns", "latin", "quote") for name in (f"{stem}.csv", f"{stem}.csv.why.txt")]
    desk.until(lambda _: sorted(path.name for path in (desk.home / "refused").glob("*")) == names)


def test_orders_given_in_the_console_are_obeyed_by_the_agent(city: City) -> None:
    desk = ready_desk(city, "ordered")
    desk.drop("wreck.csv", ["T-900,Wreck and remove a two story frame residence,4000"])
    status = desk.until(lambda s: synced(s) and s["runs"]["waiting"] == 1)
    (row,) = runs(Home(desk.home))
    page = f"/runs/{status['device']}:{row['run']}"
    person = Console(city.address)
    person.sign_in("mara", "a-long-password")

    def order(name: str) -> None:
        form = next(form for form in person.forms(page) if form.fields.get("order") == name)
        person.send(form, reason="the applicant asked for it")

    order("pause")
    desk.until(lambda s: synced(s) and s["runs"]["paused"] == 1)
    order("resume")
    desk.until(lambda s: synced(s) and s["runs"]["waiting"] == 1)
    order("cancel")
    desk.until(lambda s: synced(s) and s["outcomes"] == {"cancelled": 1})
    assert desk.books.count() == 0
    assert desk.verify()["error"] is None
    assert "the applicant asked for it" in person.get(page)
