"""What was accepted is kept as it was shown, and a file that does not hold together counts as nothing."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from edge_agent.tools.mcp import pins
from shared.codec import hex_sha256
from shared.errors import Tampered, Unavailable

TOOL = {
    "name": "note",
    "title": "Note",
    "description": "Write a note.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "number", "minimum": 0.5, "default": 1}}},
    "annotations": {"readOnlyHint": False},
}


def test_a_description_has_one_text_whatever_its_order() -> None:
    turned = dict(reversed([*TOOL.items(), ("_meta", {"x": 1}), ("icons", []), ("outputSchema", {})]))
    text = pins.describe(turned)
    assert text == pins.describe(TOOL)
    assert text.startswith('{"annotations":{"readOnlyHint":false},"description":"Write a note.","inputSchema":')
    assert pins.pin(text) == pins.Pin("note", hex_sha256(text.encode()), text)
    assert pins.pin(text).facts == TOOL


def test_nothing_invisible_hides_in_it() -> None:
    text = pins.describe({**TOOL, "description": "read\u202eetirw \U000e0041 \u200b"})
    assert text.isascii()
    assert "\\u202e" in text


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        pins.describe({**TOOL, "inputSchema": {"minimum": float("nan")}})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"description": "Write two."}, ["description"]),
        ({"inputSchema": {"type": "object", "properties": {}}}, ["inputSchema.properties.n (removed)"]),
        ({"annotations": {"readOnlyHint": True}}, ["annotations.readOnlyHint"]),
        ({"annotations": {"readOnlyHint": 0}}, ["annotations.readOnlyHint"]),
        ({"title": None}, ["title (removed)"]),
        ({}, []),
    ],
)
def test_changes_are_named_part_by_part(change: dict[str, object], expected: list[str]) -> None:
    assert pins.changes(pins.describe(TOOL), pins.describe({**TOOL, **change})) == expected


def test_accepted_descriptions_are_kept_privately(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert pins.load(state) is None
    one = pins.pin(pins.describe(TOOL))
    accepted = pins.Accepted("rogue 1", 17, [one])
    pins.save(state, accepted)
    assert pins.load(state) == accepted
    assert stat.S_IMODE((state / pins.FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert pins.together([one]) == hex_sha256(one.sha256.encode())


@pytest.mark.parametrize("how", ["text", "hash", "name", "version", "field", "json"])
def test_a_file_that_was_touched_is_not_believed(tmp_path: Path, how: str) -> None:
    pins.save(tmp_path, pins.Accepted("rogue 1", 17, [pins.pin(pins.describe(TOOL))]))
    path = tmp_path / pins.FILE
    held = json.loads(path.read_text())
    if how == "text":
        held["tools"][0]["description"] = held["tools"][0]["description"].replace("a note", "anything")
    elif how == "hash":
        held["tools"][0]["sha256"] = "0" * 64
    elif how == "name":
        held["tools"][0]["name"] = "other"
    elif how == "version":
        held["version"] = 2
    elif how == "field":
        held["extra"] = True
    path.write_text("{" if how == "json" else json.dumps(held))
    with pytest.raises(Tampered) as caught:
        pins.load(tmp_path)
    assert caught.value.code == "mcp.pins"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / pins.FILE).mkdir()
    with pytest.raises(Unavailable) as caught:
        pins.load(tmp_path)
    assert caught.value.code == "mcp.pins"
