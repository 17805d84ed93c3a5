from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.triage import phrases, rules
from shared.triage.text import words
from tests.edge_agent.plan.kit import playbook

SIGN = (
    "{id: signs, when: {any: [{field: description, contains: [blade sign*]}]},"
    " then: {lane: sign, confidence: 950, reason: A sign.}}"
)
EXIT = (
    "{id: exits, when: {all: [{field: description, contains: [exit]}, {field: value, at_most: 500000}],"
    " none: [{field: description, contains: [new exit]}]}, then: {lane: express, confidence: 900, reason: An exit.}}"
)
DANGER = (
    "{id: danger, when: {any: [{field: description, contains: [gas leak]}]}, then: {person: true, reason: Danger.}}"
)
RULES = rules.read(playbook(f"rules: [{SIGN}, {EXIT}, {DANGER}]"))


def judge(text: str, cents: int | None = None) -> rules.Outcome:
    return rules.judge(RULES, {"number": "1", "description": text, "value": cents})


def test_a_rule_names_the_words_it_held_by() -> None:
    outcome = judge("Two BLADE-SIGNS, lit")
    assert (outcome.lane, outcome.confidence, outcome.conflict) == ("sign", 950, False)
    assert outcome.fired[0].matched == ["blade signs"]


@pytest.mark.parametrize(
    ("text", "cents", "lane"),
    [
        ("widen the exit", 500_000, "express"),
        ("widen the exit", 500_001, ""),
        ("widen the exit", None, ""),  # a missing amount fulfils nothing
        ("a new exit", 100, ""),  # `none` holds it back
        ("nothing of the kind", 100, ""),
        ("", 100, ""),
    ],
)
def test_all_none_and_amounts(text: str, cents: int | None, lane: str) -> None:
    assert judge(text, cents).lane == lane


def test_rules_that_disagree_decide_nothing() -> None:
    outcome = judge("blade sign over the exit", 100)
    assert outcome.conflict
    assert (outcome.lane, outcome.confidence) == ("", 0)
    assert {fired.rule.id for fired in outcome.fired} == {"signs", "exits"}


def test_a_person_is_wanted_beside_a_lane() -> None:
    outcome = judge("blade sign, gas leak behind it")
    assert outcome.person
    assert not outcome.conflict


def test_order_of_rules_does_not_matter() -> None:
    case: rules.Case = {"description": "blade sign over the exit, gas leak", "value": 100}
    seen = {
        (found.lane, found.confidence, found.person, found.conflict)
        for order in itertools.permutations(RULES)
        for found in [rules.judge(order, case)]
    }
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("text", "phrase", "fits"),
    [
        ("tuckpointing the wall", "tuckpoint*", True),
        ("200 amp service", "# amp*", True),
        ("two hundred amp", "# amp", False),
        ("three amp fuse", "# amp", True),
        ("wreck and then at last remove it", "wreck ... remove", True),
        ("wreck a b c d e remove", "wreck ... remove", False),  # five words lie between
        ("signs", "sign", False),
        ("WRECK & REMOVE", "wreck remove", True),
        ("Ｒoof repair", "roof repair", True),  # full-width letters fold
        ("roof", "roof repair", False),
    ],
)
def test_phrases(text: str, phrase: str, fits: bool) -> None:
    found = phrases.find(phrases.parse(phrase, where="here"), words(text))
    assert (found is not None) == fits


@pytest.mark.parametrize("phrase", ["", "...", "... roof", "roof ...", "  ", "a b c d e f g h i j k l m"])
def test_bad_phrases_are_refused(phrase: str) -> None:
    with pytest.raises(BadInput) as caught:
        phrases.parse(phrase, where="rules.x")
    assert (caught.value.code, caught.value.where) == ("plan.phrase", "rules.x")


@pytest.mark.parametrize(
    ("when", "then"),
    [
        ("{}", "{lane: sign, confidence: 1, reason: x}"),
        ("{none: [{field: description, contains: [x]}]}", "{lane: sign, confidence: 1, reason: x}"),
        ("{any: [{field: nothing, contains: [x]}]}", "{lane: sign, confidence: 1, reason: x}"),
        ("{any: [{field: value, contains: [x]}]}", "{lane: sign, confidence: 1, reason: x}"),
        ("{any: [{field: description, at_most: 5}]}", "{lane: sign, confidence: 1, reason: x}"),
        ("{any: [{field: description}]}", "{lane: sign, confidence: 1, reason: x}"),
        ("{any: [{field: description, contains: []}]}", "{lane: sign, confidence: 1, reason: x}"),
        ("{any: [{field: description, matches: '(a+)+'}]}", "{lane: sign, confidence: 1, reason: x}"),
        ("{any: [{field: description, contains: [x]}]}", "{lane: sign, person: true, reason: x}"),
        ("{any: [{field: description, contains: [x]}]}", "{reason: x}"),
        ("{any: [{field: description, contains: [x]}]}", "{lane: sign, confidence: 1001, reason: x}"),
        ("{any: [{field: description, contains: [x]}]}", "{lane: sign, confidence: 1}"),
    ],
)
def test_malformed_rules_are_refused_by_name(when: str, then: str) -> None:
    with pytest.raises(BadInput) as caught:
        rules.read(playbook(f"rules: [{{id: odd, when: {when}, then: {then}}}]"))
    assert caught.value.code == "rule.form"
    assert caught.value.where == "rules.odd"


@given(st.text(max_size=400))
def test_any_text_can_be_judged(text: str) -> None:
    outcome = judge(text)
    assert outcome.lane in {"", "sign"}


def test_a_huge_hostile_text_is_judged_at_once() -> None:
    began = time.process_time()
    judge("wreck " * 200_000 + "blade " * 200_000)
    assert time.process_time() - began < 2
