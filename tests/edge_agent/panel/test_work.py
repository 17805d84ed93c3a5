"""Home, runs and approvals: what an agent at work shows, and what it is told."""

from __future__ import annotations

import re

from tests.edge_agent.panel.kit import NOW, Office


def test_an_agent_that_has_done_nothing_says_what_to_do(office: Office) -> None:
    browsing = office.browse()
    home = browsing.get("/")
    assert "Permit desk" in home and "Online" in home and "Nothing has run yet" in home
    assert "outrider agent start" in home and "none: nothing is done alone" in home and "none yet" in home
    assert "Nothing has run yet" in browsing.get("/runs")
    assert "Nobody is asked anything" in browsing.get("/approvals")


def test_home_tells_how_it_stands(office: Office) -> None:
    office.equip()
    office.remember("The depot opens at seven.")
    office.open_run("PA-1", "A deck behind the house")
    office.told |= {
        "linked": False,
        "problems": [{"code": "hub.unreachable", "message": "no answer", "advice": "wait", "at": NOW}],
    }
    home = office.browse().get("/")
    for words in ("Offline", "No answer.", "Wait.", "hub.unreachable", "actions", "ends", "PA-1", "an answer here"):
        assert words in home, words
    assert re.search(r'Waiting for an answer</span><span class="number">1<', home)
    assert re.search(r'Remembered</span><span class="number">1<', home)
    assert "Run outrider model get minilm-l6." in home and "model.missing" in home


def test_an_approval_is_given_here_where_policy_lets_it(office: Office) -> None:
    office.equip()
    run = office.open_run("PA-1", "A deck behind the house")
    browsing = office.browse()
    page = browsing.get("/approvals")
    assert "A deck behind the house" in page, "what the case says"
    assert "$1,000" in page
    assert "PA-1" in page and "register.decide" in page and "decks-here" in page and "Decks are often express." in page
    approval = re.search(r'/approvals/([^"]+)"', page)
    assert approval is not None
    done = browsing.post(f"/approvals/{approval[1]}", answer="approve", reason="I know the house.")
    assert "Approved." in done and "Nobody is asked anything" in done
    office.settle()
    assert office.rig.device.closed == {run: "done"}
    (answered,) = office.facts(run, "approval.answered")
    assert (answered.by, answered.answer) == ("ann", "approve")
    again = browsing.post(f"/approvals/{approval[1]}", 404, answer="approve")
    assert "approval.unknown" in again
    shown = browsing.get(f"/runs/{run}")
    assert "Done" in shown and "Receipt" in shown and "A deck behind the house" in shown


def test_a_denial_and_an_answer_that_is_none(office: Office) -> None:
    office.equip()
    run = office.open_run("PA-1", "A deck behind the house")
    browsing = office.browse()
    approval = re.search(r'/approvals/([^"]+)"', browsing.get("/approvals"))
    assert approval is not None
    assert "approval.answer" in browsing.post(f"/approvals/{approval[1]}", 400, answer="perhaps")
    assert "Denied" in browsing.post(f"/approvals/{approval[1]}", answer="deny", reason="No.")
    office.settle()
    assert office.rig.device.closed == {run: "declined"}


def test_a_question_for_the_hub_is_shown_and_not_answered_here(office: Office) -> None:
    office.equip()
    office.open_run("PA-9", "Something else altogether")  # no rule is sure: nobody said that this is local
    browsing = office.browse()
    page = browsing.get("/approvals")
    assert "answered in the hub’s console" in page and 'href="http://hub.example/approvals"' in page
    assert 'value="approve"' not in page
    (asked,) = office.questions()
    refused = browsing.post(f"/approvals/{asked['approval']}", 403, answer="approve")
    assert "approval.not-local" in refused and "PA-9" in refused


def test_a_run_is_paused_resumed_and_cancelled(office: Office) -> None:
    office.equip()
    run = office.open_run("PA-1", "A deck behind the house")
    browsing = office.browse()
    page = browsing.get(f"/runs/{run}")
    assert "Pause it" in page and "Cancel it" in page and "Resume it" not in page and "Answer it" in page
    paused = browsing.post(f"/runs/{run}", order="pause", reason="lunch")
    assert "The agent has your order." in paused and "somebody to resume it" in paused and "Resume it" in paused
    assert "order.unfit" in browsing.post(f"/runs/{run}", 409, order="pause")
    browsing.post(f"/runs/{run}", order="resume")
    browsing.post(f"/runs/{run}", order="cancel")
    office.settle()
    assert office.rig.device.closed == {run: "cancelled"}
    ordered = [(one.order, one.by) for one in office.facts(run, "run.ordered")]
    assert ordered == [("pause", "ann"), ("resume", "ann"), ("cancel", "ann")]
    assert "order.unknown" in browsing.post(f"/runs/{run}", 404, order="explode")


def test_runs_are_listed_newest_first_and_strangers_are_not_found(office: Office) -> None:
    office.equip()
    office.open_run("PA-1", "New roof")
    office.open_run("PA-2", "A deck behind the house")
    browsing = office.browse()
    page = browsing.get("/runs")
    assert page.index("PA-2") < page.index("PA-1")
    assert "run.unknown" in browsing.get("/runs/run_nothing", 404)
    assert "api.not-found" in browsing.get("/nowhere", 404)
