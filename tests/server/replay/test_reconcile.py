"""What devices did offline, judged under today's policy: listed once, taken back by order or excused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from server.replay import Listed
from server.store.replay_tables import RECONCILED, RECONCILED_TO
from shared.entries import ActionExcused, OrderGiven, read
from shared.errors import OutriderError
from tests.server.console.conftest import copied, opened, session_csrf, signed_in
from tests.server.console.sample_hub import LENA, MARIA, SampleHub
from tests.server.console.sample_replay import Day, a_day_offline, publish, taken_back


@pytest.fixture
def busy(morning: SampleHub, tmp_path: Path) -> Iterator[SampleHub]:
    with opened(copied(morning, tmp_path)) as hub:
        hub.reconcile.look()
        yield hub


@pytest.fixture
def day(busy: SampleHub) -> Day:
    made = a_day_offline(busy)
    busy.reconcile.look()
    return made


def listed(hub: SampleHub) -> list[Listed]:
    return hub.reconcile.open()


def test_what_was_done_offline_and_would_be_asked_or_denied_now_is_listed(day: Day) -> None:
    sign, roof = listed(day.hub)
    assert (sign.subject, sign.was, sign.now, sign.rules) == ("PA-2026-0302", "allow", "ask", ["signs-ask"])
    assert (roof.subject, roof.was, roof.now, roof.rules) == ("PA-2026-0300", "allow", "deny", ["nothing-dear"])
    assert (roof.device_name, roof.tool, roof.step, roof.release) == ("Field van 3", "register.decide", "triage", 2)
    assert (roof.offer, roof.others, roof.coming) == ("undo", 0, None)
    assert day.hub.reconcile.waiting() == 2


def test_it_is_listed_once_also_after_a_restart(day: Day) -> None:
    before = listed(day.hub)
    assert day.hub.reconcile.look() == 0 and listed(day.hub) == before
    again = type(day.hub.reconcile)(
        day.hub.log, day.hub.bus, day.hub.record, day.hub.orders,
        release_for=lambda device: 2, library=day.hub.releases.release,
    )  # fmt: skip
    assert again.look() == 0 and again.open() == before


def test_what_was_done_online_or_under_the_same_release_is_not_listed(busy: SampleHub) -> None:
    a_day_offline(busy, release=False)
    assert busy.reconcile.look() == 0 and listed(busy) == []
    publish(busy)
    assert busy.reconcile.look() == 0, "what came in before is judged by what held when it came in"


def test_a_long_log_is_looked_through_in_stretches_and_a_verdict_before_one_is_found(
    busy: SampleHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.replay.reconcile._AT_ONCE", 3)
    a_day_offline(busy)
    found = 0
    for _ in range(20):
        found += busy.reconcile.look()
    assert found == 2 and len(listed(busy)) == 2


def test_a_kill_between_reading_and_writing_lists_nothing_twice(day: Day) -> None:
    """The mark and the list move together: with the mark as it was, the list is as it was too."""
    with day.hub.store.write() as conn:
        conn.execute(delete(RECONCILED))
        conn.execute(delete(RECONCILED_TO).where(RECONCILED_TO.c.device == day.van.device))
    assert day.hub.reconcile.look() == 2 and len(listed(day.hub)) == 2


def test_one_click_orders_the_run_taken_back_and_the_device_s_log_settles_it(day: Day) -> None:
    hub = day.hub
    roof = listed(hub)[1]
    order = hub.reconcile.take_back(roof.n, by="omar", roles=["clerk"])
    assert (order.order, order.state) == ("undo", "coming")
    newest = read(hub.log.entries(hub.log.size - 1)[0][1])
    assert isinstance(newest.facts, OrderGiven) and newest.facts.order == "undo"
    again = listed(hub)[1]
    assert again.coming is not None and again.coming.id == order.id
    with pytest.raises(OutriderError, match=r"order\.given"):
        hub.reconcile.take_back(roof.n, by="maria", roles=["admin"])
    taken_back(day, day.runs[0])
    hub.reconcile.look()
    assert [one.subject for one in listed(hub)] == ["PA-2026-0302"]
    (settled,) = hub.reconcile.settled()
    assert (settled.state, settled.subject) == ("undone", "PA-2026-0300")
    assert hub.record.run(roof.run).view.outcome == "cancelled"


def test_a_person_lets_it_stand_with_a_reason_that_the_log_keeps(day: Day) -> None:
    hub = day.hub
    sign = listed(hub)[0]
    hub.reconcile.excuse(sign.n, by="omar", roles=["clerk"], reason="  It was\nasked for in writing. ")
    seq = hub.log.size - 1
    newest = read(hub.log.entries(seq)[0][1]).facts
    assert isinstance(newest, ActionExcused)
    assert (newest.device, newest.release, newest.verdict, newest.by) == (day.van.device, 2, "ask", "omar")
    assert hub.log.body(seq) == {"reason": "It was asked for in writing."}
    assert len(listed(hub)) == 1
    (settled,) = hub.reconcile.settled()
    assert (settled.state, settled.by, settled.reason) == ("excused", "omar", "It was asked for in writing.")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda room, n: room.take_back(999, by="o", roles=["clerk"]), "reconcile.unknown"),
        (lambda room, n: room.excuse(999, by="o", roles=["clerk"], reason="x"), "reconcile.unknown"),
        (lambda room, n: room.excuse(n, by="o", roles=["clerk"], reason=" "), "reconcile.reason"),
        (lambda room, n: room.excuse(n, by="o", roles=["clerk"], reason="x" * 301), "reconcile.reason"),
        (lambda room, n: room.excuse(n, by="o", roles=["guest"], reason="x"), "order.role"),
        (lambda room, n: room.take_back(n, by="o", roles=["guest"]), "order.role"),
    ],
)
def test_what_is_refused_changes_nothing(day: Day, call: Any, code: str) -> None:
    before, size = listed(day.hub), day.hub.log.size
    with pytest.raises(OutriderError) as caught:
        call(day.hub.reconcile, before[0].n)
    assert caught.value.code == code and caught.value.advice
    assert listed(day.hub) == before and day.hub.log.size == size


def test_what_was_excused_cannot_be_excused_again(day: Day) -> None:
    n = listed(day.hub)[0].n
    day.hub.reconcile.excuse(n, by="omar", roles=["clerk"], reason="fine")
    with pytest.raises(OutriderError, match=r"reconcile\.unknown"):
        day.hub.reconcile.excuse(n, by="maria", roles=["clerk"], reason="fine")


# --- its page ---------------------------------------------------------------------------------------------------------


def test_the_page_takes_back_and_lets_stand(day: Day) -> None:
    client = signed_in(day.hub, MARIA)
    html = client.get("/reconcile").text
    assert "PA-2026-0302" in html and "Since June, signs are for a person." in html and "nothing-dear" in html
    csrf = session_csrf(client)
    sign, roof = listed(day.hub)
    answer = client.post("/reconcile", data={"csrf": csrf, "n": str(roof.n), "act": "undo"})
    assert answer.status_code == 303 and "has not taken the order yet" in client.get("/reconcile").text
    answer = client.post("/reconcile", data={"csrf": csrf, "n": str(sign.n), "act": "excuse", "reason": "In writing."})
    assert answer.status_code == 303 and "In writing." in client.get("/reconcile").text
    assert client.post("/reconcile", data={"csrf": csrf, "n": "x", "act": "undo"}).status_code == 400
    assert "reconcile.reason" in client.post("/reconcile", data={"csrf": csrf, "n": str(roof.n), "act": "excuse"}).text
    assert client.post("/reconcile", data={"csrf": "no", "n": str(roof.n), "act": "undo"}).status_code == 403


def test_who_may_only_look_is_offered_nothing(day: Day) -> None:
    html = signed_in(day.hub, LENA).get("/reconcile").text
    assert "PA-2026-0302" in html and "Take it back" not in html


def test_attention_tells_of_it(day: Day) -> None:
    html = signed_in(day.hub).get("/attention").text
    assert "2 actions done offline" in html
    assert ">2<" in signed_in(day.hub).get("/attention/badge").text


def test_nothing_to_reconcile_says_so(hub: SampleHub) -> None:
    assert "Nothing to reconcile" in signed_in(hub).get("/reconcile").text


def test_the_pages_of_replay(day: Day) -> None:
    hub = day.hub
    client = signed_in(hub)
    html = client.get("/releases/2/replay").text
    assert "Would now be denied" in html and "PA-2026-0300" in html and "Since June" in html
    assert "No version yet" in html or "no version yet" in client.get("/workspace/replay").text
    csrf = session_csrf(client)
    assert client.post("/releases/2/replay", data={"csrf": csrf}).status_code == 303
    assert "0 of 4 devices answered" in client.get("/releases/2/replay").text
    assert client.get("/releases/99/replay").status_code == 503
    assert client.get("/releases/x/replay").status_code == 400
    assert (
        client.get("/releases/2/replay?days=7").status_code
        == client.get("/releases/2/replay?days=z").status_code
        == 200
    )
    refused = signed_in(hub, LENA)
    assert refused.post("/releases/2/replay", data={"csrf": session_csrf(refused)}).status_code == 403
