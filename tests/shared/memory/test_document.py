"""A document is edited, remembered, restored and merged; what does not belong in it is refused."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from automerge import core

from shared.codec import b64
from shared.errors import BadInput, Tampered
from shared.errors import Conflict as NotNow
from shared.memory import Edit, Item, new_id
from shared.memory.chunks import read_change
from shared.memory.document import NAMES, Document
from shared.memory.item import PARTS, TEXT_CHARS
from shared.memory.screen import screen
from tests.shared.memory import foreign
from tests.shared.memory.documents import ADA, AT, BOB, CARL, PLAIN, fork

GOLDEN = json.loads((Path(__file__).parents[2] / "vectors" / "memory.json").read_bytes())
ROOF = Item(kind="decision", text="Replace the roof", source="test", fields={"lane": "express"}, tags=["roof"])


def test_what_is_created_is_one_change_with_its_writer() -> None:
    document = Document.create(ROOF, ADA, at=AT, by="user:ada")
    assert document.item() == ROOF
    (chunk,) = document.changes()
    (version,) = document.history()
    assert (version.actor, version.seq, version.at, version.by, version.parents) == (ADA.hex(), 1, AT, "user:ada", ())
    assert version.hash == hashlib.sha256(chunk[8:]).hexdigest() and document.heads() == (version.hash,)
    assert Document.load([chunk]).item() == Document.load([document.save()]).item() == ROOF
    assert Document.load([document.save()]).changes() == [chunk]


def test_an_edit_is_one_change_of_what_differs() -> None:
    document = Document.create(PLAIN, ADA, at=AT, by="user:ada")
    edit = Edit(
        text="The desk opens at ten.",
        kind="fact",
        source="page",
        sensitivity="private",
        subject="the desk",
        fields={"floor": "2"},
        add_tags=["hours", "desk", "desk"],
        confidence=900,
        valid_from=1,
        expires_at=2,
        pinned=True,
    )
    chunk = document.edit(edit, at=AT + 1, by="run run_1")
    assert chunk is not None and document.changes()[1:] == [chunk] and read_change(chunk).ops < 40
    assert document.heads() == Document.load(document.changes()).heads() == (read_change(chunk).hash,)
    assert document.item() == Item(
        kind="fact",
        text="The desk opens at ten.",
        source="page",
        fields={"floor": "2"},
        tags=["desk", "hours"],
        confidence=900,
        sensitivity="private",
        subject="the desk",
        valid_from=1,
        expires_at=2,
        pinned=True,
    )
    assert document.edit(edit, at=AT + 2, by="x") is None
    back = document.edit(Edit(fields={"floor": None, "none": None}, remove_tags=["desk", "none"]), at=AT + 3, by="x")
    assert back is not None and document.item().fields == {} and document.item().tags == ["hours"]
    assert [version.by for version in document.history()] == ["user:ada", "run run_1", "x"]
    assert Document.load([document.save()]).item() == document.item()


def test_nothing_to_change_makes_no_change() -> None:
    document = Document.create(ROOF, ADA, at=AT, by="x")
    for edit in (Edit(), Edit(text=ROOF.text, kind="decision", pinned=False), Edit(fields={"lane": "express"})):
        assert document.edit(edit, at=AT, by="x") is None
    assert document.edit(Edit(add_tags=["roof"], remove_tags=["wall"]), at=AT, by="x") is None
    assert len(document.changes()) == 1


@pytest.mark.parametrize(
    "edit",
    [
        Edit(text=""),
        Edit(text="x" * (TEXT_CHARS + 1)),
        Edit(kind="gossip"),
        Edit(confidence=1001),
        Edit(valid_from=-1),
        Edit(source="a\x00"),
        Edit(fields={"": "x"}),
        Edit(add_tags=[""]),
        Edit(add_tags=[str(n) for n in range(PARTS + 1)]),
    ],
)
def test_an_edit_out_of_bounds_changes_nothing(edit: Edit) -> None:
    document = Document.create(ROOF, ADA, at=AT, by="x")
    before = document.save()
    with pytest.raises(BadInput) as caught:
        document.edit(edit, at=AT, by="x")
    assert caught.value.code == "memory.item"
    assert document.save() == before and document.item() == ROOF


def test_who_and_when_are_held_to_bounds() -> None:
    document = Document.create(ROOF, ADA, at=AT, by="x")
    for at, by in ((-1, "x"), (AT, "x\n")):
        with pytest.raises(BadInput):
            document.edit(Edit(kind="fact"), at=at, by=by)
        with pytest.raises(BadInput):
            Document.create(ROOF, ADA, at=at, by=by)


def test_a_document_opened_for_reading_is_not_edited() -> None:
    document = Document.load(Document.create(ROOF, ADA, at=AT, by="x").changes())
    with pytest.raises(BadInput) as caught:
        document.edit(Edit(kind="fact"), at=AT, by="x")
    assert caught.value.code == "memory.read-only"


def test_history_and_restoring() -> None:
    document = Document.create(ROOF, ADA, at=AT, by="user:ada")
    first = document.heads()[0]
    document.edit(Edit(text="Replace the walls", fields={"lane": "slow", "why": "old"}), at=AT + 5_000_000, by="b")
    document.edit(Edit(kind="note", add_tags=["wall"], remove_tags=["roof"], pinned=True), at=AT + 9_000_000, by="c")
    changed = document.item()
    versions = document.history()
    assert [version.by for version in versions] == ["user:ada", "b", "c"]
    assert document.item_at(first) == ROOF and document.item_at(versions[2].hash) == changed
    assert document.item_at(versions[1].hash).fields == {"lane": "slow", "why": "old"}
    chunk = document.restore(first, at=AT + 10_000_000, by="user:ada")
    assert chunk is not None and document.item() == ROOF and len(document.history()) == 4
    assert document.restore(first, at=AT + 11_000_000, by="user:ada") is None
    assert document.restore(versions[2].hash, at=AT + 12_000_000, by="x") and document.item() == changed
    with pytest.raises(BadInput) as caught:
        document.item_at("0" * 64)
    assert caught.value.code == "memory.version"
    with pytest.raises(BadInput):
        document.restore("zz", at=AT, by="x")


def test_an_import_is_the_same_change_everywhere() -> None:
    one, two = Document.imported(ROOF, ADA), Document.imported(ROOF, BOB)
    assert one.changes() == two.changes() and one.history()[0].at == 0
    other = Document.imported(msgspec.structs.replace(ROOF, confidence=1), ADA)
    assert other.history()[0].actor != one.history()[0].actor
    edited = [document.edit(Edit(kind=kind), at=AT, by="x") for document, kind in ((one, "note"), (two, "fact"))]
    assert [read_change(chunk).actor for chunk in edited if chunk] == [ADA.hex(), BOB.hex()]
    merged = one.merge([chunk for chunk in edited if chunk])
    assert [conflict.field for conflict in merged.conflicts()] == ["kind"]


def test_imports_of_the_same_text_with_different_fields_show_both() -> None:
    one = Document.imported(ROOF, ADA)
    two = Document.imported(msgspec.structs.replace(ROOF, fields={"lane": "slow"}, tags=["wall"]), BOB)
    two.edit(Edit(text="Replace the old roof"), at=AT, by="bob")
    for merged in (one.merge(two.changes()), two.merge(one.changes())):
        told = {conflict.field: {value for value, _, _ in conflict.values} for conflict in merged.conflicts()}
        assert told["fields/lane"] == {"express", "slow"}
        assert told["text"] == {"Replace the roof", "Replace the old roof"}
        lost = "roof" if merged.item().tags == ["wall"] else "wall"
        assert told[f"tags/{lost}"] == {None, True}
        merged.edit(Edit(text="Settled", fields={"lane": "x"}, add_tags=["roof", "wall"]), at=AT, by="c")
        assert merged.conflicts() == [] and merged.item().tags == ["roof", "wall"]


def test_a_change_before_the_one_it_was_made_upon() -> None:
    document = Document.create(PLAIN, ADA, at=AT, by="x")
    first = document.edit(Edit(kind="fact"), at=AT, by="x")
    second = document.edit(Edit(text="Other"), at=AT, by="x")
    begun = document.changes()[0]
    assert first and second
    with pytest.raises(NotNow) as caught:
        Document.load([second, first])
    assert caught.value.code == "memory.incomplete"
    waiting = Document.load([second, begun])
    assert waiting.item() == PLAIN and waiting.changes() == [begun]
    kept = Document.load([waiting.save(), first])
    assert kept.item() == document.item() and kept.heads() == document.heads()


def test_merging_leaves_the_old_one_alone() -> None:
    document = Document.create(PLAIN, ADA, at=AT, by="x")
    other = fork(document, BOB)
    chunk = other.edit(Edit(kind="fact"), at=AT, by="y")
    assert chunk
    merged = document.merge([chunk])
    assert document.item() == PLAIN and merged.item().kind == "fact"
    with pytest.raises(Tampered):
        document.merge([b"junk"])
    assert document.item() == PLAIN
    mine = merged.edit(Edit(kind="note"), at=AT, by="x")
    assert mine and read_change(mine).actor == ADA.hex()


def test_two_changes_with_one_number_do_not_load() -> None:
    """What a restored backup does that was not given a new actor."""
    document = Document.create(PLAIN, ADA, at=AT, by="x")
    one, two = fork(document, ADA), fork(document, ADA)
    chunks = [one.edit(Edit(kind="fact"), at=AT, by="x"), two.edit(Edit(kind="contact"), at=AT, by="x")]
    with pytest.raises(Tampered):
        document.merge([chunk for chunk in chunks if chunk])


def test_bounds_that_merging_passed_are_read_and_must_be_mended_first() -> None:
    document = Document.create(PLAIN, ADA, at=AT, by="x")
    other = fork(document, BOB)
    one = document.edit(Edit(add_tags=[f"a{n}" for n in range(40)]), at=AT, by="x")
    two = other.edit(Edit(add_tags=[f"b{n}" for n in range(40)]), at=AT, by="y")
    assert one and two
    merged = document.merge([two])
    assert len(merged.item().tags) == 80 and len(Document.load([merged.save()]).item().tags) == 80
    with pytest.raises(BadInput):
        merged.edit(Edit(kind="fact"), at=AT, by="x")
    assert merged.edit(Edit(kind="fact", remove_tags=[f"b{n}" for n in range(20)]), at=AT, by="x")
    assert len(merged.item().tags) == 60


def test_the_longest_text_is_edited_in_good_time() -> None:
    text = "".join(f"word number {n}, and so on. " for n in range(5000))[:TEXT_CHARS]
    document = Document.create(msgspec.structs.replace(PLAIN, text=text), ADA, at=AT, by="x")
    small = document.edit(
        Edit(text=text.replace("number 9,", "no. 9,").replace("number 2900,", "none,")), at=AT, by="x"
    )
    assert small and read_change(small).ops < 30
    whole = document.edit(Edit(text=text[::-1]), at=AT, by="x")
    assert whole and screen(whole).ops > 190_000
    assert Document.load([document.save()]).item().text == document.item().text == text[::-1]


ODD: list[list[foreign.Write]] = [
    [("put", "extra", "x")],
    [("delete", "kind")],
    [("delete", "text")],
    [("put", "text", "not a text")],
    [("put", "kind", 7)],
    [("put", "confidence", "much")],
    [("put", "confidence", 0.5)],
    [("put", "pinned", "yes")],
    [("put", "fields", "x")],
    [("map", "kind")],
    [("put", "tags/roof", False)],
    [("put", "tags/roof", "x")],
    [("put", "fields/lane", 5)],
    [("map", "fields/lane")],
]


@pytest.mark.parametrize("writes", ODD, ids=str)
def test_what_is_no_item_does_not_load(writes: list[foreign.Write]) -> None:
    document = Document.create(ROOF, ADA, at=AT, by="x")
    chunk = foreign.change(document, BOB, writes)
    with pytest.raises(Tampered) as caught:
        document.merge([chunk])
    assert caught.value.code == "memory.document" and caught.value.advice
    assert document.item() == ROOF


def test_odd_values_that_were_overruled_do_no_harm() -> None:
    document = Document.create(ROOF, ADA, at=AT, by="x")
    chunk = foreign.change(document, bytes(16), [("map", "kind"), ("put", "fields", "x"), ("delete", "text")])
    mine = document.edit(Edit(kind="note", fields={"lane": "slow"}, add_tags=["a"]), at=AT, by="x")
    try:
        merged = document.merge([chunk])
    except Tampered:
        return  # which of the two is overruled, the actors decide
    assert mine and merged.item().kind == "note"
    assert merged.edit(Edit(kind="fact"), at=AT, by="x") and merged.conflicts() is not None


def test_strings_as_javascript_writes_them() -> None:
    document = Document.create(ROOF, ADA, at=AT, by="x")
    chunk = foreign.change(
        document, BOB, [("text", "kind", "note"), ("text", "fields/lane", "slow"), ("text", "text", "New")]
    )
    merged = document.merge([chunk])
    assert (merged.item().kind, merged.item().fields, merged.item().text) == ("note", {"lane": "slow"}, "New")
    assert merged.edit(Edit(kind="fact", fields={"lane": "x"}, text="Newer"), at=AT, by="x")
    assert (merged.item().kind, merged.item().fields, merged.item().text) == ("fact", {"lane": "x"}, "Newer")


def test_letters_that_others_wrote_as_one() -> None:
    document = Document.create(PLAIN, ADA, at=AT, by="x")
    chunk = foreign.change(document, BOB, [("letters", "text", "whole words")])
    merged = document.merge([chunk])
    assert merged.item().text == "whole words" + PLAIN.text
    for text in ("whole wards", "who", "x"):
        assert merged.edit(Edit(text=text), at=AT, by="x") and merged.item().text == text


def test_a_zero_that_javascript_wrote_as_a_float() -> None:
    document = Document.create(ROOF, ADA, at=AT, by="x")
    item = document.merge([foreign.change(document, BOB, [("put", "expires_at", 0.0)])]).item()
    assert item == ROOF and type(item.expires_at) is int


def test_new_ids() -> None:
    assert new_id(bytes) == "mem_" + "0" * 24
    assert re.fullmatch("mem_[0-9a-f]{24}", new_id(lambda size: bytes(range(size))))


def test_the_names_in_a_root() -> None:
    assert set(Item.__struct_fields__) == NAMES


def test_golden_changes() -> None:
    """Stored and on their way for ever: these bytes never change."""
    document = Document.create(ROOF, ADA, at=AT, by="user:ada")
    edit = document.edit(
        Edit(text="Replace the old roof", fields={"lane": "slow"}, add_tags=["old"], remove_tags=["roof"], pinned=True),
        at=AT + 1,
        by="run run_1",
    )
    assert edit
    assert [b64(document.changes()[0]), b64(edit)] == [GOLDEN["created"], GOLDEN["edited"]]
    assert Document.load([edit, *document.changes(), edit], CARL).item() == document.item()
    assert [b64(chunk) for chunk in Document.imported(ROOF, BOB).changes()] == [GOLDEN["imported"]]


def test_a_panic_of_the_codec_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    class Broken:
        @staticmethod
        def load(data: bytes) -> None:
            raise Panic("index out of bounds")

    monkeypatch.setattr(core, "Document", Broken)
    with pytest.raises(Tampered):
        Document.load([b"x"])
