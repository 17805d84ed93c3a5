"""An item goes into an Automerge document and comes out as it was; junk is never more than an error."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.codec import unb64
from shared.errors import BadInput, Tampered
from shared.memory import KINDS, Edit, Item, check, item_id
from shared.memory.document import Document
from shared.memory.item import NAME_CHARS, PARTS, TEXT_CHARS, applied

ACTOR = bytes(range(16))
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
TEXT = st.text(LETTERS, max_size=40)
NAME = st.text(LETTERS, min_size=1, max_size=20)
TIME = st.integers(0, 2**63 - 1)

ITEMS = st.builds(
    Item,
    kind=st.sampled_from(KINDS),
    text=st.text(LETTERS, min_size=1, max_size=80),
    source=TEXT,
    scope=st.sampled_from(["device", "person", "team/permits", "team/a b"]),
    fields=st.dictionaries(NAME, TEXT, max_size=4),
    tags=st.lists(NAME, max_size=4),
    confidence=st.integers(0, 1000),
    sensitivity=TEXT,
    subject=TEXT,
    valid_from=TIME,
    expires_at=TIME,
    pinned=st.booleans(),
)
PLAIN = Item(kind="note", text="The desk opens at nine.", source="test")


def create(item: Item, actor: bytes) -> bytes:
    return Document.create(item, actor, at=0, by="").save()


def open_item(saved: bytes) -> Item:
    return Document.load([saved]).item()


@settings(deadline=None, max_examples=200)
@given(ITEMS)
def test_round_trip(item: Item) -> None:
    found = open_item(create(item, ACTOR))
    assert found == msgspec.structs.replace(item, tags=sorted(set(item.tags)))


@settings(deadline=None, max_examples=50)
@given(ITEMS)
def test_an_id_is_what_is_said_and_from_where(item: Item) -> None:
    name = item_id(item)
    assert re.fullmatch("mem_[0-9a-f]{24}", name)
    assert item_id(msgspec.structs.replace(item, confidence=1, tags=["other"], fields={})) == name
    assert item_id(msgspec.structs.replace(item, text=item.text + "x")) != name


def test_an_item_saved_before_items_could_be_pinned() -> None:
    saved = unb64(
        "hW9Kg5LqWkgA6AIBEAABAgMEBQYHCAkKCwwNDg8BxgN3kN7yGmcYs1CZlALfeCoYs4FV1IM7ZYseUGNEnowGAQIDAhMCIwJAAlYCDAEEAgcRBhMJ"
        "FWYhAiMRNANCC1YVV0mAAQJ/AH8Bfyl/AH8AfwcACx4AAAscCX4mKAAMGwAAAgALfgAKGgEAAnUKY29uZmlkZW5jZQpleHBpcmVzX2F0BmZpZWxk"
        "cwRraW5kBXNjb3BlC3NlbnNpdGl2aXR5BnNvdXJjZQdzdWJqZWN0BHRhZ3MEdGV4dAp2YWxpZF9mcm9tABx+BGxhbmUEcm9vZikAdAYCHlsBAn8C"
        "I2F+AxsBAgILHAICAX8ABQF+AAQfAXwkFACGAQJmfuYBBgIAfxQcFn52AoQHAGRlY2lzaW9ucGVyc29ubm9ybWFscGFzdC5jc3Ygcm93IDEAUmVw"
        "bGFjZSB0aGUgcm9vZiwgc2FtZSBwaXRjaGV4cHJlc3MpAAA=",
        what="a document",
    )
    item = open_item(saved)
    assert (item.text, item.fields, item.tags) == ("Replace the roof, same pitch", {"lane": "express"}, ["roof"])
    assert not item.pinned and create(item, ACTOR) == saved


def test_an_edit_applied() -> None:
    item = msgspec.structs.replace(PLAIN, fields={"a": "1", "b": "2"}, tags=["x", "y"])
    edit = Edit(kind="fact", fields={"a": None, "c": "3"}, add_tags=["z", "y"], remove_tags=["x", "y"], pinned=True)
    assert applied(item, edit) == msgspec.structs.replace(
        PLAIN, kind="fact", fields={"b": "2", "c": "3"}, tags=["y", "z"], pinned=True
    )
    assert applied(item, Edit()) == item
    assert set(Edit.__struct_fields__) - {"add_tags", "remove_tags"} == set(Item.__struct_fields__) - {"scope", "tags"}


def test_pinned_id() -> None:
    assert item_id(PLAIN) == "mem_bd8d4e263d1fb7358c8eecbc"


def test_the_longest_text() -> None:
    item = msgspec.structs.replace(PLAIN, text="é" * TEXT_CHARS)
    assert open_item(create(item, ACTOR)) == item


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "gossip"},
        {"kind": ""},
        {"text": ""},
        {"text": "x" * (TEXT_CHARS + 1)},
        {"text": "a\x00b"},
        {"text": "\ud800"},
        {"scope": "everybody"},
        {"scope": "team/"},
        {"scope": ""},
        {"confidence": 1001},
        {"confidence": -1},
        {"valid_from": -1},
        {"expires_at": 2**63},
        {"source": "x" * (NAME_CHARS + 1)},
        {"source": "a\x00"},
        {"fields": {"": "x"}},
        {"fields": {"a": "x" * 10_001}},
        {"fields": {"a": "\x00"}},
        {"fields": {str(n): "" for n in range(PARTS + 1)}},
        {"tags": [""]},
        {"tags": ["\udfff"]},
        {"tags": [str(n) for n in range(PARTS + 1)]},
    ],
)
def test_bounds(changes: dict[str, object]) -> None:
    item = msgspec.structs.replace(PLAIN, **changes)
    with pytest.raises(BadInput) as caught:
        check(item)
    assert caught.value.code == "memory.item" and caught.value.advice
    with pytest.raises(BadInput):
        create(item, ACTOR)
    with pytest.raises(BadInput) as caught:
        Document.imported(item, ACTOR)
    assert caught.value.code == "memory.item"


@pytest.mark.parametrize("saved", [b"", b"junk", bytes(1000), b"\x85\x6f\x4a\x83" + bytes(20)])
def test_junk_does_not_open(saved: bytes) -> None:
    with pytest.raises(Tampered) as caught:
        open_item(saved)
    assert caught.value.code == "memory.document"


def test_a_document_cut_anywhere_does_not_open() -> None:
    saved = create(PLAIN, ACTOR)
    for size in range(len(saved)):
        with pytest.raises(Tampered):
            open_item(saved[:size])


def test_any_byte_flipped_is_an_error_or_the_item() -> None:
    saved = create(PLAIN, ACTOR)
    for place in range(len(saved)):
        data = bytearray(saved)
        data[place] ^= 0xFF
        with pytest.raises(Tampered):
            open_item(bytes(data))
