"""Canonical bytes: one form for each value, and a plain refusal for what has none."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import b64, canonical, digest, hex_sha256, parse, salted, sha256, unb64
from shared.errors import BadInput

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    b: int
    a: list[str]


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": 1, "a": [True, None, "é"]}, '{"a":[true,null,"é"],"b":1}'),
        ({"b": {"z": 1, "y": 2}, "B": 0}, '{"B":0,"b":{"y":2,"z":1}}'),
        (Thing(1, ["x"]), '{"a":["x"],"b":1}'),
        ('"\\\n\x01\x7f', '"\\"\\\\\\n\\u0001\x7f"'),
        ((1, 2), "[1,2]"),
        (2**70, str(2**70)),
        ({}, "{}"),
    ],
)
def test_pinned_bytes(value: Any, data: str) -> None:
    assert canonical(value) == data.encode()


@given(PLAIN)
def test_canonical_bytes_are_stable_and_json(value: Any) -> None:
    data = canonical(value)
    assert json.loads(data) == value
    assert canonical(json.loads(data)) == data
    assert digest(value) == hex_sha256(data) == sha256(data).hex()


@given(st.dictionaries(TEXT, st.integers(0, 9)))
def test_the_order_keys_came_in_does_not_matter(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        {"a": [1, {"b": 2.0}]},
        float("nan"),
        {"a": float("inf")},
        {1: 2},
        {"a": {1.5: 2}},
        b"x",
        {"a": b"x"},
        "\ud800",
        {"\ud800": 1},
        object(),
        {"a": object()},
    ],
)
def test_what_has_no_one_form_is_bad_input(value: Any) -> None:
    with pytest.raises(BadInput) as caught:
        canonical(value)
    assert caught.value.code in ("codec.float", "codec.form")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1,", b'{"a":["x"],"b":1,"c":2}', b'{"a":["x"]}', b'{"a":[1],"b":1}', b'{"a":["x"],"b":1.5}',
     b'{"a":["x"],"b":"1"}', b"\xff", b'{"a":["\xff"],"b":1}', b'{"a":["x"],"b":1} ]', b"[" * 100_000, "\ud800"],
)  # fmt: skip
def test_parse_refuses_all_but_the_shape(data: bytes | str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(data, Thing, code="thing.form", what="the thing")
    assert caught.value.code == "thing.form"


@given(st.binary(max_size=200))
def test_parse_never_leaks(data: bytes) -> None:
    try:
        parse(data, Thing, code="thing.form", what="the thing")
    except BadInput as error:
        assert error.code == "thing.form"


def test_salted_hashes() -> None:
    assert salted(bytes(32), b"body") == hex_sha256(b"\x02" + bytes(32) + b"body")
    assert salted(b"\x01" * 32, b"body") != salted(bytes(32), b"body")
    with pytest.raises(BadInput) as caught:
        salted(b"short", b"body")
    assert caught.value.code == "codec.salt"


@given(st.binary())
def test_base64_round_trip(data: bytes) -> None:
    assert unb64(b64(data), what="it") == data


@pytest.mark.parametrize("text", ["a", "====", "a b=", "é", "YQ=", "YQ==\n", "_-=="])
def test_what_is_not_base64(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        unb64(text, what="it")
    assert caught.value.code == "codec.base64"
