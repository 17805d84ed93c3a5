"""What people type of an item, as its values and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.memory import Edit
from shared.memory.forms import read_fields, read_tags, settled, typed_fields, typed_tags, untyped

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_tags_stand_between_commas() -> None:
    assert read_tags(" b, a ,,b") == ["a", "b"] and read_tags("") == []
    assert typed_tags(["a", "b c"]) == "a, b c" and typed_tags(["a,b", " c"]) == ""


def test_fields_stand_one_a_line() -> None:
    assert read_fields("town: Elm\n\n at : 7:30\nempty:") == {"town": "Elm", "at": "7:30", "empty": ""}
    for text in ("no colon", ": no name"):
        with pytest.raises(BadInput, match="memory.field"):
            read_fields(f"a: b\n{text}")


@given(st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_a_form_shows_what_it_can_read_back_and_names_the_rest(fields: dict[str, str]) -> None:
    rest = untyped(fields)
    assert read_fields(typed_fields(fields)) | rest == fields
    assert not set(read_fields(typed_fields(fields))) & set(rest)


@given(st.lists(TEXTS, max_size=5))
def test_typed_tags_are_read_back(tags: list[str]) -> None:
    assert set(read_tags(typed_tags(tags))) <= set(tags)


def test_one_of_several_values_is_taken() -> None:
    assert settled("fields/town", "Elm") == Edit(fields={"town": "Elm"})
    assert settled("tags/a", "True") == Edit(add_tags=["a"]) and settled("tags/a", "") == Edit(remove_tags=["a"])
    assert settled("text", "x") == Edit(text="x") and settled("confidence", "955") == Edit(confidence=955)
    assert settled("pinned", "True") == Edit(pinned=True)
    for field, value in (("scope", "device"), ("confidence", "much"), ("fields/", "x"), ("", "")):
        with pytest.raises(BadInput, match="memory.field"):
            settled(field, value)
