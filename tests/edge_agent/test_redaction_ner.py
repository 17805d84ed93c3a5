"""The optional spaCy helper of redaction: what it adds, and that nothing leaves where it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.redaction_ner import _PIECE, People, _pieces, _span
from shared.errors import Unavailable
from shared.redaction import Redaction, find, leaving


def test_what_is_missing_is_said_and_nothing_leaves(tmp_path: Path) -> None:
    """Without spaCy, or with spaCy and without this model."""
    with pytest.raises(Unavailable, match="redaction.ner"):
        leaving({"text": "Xochitl Abara came"}, Redaction(allow=["text"]), also=[People(str(tmp_path / "none"))])


@pytest.mark.parametrize(
    ("text", "entity", "name"),
    [
        ("Frau Schneider ruft an", "Frau Schneider", ""),
        ("Xochitl Abara's car", "Xochitl Abara's", "Xochitl Abara"),
        ("Dr. Zanele Dube\nChicago", "Dr. Zanele Dube\nChicago", "Zanele Dube"),
        ("Rückruf bitte", "Rückruf", ""),
        ("then Maria came", "Maria", "Maria"),
        ("Martin Luther King Drive is closed", "Martin Luther King", ""),
        ("B-MW 1234 parkt", "B-MW 1234", ""),
    ],
)
def test_what_a_model_calls_a_person_is_held_against_the_rules(text: str, entity: str, name: str) -> None:
    start = text.index(entity)
    found = _span(text, start, start + len(entity))
    assert (text[found.start : found.end] if found else "") == name


def test_a_long_text_is_read_in_pieces_that_cut_no_word() -> None:
    text = "some words here\n" * 5_000 + "x" * (_PIECE + 5)
    pieces = _pieces(text)
    assert "".join(piece for _, piece in pieces) == text
    assert all(text[start : start + len(piece)] == piece and len(piece) <= _PIECE for start, piece in pieces)
    assert all(piece.endswith((" ", "\n")) for _, piece in pieces[:4])


def test_a_pipeline_of_spacy_finds_what_no_context_gives_away(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy", reason="spaCy comes with the extra pii-ner")
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Xochitl Abara"}, {"label": "ORG", "pattern": "Roofs Inc"}])
    pipeline.to_disk(tmp_path / "model")
    people = People(str(tmp_path / "model"))
    text = "word " * 8_000 + "then Xochitl Abara of Roofs Inc came"
    assert find(text) == []
    (found,) = find(text, also=[people])
    assert (text[found.start : found.end], found.kind, found.rule) == ("Xochitl Abara", "NAME", "ner.person")
