"""Sentences: where they begin and end, and which are worth keeping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sessions.extract import SENTENCE_CHARS, candidates_of, pick, sentences, worth


@given(st.text(alphabet="aB1 .?!\n\"'é", max_size=1_000))
def test_nothing_but_space_lies_between_sentences(text: str) -> None:
    at = 0
    for start, end in sentences(text):
        assert not text[at:start].strip(" \n\"')]")
        assert text[start:end] == text[start:end].strip()
        assert 0 < end - start <= SENTENCE_CHARS
        at = end
    assert not text[at:].strip(" \n\"')]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("It costs 4.50 in total. Fine", ["It costs 4.50 in total.", "Fine"]),
        ("a list\n- one\n- two", ["a list", "- one", "- two"]),
        ('He said "no." Then he left.', ['He said "no.', "Then he left."]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_sentences_are_told_apart(text: str, said: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == said


def test_what_settles_something_is_kept_and_said_once() -> None:
    text = (
        "Good morning! The permit must be filed by 12 May. The permit must be filed before 12 May. Where is it? "
        "The weather was fine. The permit office agreed to the roof plan."
    )
    found = candidates_of(3, text, lambda said: len(said.split()))
    kept = [one.text for one in pick(found, worth(found), 20)]
    assert kept == ["The permit must be filed by 12 May.", "The permit office agreed to the roof plan."]
    assert all(text[one.start : one.end] == one.text and one.turn == 3 for one in found)
    assert pick(found, worth(found), 0) == []
