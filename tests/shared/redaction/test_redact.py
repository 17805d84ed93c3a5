"""Redaction: what is found, what stands in its place, and what would leave."""

from __future__ import annotations

import csv
import importlib.util
import os
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.redaction import KINDS, Placeholders, Redaction, Span, Withheld, find, leaving, redact
from shared.redaction.finding import TEXT_CHARS, settle

STRUCTURED = [kind for kind in KINDS if kind not in ("NAME", "ADDRESS", "TERM")]


def _measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure", Path(__file__).parent / "measure.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure"] = module
    spec.loader.exec_module(module)
    return module


measure = _measure()


@pytest.mark.parametrize(
    ("file", "least", "structured", "names"),
    [
        ("sentences.txt", 200, (0.97, 0.97), (0.9, 0.85)),
        ("heldout.txt", 90, (0.97, 0.95), (0.9, 0.85)),
        ("fresh.txt", 45, (0.95, 0.9), (0.9, 0.7)),
    ],
)
def test_enough_is_found_and_little_else(
    file: str, least: int, structured: tuple[float, float], names: tuple[float, float]
) -> None:
    marked = measure.sentences(file)
    found = measure.score(marked, find)
    print(
        f"{file}: {len(marked)} sentences, structured P {found.precision(STRUCTURED):.3f}"
        f" R {found.recall(STRUCTURED):.3f}, names P {found.precision(['NAME']):.3f} R {found.recall(['NAME']):.3f}"
    )
    assert len(marked) >= least
    assert sum(not truth for _, truth in marked) >= least // 5, "too few sentences that must stay whole"
    assert found.precision(STRUCTURED) >= structured[0], found.wrong
    assert found.recall(STRUCTURED) >= structured[1], found.wrong
    assert found.precision(["NAME"]) >= names[0], found.wrong
    assert found.recall(["NAME"]) >= names[1], found.wrong
    assert found.recall(["ADDRESS"]) >= 0.8, found.wrong


@pytest.mark.skipif("OUTRIDER_DATA" not in os.environ, reason="OUTRIDER_DATA names the folder of real data")
def test_real_permits_hold_few_people() -> None:
    """Names, phones and e-mails were masked in these descriptions, so nearly everything found is a false alarm."""
    path = Path(os.environ["OUTRIDER_DATA"]) / "permits-chicago" / "dev" / "applications.csv"
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["description"] for row in csv.DictReader(file)]
    began = time.perf_counter()
    counts = Counter(span.kind for text in texts for span in find(text))
    each = (time.perf_counter() - began) / len(texts)
    print(f"{len(texts)} permits, {each * 1e6:.0f} us each: {dict(counts)}")
    assert sum(counts[kind] for kind in STRUCTURED) <= len(texts) * 0.004
    assert counts["NAME"] <= len(texts) * 0.02


@pytest.mark.parametrize(
    "unit",
    (
        *("a", "1 ", "@", "a@", "a@a.", "A. ", "Aa ", "Aa-", "Mr. ", "name: A ", "01 ", "(1)", "::", "1:", "1.", "é1 "),
        *(
            "?key=",
            "https://a?",
            "DE89 ",
            "de la ",
            "Aa, ",
            "-----BEGIN PRIVATE KEY-----",
            "password: ",
            "1 A ",
            "12 Oak ",
            "1/1/",
        ),
    ),
)
def test_no_text_takes_long(unit: str) -> None:
    """Four times the text takes about four times the time: no rule backs up without bound or looks at it all twice."""

    def taken(size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        began = time.process_time()
        find(text)
        return time.process_time() - began

    short = min(taken(2_000) for _ in range(2))
    long = min(taken(8_000) for _ in range(2))
    assert long < max(short * 10, 0.3), (unit, short, long)


def test_what_is_too_long_to_read_does_not_leave() -> None:
    with pytest.raises(BadInput, match="redaction.too-long"):
        find("x" * (TEXT_CHARS + 1))


@given(st.text(max_size=300))
def test_any_text_gives_ordered_spans_inside_it(text: str) -> None:
    spans = find(text)
    assert spans == find(text)
    at = 0
    for span in spans:
        assert at <= span.start < span.end <= len(text)
        assert span.kind in KINDS
        assert 0 <= span.confidence <= 1000
        at = span.end


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("mail jane\u200b.doe@example\u200b.com now", "jane\u200b.doe@example\u200b.com"),
        ("mail ｊａｎｅ@example.com now", "ｊａｎｅ@example.com"),
        ("call 312\u2011555\u20110123 now", "312\u2011555\u20110123"),
        ("call 312\u00a0555\u00a00123 now", "312\u00a0555\u00a00123"),
        ("card ４１１１ 1111 1111 1111", "４１１１ 1111 1111 1111"),
    ],
)
def test_odd_letters_hide_nothing(text: str, hidden: str) -> None:
    assert [text[span.start : span.end] for span in find(text)] == [hidden]


def test_overlaps_are_settled_the_same_way_in_any_order() -> None:
    text = "one two three four"
    spans = [
        Span(0, 7, "A", "a", 600),
        Span(4, 13, "B", "b", 800),
        Span(8, 13, "C", "c", 999),
        Span(14, 18, "D", "d", 1),
    ]
    settled = settle(spans, text)
    assert settled == settle(reversed(spans), text)
    assert [(span.start, span.end, span.kind) for span in settled] == [(0, 3, "A"), (4, 13, "B"), (14, 18, "D")]


def test_the_same_value_has_the_same_placeholder() -> None:
    text = "Call (312) 555-0123 or 312.555.0123; else 312-555-0199. See [PHONE-1]."
    assert redact(text, find(text)) == "Call [PHONE-2] or [PHONE-2]; else [PHONE-3]. See [PHONE-1]."
    assert redact(text, find(text), "kind") == "Call [PHONE] or [PHONE]; else [PHONE]. See [PHONE-1]."
    assert redact(text, find(text), "blank") == "Call [...] or [...]; else [...]. See [PHONE-1]."


def test_a_surname_is_replaced_wherever_it_stands_again() -> None:
    text = "Applicant: Maria Keller\nKeller owns two lots on Keller Street. Later Maria sold one."
    found = [text[span.start : span.end] for span in find(text) if span.kind == "NAME"]
    assert found == ["Maria Keller", "Keller", "Maria"]


def test_the_owners_words_are_found_whatever_their_case() -> None:
    rules = Redaction(dictionary=["Project Falcon", "Müller & Söhne", "a.b"])
    text = "project  FALCON for MÜLLER & SÖHNE, a.b but not axb or Project Falconry"
    found = [text[span.start : span.end] for span in find(text, rules) if span.kind == "TERM"]
    assert found == ["project  FALCON", "MÜLLER & SÖHNE", "a.b"]


def test_kept_kinds_and_the_floor_are_heeded() -> None:
    text = "Mail ann@example.com from 203.0.113.7"
    assert [span.kind for span in find(text, Redaction(keep=["IP"]))] == ["EMAIL"]
    assert find(text, Redaction(floor=1000)) == []


def test_only_allowed_fields_leave_and_without_people() -> None:
    rules = Redaction(allow=["text", "fields/lane", "tags/*"])
    fields = {
        "text": "Mr. Paul Weber asked; mail paul@example.com",
        "fields/lane": "express",
        "fields/phone": "312-555-0123",
        "tags/0": "paul@example.com",
    }
    preview = leaving(fields, rules)
    assert preview.sent == {
        "text": "Mr. [NAME-1] asked; mail [EMAIL-1]",
        "fields/lane": "express",
        "tags/0": "[EMAIL-1]",
    }
    assert preview.withheld == [Withheld("fields/phone", "not-allowed")]
    assert [(r.field, r.placeholder, r.span.kind) for r in preview.replaced] == [
        ("text", "[NAME-1]", "NAME"),
        ("text", "[EMAIL-1]", "EMAIL"),
        ("tags/0", "[EMAIL-1]", "EMAIL"),
    ]
    assert leaving(fields, Redaction()).sent == {}


def test_further_recognisers_are_heard() -> None:
    def lots(text: str) -> list[Span]:
        at = text.find("Lot")
        return [Span(at, at + 3, "NAME", "test.lots", 900)] if at >= 0 else []

    assert [span.rule for span in find("Lot comes", also=[lots])] == ["test.lots"]


def test_placeholders_of_one_set_are_shared_between_texts() -> None:
    shared = Placeholders()
    one, other = "ask ann@example.com", "not bob@example.com, ANN@example.com"
    assert redact(one, find(one), shared) == "ask [EMAIL-1]"
    assert redact(other, find(other), shared) == "not [EMAIL-2], [EMAIL-1]"
