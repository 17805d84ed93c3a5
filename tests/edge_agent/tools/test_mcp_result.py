"""Answers as receipts: plain, bounded, and told by size and hash where they are not kept."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.tools.mcp import result
from edge_agent.tools.mcp.messages import PARTS
from shared import limits
from shared.codec import canonical, hex_sha256


def text(*parts: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": part} for part in parts], **more}


def test_text_is_kept_and_cut() -> None:
    assert result.details(text("a", "b"), 200) == {"text": "a\nb"}
    found = result.details(text("x" * 500), 200)
    assert len(found["text"]) == 198  # and its quotes
    assert found["cut"] == {"characters": 500, "sha256": hex_sha256(b"x" * 500)}
    hidden = result.details(text("\x00" * 500), 200)
    assert len(canonical(hidden["text"])) <= 200
    assert result.details({"content": []}, 200) == {}


def test_structured_content_is_kept_once() -> None:
    assert result.details(text('{"n": 1}', structuredContent={"n": 1}), 200) == {"structured": {"n": 1}}
    assert result.details(text("hello", structuredContent={"content": "hello"}), 200) == {
        "structured": {"content": "hello"}
    }
    assert result.details(text("other", structuredContent={"n": 1}), 200) == {"structured": {"n": 1}, "text": "other"}


def test_structured_content_that_is_too_large_is_told_by_its_hash() -> None:
    found = result.details(text("kept", structuredContent={"rows": ["x" * 50] * 50}), 200)
    assert found["text"] == "kept"
    assert found["structured_left_out"]["bytes"] > 2500
    # Short as a number, three hundred digits as text.
    assert "structured_left_out" in result.details(text(structuredContent={"n": [1e300] * 10}), 200)


def test_fractions_and_huge_numbers_become_text() -> None:
    given_ = {"a": 0.1, "b": 3.0, "c": 1e-7, "d": 2**70, "e": -(2**63), "f": True, "g": None, "h": float("inf")}
    assert result.plain(given_) == {
        "a": "0.1",
        "b": "3.0",
        "c": "0.0000001",
        "d": "1180591620717411303424",
        "e": -(2**63),
        "f": True,
        "g": None,
        "h": "Infinity",
    }


def test_pictures_and_resources_are_told_by_size_and_hash() -> None:
    data = b"\x89PNG" + bytes(100)
    content = [
        {"type": "image", "mimeType": "image/png", "data": base64.b64encode(data).decode()},
        {"type": "resource", "resource": {"uri": "demo://1", "mimeType": "text/plain", "text": "hé"}},
        {"type": "resource", "resource": {"uri": "demo://2", "blob": "%%%"}},
        {"type": "resource_link", "uri": "demo://3", "name": "third\x07"},
    ]
    assert result.details({"content": content}, 200)["parts"] == [
        {"type": "image", "mime": "image/png", "bytes": 104, "sha256": hex_sha256(data)},
        {"type": "resource", "mime": "text/plain", "uri": "demo://1", "bytes": 3, "sha256": hex_sha256("hé".encode())},
        {"type": "resource", "mime": "", "uri": "demo://2", "bytes": 3, "sha256": hex_sha256(b"%%%")},
        {"type": "link", "uri": "demo://3", "name": "third"},
    ]
    many = result.details({"content": content[:1] * (PARTS + 5)}, 200)
    assert len(many["parts"]) == PARTS
    assert many["parts_left_out"] == 5


def test_what_went_wrong_is_one_line() -> None:
    assert result.said(text("no such\n\x1b[31mcase", isError=True)) == "no such [31mcase"
    assert result.said({"content": []}) == "it gives no reason"


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text(max_size=3000), plain_json, st.integers(min_value=200, max_value=2000))
def test_every_receipt_is_plain_and_bounded(said: str, structured: Any, most: int) -> None:
    found = result.details(text(said, structuredContent=structured), most)
    assert len(canonical(found)) <= 2 * most + 400


@pytest.mark.parametrize("character", ["é", "\x00", "\U0001f600", '"'])
def test_the_largest_receipt_fits_its_entry(character: str) -> None:
    part = {"type": "resource", "resource": {"uri": character * 900, "mimeType": character * 900, "text": "x"}}
    given_ = text(character * 60_000, structuredContent=[character * 6_000]) | {"isError": False}
    given_["content"] += [part] * 60
    assert len(canonical(result.details(given_, 40_000))) <= limits.BODY_BYTES // 2
