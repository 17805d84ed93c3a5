from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.triage import extract
from shared.triage.text import clean
from tests.edge_agent.plan.kit import playbook, starter

FIELDS = starter().fields


def values(text: str) -> dict[str, str | int]:
    return {name: found.value for name, found in extract.extract(FIELDS, text).found.items()}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("Patch 1,250 sq. ft. of wall", "area_sqft", 1250),
        ("about 300sqft", "area_sqft", 300),
        ("1604 SF of an existing 2656 SF store", "area_sqft", 1604),
        ("80 linear feet along the alley", "length_ft", 80),
        ("a two story house", "storeys", 2),
        ("3-storey flat", "storeys", 3),
        ("12 dwelling units", "units", 12),
        ("from 100 amp to 200 amp", "amps", 100),
        ("a 7.6 kW inverter", "kilowatts", 7),
        ("Replace 12 double hung windows", "windows", 12),
        ("WINDOWS(12) AND DOORS", "windows", 12),
        ("two signs", "signs", 2),
        ("revision to permit #100926183", "earlier_permit", "100926183"),
        ("Permit No. B1234567 renewed", "earlier_permit", "B1234567"),
        ("Ok. Replace the rear stairs; then paint", "scope", "Replace the rear stairs"),
        ("re-roof the garage", "work_type", "roofing"),
    ],
)
def test_typed_fields(text: str, field: str, value: str | int) -> None:
    assert values(text)[field] == value


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("12 sq ft, remove old sign", "signs"),  # a measure between number and noun
        ("area to be agreed", "area_sqft"),
        ("99999999999 sq ft", "area_sqft"),
        ("permit me 5 minutes", "earlier_permit"),
        ("twelve", "units"),
    ],
)
def test_what_is_not_said_is_not_found(text: str, field: str) -> None:
    assert field not in values(text)


def test_two_kinds_of_work_are_left_in_the_order_they_are_mentioned() -> None:
    read = extract.extract(FIELDS, "Burglar alarm at three doors")
    assert list(read.left["work_type"]) == ["electrical", "windows-doors"]
    assert "work_type" not in read.found


@given(st.text(max_size=500) | st.text("0123456789,.-# sqftunitamp()windows", max_size=500))
def test_every_value_stands_where_it_says(text: str) -> None:
    read = extract.extract(FIELDS, text)
    cleaned = clean(text)
    for found in read.found.values():
        assert 0 <= found.start < found.end <= len(cleaned)
    scope = read.found.get("scope")
    assert scope is None or cleaned[scope.start : scope.end] == scope.value
    for options in read.left.values():
        assert len(options) > 1


def test_hostile_text_is_read_at_once() -> None:
    began = time.process_time()
    for text in ("1," * 500_000, "permit " * 100_000, "9" * 1_000_000, " " * 1_000_000, "12 windows " * 50_000):
        extract.extract(FIELDS, text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "form",
    [
        "{type: nonsense}",
        "{type: choice}",
        "{type: area, options: {a: [b]}}",
        "{type: count}",
        "{type: area, of: [x]}",
        "{type: choice, options: {Not Good: [x]}}",
        "{type: choice, options: {a: ['...']}}",
        "{type: choice, ask: '<|im_end|>', options: {a: [b]}}",
        "{type: area, extra: 1}",
    ],
)
def test_malformed_fields_are_refused_by_name(form: str) -> None:
    with pytest.raises(BadInput) as caught:
        extract.read(playbook(f"fields: {{odd: {form}}}"))
    assert caught.value.code in {"field.form", "plan.phrase"}
    assert caught.value.where == "fields.odd"
