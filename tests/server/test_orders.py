"""Orders about runs: who may give which, when, once, and what a device may claim to have been ordered."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from server.orders import unfit
from shared import entries as e
from shared import runs
from shared.entries import Draft, read
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered
from shared.release import Order
from shared.runs.fold import RUN_ORDERS, STEP_ORDERS
from tests.fakes import FakeDevice, Shelf, payload
from tests.server.conftest import Rooms


def give(rooms: Rooms, run: str, order: str, step: str = "", **more: Any) -> None:
    rooms.orders.give(run, order, step, **({"by": "clara", "roles": ["clerk"], "reason": "Looked."} | more))


def code(rooms: Rooms, run: str, order: str, step: str = "", **more: Any) -> str:
    with pytest.raises(OutriderError) as caught:
        give(rooms, run, order, step, **more)
    return caught.value.code


def synced(rooms: Rooms) -> FakeDevice:
    device = rooms.join()
    rooms.sync(device)
    return device


async def test_an_order_is_signed_logged_sent_and_obeyed(rooms: Rooms) -> None:
    device = synced(rooms)
    run = device.in_doubt("PA-1")
    rooms.sync(device)
    assert rooms.record.attention() == {"doubt": 1}
    with rooms.bus.subscribe([f"device:{device.id}", "runs"]) as heard:
        give(rooms, run, "not-happened", "triage")
        assert {event.topic for event in heard.drain()} == {f"device:{device.id}", "runs"}
    newest = read(rooms.hublog.entries(rooms.hublog.size - 1)[0][1])
    assert isinstance(newest.facts, e.OrderGiven)
    (envelope,), _, _ = rooms.devices.outbox(device.id, 0)
    assert envelope.purpose == "order"
    said = payload(envelope)
    assert (said["run"], said["step"], said["role"], said["reason"]) == (run, "triage", "clerk", "Looked.")
    (view,) = rooms.orders.given(device.id, run)
    assert (view.id, view.order, view.by, view.state) == (newest.facts.id, "not-happened", "clara", "coming")
    device.obey(envelope)
    rooms.sync(device)
    assert rooms.orders.given(device.id, run)[0].state == "obeyed"
    story = rooms.record.run(run)
    assert (story.run.steps["triage"].status, story.view.attention, story.needs) == ("planned", "", [])


def test_a_doubt_says_exactly_what_is_in_doubt(rooms: Rooms) -> None:
    device = synced(rooms)
    run = device.in_doubt("PA-1")
    rooms.sync(device)
    (need,) = rooms.record.run(run).needs
    assert (need.kind, need.step, need.tool, need.subject) == ("doubt", "triage", "register.decide", "PA-1")
    assert need.arguments["lane"] == "counter"
    (told,) = rooms.record.needing("doubt")
    assert told.needs == [need] and told.view.run == run


def test_what_is_left_to_do_by_hand_is_told_and_settled(rooms: Rooms) -> None:
    device = synced(rooms)
    run = device.left_to_a_person("PA-1")
    rooms.sync(device)
    (need,) = rooms.record.run(run).needs
    assert (need.kind, need.step, need.code, need.tool) == ("operator", "~mail", "undo.manual", "mail.send")
    assert need.words == ["Call the applicant.", "Say that the letter was wrong."]
    assert code(rooms, run, "handled", "mail") == "order.unfit"
    give(rooms, run, "handled", "~mail")
    device.obey(rooms.devices.outbox(device.id, 0)[0][0])
    device.close(run, "failed", "tool.full")
    rooms.sync(device)
    story = rooms.record.run(run)
    assert (story.view.attention, story.run.steps["~mail"].status) == ("failed", "handled")


def test_a_failed_run_is_retried_or_laid_to_rest(rooms: Rooms) -> None:
    device = synced(rooms)
    first, second = device.failed("PA-1"), device.failed("PA-2")
    rooms.sync(device)
    (need,) = rooms.record.run(first).needs
    assert (need.kind, need.code, need.words) == ("failed", "tool.full", ["The register is full.", "make room"])
    assert rooms.record.attention() == {"failed": 2}
    give(rooms, first, "retry")
    give(rooms, second, "dismiss")
    for envelope in rooms.devices.outbox(device.id, 0)[0]:
        device.obey(envelope)
    rooms.sync(device)
    assert rooms.record.attention() == {}
    again, rest = rooms.record.run(first), rooms.record.run(second)
    assert (again.view.status, again.run.times) == ("opened", {"triage": 1})
    assert (rest.view.status, rest.view.outcome, rest.needs) == ("closed", "failed", [])
    assert code(rooms, second, "retry") == "order.unfit"
    assert code(rooms, second, "dismiss") == "order.unfit"


def test_a_device_that_has_moved_on_does_not_hold_up_later_orders(rooms: Rooms) -> None:
    device = synced(rooms)
    device.ask("PA-1")
    rooms.sync(device)
    run = device.written[-1].entry.run
    give(rooms, run, "pause")
    assert code(rooms, run, "pause") == "order.given"
    _, cursor, _ = rooms.devices.outbox(device.id, 0)
    rooms.devices.outbox(device.id, cursor)  # it took the order, and the run went another way
    assert rooms.orders.given(device.id, run)[0].state == "passed"
    give(rooms, run, "pause")


def test_a_doubt_is_settled_one_way(rooms: Rooms) -> None:
    device = synced(rooms)
    run = device.in_doubt("PA-1")
    rooms.sync(device)
    give(rooms, run, "happened", "triage")
    assert code(rooms, run, "not-happened", "triage") == "order.given"
    give(rooms, run, "cancel")
    assert [view.order for view in rooms.orders.given(device.id, run)] == ["happened", "cancel"]


def test_orders_need_a_role_a_known_word_and_a_short_reason(rooms: Rooms) -> None:
    device = synced(rooms)
    run = device.in_doubt("PA-1")
    rooms.sync(device)
    assert rooms.orders.roles(rooms.record.run(run).run) == ["clerk", "supervisor", "admin"]
    assert code(rooms, run, "pause", roles=["reader"]) == "order.role"
    assert code(rooms, run, "explode") == "order.unknown"
    assert code(rooms, run, "pause", "triage") == "order.unknown"
    assert code(rooms, run, "pause", reason="x" * 301) == "order.reason"
    assert code(rooms, "run_none", "pause") == "run.unknown"
    give(rooms, run, "pause", roles=["admin"])
    assert payload(rooms.devices.outbox(device.id, 0)[0][0])["role"] == "admin"
    rooms.devices.revoke(device.id, "clara")
    assert code(rooms, run, "cancel") == "device.revoked"


def test_without_its_release_only_an_administrator_may(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Shelf, number: int) -> None:
        raise BadInput("release.none", "gone", advice="")

    monkeypatch.setattr(Shelf, "release", gone)
    device = synced(rooms)
    run = device.in_doubt("PA-1")
    rooms.sync(device)
    with pytest.raises(Refused) as caught:
        give(rooms, run, "pause")
    assert caught.value.code == "order.role"
    give(rooms, run, "pause", roles=["admin"])


# --- what a device claims -----------------------------------------------------------------------------------------


def test_a_device_cannot_give_itself_the_hubs_orders(rooms: Rooms) -> None:
    device = synced(rooms)
    run = device.in_doubt("PA-1")
    rooms.sync(device)
    give(rooms, run, "happened", "triage")
    (view,) = rooms.orders.given(device.id, run)
    for facts in (
        e.RunOrdered("not-happened", "o-made-up", "triage", "clara", "hub"),
        e.RunOrdered("not-happened", view.id, "triage", "clara", "hub"),
        e.RunOrdered("happened", view.id, "triage", "mallory", "hub"),
    ):
        size = device.size
        device.add(Draft(facts, run=run))
        with pytest.raises(Tampered) as caught:
            rooms.ingest.accept(device.id, device.batch(size))
        assert caught.value.code == "order.forged"
        device.cut(size)
    device.add(Draft(e.RunOrdered("not-happened", "o-here", "triage", "someone", "local"), run=run))
    rooms.sync(device)
    story = rooms.record.run(run)
    assert story.view.status == "planned"
    assert story.entries[-1].facts["place"] == "local"


# --- what fits ----------------------------------------------------------------------------------------------------


def states(rooms: Rooms) -> dict[str, runs.Run]:
    """A run in every state that orders care about."""
    device = synced(rooms)
    names = {
        "done": device.decide_alone("PA-1"),
        "doubt": device.in_doubt("PA-2"),
        "left": device.left_to_a_person("PA-3"),
        "failed": device.failed("PA-4"),
        "dismissed": device.failed("PA-5"),
        "cancelled": device.open("PA-6"),
        "paused": device.open("PA-7"),
        "open": device.open("PA-8"),
        "retried": device.failed("PA-9"),
    }
    for name, order in (("dismissed", "dismiss"), ("cancelled", "cancel"), ("paused", "pause"), ("retried", "retry")):
        device.add(Draft(e.RunOrdered(order, f"o-{name}", "", "clara", "local"), run=names[name]))
    rooms.sync(device)
    return {name: rooms.record.run(run).run for name, run in names.items()}


def test_an_order_fits_exactly_where_the_fold_takes_it(rooms: Rooms) -> None:
    taken = set()
    for name, run in states(rooms).items():
        for order in (*RUN_ORDERS, *STEP_ORDERS):
            for step in ("triage", "mail", "~mail", "none") if order in STEP_ORDERS else ("",):
                facts = e.RunOrdered(order, "o-new", step, "clara", "hub")
                entry = e.Entry(10_000, run.at, "run.ordered", 1, run.id, facts, {})
                try:
                    runs.fold(run, entry)
                    folds = True
                except Tampered:
                    folds = False
                assert (unfit(run, order, step) == "") == folds, (name, order, step)
                if folds:
                    taken.add((name, order))
    assert ("paused", "resume") in taken and ("failed", "retry") in taken and ("left", "handled") in taken
    assert ("done", "undo") in taken
    assert {order for name, order in taken if name in ("done", "dismissed")} <= {"undo"}


def test_two_people_at_once_give_one_order(rooms: Rooms) -> None:
    device = synced(rooms)
    run = device.failed("PA-1")
    rooms.sync(device)
    outcomes: list[str] = []
    gate = threading.Barrier(4)

    def work(name: str) -> None:
        gate.wait()
        try:
            give(rooms, run, "retry", by=name)
            outcomes.append("ok")
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=work, args=(f"person{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ok", "order.given", "order.given", "order.given"]
    (envelope,), _, _ = rooms.devices.outbox(device.id, 0)
    assert isinstance(device.obey(envelope), Order)
