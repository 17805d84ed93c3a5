"""The words of single entries, also where bodies are missing, odd or hostile in shape."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server.console import story
from server.console.catalogue import Wording
from server.ingest import StoryEntry
from shared import entries as e
from shared.runs.fold import OF_RUNS
from tests.server.console.sample_hub import SampleHub

WORDS = Wording(lanes={"express": "Express"}, rules={"r": "A rule."})


def told(kind: str, facts: dict[str, Any], body: Any = None) -> story.Told:
    entry = StoryEntry(7, 1_790_000_000_000_000, kind, facts, body, False, 8, 1_790_000_000_000_000)

    (chapter,) = story.tell(SimpleNamespace(entries=[entry]), WORDS)  # type: ignore[arg-type]  # nothing else is read
    return chapter.told


def test_every_type_of_a_run_has_words(eventful_read_only: SampleHub) -> None:
    of_runs = {type_of_run for (type_of_run, _), kind in e.FACTS.items() if issubclass(kind, OF_RUNS)}
    assert set(story._TELLERS) == of_runs
    record = eventful_read_only.record
    types = {entry.type for run in record.runs(limit=100) for entry in record.run(run.id).entries}
    assert of_runs - types == {"approval.voided", "approval.covered", "step.failed", "run.ordered"}


@pytest.mark.parametrize(
    "body", [{}, {"inputs": 7, "subject": ["x"], "source": {}}, {"inputs": {"a": {"b": [None, 1.5]}}}]
)
def test_an_arrival_with_an_odd_body(body: Any) -> None:
    facts = {"playbook": "p", "playbook_version": 1, "release": 2, "private_fields": True}
    arrival = told("run.opened", facts, body)
    assert arrival.title == "A case arrived" and arrival.headline == ""
    assert arrival.facts[-1] == story.Fact("Private fields", "only on the device", "private")


@pytest.mark.parametrize(
    ("body", "leans_on"),
    [
        (None, []),
        ({}, []),
        ({"action": [], "fields": "x", "reason": 1, "sources": [1, {"id": 5}, {"text": "t"}]}, ["", "t"]),
    ],
)
def test_a_plan_with_an_odd_body(body: Any, leans_on: list[str]) -> None:
    facts = {
        "planner": "model", "prompt": "", "model": "", "label": "express", "confidence": 500, "rules": ["r"],
        "latency_us": 5, "prompt_tokens": 0, "reused_tokens": 0, "generated_tokens": 0, "cost_cents": 3, "tool": "t.t",
        "action": "ab", "abstained": "",
    }  # fmt: skip
    plan = told("plan.made", facts, body)
    assert (plan.headline, plan.quote, plan.rules) == ("Express", "", [("r", "A rule.")])
    assert [source.text for source in plan.sources] == leans_on


@pytest.mark.parametrize(
    "body", [{}, {"envelope": 3}, {"envelope": {"purpose": "answer", "payload": "no", "signature": ""}}]
)
def test_an_answer_whose_envelope_is_gone_is_still_told(body: Any) -> None:
    answer = told("approval.answered", {"answer": "deny", "by": "omar", "approval": "a", "corrected": ""}, body)
    assert answer.title == "omar denied it" and answer.quote == "" and answer.lead == ""


@pytest.mark.parametrize(
    ("verdict", "rules", "approved", "title"),
    [
        ("allow", ["r"], False, "The policy allows it"),
        ("ask", ["r"], False, "The policy asks for a person"),
        ("deny", ["r"], False, "The policy denies it"),
        ("deny", ["r"], True, "The policy denies it"),
        ("deny", ["host:lease-expired"], False, "Held"),
        ("ask", ["r"], True, "Judged again, with the approval"),
        ("new", ["r"], False, "The policy denies it"),
    ],
)
def test_verdicts(verdict: str, rules: list[str], approved: bool, title: str) -> None:
    facts = {"verdict": verdict, "rules": rules, "release": 1, "context": {"approved": approved, "value_cents": 100}}
    said = told("verdict.given", facts)
    assert said.title == title
    assert story.Fact("Value", "$1") in said.context
    assert all(words for _, words in said.rules)


@pytest.mark.parametrize(
    ("kind", "facts", "body", "title", "lead"),
    [
        ("step.entered", {"kind": "event", "until": 0, "count": 0, "ref": "ab"}, None, "Waits for an event", "comes"),
        ("step.entered", {"kind": "time", "until": 5, "count": 0, "ref": ""}, None, "Waits for a time", ""),
        ("step.entered", {"kind": "each", "until": 0, "count": 1, "ref": ""}, None, "1 item to go through", "Each"),
        (
            "step.entered",
            {"kind": "together", "until": 0, "count": 3, "ref": ""},
            None,
            "Several things at once",
            "3 b",
        ),
        ("step.entered", {"kind": "odd", "until": 0, "count": 0, "ref": ""}, None, "Entered: Odd", ""),
        ("step.ended", {"code": "time"}, None, "The time has come", ""),
        ("step.ended", {"code": "event"}, {"payload": {"paid": True}}, "The event came", ""),
        ("step.ended", {"code": "event"}, {"payload": 7}, "The event came", ""),
        ("step.ended", {"code": "failed"}, None, "The other run ended: failed", ""),
        ("step.skipped", {"step": "mail"}, None, "Skipped", "condition"),
        ("step.skipped", {"step": "~mail"}, None, "Left as it is", "need not be taken back"),
        ("step.failed", {"code": "step.timeout"}, {"message": "too late", "advice": 3}, "The step failed", "Too late."),
        ("step.failed", {"code": "step.timeout"}, {"message": ["x"]}, "The step failed", ""),
        (
            "undo.left",
            {"code": "tool.gone"},
            {"steps": "none"},
            "Left to a person",
            "The attempt to take it back failed.",
        ),
        ("undo.begun", {"outcome": "cancelled", "code": ""}, None, "The way back begins", "ends as cancelled"),
        ("approval.covered", {"grant": "a-1"}, None, "Covered by an earlier answer", "nobody is asked again"),
        ("approval.escalated", {"roles": ["a", "b"]}, None, "More people are asked", "a or b"),
        (
            "run.ordered",
            {"order": "pause", "by": "ann", "place": "local"},
            {"reason": "x"},
            "ann paused the run",
            "own",
        ),
        (
            "run.ordered",
            {"order": "cancel", "by": "r", "place": "parent"},
            None,
            "The run that opened it cancelled the run",
            "",
        ),
        ("run.ordered", {"order": "dance", "by": "", "place": "hub"}, {"envelope": 7}, "Somebody ordered: dance", ""),
    ],
)
def test_steps_orders_and_the_way_back(kind: str, facts: dict[str, Any], body: Any, title: str, lead: str) -> None:
    said = told(kind, facts, body)
    assert said.title == title and lead in said.lead


def test_what_a_person_told_and_what_an_answer_covers() -> None:
    result = {"outcome": "done", "code": "", "how": "told", "attempts": 0, "latency_us": 0}
    assert told("result.recorded", result, {"receipt": {"told_by": "ann"}}).title == "A person said that it happened"
    answer = {"answer": "approve", "by": "ann", "approval": "a", "corrected": "", "place": "local"}
    here = told("approval.answered", answer | {"similar_until": 9}, {"reason": "Known."})
    assert (here.quote, here.until, here.until_words) == ("Known.", 9, "It covers them until")
    assert "own computer" in here.lead and "covers actions like this one" in here.lead
    asked = {"roles": ["clerk"], "expires_at": 5, "needed": 3, "local": False}
    assert told("approval.asked", asked).title == "3 people are asked"
    assert "own computer" in told("approval.asked", asked | {"needed": 1, "local": True}).lead


@pytest.mark.parametrize(
    ("planner", "tool", "title", "headline"),
    [
        ("playbook", "mail.send", "The playbook says what to do", "mail.send"),
        ("playbook", "person.confirm", "The playbook asks a person", "Ready?"),
        ("assistant", "mail.send", "An assistant asks for this", "mail.send"),
        ("undo", "mail.send", "How it is taken back", "mail.send"),
    ],
)
def test_plans_that_needed_no_thinking(planner: str, tool: str, title: str, headline: str) -> None:
    said = told("plan.made", {"planner": planner, "tool": tool}, {"action": {"arguments": {"question": "Ready?"}}})
    assert (said.title, said.headline, said.confidence) == (title, headline, -1)


def test_a_question_of_the_host_is_no_hold() -> None:
    facts = {"verdict": "ask", "rules": ["host:over-lease"], "release": 1, "context": {}}
    assert told("verdict.given", facts).title == "It is for a person"


def test_troubles() -> None:
    found = told("effect.observed", {"matches": True}, {"found": {"decided_at": 1_790_000_000_000_000}})
    assert found.facts == [story.Fact("Decided at", "21 Sep 2026, 14:13:20 UTC")]
    result = {"outcome": "failed", "code": "tool.full", "how": "sent", "attempts": 3, "latency_us": 9}
    failed = told("result.recorded", result, {})
    assert failed.title == "The tool failed" and "3 attempts" in failed.lead and failed.facts[0].text == "tool.full"
    tried = told("result.recorded", result | {"outcome": "done", "code": "", "attempts": 2}, {})
    assert tried.lead.endswith("at attempt 2.")
    assert told("effect.observed", {"matches": False}, {"found": {"lane": "express"}}).facts[0].text == "Express"
    assert told("intent.doubted", {"key": "k"}).title == "In doubt"
    assert told("approval.voided", {"code": "approval.expired"}).facts[0].text == "approval.expired"
    assert told("run.closed", {"outcome": "odd", "code": "x.y"}).title == "Closed: odd"
    assert told("sensor.read", {"celsius": 3}).title == "An entry"
