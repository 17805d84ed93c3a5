"""JSON schemas as arguments, and arguments as the JSON that is sent: exact, or refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.tools import Argument
from edge_agent.tools.mcp import schema
from shared.errors import BadInput


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "enum": ["a"]}, "text"),
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "decimal"),
        ({"type": ["integer", "number"]}, "decimal"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "array"}, "list"),
        ({"type": "object"}, "object"),
        ({"type": ["string", "null"]}, "text"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, "text"),
        ({"oneOf": [{"type": "integer"}, {"type": "null"}]}, "integer"),
        ({"anyOf": [{"type": "string"}, {"type": "array"}]}, "json"),
        ({"anyOf": [{"type": "string"}, {}]}, "json"),
        ({"allOf": [{"minLength": 1}, {"type": "string"}]}, "text"),
        ({"enum": ["a", "b"]}, "text"),
        ({"const": 7}, "integer"),
        ({"enum": [1, "b"]}, "json"),
        ({"$ref": "#/$defs/Name"}, "text"),
        ({"$ref": "#/$defs/Loop"}, "json"),
        ({"$ref": "https://elsewhere.example/x.json"}, "json"),
        ({}, "json"),
        (True, "json"),
        ({"type": "null"}, "json"),
        ({"type": "colour"}, "json"),
    ],
)
def test_every_schema_has_one_shape(node: Any, shape: str) -> None:
    root = of(x=node) | {"$defs": {"Name": {"type": "string"}, "Loop": {"$ref": "#/$defs/Loop"}}}
    assert schema.shape_of(node, root) == shape


def test_arguments_say_kind_need_and_meaning() -> None:
    found = schema.arguments(
        {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Where\x1b[2J to\nwrite."},
                "size": {"type": "number"},
                "mode": {"type": "string", "enum": ["a", "w"]},
                "more": {"anyOf": [{"type": "string"}, {"type": "array"}], "description": "Extra."},
            },
            "required": ["path"],
        }
    )
    assert found == {
        "path": Argument("text", True, "Where [2J to write."),
        "size": Argument("decimal", False, ""),
        "mode": Argument("text", False, "(one of a, w)"),
        "more": Argument("text", False, "Extra. (JSON as text)"),
    }
    assert schema.arguments({"type": "object"}) == {}
    with pytest.raises(BadInput) as caught:
        schema.arguments({"type": "object", "properties": []})
    assert caught.value.code == "mcp.schema"


def test_decimals_become_numbers_wherever_the_schema_wants_them() -> None:
    row = {"type": "object", "properties": {"cost": {"type": "number"}, "sku": {"type": "string"}}}
    wanted = of(
        total={"type": "number"},
        rows={"type": "array", "items": row},
        pair={"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]},
        rates={"type": "object", "additionalProperties": {"type": "number"}},
        maybe={"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
        either={"anyOf": [{"type": "number"}, {"type": "string"}]},
        loose={"type": "object"},
    )
    given_ = {
        "total": "12.50",
        "rows": [{"cost": "3", "sku": "3"}, {"cost": 4, "sku": "x"}],
        "pair": ["1.5", "1.5", "9"],
        "rates": {"a": "0.1"},
        "maybe": ["2.25"],
        "either": '"12"',
        "loose": {"n": "1.5"},
        "absent": None,
    }
    assert schema.to_json(wanted, given_) == {
        "total": 12.5,
        "rows": [{"cost": 3, "sku": "3"}, {"cost": 4, "sku": "x"}],
        "pair": [1.5, "1.5", "9"],
        "rates": {"a": 0.1},
        "maybe": [2.25],
        "either": "12",
        "loose": {"n": "1.5"},
    }


def test_json_text_is_read_exactly() -> None:
    wanted = of(any={})
    assert schema.to_json(wanted, {"any": '{"a": [1, 0.5, "x", null]}'}) == {"any": {"a": [1, 0.5, "x", None]}}
    for text, code in [("{", "mcp.arguments"), ("NaN", "mcp.arguments"), ("0.1000000000000000001", "mcp.number")]:
        with pytest.raises(BadInput) as caught:
            schema.to_json(wanted, {"any": text})
        assert caught.value.code == code


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_a_number_is_sent_as_it_stands(value: Decimal) -> None:
    assert Decimal(str(schema.number(str(value)))) == value


@pytest.mark.parametrize("text", ["0.12345678901234567890", "9007199254740993.5", "1" + "0" * 309 + ".5"])
def test_a_number_that_would_arrive_as_another_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        schema.number(text)
    assert caught.value.code == "mcp.number"


def test_large_whole_numbers_are_exact() -> None:
    assert schema.number("9007199254740993") == 9007199254740993


def test_deep_arguments_are_refused() -> None:
    deep: Any = "x"
    for _ in range(80):
        deep = [deep]
    with pytest.raises(BadInput) as caught:
        schema.to_json(of(x={"type": "array"}), {"x": deep})
    assert caught.value.code == "mcp.arguments"


@given(st.text(max_size=300), st.integers(min_value=1, max_value=50))
def test_a_cleaned_line_is_printable_and_short(text: str, most: int) -> None:
    line = schema.clean(text, most)
    assert line.isprintable()
    assert len(line) <= most
