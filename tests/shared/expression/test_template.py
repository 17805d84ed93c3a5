"""Templates: values with ``${...}`` in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import limits
from shared.errors import BadInput
from shared.expression import Template

NAMES = frozenset(("inputs", "today"))
GIVEN = {
    "inputs": {"n": 12, "t": "Zoë", "yes": True, "no": None, "l": [1, "a"], "m": {"k": [1]}, "trap": "${inputs.n}"},
    "today": "2026-03-02",
}


def filled(value: Any) -> Any:
    return Template.parse(value, names=NAMES).fill(GIVEN)


def refused(code: str, value: Any, where: str = "p.yaml:4") -> BadInput:
    with pytest.raises(BadInput) as caught:
        Template.parse(value, where=where, names=NAMES).fill(GIVEN)
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("${inputs.n}", 12),
        ("${inputs.l}", [1, "a"]),
        ("${inputs.m}", {"k": [1]}),
        ("${inputs.no}", None),
        ("${inputs.yes}", True),
        ("${ inputs.n + 1 }", 13),
    ],
)
def test_a_whole_expression_keeps_its_type(text: str, gives: Any) -> None:
    made = filled(text)
    assert made == gives
    assert type(made) is type(gives)


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("", ""),
        ("plain", "plain"),
        (" ${inputs.n}", " 12"),
        ("${inputs.n}\n", "12\n"),
        ("${inputs.n}${inputs.n}", "1212"),
        ("a ${inputs.t} b ${inputs.yes} c ${inputs.no}|", "a Zoë b true c |"),
        ("$${inputs.n}", "${inputs.n}"),
        ("a $${ b } ${inputs.n}", "a ${ b } 12"),
        ("$$${inputs.n}", "$${inputs.n}"),
        ("costs $5, {x}, $ {y}, $", "costs $5, {x}, $ {y}, $"),
        ("$${", "${"),
        ("${inputs.n}$", "12$"),
        ("${inputs.n}}", "12}"),
    ],
)
def test_among_text(text: str, gives: str) -> None:
    assert filled(text) == gives


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ('${ {"a": {"b": 1}} }', {"a": {"b": 1}}),
        ('${"}"}', "}"),
        ("${'}' + \"}\"}", "}}"),
        ("${'${'}", "${"),
        ("${'\\'}'}", "'}"),
        ("${r'\\'}", "\\"),
        ('x${"}"}y', "x}y"),
        ("${inputs.n // a comment with }\n}", 12),
        ('<${inputs.l.map(x, {"k": x}).size()}>', "<2>"),
    ],
)
def test_braces_and_quotes_within(text: str, gives: Any) -> None:
    assert filled(text) == gives


def test_values_nest() -> None:
    value = {"a": ["${inputs.n}", {"b": "n=${inputs.n}"}, 1, None, True], "c": "plain", "${d".strip("${"): []}
    assert filled(value) == {"a": [12, {"b": "n=12"}, 1, None, True], "c": "plain", "d": []}


def test_what_was_filled_in_is_not_read_again() -> None:
    """A stranger's text cannot bring an expression along."""
    assert filled("${inputs.trap}") == "${inputs.n}"
    assert filled("a ${inputs.trap}") == "a ${inputs.n}"


def test_the_template_stays_as_it_was() -> None:
    source = {"a": ["${inputs.l}"]}
    template = Template.parse(source, names=NAMES)
    first = template.fill(GIVEN)
    assert isinstance(first, dict)
    first["a"].append("spoilt")
    first["a"][0].append("spoilt")
    assert template.fill(GIVEN) == {"a": [[1, "a"]]}
    assert GIVEN["inputs"]["l"] == [1, "a"]  # type: ignore[index]  # a mapping
    assert source == {"a": ["${inputs.l}"]}


def test_names_and_reads() -> None:
    template = Template.parse({"a": ["${inputs.n}", "x ${today}"], "b": 1}, names=NAMES)
    assert template.names == {"inputs", "today"}
    assert template.reads == {("inputs", "n"), ("today",)}
    assert Template.parse("plain", names=NAMES).names == frozenset()


@pytest.mark.parametrize(
    "text", ["${", "a ${inputs.n", "${}", "${inputs.n ${inputs.n}}", '${"}', "${inputs.n;}", "${1 +}"]
)
def test_what_does_not_end_or_parse(text: str) -> None:
    refused("expression.syntax", text)


@pytest.mark.parametrize("text", ["a ${inputs.l}", "a ${inputs.m}"])
def test_lists_and_mappings_among_text_are_refused(text: str) -> None:
    refused("expression.type", text)


@pytest.mark.parametrize("value", [1.5, b"a", {"${inputs.n}": 1}, {1: 2}, 2**63, object(), {"a": [(1,)]}])
def test_what_a_template_cannot_hold(value: Any) -> None:
    refused("expression.type", value)


def test_where_names_the_place_within() -> None:
    assert refused("expression.name", {"body": {"lines": ["a", "${foo}"]}}).where == "p.yaml:4 body.lines[1]"
    assert refused("expression.failed", {"a": "x ${inputs.nope}"}).where == "p.yaml:4 a"
    assert refused("expression.name", "${foo}", where="").where == ""
    assert "there is no name 'foo'" in refused("expression.name", "${foo}").message


def test_too_many_expressions() -> None:
    assert filled(["${1}"] * limits.EXPRESSION_PARTS) == [1] * limits.EXPRESSION_PARTS
    refused("expression.too-large", ["${1}"] * (limits.EXPRESSION_PARTS + 1))
    refused("expression.too-large", "${1}" * (limits.EXPRESSION_PARTS + 1))


def test_the_work_of_all_expressions_is_bounded_together() -> None:
    one = "${[" + "1, " * 400 + "1].map(x, x).size()}"
    assert filled(one) == 401
    refused("expression.too-large", [one] * 20)


def test_deep_values() -> None:
    deep: Any = "${1}"
    for _ in range(1000):
        deep = [deep]
    refused("expression.type", deep)


_PLAIN = st.text(max_size=20).map(lambda text: text.replace("${", "$ {"))


@given(st.lists(st.tuples(_PLAIN, st.integers(-99, 99) | st.text(max_size=5)), max_size=4), _PLAIN)
def test_pieces_stand_where_they_stood(pieces: list[tuple[str, int | str]], last: str) -> None:
    names = {"inputs": {f"v{number}": made for number, (_, made) in enumerate(pieces)}}
    text = "".join(f"{before} ${{inputs.v{number}}}" for number, (before, _) in enumerate(pieces)) + " " + last
    assert Template.parse(text, names=NAMES).fill(names) == "".join(f"{a} {b}" for a, b in pieces) + " " + last


@given(st.text(alphabet="${}ab'\" ", max_size=30))
def test_any_text_is_filled_or_refused(text: str) -> None:
    try:
        made = Template.parse(text, names=NAMES).fill(GIVEN)
    except BadInput as error:
        assert error.code.startswith("expression.")
    else:
        assert "${" in text or made == text
