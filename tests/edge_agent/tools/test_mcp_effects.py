"""Annotations are read at their most careful, and the person's overrides win."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.tools.mcp.effects import Class, classify
from edge_agent.tools.mcp.settings import Override


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, Class("irreversible", "high", False)),
        ({}, Class("irreversible", "high", False)),
        ({"title": "Read only!"}, Class("irreversible", "high", False)),
        ({"readOnlyHint": True}, Class("read", "medium", True)),
        ({"readOnlyHint": True, "openWorldHint": False}, Class("read", "low", True)),
        ({"readOnlyHint": True, "destructiveHint": True}, Class("read", "medium", True)),
        ({"destructiveHint": False}, Class("irreversible", "high", False)),
        ({"destructiveHint": False, "openWorldHint": False}, Class("irreversible", "medium", False)),
        ({"destructiveHint": True, "openWorldHint": False}, Class("irreversible", "high", False)),
        ({"idempotentHint": True}, Class("irreversible", "high", True)),
        ({"readOnlyHint": "true", "idempotentHint": 1, "openWorldHint": 0}, Class("irreversible", "high", False)),
        ({"readOnlyHint": 1, "destructiveHint": None}, Class("irreversible", "high", False)),
    ],
)
def test_hints_are_mapped_and_what_is_absent_counts_as_the_protocol_says(
    annotations: dict[str, Any] | None, expected: Class
) -> None:
    assert classify(annotations) == expected


def test_overrides_win() -> None:
    reads = {"readOnlyHint": True, "openWorldHint": False, "idempotentHint": True, "destructiveHint": False}
    assert classify(reads, Override()) == Class("read", "low", True)
    assert classify(reads, Override(effect="irreversible")) == Class("irreversible", "high", False)
    assert classify(reads, Override(effect="irreversible", idempotent=True, risk="low")) == Class(
        "irreversible", "low", True
    )
    assert classify(None, Override(effect="read")) == Class("read", "medium", True)
    assert classify({"idempotentHint": True}, Override(idempotent=False)) == Class("irreversible", "high", False)
    assert classify(reads, Override(risk="high", idempotent=False)) == Class("read", "high", True)
