"""Only what surely did not happen is an error; what waits or is unknown asks for patience."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.mcp.answers import answer, failed, taken, unclear
from shared.errors import Refused, Unavailable
from tests.edge_agent.mcp.agent_api import run


def ended(outcome: str, code: str = "", **step: Any) -> dict[str, Any]:
    found = run("run_7", {"tool": "desk.note", "arguments": {}, "subject": ""})
    found["steps"][0] |= {"receipt": {}, **step}
    return found | {"status": "closed", "outcome": outcome, "code": code}


def opened(status: str) -> dict[str, Any]:
    return run("run_7", {"tool": "desk.note", "arguments": {}, "subject": ""}) | {"status": status, "outcome": ""}


def test_what_is_done_shows_its_receipt() -> None:
    found = answer(ended("done", receipt={"text": "noted", "n": 1}))
    assert (found.text, found.is_error) == ("Done (run run_7).\nnoted", False)
    assert found.structured["receipt"] == {"text": "noted", "n": 1}
    assert '"rows": 2' in answer(ended("done", receipt={"rows": 2})).text
    assert '"n": 1' in answer(ended("done", receipt={"text": "x", "structured": {"n": 1}})).text


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            ended("denied", "r1", rules=[{"id": "r1", "about": "Not at night."}]),
            "Policy does not allow this: r1: Not at",
        ),
        (ended("denied", "cedar:error"), "Policy does not allow this: cedar:error"),
        (ended("declined", "approval.denied", receipt={"reason": "too dear"}), "A person said no: too dear."),
        (ended("failed", "files.gone", receipt={"message": "no such file"}), "It failed: no such file."),
        (ended("referred"), "It was left to a person"),
        (ended("cancelled"), "The run was cancelled"),
        (ended("rehearsed"), "nothing was done"),
        (ended("something-new"), "The run ended: something-new"),
        (ended("cancelled") | {"steps": []}, "The run was cancelled"),
    ],
)
def test_what_was_not_done_is_an_error(run: dict[str, Any], said: str) -> None:
    found = answer(run)
    assert said in found.text and "run_7" in found.text
    assert found.is_error
    assert found.structured["outcome"] == run["outcome"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("held", "no authority"),
        ("doubted", "not known whether it was done"),
        ("left", "finish this by hand"),
        ("paused", "paused"),
        ("intended", "under way"),
    ],
)
def test_what_is_open_is_no_error_and_says_how_to_look_again(status: str, said: str) -> None:
    found = answer(opened(status))
    assert said in found.text
    assert "Do not call the tool again" in found.text and "outrider_run_status, run run_7" in found.text
    assert not found.is_error


def test_a_question_names_whom_where_and_why() -> None:
    found = answer(run("run_7", {"tool": "desk.pay", "arguments": {}, "subject": ""}))
    assert not found.is_error
    assert "Approval apr_1, for clerk, head, to be answered in the hub's console." in found.text
    assert "More than 100 euros are asked about." in found.text
    assert found.structured["waiting_for"][0]["approval"] == "apr_1"
    local = run("run_7", {"tool": "desk.pay", "arguments": {}, "subject": ""})
    local["waiting_for"][0] = {**local["waiting_for"][0], "local": True, "roles": []}
    assert "for somebody who may answer, to be answered at this computer" in answer(local).text


def test_a_deed_that_looks_otherwise_afterwards_is_not_called_undone() -> None:
    found = answer(ended("failed", "effect.mismatch"))
    assert "It was done" in found.text and not found.is_error


def test_the_agents_own_errors() -> None:
    refused = Refused("assistant.tool", "'x.y' is not offered", advice="ask who owns the policy")
    found = failed(refused)
    assert (found.text, found.is_error) == (
        "Not done: 'x.y' is not offered [assistant.tool]\nask who owns the policy",
        True,
    )
    assert failed(refused, looking=True).text.startswith("'x.y'")
    gone = Unavailable("agent.no-answer", "it did not answer", advice="look")
    assert not taken("run_7", gone).is_error and "run run_7" in taken("run_7", gone).text
    assert not unclear(gone).is_error and "not known whether the agent took" in unclear(gone).text
