"""Templates: values go where they are meant to go, and nowhere else."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from edge_agent.tools.http.templates import MISSING, Template, compiled, filled, pointed
from shared.errors import BadInput


def value(text: str, **values: Any) -> Any:
    return Template(text, "here").value(values)


def test_a_reference_alone_is_the_value_itself() -> None:
    assert value("{n}", n=3) == 3
    assert value("{n}", n=[1, {"a": True}]) == [1, {"a": True}]
    assert value("{n}") is MISSING


def test_references_within_text_are_written() -> None:
    assert value("no. {n}: {t} {b}", n=3, t="x", b=True) == "no. 3: x true"
    assert value("{{n}} and {n}", n=3) == "{n} and 3"
    assert value("no. {n}") is MISSING
    assert value("plain") == "plain"


def test_a_decimal_can_be_a_number() -> None:
    body = compiled({"price": "{price:number}", "text": "{price}"}, "here")
    assert msgspec.json.encode(filled(body, {"price": "12.50"})) == b'{"price":12.50,"text":"12.50"}'


def test_bodies_keep_their_form_and_drop_what_is_missing() -> None:
    body = compiled({"a": ["{x}", "{y}", 1, True, 0.5], "b": {"c": "{y}", "d": "{x}"}, "e": "{y}"}, "here")
    assert filled(body, {"x": "X"}) == {"a": ["X", 1, True, 0.5], "b": {"d": "X"}}
    assert filled(compiled("{x}", "here"), {"x": {"whole": "body"}}) == {"whole": "body"}


@pytest.mark.parametrize(
    "text", ["{", "}", "{}", "{A}", "{a b}", "a{", "{a}}", "{{a}", "{a.b.c}", "{a:text}", "x {a:number}"]
)
def test_braces_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="tools.setting"):
        Template(text, "here")


def test_dates_have_no_place_in_a_body() -> None:
    with pytest.raises(BadInput, match="tools.setting"):
        compiled({"at": datetime.date(2026, 1, 1)}, "here")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("o-1", "/orders/o-1/lines"),
        ("a/b", "/orders/a%2Fb/lines"),
        ("a?b#c&d", "/orders/a%3Fb%23c%26d/lines"),
        ("50%", "/orders/50%25/lines"),
        ("%2e%2e", "/orders/%252e%252e/lines"),
        ("ü @:", "/orders/%C3%BC%20%40%3A/lines"),
        ("...", "/orders/.../lines"),
        (7, "/orders/7/lines"),
        (False, "/orders/false/lines"),
    ],
)
def test_values_in_a_path_are_encoded_whole(given: Any, path: str) -> None:
    assert Template("/orders/{id}/lines", "here").path({"id": given}) == path


@pytest.mark.parametrize(
    "given", ["", ".", "..", "../admin", "a/../b", "a/..", "..\\x", "a\nb", "a\x00", "a\u2028b", None, ["x"], {}]
)
def test_values_that_would_change_the_resource_are_refused(given: Any) -> None:
    with pytest.raises(BadInput) as caught:
        Template("/orders/{id}", "here").path({"id": given})
    assert caught.value.code == "tool.arguments"


def test_pointers_lead_into_answers() -> None:
    answer = {"a": [{"b~/c": 1}], "": 2, "n": None}
    assert pointed(answer, "") == answer
    assert pointed(answer, "/a/0/b~0~1c") == 1
    assert pointed(answer, "/") == 2
    assert pointed(answer, "/n") is None
    for pointer in ("/x", "/a/1", "/a/-1", "/a/b", "/a/0/b", "/n/x", "/a/٠"):
        assert pointed(answer, pointer) is MISSING
