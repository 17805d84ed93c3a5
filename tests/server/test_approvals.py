"""Questions to people: who may answer, once, in time, with what corrections."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from server.approvals import Approvals
from shared import entries as e
from shared.actions import Action
from shared.entries import Draft, read
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered
from tests.fakes import FakeDevice, Shelf, decide, payload
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


# --- several people -----------------------------------------------------------------------------------------------


def say(rooms: Rooms, approval: str, by: str, said: str = "approve", **more: Any) -> str:
    """Answer as one of several people; the code of what went wrong."""
    try:
        rooms.approvals.decide(approval, by=by, roles=["clerk"], answer=said, reason="Looked.", **more)
    except OutriderError as error:
        return error.code
    return ""


def quorum(rooms: Rooms, needed: int = 2) -> tuple[FakeDevice, str]:
    device = rooms.join()
    approval = device.ask("PA-1", needed=needed)
    rooms.sync(device)
    return device, approval


def test_two_different_people_must_approve_and_a_restart_forgets_neither(rooms: Rooms) -> None:
    device, approval = quorum(rooms)
    assert say(rooms, approval, "clara") == ""
    assert say(rooms, approval, "clara") == "approval.same-person"
    assert say(rooms, approval, "clara", "deny") == "approval.same-person"
    view = rooms.approvals.get(approval)
    assert (view.state, view.needed, view.approvers, view.answer, view.by) == ("waiting", 2, ["clara"], "", "")
    assert rooms.approvals.waiting() == [view]
    again = Approvals(rooms.hublog, rooms.bus, Shelf())
    again.decide(approval, by="omar", roles=["clerk"], answer="approve")
    view = again.get(approval)
    assert (view.state, view.answer, view.approvers, view.by) == ("answered", "approve", ["clara", "omar"], "omar")
    assert say(rooms, approval, "lena") == "approval.used"
    first, second = rooms.devices.outbox(device.id, 0)[0]
    run, action = device.take(first).run, decide("PA-1", "counter")
    rooms.sync(device)
    assert rooms.approvals.get(approval).applied is False  # one of two is on the device
    assert [said.applied for said in rooms.approvals.get(approval).answers] == [True, False]
    device.take(second)
    device.judge(run, action, "ask", approved=True)
    device.finish(run, action, approval)
    rooms.sync(device)
    assert rooms.approvals.get(approval).applied
    assert rooms.record.runs()[0].outcome == "done"


def test_a_run_that_acted_on_one_yes_of_two_is_refused(rooms: Rooms) -> None:
    device, approval = quorum(rooms)
    say(rooms, approval, "clara")
    run, action = device.take(rooms.devices.outbox(device.id, 0)[0][0]).run, decide("PA-1", "counter")
    rooms.sync(device)
    size = device.size
    device.judge(run, action, "ask", approved=True)
    device.finish(run, action, approval)
    with pytest.raises(Tampered) as caught:
        rooms.ingest.accept(device.id, device.batch(size))
    assert caught.value.code == "run.order"


def test_one_denial_ends_it_and_one_person_cannot_change_what_several_must_agree_on(rooms: Rooms) -> None:
    device, approval = quorum(rooms, needed=3)
    assert rooms.approvals.get(approval).correctable is False
    assert say(rooms, approval, "clara", "correct", corrections={"lane": "review"}) == "approval.needs-agreement"
    say(rooms, approval, "clara")
    say(rooms, approval, "omar", "deny")
    view = rooms.approvals.get(approval)
    assert (view.state, view.answer, view.by, view.answer_reason) == ("answered", "deny", "omar", "Looked.")
    assert say(rooms, approval, "lena") == "approval.used"
    for envelope in rooms.devices.outbox(device.id, 0)[0]:
        run = device.take(envelope).run
    device.close(run, "declined", "approval.denied")
    rooms.sync(device)
    assert rooms.record.runs()[0].outcome == "declined"


def test_of_many_at_once_exactly_as_many_as_are_needed_count(rooms: Rooms) -> None:
    device, approval = quorum(rooms, needed=3)
    outcomes: list[str] = []
    gate = threading.Barrier(6)

    def work(name: str) -> None:
        gate.wait()
        outcomes.append(say(rooms, approval, name))

    threads = [threading.Thread(target=work, args=(name,)) for name in "aabbcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("") == 3
    assert set(outcomes) - {""} <= {"approval.same-person", "approval.used"}
    assert len({*rooms.approvals.get(approval).approvers}) == len(rooms.devices.outbox(device.id, 0)[0]) == 3


# --- others like it -----------------------------------------------------------------------------------------------


def test_a_yes_covers_others_like_it_only_where_and_as_long_as_it_may(rooms: Rooms) -> None:
    device = rooms.join()
    plain, hour, two = device.ask("PA-1"), device.ask("PA-2", similar_s=3600), device.ask("PA-3", needed=2)
    rooms.sync(device)
    assert say(rooms, plain, "clara", similar_s=60) == "approval.similar"
    assert say(rooms, two, "clara", similar_s=60) == "approval.similar"
    assert say(rooms, hour, "clara", similar_s=3601) == "approval.similar"
    assert say(rooms, hour, "clara", similar_s=-1) == "approval.similar"
    assert say(rooms, hour, "clara", "deny", similar_s=60) == "approval.similar"
    assert say(rooms, hour, "clara", similar_s=3600) == ""
    (envelope,), _, _ = rooms.devices.outbox(device.id, 0)
    said = payload(envelope)
    assert said["similar_until"] == said["at"] + 3600 * 1_000_000
    newest = read(rooms.hublog.entries(rooms.hublog.size - 1)[0][1]).facts
    assert isinstance(newest, e.ApprovalDecided) and newest.similar_until == said["similar_until"]
    assert rooms.approvals.get(hour).answers[0].similar_until == said["similar_until"]


def granted(rooms: Rooms, device: FakeDevice) -> str:
    """A yes to actions like PA-1's for an hour, and on the device."""
    grant = device.ask("PA-1", similar_s=3600, value_cents=500)
    rooms.sync(device)
    assert say(rooms, grant, "clara", similar_s=3600) == ""
    run, action = device.take(rooms.devices.outbox(device.id, 0)[0][0]).run, decide("PA-1", "counter")
    device.judge(run, action, "ask", approved=True)
    device.finish(run, action, grant)
    rooms.sync(device)
    return grant


def covered(device: FakeDevice, subject: str, grant: str, *, value_cents: int = 100, step: str = "triage") -> None:
    run = device.open(subject)
    action = device.plan(run, subject, step=step)
    device.judge(run, action, "ask", value_cents=value_cents, step=step)
    device.add(Draft(e.ApprovalCovered(step, f"app-{subject}", action.digest, grant), run=run))


def test_what_a_yes_covers_is_done_without_a_question(rooms: Rooms) -> None:
    device = rooms.join()
    grant = granted(rooms, device)
    covered(device, "PA-2", grant, value_cents=500)
    rooms.sync(device)
    assert rooms.approvals.waiting() == []
    assert rooms.record.runs()[0].status == "approved"


@pytest.mark.parametrize("wrong", ["late", "dear", "another", "unknown", "unasked"])
def test_a_device_cannot_stretch_a_yes(rooms: Rooms, wrong: str) -> None:
    device = rooms.join()
    grant = device.ask("PA-1") if wrong == "unasked" else granted(rooms, device)
    if wrong == "unasked":
        rooms.sync(device)
        say(rooms, grant, "clara")
        device.take(rooms.devices.outbox(device.id, 0)[0][0])
        rooms.sync(device)
    size = device.size
    if wrong == "late":
        rooms.clock.step(3700)
    match wrong:
        case "dear":
            covered(device, "PA-2", grant, value_cents=501)
        case "another":
            covered(device, "PA-2", grant, step="second")
        case "unknown":
            covered(device, "PA-2", "app-none")
        case _:
            covered(device, "PA-2", grant)
    with pytest.raises(Tampered) as caught:
        rooms.ingest.accept(device.id, device.batch(size))
    assert caught.value.code == "approval.forged"


def test_a_device_may_shorten_but_not_lengthen_what_a_yes_covers(rooms: Rooms) -> None:
    device = rooms.join()
    approval = device.ask("PA-1", similar_s=3600)
    rooms.sync(device)
    say(rooms, approval, "clara", similar_s=60)
    (envelope,), _, _ = rooms.devices.outbox(device.id, 0)
    said, size = payload(envelope), device.size
    for until, fine in ((said["similar_until"] + 1, False), (said["similar_until"] - 1, True)):
        facts = e.ApprovalAnswered("triage", approval, said["action"], "approve", "", "clara", "hub", until)
        device.add(Draft(facts, run=said["run"]))
        if fine:
            rooms.ingest.accept(device.id, device.batch(size))
        else:
            with pytest.raises(Tampered) as caught:
                rooms.ingest.accept(device.id, device.batch(size))
            assert caught.value.code == "approval.forged"
            device.cut(size)
    assert rooms.approvals.get(approval).answers[0].similar_until == said["similar_until"] - 1


# --- escalation, and answers at the device ------------------------------------------------------------------------


def test_a_question_that_waited_too_long_may_be_answered_by_others_too(rooms: Rooms) -> None:
    device, approval = asked(rooms)
    view = rooms.approvals.get(approval)
    assert (view.roles, view.level, view.next_roles) == (["clerk"], 0, ["supervisor"])
    assert view.escalates_at == view.asked_at + 3 * 3600 * 1_000_000
    with pytest.raises(Refused):
        rooms.approvals.decide(approval, by="sue", roles=["supervisor"], answer="approve")
    run = device.written[-1].entry.run
    device.add(Draft(e.ApprovalEscalated("triage", approval, 1, ["supervisor"]), run=run))
    rooms.sync(device)
    view = rooms.approvals.get(approval)
    assert (view.roles, view.level, view.escalates_at, view.next_roles) == (["clerk", "supervisor"], 1, 0, [])
    rooms.approvals.decide(approval, by="sue", roles=["supervisor"], answer="approve")
    assert payload(rooms.devices.outbox(device.id, 0)[0][0])["role"] == "supervisor"


def test_an_answer_at_the_device_counts_where_the_question_lets_it_and_is_shown_as_that(rooms: Rooms) -> None:
    device = rooms.join()
    here, not_here = device.ask("PA-1", local=True), device.ask("PA-2")
    rooms.sync(device)
    for approval, subject in ((here, "PA-1"), (not_here, "PA-2")):
        run = next(w.entry.run for w in device.written if w.bodies and subject in w.bodies["shared"].data)
        digest, size = decide(subject, "counter").digest, device.size
        facts = e.ApprovalAnswered("triage", approval, digest, "approve", "", "ann", "local")
        device.add(Draft(facts, run=run, bodies={"shared": {"reason": "I know this one."}}))
        if approval == not_here:
            with pytest.raises(Tampered) as caught:
                rooms.ingest.accept(device.id, device.batch(size))
            assert caught.value.code == "run.order"
        else:
            rooms.sync(device)
    view = rooms.approvals.get(here)
    assert (view.state, view.answer, view.by, view.answer_reason) == ("answered", "approve", "ann", "I know this one.")
    (said,) = view.answers
    assert (said.place, said.applied) == ("local", True)
    assert code(rooms, here) == "approval.used"


def test_an_answer_at_the_device_that_came_first_is_the_one_that_counts(rooms: Rooms) -> None:
    device = rooms.join()
    approval = device.ask("PA-1", local=True)
    rooms.sync(device)
    answer(rooms, approval, "deny")  # while the device, offline, was told yes
    run = device.written[-1].entry.run
    digest = decide("PA-1", "counter").digest
    device.add(Draft(e.ApprovalAnswered("triage", approval, digest, "approve", "", "ann", "local"), run=run))
    rooms.sync(device)
    view = rooms.approvals.get(approval)
    assert (view.state, view.answer, view.by) == ("answered", "approve", "ann")
    assert [(said.by, said.applied) for said in view.answers] == [("clara", False), ("ann", True)]


def test_a_question_ends_with_its_step_and_with_its_run(rooms: Rooms) -> None:
    device = rooms.join()
    ends: dict[str, e.Facts] = {
        "step.timeout": e.StepFailed("triage", "step.timeout"),
        "run.undoing": e.UndoBegun("failed", "x"),
        "run.closed": e.RunClosed("failed", "x"),
        "run.cancelled": e.RunOrdered("cancel", "o-1", "", "ann", "local"),
    }
    asked = {}
    for code, facts in ends.items():
        asked[code] = device.ask(code)
        run = device.written[-1].entry.run
        device.add(Draft(e.StepFailed("second", "x"), run=run), Draft(facts, run=run))
    rooms.sync(device)
    assert {code: rooms.approvals.get(approval).void_code for code, approval in asked.items()} == {c: c for c in ends}


def test_a_plain_question_is_answered_yes_or_no() -> None:
    from server.approvals.corrections import corrected

    question = {"tool": "person.confirm", "arguments": {"question": "Is it ready?"}, "subject": "PA-1"}
    assert corrected(question, "approve", {}, []) is None
    with pytest.raises(BadInput) as caught:
        corrected(question, "correct", {"question": "Is it?"}, [])
    assert caught.value.code == "approval.correction"
    nested = {"tool": "table.write", "arguments": {"rows": [[1, 2]]}, "subject": ""}
    with pytest.raises(BadInput):
        corrected(nested, "correct", {"rows": "[]"}, [])
