"""The words of single entries, also where bodies are missing, odd or hostile in shape."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server.console import story
from server.console.catalogue import Wording
from server.ingest import StoryEntry
from tests.server.console.sample_hub import SampleHub

WORDS = Wording(lanes={"express": "Express"}, rules={"r": "A rule."})


def told(kind: str, facts: dict[str, Any], body: Any = None) -> story.Told:
    entry = StoryEntry(7, 1_790_000_000_000_000, kind, facts, body, False, 8, 1_790_000_000_000_000)

    (chapter,) = story.tell(SimpleNamespace(entries=[entry]), WORDS)  # type: ignore[arg-type]  # nothing else is read
    return chapter.told


def test_every_type_of_a_run_has_words(read_only: SampleHub) -> None:
    types = {entry.type for run in read_only.record.runs(limit=100) for entry in read_only.record.run(run.id).entries}
    assert types == set(story._TELLERS) - {"approval.voided", "intent.doubted"}


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
