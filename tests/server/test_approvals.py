"""Questions to people: who may answer, once, in time, with what corrections."""

from __future__ import annotations

import threading

import pytest

from shared import entries as e
from shared.actions import Action
from shared.entries import Draft, read
from shared.errors import BadInput, Conflict, OutriderError, Refused
from tests.fakes import FakeDevice, decide, payload
from tests.server.conftest import Rooms


def asked(rooms: Rooms, subject: str = "PA-1") -> tuple[FakeDevice, str]:
    device = rooms.join()
    approval = device.ask(subject)
    rooms.sync(device)
    return device, approval


def answer(rooms: Rooms, approval: str, said: str = "approve", **corrections: str) -> None:
    rooms.approvals.decide(
        approval, by="clara", roles=["clerk"], answer=said, reason="Looked at it.", corrections=corrections
    )


def code(rooms: Rooms, approval: str, said: str = "approve", **corrections: str) -> str:
    with pytest.raises(OutriderError) as caught:
        answer(rooms, approval, said, **corrections)
    return caught.value.code


def test_a_waiting_question_shows_what_why_and_by_which_rule(rooms: Rooms) -> None:
    device, approval = asked(rooms)
    (view,) = rooms.approvals.waiting()
    assert view == rooms.approvals.get(approval)
    assert (view.device, view.device_name, view.subject, view.state) == (device.id, "front desk", "PA-1", "waiting")
    assert view.tool == "register.decide"
    assert view.arguments["lane"] == "counter"
    assert view.inputs == {"application_id": "PA-1", "work": "deck"}
    assert (view.label, view.reason, view.confidence) == ("Over the counter", "Decks go over the counter.", 600)
    assert ("ask-when-unsure", "Below 90% a person decides.") in view.rules
    assert view.lanes == [("counter", "Over the counter"), ("review", "Plan review")]
    assert rooms.record.run(view.run_id).view.subject == "PA-1"


def test_an_approval_is_signed_logged_sent_and_taken_by_the_device(rooms: Rooms) -> None:
    device, approval = asked(rooms)
    answer(rooms, approval)
    view = rooms.approvals.get(approval)
    assert (view.state, view.answer, view.by, view.answer_reason) == ("answered", "approve", "clara", "Looked at it.")
    assert rooms.approvals.waiting() == []
    (envelope,), cursor, more = rooms.devices.outbox(device.id, 0)
    assert not more
    assert rooms.devices.outbox(device.id, cursor) == ([], cursor, False)
    said = device.take(envelope)
    assert (said.approval, said.device, said.role, said.corrected) == (approval, device.id, "clerk", "")
    newest = read(rooms.hublog.entries(rooms.hublog.size - 1)[0][1])
    assert isinstance(newest.facts, e.ApprovalDecided)
    run, action = said.run, decide("PA-1", "counter")
    device.judge(run, action, "ask", approved=True)
    device.finish(run, action, approval)
    rooms.sync(device)
    assert rooms.record.runs()[0].outcome == "done"
    assert rooms.approvals.get(approval).applied
    assert rooms.approvals.recent() == [rooms.approvals.get(approval)]


def test_a_correction_names_the_new_action_exactly(rooms: Rooms) -> None:
    device, approval = asked(rooms)
    answer(rooms, approval, "correct", lane="review", work_type="", application_id="PA-1")
    view = rooms.approvals.get(approval)
    assert view.corrected == {**view.arguments, "lane": "review"}
    (envelope,), _, _ = rooms.devices.outbox(device.id, 0)
    said = payload(envelope)
    corrected = Action("register.decide", said["arguments"], "PA-1")
    assert said["corrected"] == corrected.digest == decide("PA-1", "review").digest
    device.take(envelope)
    device.judge(said["run"], corrected, "ask", approved=True)
    device.finish(said["run"], corrected, approval)
    rooms.sync(device)
    assert rooms.record.runs()[0].outcome == "done"


@pytest.mark.parametrize(
    ("said", "corrections"),
    [
        ("correct", {}),
        ("correct", {"lane": "counter"}),
        ("correct", {"lane": "express"}),
        ("correct", {"application_id": "PA-2"}),
        ("correct", {"unheard_of": "x"}),
        ("correct", {"reason": "x" * 9000}),
        ("approve", {"lane": "review"}),
    ],
)
def test_corrections_stay_within_the_action(rooms: Rooms, said: str, corrections: dict[str, str]) -> None:
    _, approval = asked(rooms)
    assert code(rooms, approval, said, **corrections) == "approval.correction"
    assert rooms.approvals.get(approval).state == "waiting"


def test_types_are_kept() -> None:
    from server.approvals.corrections import typed

    assert typed("n", 3, "-12") == -12
    assert typed("b", True, "False") is False
    assert typed("t", "old", "") == ""
    assert typed("t", None, "") is None
    assert typed("t", None, "new") == "new"
    for old, text in ((3, "three"), (True, "1"), (3, "1.5")):
        with pytest.raises(BadInput):
            typed("x", old, text)


def test_only_the_asked_roles_answer_once_and_with_a_known_word(rooms: Rooms) -> None:
    _, approval = asked(rooms)
    with pytest.raises(Refused) as caught:
        rooms.approvals.decide(approval, by="adam", roles=["admin"], answer="approve")
    assert caught.value.code == "approval.role"
    assert code(rooms, approval, "maybe") == "approval.answer"
    assert code(rooms, "app_none") == "approval.unknown"
    with pytest.raises(BadInput) as long:
        rooms.approvals.decide(approval, by="clara", roles=["clerk"], answer="deny", reason="x" * 301)
    assert long.value.code == "approval.reason"
    answer(rooms, approval, "deny")
    assert code(rooms, approval) == "approval.used"


def test_of_two_people_at_once_exactly_one_answers(rooms: Rooms) -> None:
    for n in range(5):
        device = rooms.join(f"desk {n}")
        approval = device.ask(f"PA-{n}")
        rooms.sync(device)
        outcomes: list[str] = []
        together = threading.Barrier(4)

        def work(
            said: str, approval: str = approval, into: list[str] = outcomes, gate: threading.Barrier = together
        ) -> None:
            gate.wait()
            try:
                answer(rooms, approval, said)
                into.append("ok")
            except Conflict as error:
                into.append(error.code)

        threads = [threading.Thread(target=work, args=(said,)) for said in ("approve", "deny", "approve", "deny")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["approval.used", "approval.used", "approval.used", "ok"]
        assert len(rooms.devices.outbox(device.id, 0)[0]) == 1


def test_an_expired_question_is_not_answered(rooms: Rooms) -> None:
    _, approval = asked(rooms)
    rooms.clock.step(2 * 24 * 3600 + 1)
    assert rooms.approvals.waiting() == []
    assert rooms.approvals.get(approval).state == "expired"
    assert code(rooms, approval) == "approval.expired"


def test_a_question_the_device_withdrew_is_void(rooms: Rooms) -> None:
    device, approval = asked(rooms)
    run = device.written[-1].entry.run
    device.add(Draft(e.ApprovalVoided("triage", approval, "approval.superseded"), run=run))
    rooms.sync(device)
    view = rooms.approvals.get(approval)
    assert (view.state, view.void_code) == ("void", "approval.superseded")
    assert code(rooms, approval) == "approval.void"


def test_revoking_a_device_voids_its_questions(rooms: Rooms) -> None:
    device, approval = asked(rooms)
    rooms.devices.revoke(device.id, "clara")
    assert rooms.approvals.get(approval).void_code == "device.revoked"
    assert code(rooms, approval) == "approval.void"


def test_an_erased_recommendation_can_be_denied_but_not_corrected(rooms: Rooms) -> None:
    from server.store.tables import BODIES

    _, approval = asked(rooms)
    with rooms.hublog.store.write() as conn:
        conn.execute(BODIES.delete())
    assert rooms.approvals.get(approval).arguments == {}
    assert code(rooms, approval, "correct", lane="review") == "approval.correction"
    answer(rooms, approval, "deny")
    assert rooms.approvals.get(approval).answer == "deny"
