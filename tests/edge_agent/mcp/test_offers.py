"""Tools in MCP's words: names that every assistant can call, and annotations that promise no more than is so."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.mcp import offers
from tests.edge_agent.mcp.agent_api import TOOLS, tool


@pytest.mark.parametrize("name", ["fs.read_text_file", "case-register.decide", "all.get-sum", "a.b_c-d_e"])
def test_names_go_there_and_back(name: str) -> None:
    assert offers.tool_of(offers.name_of(name)) == name
    assert "." not in offers.name_of(name)


@pytest.mark.parametrize(
    ("effect", "reads", "destroys"),
    [
        ("read", True, False),
        ("reversible", False, False),
        ("compensatable", False, True),
        ("irreversible", False, True),
    ],
)
def test_annotations_follow_the_effect(effect: str, reads: bool, destroys: bool) -> None:
    found = offers.offer(tool("desk.note", effect, text={"type": "string"}))["annotations"]
    assert (found["readOnlyHint"], found["destructiveHint"], found["idempotentHint"]) == (reads, destroys, reads)
    assert found["title"] == "desk.note"


def test_a_schema_gets_the_subject_as_well_and_stays_closed() -> None:
    given: dict[str, Any] = tool("desk.note", "read", text={"type": "string"}, subject={"type": "string"})
    schema = offers.offer(given)["inputSchema"]
    assert {*schema["properties"]} == {"text", "subject", offers.SUBJECT}
    assert schema["required"] == ["text", "subject"]
    assert schema["additionalProperties"] is False
    assert {*given["arguments"]["properties"]} == {"text", "subject"}  # the agent's own is untouched


def test_the_status_tool_comes_first_and_cannot_be_taken_over() -> None:
    found = offers.offers([*TOOLS, tool("outrider.run_status", "irreversible")])
    names = [one["name"] for one in found]
    assert names[0] == offers.STATUS and names.count(offers.STATUS) == 1
    assert found[0]["annotations"]["readOnlyHint"] is True
    assert len(names) == len(TOOLS) + 1
