"""Answering what waits: with plain forms, with htmx, and when it is too late."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.server.console.conftest import session_csrf, signed_in
from tests.server.console.sample_cases import WAITING
from tests.server.console.sample_hub import LENA, OMAR, SampleHub

HTMX = {"HX-Request": "true"}


def waiting(hub: SampleHub, number: str = WAITING[0].number) -> str:
    return next(view.id for view in hub.approvals.waiting() if view.subject == number)


def send(client: httpx.Client, approval: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    data = {"csrf": session_csrf(client), **{name.replace("__", "."): value for name, value in fields.items()}}
    return client.post(f"/approvals/{approval}/answer", data=data, headers=headers or {})


def test_a_card_shows_what_why_and_on_what_grounds(read_only: SampleHub) -> None:
    html = signed_in(read_only).get("/approvals").text
    assert html.count("data-card") == len(WAITING)
    assert html.index("PA-2026-0141") < html.index("PA-2026-0142")  # the oldest first
    for shown in (
        "$186,400", "Recommendation", "87.3% confidence", "by the on-device model",
        "Interior alterations with new circuits and moved sprinkler heads.",
        "ask-above-50k", "Work of more than $50,000 is decided by a person.",
        "Gut rehabilitation of six flats with new ducts: Plan review.", "register.decide",
        "Applicant, Email", "stay on the device", "Counter 2",
    ):  # fmt: skip
        assert shown in html, shown
    assert "Dolores" not in html  # private inputs never reach the hub
    assert "not given" in html


def test_recent_answers_stand_below(read_only: SampleHub) -> None:
    html = signed_in(read_only).get("/approvals").text
    below = html[html.index("Recently answered") :]
    assert "Corrected</span> to Plan review" in below and "New footings need drawings" in below
    assert "Approved" in below and "Denied" in below and "omar" in below


def test_approving_with_a_plain_form(busy: SampleHub) -> None:
    client, approval = signed_in(busy), waiting(busy)
    answer = send(client, approval, answer="approve")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/approvals?answered={approval}")
    view = busy.approvals.get(approval)
    assert (view.state, view.answer, view.by) == ("answered", "approve", "maria")
    landed = client.get(answer.headers["location"]).text
    assert "Approved: PA-2026-0141." in landed and "Counter 2 acts as soon as it has the answer" in landed
    assert landed.count("data-card") == len(WAITING) - 1


def test_correcting_names_another_lane_and_a_reason(busy: SampleHub) -> None:
    client, approval = signed_in(busy, OMAR), waiting(busy)
    answer = send(client, approval, answer="correct", arg__lane="self_cert", reason="The drawings are certified.")
    assert answer.status_code == 303
    view = busy.approvals.get(approval)
    assert view.corrected is not None and view.corrected["lane"] == "self_cert"
    page = client.get(f"/approvals/{approval}").text
    assert "Self-certified plans" in page and "The drawings are certified." in page and "omar" in page


@pytest.mark.parametrize("answer", ["deny", "correct"])
def test_a_denial_or_correction_needs_a_reason(busy: SampleHub, answer: str) -> None:
    client, approval = signed_in(busy), waiting(busy)
    for headers in ({}, HTMX):
        refused = send(client, approval, headers, answer=answer, arg__lane="express", reason="  ")
        assert refused.status_code == 400 and "console.reason" in refused.text
    assert busy.approvals.get(approval).state == "waiting"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "console.answer"),
        ({"answer": "maybe"}, "console.answer"),
        ({"answer": "correct", "reason": "no lane"}, "approval.correction"),
        ({"answer": "correct", "reason": "same", "arg__lane": "plan_review"}, "approval.correction"),
        ({"answer": "correct", "reason": "odd", "arg__lane": "moon"}, "approval.correction"),
        ({"answer": "correct", "reason": "odd", "arg__nothing": "1"}, "approval.correction"),
        ({"answer": "deny", "reason": "x" * 301}, "approval.reason"),
    ],
)
def test_an_answer_that_makes_no_sense_is_explained(busy: SampleHub, fields: dict[str, str], code: str) -> None:
    client, approval = signed_in(busy), waiting(busy)
    plain, live = send(client, approval, **fields), send(client, approval, HTMX, **fields)
    assert (plain.status_code, live.status_code) == (400, 400)
    assert code in plain.text and "<h1>" in plain.text  # the question's own page, with the error on it
    assert code in live.text and live.headers["HX-Retarget"] == f"#error-{approval}"
    assert busy.approvals.get(approval).state == "waiting"


def test_an_approval_takes_no_corrections_along(busy: SampleHub) -> None:
    client, approval = signed_in(busy), waiting(busy)
    assert send(client, approval, answer="approve", arg__lane="express").status_code == 303
    assert busy.approvals.get(approval).corrected is None


def test_with_htmx_the_board_comes_back(busy: SampleHub) -> None:
    client, approval = signed_in(busy), waiting(busy)
    answer = send(client, approval, HTMX, answer="deny", reason="The applicant withdrew.")
    assert answer.status_code == 200
    assert answer.text.count("data-card") == len(WAITING) - 1 and "<html" not in answer.text
    assert "Denied: PA-2026-0141." in answer.text and "Nothing will be done." in answer.text


def test_an_answer_counts_once(busy: SampleHub) -> None:
    approval = waiting(busy)
    assert send(signed_in(busy, OMAR), approval, answer="approve").status_code == 303
    client = signed_in(busy)
    plain = send(client, approval, answer="deny", reason="late")
    live = send(client, approval, HTMX, answer="deny", reason="late")
    for late in (plain, live):
        assert late.status_code == 409
        assert "approval.used" in late.text and "Omar answered this already." in late.text
    assert f"approval-{approval}" not in live.text  # its card is gone from the board
    assert busy.approvals.get(approval).answer == "approve"


def test_an_expired_question_says_so(busy: SampleHub) -> None:
    client, approval = signed_in(busy), waiting(busy, "PA-2026-0144")
    busy.clock.step(3 * 86_400 * 1_000_000)
    token, _ = busy.users.create_session(next(u for u in busy.users.list() if u.name == "maria"))
    client.cookies.set("outrider_session", token)
    late = send(client, approval, answer="approve")
    assert late.status_code == 409 and "approval.expired" in late.text
    assert "Nobody answered in time" in client.get(f"/approvals/{approval}").text


def test_a_role_is_needed_and_named(busy: SampleHub) -> None:
    client, approval = signed_in(busy, LENA), waiting(busy)
    page = client.get("/approvals").text
    assert "needs the role clerk" in page and 'name="answer"' not in page
    refused = send(client, approval, answer="approve")
    assert refused.status_code == 403 and "approval.role" in refused.text
    live = send(client, approval, HTMX, answer="approve")
    assert live.status_code == 403 and live.headers["HX-Retarget"] == f"#error-{approval}"
    assert busy.approvals.get(approval).state == "waiting"


def test_an_unknown_question_is_not_found(busy: SampleHub) -> None:
    client = signed_in(busy)
    assert client.get("/approvals/a-none").status_code == 404
    assert send(client, "a-none", answer="approve").status_code == 404
    assert client.get("/approvals?answered=a-none").status_code == 200


def test_many_wait_and_the_page_stays_short(busy: SampleHub) -> None:
    from dataclasses import replace

    assert busy.desk is not None
    for number in range(40):
        busy.wait(busy.desk, replace(WAITING[1], number=f"PA-2026-3{number:03d}"))
    busy.desk.sync()
    html = signed_in(busy).get("/approvals").text
    assert html.count("data-card") == 30
    assert f"{len(WAITING) + 40 - 30} more questions will follow" in html
    assert f'<span class="count">{len(WAITING) + 40}</span>' in html
    some = signed_in(busy).get("/approvals?what=Plan+review")
    assert f">Plan review <span>{some.text.count('data-card')}</span>" in some.text
    assert 0 < some.text.count("data-card") < len(WAITING) and "/answer?what=Plan+review" in some.text
    assert "None of these waits any more" in signed_in(busy).get("/approvals?what=nothing").text


# --- several people, and answers that cover more --------------------------------------------------------------------


def question(hub: SampleHub, number: str) -> str:
    return next(view.id for view in hub.approvals.waiting() if view.subject == number)


def test_a_card_says_how_many_must_approve_who_has_and_who_else_may(eventful: SampleHub) -> None:
    client, approval = signed_in(eventful), question(eventful, "PL-2026-0084")
    for path in ("/approvals", f"/approvals/{approval}"):
        html = client.get(path).text
        assert "1 of 2</strong> approvals" in html and "<strong>omar</strong> approved it" in html
        assert "2 different people must approve" in html and "escalated: clerk or admin may answer" in html
        assert f"correct-{approval}" not in html
    assert "admin may answer too" in client.get("/approvals").text  # the others are not escalated yet
    mine = signed_in(eventful, OMAR).get(f"/approvals/{approval}").text
    assert "You have approved this. It is done once 1 more person has." in mine and 'name="answer"' not in mine
    again = send(signed_in(eventful, OMAR), approval, answer="deny", reason="No.")
    assert again.status_code == 409 and "approval.same-person" in again.text
    answer = send(client, approval, answer="approve")
    landed = client.get(answer.headers["location"]).text
    assert "Approved: PL-2026-0084." in landed and "Permit office acts as soon as it has the answer." in landed
    assert eventful.approvals.get(approval).approvers == ["omar", "maria"]
    row = landed[landed.index("Recently answered") :]
    assert "omar, maria" in row


def test_the_first_of_two_is_told_that_another_must_approve(eventful: SampleHub) -> None:
    assert eventful.letters is not None
    approval = eventful.letters.asked_two("PL-Q")
    eventful.letters.agent.sync()
    plain = send(signed_in(eventful), approval, answer="approve")
    assert "1 more person must approve it before it is done." in signed_in(eventful).get(plain.headers["location"]).text
    live = send(signed_in(eventful, OMAR), approval, HTMX, answer="deny", reason="The address is wrong.")
    assert "Denied: PL-Q." in live.text
    html = signed_in(eventful).get(f"/approvals/{approval}").text
    assert "<strong>maria</strong> approved it" in html and "The address is wrong." in html


def test_one_of_several_cannot_correct(eventful: SampleHub) -> None:
    client, approval = signed_in(eventful), question(eventful, "PL-2026-0084")
    refused = send(client, approval, answer="correct", arg__to="b@example.org", reason="Wrong address.")
    assert refused.status_code == 403 and "approval.needs-agreement" in refused.text


def test_an_approval_may_cover_others_like_it_as_long_as_the_policy_lets_it(eventful: SampleHub) -> None:
    client, approval = signed_in(eventful), question(eventful, "PL-2026-0086")
    html = client.get(f"/approvals/{approval}").text
    assert re.findall(r'<option value="(\d+)">', html) == ["0", "900", "3600"]
    assert "can be answered at the agent's own computer too" in html and "An assistant asks for this" in html
    assert "only where it leans" not in html
    longer = send(client, approval, answer="approve", covers="3601")
    assert longer.status_code == 403 and "approval.similar" in longer.text
    assert send(client, approval, answer="approve", covers="900").status_code == 303
    (said,) = eventful.approvals.get(approval).answers
    assert said.similar_until == said.at + 900 * 1_000_000
    assert "and all like it until" in client.get(f"/approvals/{approval}").text
    other = waiting(eventful)
    assert 'name="covers"' not in client.get(f"/approvals/{other}").text


def test_a_plain_question_is_answered_yes_or_no(eventful: SampleHub) -> None:
    client, approval = signed_in(eventful), question(eventful, "PL-2026-0085")
    html = client.get(f"/approvals/{approval}").text
    assert "Is the letter for PL-2026-0085 ready to go?" in html and "Yes</button>" in html
    assert "No: the run does not go on" in html and "Correct it" not in html and "The playbook asks a person" in html
    assert send(client, approval, answer="deny", reason="The seal is missing.").status_code == 303
    below = client.get("/approvals").text
    assert "Is the letter for PL-2026-0085 ready to go?" in below[below.index("Recently answered") :]


def test_an_answer_at_the_device_is_shown_as_one(eventful_read_only: SampleHub) -> None:
    html = signed_in(eventful_read_only).get("/approvals").text
    assert 'ann <span class="muted">at the device</span>' in html
    answered = next(view.id for view in eventful_read_only.approvals.recent() if view.subject == "PL-2026-0090")
    page = signed_in(eventful_read_only).get(f"/approvals/{answered}").text
    assert "<strong>ann</strong> approved it at the agent's own computer" in page and "Read it twice." in page


def test_the_menu_counts_what_waits(busy: SampleHub) -> None:
    client = signed_in(busy)
    assert ">4<span" in client.get("/approvals/badge").text
    for view in busy.approvals.waiting():
        send(client, view.id, answer="approve")
    assert client.get("/approvals/badge").text.strip() == ""
