"""Playbooks: what is refused, and that file, line and field are named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput, OutriderError
from shared.playbook import Playbook, load, seconds

GOOD = """\
playbook: sorting
version: 3
owner: Clerks
about: Sorts.
trigger: {folder: inbox}
inputs:
  number:
    columns: [case, case number]
    required: true
  value:
    type: cents
  applicant:
    private: true
business_key: [number]
value: value
lanes:
  - {id: easy, label: Easy}
  - id: hard
    label: Hard
fallback: hard
rules:
  - id: cheap
    when: {all: [{field: value, at_most: 100}]}
    then: {lane: easy, confidence: 950}
steps:
  - id: decide
    planner: triage
    tools: [register.decide]
    prompt: sorting@2
    confidence: {floor: 300}
approvals:
  roles: [clerk]
  expires: 2d
"""


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def bad(text: str, code: str, *, field: str = "", at: str = "") -> BadInput:
    """Loading refuses; ``field`` opens the message and the error points at the line that holds ``at``."""
    with pytest.raises(BadInput) as caught:
        load(text, "playbooks/sorting.yaml")
    error = caught.value
    assert error.code == code, error
    assert error.advice
    if field:
        assert error.message.startswith(f"{field}: "), error.message
    if at:
        assert error.where == f"playbooks/sorting.yaml:{line_of(text, at)}", error
    return error


# --- what a playbook says -----------------------------------------------------------------------------------------


def test_a_whole_playbook() -> None:
    book = load(GOOD, "x")
    assert (book.playbook, book.version, book.owner) == ("sorting", 3, "Clerks")
    assert book.inputs["number"].columns == ["case", "case number"]
    assert book.private == {"applicant"}
    assert [step.id for step in book.all_steps] == ["decide"] and book.step("decide").prompt == "sorting@2"
    assert book.rules[0].when == {"all": [{"field": "value", "at_most": 100}]}
    assert [seconds(text) for text in ("1s", "2m", "3h", book.approvals.expires)] == [1, 120, 10_800, 172_800]
    with pytest.raises(BadInput) as caught:
        book.step("nothing")
    assert caught.value.code == "playbook.step"


def test_defaults() -> None:
    book = load(GOOD, "x")
    assert (book.urgency, book.extra_columns, book.context) == ("background", "refuse", None)
    assert (book.inputs["number"].type, book.inputs["number"].private, book.trigger.format) == ("text", False, "csv")


def test_the_digest_is_of_what_is_said_not_of_how() -> None:
    book = load(GOOD, "x")
    assert load("# a comment\n" + GOOD.replace("{folder: inbox}", "\n  folder: 'inbox'"), "y").digest == book.digest
    assert load(GOOD.replace("version: 3", "version: 4"), "x").digest != book.digest
    assert re.fullmatch("[0-9a-f]{64}", book.digest)


def test_the_digest_of_a_playbook_is_what_it_always_was() -> None:
    """Runs are pinned to it, some of which have waited since before there were other steps than planned ones."""
    text = (Path(__file__).parents[1] / "vectors" / "playbook-1.yaml").read_text("utf-8")
    assert load(text, "x").digest == "f36aa97e951754a5b04a5eb9bd4fdf5ce5e65ff1f110ad0ef91b48bca059bf02"


LATER = [
    ("trigger: {folder: inbox}", "trigger: {event: order}"),
    ("fallback: hard", "fallback: hard\non_failure: stop"),
    ("fallback: hard", "fallback: hard\nbudgets: {run: {actions: 5}}"),
    ("expires: 2d", "expires: 2d\n  escalate: [{after: 4h, roles: [boss]}]"),
    ("  - id: decide\n", "  - id: decide\n    when: inputs.value > 5\n"),
    ("  - id: decide\n", "  - id: decide\n    timeout: 1h\n"),
    ("  - id: decide\n", "  - id: decide\n    undo: none\n"),
    ("  - id: decide\n", "  - id: first\n    tool: shop.put\n    with: {what: a}\n  - id: decide\n"),
]


@pytest.mark.parametrize(("old", "new"), LATER)
def test_what_came_later_is_in_the_digest_where_it_says_something(old: str, new: str) -> None:
    assert old in GOOD
    assert load(GOOD.replace(old, new, 1), "x").digest != load(GOOD, "x").digest


@pytest.mark.parametrize(
    "said",
    ["on_failure: undo", "budgets: {}", "budgets: {run: {}, day: {}}", "context: null"],
)
def test_to_write_out_a_default_says_nothing_new(said: str) -> None:
    assert load(f"{GOOD}{said}\n", "x").digest == load(GOOD, "x").digest


# --- fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "field", "at"),
    [
        ("version: 3", "version: three", "version", "version:"),
        ("version: 3", "version: 0", "version", "version:"),
        ("version: 3", "version: '3'", "version", "version:"),
        ("version: 3", "version: null", "version", "version:"),
        ("owner: Clerks\n", "", "owner", "playbook:"),
        ("owner: Clerks", "owners: Clerks", "owners", "owners:"),
        ("playbook: sorting", "playbook: Sorting", "playbook", "playbook:"),
        ("playbook: sorting", 'playbook: "sorting\\n"', "playbook", "playbook:"),
        ("about: Sorts.", "urgency: soon", "urgency", "urgency:"),
        ("about: Sorts.", "extra_colums: drop", "extra_colums", "extra_colums"),
        ("{folder: inbox}", "{folder: ../inbox}", "trigger.folder", "trigger:"),
        ("{folder: inbox}", "{folder: inbox, format: xlsx}", "trigger.format", "trigger:"),
        ("{folder: inbox}", "{}", "trigger", "trigger:"),
        ("{folder: inbox}", "inbox", "trigger", "trigger:"),
        ("type: cents", "type: colour", "inputs.value.type", "type: colour"),
        ("type: cents", "tipe: cents", "inputs.value.tipe", "tipe:"),
        ("private: true", "private: 1", "inputs.applicant.private", "private: 1"),
        ("[case, case number]", "case", "inputs.number.columns", "columns:"),
        ("[case, case number]", "[case, 7]", "inputs.number.columns.1", "columns:"),
        ("label: Hard", "lable: Hard", "lanes.1.lable", "lable:"),
        ("    label: Hard\n", "", "lanes.1.label", "id: hard"),
        ("planner: triage", "planner: oracle", "steps.0.planner", "planner:"),
        ("[register.decide]", "[]", "steps.0.tools", "tools:"),
        ("[register.decide]", "[decide]", "steps.0.tools.0", "tools:"),
        ("sorting@2", "sorting", "steps.0.prompt", "prompt:"),
        ("sorting@2", "sorting@0", "steps.0.prompt", "prompt:"),
        ("floor: 300", "floor: 1001", "steps.0.confidence.floor", "confidence: {floor: 1001"),
        ("floor: 300", "floor: -1", "steps.0.confidence.floor", "confidence: {floor: -1"),
        ("floor: 300", "floor: 300, alone: 900", "steps.0.confidence.alone", "confidence: {floor"),
        ("roles: [clerk]", "roles: []", "approvals.roles", "roles:"),
        ("expires: 2d", "expires: 2w", "approvals.expires", "expires:"),
        ("expires: 2d", "expires: 0d", "approvals.expires", "expires:"),
        ("expires: 2d", "expires: 2", "approvals.expires", "expires:"),
        ("expires: 2d", "expires: 2d\n  escalate: [{after: 4h, to: [boss]}]", "approvals.escalate.0.to", "escalate:"),
        ("value: value", "value: value\nslo: {decided_within: 1d}", "slo", "slo:"),
        ("value: value", "value: value\nfields: {Scope: {type: x}}", "fields.Scope", "fields:"),
        ("value: value", "value: value\nfields: {scope: 7}", "fields.scope", "fields:"),
        ("- id: cheap", "- id: Cheap", "rules.0.id", "- id: Cheap"),
        ("when: {all: [{field: value, at_most: 100}]}", "when: never", "rules.0.when", "when:"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(old: str, new: str, field: str, at: str) -> None:
    assert GOOD.count(old) == 1
    bad(GOOD.replace(old, new), "playbook.field", field=field, at=at)


@pytest.mark.parametrize(
    ("old", "new", "field", "at"),
    [
        ("business_key: [number]", "business_key: [numbr]", "business_key.0", "business_key"),
        ("business_key: [number]", "business_key: []", "business_key", "business_key"),
        ("    required: true\n", "", "inputs.number", "  number:"),
        ("    required: true\n", "    required: true\n    private: true\n", "inputs.number", "  number:"),
        ("value: value", "value: worth", "value", "value: worth"),
        ("value: value", "value: number", "value", "value: number"),
        ("fallback: hard", "fallback: harder", "fallback", "fallback"),
        ("fallback: hard\n", "", "fallback", "playbook:"),
        ("- id: hard", "- id: easy", "lanes.1.id", "- id: easy"),
        ("{lane: easy, confidence", "{lane: eazy, confidence", "rules.0.then.lane", "then:"),
        ("{lane: easy, confidence", "{lane: [easy], confidence", "rules.0.then.lane", "then:"),
        ("[case, case number]", "[case, Value]", "inputs.value.columns", "  value:"),
        (
            "  - id: decide\n",
            "  - {id: decide, planner: triage, tools: [register.decide]}\n  - id: decide\n",
            "steps.1.id",
            "  - id: decide\n",
        ),
    ],
)
def test_what_types_alone_cannot_say(old: str, new: str, field: str, at: str) -> None:
    assert old in GOOD
    bad(GOOD.replace(old, new, 1), "playbook.field", field=field, at=at)


def test_two_rules_with_one_id() -> None:
    rule = "  - id: cheap\n    when: {}\n    then: {lane: easy}\n"
    bad(GOOD.replace("steps:", rule + "steps:", 1), "playbook.field", field="rules.1.id")


def test_the_wrong_one_of_many_inputs_is_found() -> None:
    many = "".join(f"  extra_{number}: {{type: text}}\n" for number in range(50))
    text = GOOD.replace(
        "business_key:", many.replace("extra_37: {type: text}", "extra_37: {type: tex}") + "business_key:"
    )
    bad(text, "playbook.field", field="inputs.extra_37.type", at="extra_37")


def test_too_many_steps() -> None:
    steps = "".join(f"  - {{id: s{number}, planner: triage, tools: [register.decide]}}\n" for number in range(64))
    bad(GOOD.replace("approvals:", steps + "approvals:"), "playbook.field", field="steps", at="steps:")


# --- YAML ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("owner: Clerks", "owner: Clerks\nowner: Others", "stands twice"),
        ("{folder: inbox}", "{folder: inbox, folder: outbox}", "stands twice"),
        ("{lane: easy, confidence", "{lane: easy, lane: hard, confidence", "stands twice"),
        ("owner: Clerks", "owner: &a Clerks\nabout2: *a", "aliases"),
        ("owner: Clerks", "<<: {owner: Clerks}", "neither text"),
        ("owner: Clerks", "owner: !!python/object/apply:os.getcwd []", "not allowed"),
        ("owner: Clerks", "owner: !!binary aGk=", "neither text"),
        ("owner: Clerks", "owner: !mine Clerks", "neither text"),
        ("version: 3", "version: !!int three", "whole number"),
        ("version: 3", "version: 010", "whole number"),
        ("version: 3", "version: 1:30", "whole number"),
        ("version: 3", "version: 0x10", "whole number"),
        ("version: 3", "version: 1_000", "whole number"),
        ("version: 3", "version: 3.0", "neither text"),
        ("at_most: 100", "at_most: 0.5", "neither text"),
        ("at_most: 100", "at_most: .inf", "neither text"),
        ("at_most: 100", "at_most: 2024-13-45", "neither text"),
        ("at_most: 100", "at_most: 2024-01-02", "neither text"),
        ("at_most: 100", "at_most: !!set {a}", "not allowed"),
        ("at_most: 100", "at_most: " + "9" * 19, "whole number"),
        ("at_most: 100", "at_most: " + "9" * 5000, "whole number"),
        ("at_most: 100", 'at_most: "\\ud800"', "half a character"),
        ("required: true", "required: yes", "true or false"),
        ("required: true", "required: On", "true or false"),
        ("owner: Clerks", "no: Clerks", "true or false"),
        ("owner: Clerks", "7: Clerks", "not text"),
        ("owner: Clerks", "? [a]\n: b", "not text"),
        ("owner: Clerks", "owner: [Clerks", "expected"),
        ("owner: Clerks", "owner: 'Clerks", "end of stream"),
        ("owner: Clerks", "\towner: Clerks", "cannot start any token"),
        ("owner: Clerks", "owner: a: b", "not allowed here"),
        ("owner: Clerks", "owner: Clerks\n---\nowner: Others", "another document"),
    ],
)
def test_yaml_that_means_more_or_less_than_it_says(old: str, new: str, said: str) -> None:
    text = GOOD.replace(old, new, 1)
    error = bad(text, "playbook.yaml")
    assert said in error.message
    assert re.fullmatch(r"playbooks/sorting\.yaml:\d+", error.where)


def test_the_line_of_a_duplicate_is_the_second() -> None:
    text = GOOD.replace("owner: Clerks", "owner: Clerks\nowner: Others")
    bad(text, "playbook.yaml", at="owner: Others")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "just words", "7", "null", "---\n"])
def test_a_file_that_is_no_mapping(text: str) -> None:
    bad(text, "playbook.field", field="the file")


@pytest.mark.parametrize("text", ["\x00", "a: \x07b", "\ufffe"])
def test_characters_that_yaml_forbids(text: str) -> None:
    assert bad(text, "playbook.yaml").where.startswith("playbooks/sorting.yaml")


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "[" * 2000 + "]" * 2000])
def test_deep_nesting(text: str) -> None:
    bad(text, "playbook.yaml")


@pytest.mark.parametrize("depth", [3, 30, 100, 150, 200, 250, 400])
def test_steps_within_steps_without_end(depth: int) -> None:
    """Whatever gives up first, the reader, the types or the checks: it is one of our errors."""
    text = "{id: s, tool: a.b}"
    for number in range(depth):
        text = f"{{id: s{number}, for_each: '[1]', steps: [{text}]}}"
    steps = GOOD[: GOOD.index("steps:")] + f"steps: [{text}]\n" + GOOD[GOOD.index("approvals:") :]
    if depth == 3:
        assert len(load(steps, "x").all_steps) == 4
    else:
        with pytest.raises(BadInput) as caught:
            load(steps, "playbooks/sorting.yaml")
        assert caught.value.code in ("playbook.field", "playbook.yaml")


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    assert "aliases" in bad(bomb, "playbook.yaml").message


# --- any text at all ----------------------------------------------------------------------------------------------


def loads_or_refuses(text: str) -> Playbook | None:
    try:
        book = load(text, "x.yaml")
    except OutriderError as error:
        assert error.code in {"playbook.yaml", "playbook.field"} or error.code.startswith("expression.")
        assert error.where.startswith("x.yaml")
        return None
    assert book.digest
    return book


@given(st.text(max_size=200))
def test_any_text_is_loaded_or_refused(text: str) -> None:
    loads_or_refuses(text)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 20), st.text(max_size=6))
def test_any_edit_is_loaded_or_refused(at: int, cut: int, put: str) -> None:
    loads_or_refuses(GOOD[:at] + put + GOOD[at + cut :])


WORDS: Any = st.sampled_from(
    ["yes", "~", "1e3", "0o7", "=", "<<", "!!float x", "&a", "*a", "2001-01-01", "-0", "+1", "''"]
)


@given(WORDS, st.sampled_from(re.findall(r"(?<=: )\w+", GOOD)))
def test_any_scalar_is_loaded_or_refused(word: str, old: str) -> None:
    loads_or_refuses(GOOD.replace(f": {old}", f": {word}"))
