"""Edits made apart come to the same item everywhere, whatever the order; nothing that was accepted is lost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.memory import Edit, Item, check
from shared.memory.document import Conflict, Document, Version
from shared.memory.item import applied
from shared.memory.screen import screen
from tests.shared.memory import foreign
from tests.shared.memory.documents import ADA, AT, BOB, CARL, PLAIN, fork

ACTORS = (ADA, BOB, CARL)
WORDS = st.lists(st.sampled_from(["roof ", "wall ", "é", "😀 ", "the ", ".\n"]), min_size=1, max_size=8).map("".join)
MAYBE = st.none()
EDITS = st.builds(
    Edit,
    text=MAYBE | WORDS,
    kind=MAYBE | st.sampled_from(["note", "fact"]),
    subject=MAYBE | st.sampled_from(["ada", "bob"]),
    fields=st.dictionaries(st.sampled_from(["lane", "why"]), MAYBE | st.sampled_from(["a", "b"]), max_size=2),
    add_tags=st.lists(st.sampled_from("xyz"), max_size=2),
    remove_tags=st.lists(st.sampled_from("xyz"), max_size=2),
    confidence=MAYBE | st.integers(0, 3),
    pinned=MAYBE | st.booleans(),
)
# What happens, one after the other: a device edits, or takes in all that another has.
HAPPENS = st.lists(st.tuples(st.integers(0, 2), EDITS | st.integers(0, 2)), min_size=1, max_size=10)


@dataclass
class Desk:
    """Some devices with one item, and what each edit set."""

    devices: list[Document]
    made: dict[str, Edit] = field(default_factory=dict)

    def act(self, place: int, act: Edit | int, at: int) -> None:
        document = self.devices[place]
        if isinstance(act, int):
            self.devices[place] = document.merge(self.devices[act].changes())
            return
        try:
            chunk = document.edit(act, at=at, by=f"device {place}")
        except BadInput:
            check_fails(applied(document.item(), act))
            return
        if chunk is not None:
            self.made[screen(chunk).hash] = act
            assert document.item() == Document.load([document.save()]).item() == applied(document.item(), act)
            assert document.heads() == (screen(chunk).hash,)


def check_fails(item: Item) -> None:
    with pytest.raises(BadInput):
        check(item)


def played(happens: list[tuple[int, Edit | int]]) -> Desk:
    begun = Document.create(PLAIN, ADA, at=AT, by="first")
    desk = Desk([fork(begun, actor) for actor in ACTORS])
    for number, (place, act) in enumerate(happens, 1):
        desk.act(place, act, AT + number)
    return desk


def chunks(desk: Desk) -> list[bytes]:
    return list(dict.fromkeys(chunk for document in desk.devices for chunk in document.changes()))


def told(document: Document) -> tuple[Item, list[Conflict], tuple[str, ...], list[Version], list[Item]]:
    versions = document.history()
    seen = [document.item_at(version.hash) for version in versions]
    return document.item(), document.conflicts(), document.heads(), versions, seen


@settings(deadline=None, max_examples=25)
@given(HAPPENS, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_come_to_the_same(happens: list[tuple[int, Edit | int]], random: Any) -> None:
    whole = chunks(played(happens))
    wanted = told(Document.load(whole))
    for _ in range(3):
        delivered = whole + random.choices(whole, k=3)
        random.shuffle(delivered)
        assert told(Document.load(delivered)) == wanted
        cut = random.randrange(len(delivered) + 1)
        first = Document.create(PLAIN, ADA, at=AT, by="first").merge(delivered[:cut])
        later = Document.load([first.save(), *delivered[cut:]])
        assert told(later) == wanted
        assert told(Document.load([later.save()])) == wanted


@settings(deadline=None, max_examples=35)
@given(HAPPENS)
def test_no_edit_is_lost(happens: list[tuple[int, Edit | int]]) -> None:
    """What an edit set shows, or stands in a conflict, or somebody who knew it set the same field later."""
    desk = played(happens)
    merged = Document.load(chunks(desk))
    history = History(merged)
    disputed = {conflict.field: {value for value, _, _ in conflict.values} for conflict in merged.conflicts()}
    shown = cells(merged.item())
    for name in desk.made:
        later = [other for other in desk.made if name in history.known(other)]
        again = {cell for other in later for cell in [*history.wrote(other), *named(desk.made[other])]}
        for cell, value in history.wrote(name).items():
            removed_tag = cell.startswith("tags/") and value is None  # adding a tag wins over removing it
            assert value == shown.get(cell) or value in disputed.get(cell, ()) or cell in again or removed_tag


@settings(deadline=None, max_examples=25)
@given(HAPPENS)
def test_a_version_is_what_its_writer_saw(happens: list[tuple[int, Edit | int]]) -> None:
    document = Document.load(chunks(played(happens)))
    history = History(document)
    for version in document.history():
        alone = Document.load(history.chunks({version.hash, *history.known(version.hash)}))
        assert alone.item() == document.item_at(version.hash) and alone.heads() == (version.hash,)


class History:
    """Who knew what when he wrote, worked out apart from the code under test."""

    def __init__(self, document: Document) -> None:
        self._chunks = {hashlib.sha256(chunk[8:]).hexdigest(): chunk for chunk in document.changes()}
        self._parents = {version.hash: version.parents for version in document.history()}

    def known(self, name: str) -> set[str]:
        found: set[str] = set()
        ahead = list(self._parents[name])
        while ahead:
            parent = ahead.pop()
            if parent not in found:
                found.add(parent)
                ahead.extend(self._parents[parent])
        return found

    def chunks(self, names: set[str]) -> list[bytes]:
        return [chunk for name, chunk in self._chunks.items() if name in names]

    def wrote(self, name: str) -> dict[str, Any]:
        """The cells that a change set, but for the text."""
        known = self.known(name)
        before = cells(Document.load(self.chunks(known)).item())
        after = cells(Document.load(self.chunks(known | {name})).item())
        return {cell: after.get(cell) for cell in {**before, **after} if before.get(cell) != after.get(cell)}


def named(edit: Edit) -> list[str]:
    """The cells an edit names: setting what shows already settles a conflict."""
    plain = [name for name in ("kind", "subject", "confidence", "pinned") if getattr(edit, name) is not None]
    return [*plain, *(f"fields/{name}" for name in edit.fields)]


def cells(item: Item) -> dict[str, Any]:
    plain = msgspec.structs.asdict(item)
    del plain["text"]
    inside = {f"fields/{name}": value for name, value in plain.pop("fields").items()}
    inside |= {f"tags/{tag}": True for tag in plain.pop("tags")}
    return plain | inside


@settings(deadline=None, max_examples=30)
@given(
    st.text(st.sampled_from("ab \n😀"), min_size=1, max_size=30), st.lists(st.integers(0, 30), min_size=3, max_size=3)
)
def test_texts_keep_every_insertion(text: str, places: list[int]) -> None:
    begun = Document.create(msgspec.structs.replace(PLAIN, text=text), ADA, at=AT, by="first")
    made = []
    for actor, place, said in zip(ACTORS, places, ("<one>", "<two>", "<three>"), strict=True):
        mine = fork(begun, actor)
        made.append(mine.edit(Edit(text=text[:place] + said + text[place:]), at=AT, by="x"))
    merged = begun.merge([chunk for chunk in made if chunk])
    assert all(said in merged.item().text for said in ("<one>", "<two>", "<three>"))
    assert len(merged.item().text) == len(text) + 17 and merged.conflicts() == []


def test_different_fields_tags_and_places_of_the_text_merge() -> None:
    begun = Document.create(PLAIN, ADA, at=AT, by="ada")
    other = fork(begun, BOB)
    one = begun.edit(Edit(text="The front desk opens at nine.", kind="fact", add_tags=["a", "c"]), at=AT, by="ada")
    two = other.edit(Edit(text="The desk opens at ten.", fields={"floor": "2"}, add_tags=["b", "c"]), at=AT, by="bob")
    assert one and two
    for merged in (begun.merge([two]), other.merge([one])):
        item = merged.item()
        assert item.text == "The front desk opens at ten." and item.kind == "fact"
        assert (item.fields, item.tags, merged.conflicts()) == ({"floor": "2"}, ["a", "b", "c"], [])


def test_the_same_field_is_a_conflict_until_it_is_settled() -> None:
    begun = Document.create(PLAIN, ADA, at=AT, by="ada")
    other = fork(begun, BOB)
    one = begun.edit(Edit(kind="fact", fields={"lane": "a"}), at=AT, by="ada")
    two = other.edit(Edit(kind="contact", fields={"lane": "a"}), at=AT, by="bob")
    assert one and two
    merged = begun.merge([two])
    (conflict,) = merged.conflicts()  # both wrote the same lane, which is none
    hashes = {version.by: version.hash for version in merged.history()[1:]}
    assert conflict == Conflict("kind", (("contact", hashes["bob"], "bob"), ("fact", hashes["ada"], "ada")))
    assert other.merge([one]).conflicts() == [conflict] and merged.item().kind == "contact"
    for kind in ("contact", "fact", "note"):
        settled = Document.load(merged.changes(), CARL)
        assert settled.edit(Edit(kind=kind), at=AT, by="carl") is not None
        assert settled.conflicts() == [] and settled.item().kind == kind
    unrelated = Document.load(merged.changes(), CARL)
    assert unrelated.edit(Edit(source="x"), at=AT, by="carl") and unrelated.conflicts() == [conflict]
    assert unrelated.restore(hashes["bob"], at=AT, by="carl") and unrelated.conflicts() == []


def test_removing_what_another_sets_is_a_conflict() -> None:
    begun = Document.create(msgspec.structs.replace(PLAIN, fields={"lane": "a"}), ADA, at=AT, by="ada")
    other = fork(begun, BOB)
    gone, kept = (
        begun.edit(Edit(fields={"lane": None}), at=AT, by="ada"),
        other.edit(Edit(fields={"lane": "b"}), at=AT, by="bob"),
    )
    assert gone and kept
    merged = begun.merge([kept])
    (conflict,) = merged.conflicts()
    assert [value for value, _, _ in conflict.values] == ["b", None] and merged.item().fields == {"lane": "b"}
    for value in ("b", None):
        settled = Document.load(merged.changes(), CARL)
        assert settled.edit(Edit(fields={"lane": value}), at=AT, by="carl") and settled.conflicts() == []


def test_a_text_put_in_the_place_of_another_hides_no_edit() -> None:
    """As JavaScript does when a text is assigned."""
    begun = Document.create(PLAIN, ADA, at=AT, by="ada")
    put = foreign.change(begun, BOB, [("text", "text", "A whole new text")])
    mine = begun.edit(Edit(text="The desk opens at ten."), at=AT, by="ada")
    assert mine
    merged = begun.merge([put])
    (conflict,) = merged.conflicts()
    assert [value for value, _, _ in conflict.values] == ["A whole new text", "The desk opens at ten."]
    assert merged.edit(Edit(text="A whole new text"), at=AT, by="ada") and merged.conflicts() == []
    assert merged.item().text == "A whole new text"


def test_a_conflict_of_three_and_of_texts_within_fields() -> None:
    begun = Document.create(PLAIN, ADA, at=AT, by="ada")
    chunks = [foreign.change(begun, BOB, [("text", "fields/lane", "bob")])]
    for actor, value in ((ADA, "ada"), (CARL, "carl")):
        chunk = fork(begun, actor).edit(Edit(fields={"lane": value}), at=AT, by=value)
        assert chunk
        chunks.append(chunk)
    (conflict,) = begun.merge(chunks).conflicts()
    assert {value for value, _, _ in conflict.values} == {"ada", "bob", "carl"}
    assert conflict.values[0][0] == begun.merge(chunks).item().fields["lane"]


def test_letters_in_a_field_that_another_replaces_are_not_lost() -> None:
    begun = Document.create(PLAIN, ADA, at=AT, by="ada")
    begun = begun.merge([foreign.change(begun, BOB, [("text", "fields/lane", "old")])])
    typed = foreign.change(begun, BOB, [("letters", "fields/lane", "very ")])
    mine = begun.edit(Edit(fields={"lane": "new"}), at=AT, by="ada")
    assert mine
    (conflict,) = begun.merge([typed]).conflicts()
    assert [value for value, _, _ in conflict.values] == ["new", "very old"]
