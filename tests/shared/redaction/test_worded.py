"""Patterns that begin with one of many words find what the whole expression finds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.redaction import names, numbers
from shared.redaction.worded import Worded, begins

USED = {
    f"{module.__name__}.{name}": value
    for module in (names, numbers)
    for name, value in vars(module).items()
    if isinstance(value, Worded)
} | {f"numbers.{entry[0]}": entry[4] for entry in numbers._IDS if entry[4]}

SAID = """
Mr. mrs Dr Anna Lee signed by contact tel. Phone: no number 5 is SSN tax-id passport plate reg. C/O Tél Führerschein I'm
this is je m'appelle my name's call me cell mobile whatsapp idnr steuernummer Bo AB12 Sir aunt DL pan
"""
words = st.sampled_from(SAID.split())


@pytest.mark.parametrize("name", sorted(USED))
@settings(max_examples=40)
@given(text=st.lists(words, max_size=12).map(" ".join))
def test_no_match_is_missed(name: str, text: str) -> None:
    worded = USED[name]
    found = {match.span() for match in worded.found(text, begins(text))}
    assert {match.span() for match in worded.pattern.finditer(text)} <= found
    assert all(worded.pattern.match(text, start).end() == end for start, end in found)  # type: ignore[union-attr]  # it did


def test_an_alternative_that_begins_with_no_letter_is_tried_everywhere() -> None:
    worded = Worded(r"x?yes|(?:a|b)c", r"\d", before="")
    text = "yes1 xyes2 -ac3 bc4"
    expected = [match.span() for match in re.finditer(r"(?:x?yes|(?:a|b)c)\d", text)]
    assert [match.span() for match in worded.found(text, begins(text))] == expected
