"""What is exported comes back as it was, from either form; what a person broke is an error that names the line."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.memory import Edit, Item, check
from shared.memory.document import Document
from shared.memory.exchange import Exported, from_lines, from_markdown, to_lines, to_markdown
from tests.shared.memory.documents import ADA, AT
from tests.shared.memory.test_items import ITEMS

IDS = st.integers(0, 2**96 - 1).map(lambda number: f"mem_{number:024x}")
TEXTS = st.lists(st.sampled_from(["---", "\\---", "--- ", "a", "", "\r", "---\r", "kind: x", "é"]), max_size=6).map(
    "\n".join
)
LISTS = st.lists(st.tuples(IDS, ITEMS, st.none() | TEXTS.filter(bool)), max_size=4, unique_by=lambda one: one[0]).map(
    lambda found: [Exported(name, msgspec.structs.replace(item, text=text or item.text)) for name, item, text in found]
)
ONE = Exported("mem_" + "0" * 24, Item(kind="note", text="The desk opens at nine.", source="test"))
DECISION = Exported(
    "mem_" + "1" * 24,
    Item(
        kind="decision",
        text="Replace the roof\n---\nsame pitch",
        source="past.csv row 1",
        scope="team/permits",
        fields={"lane": "express"},
        tags=["roof"],
        confidence=900,
        expires_at=1_750_000_000_000_000,
        pinned=True,
    ),
)
SHOWN = """\
---
id: "mem_000000000000000000000000"
kind: "note"
source: "test"
---

The desk opens at nine.

---
id: "mem_111111111111111111111111"
kind: "decision"
source: "past.csv row 1"
scope: "team/permits"
tags: ["roof"]
fields: {"lane":"express"}
confidence: 900
pinned: true
expires_at: 1750000000000000
---

Replace the roof
\\---
same pitch
"""


@settings(deadline=None)
@given(LISTS)
def test_lines_round_trip(items: list[Exported]) -> None:
    assert list(from_lines(to_lines(items), "x")) == items
    assert all(line.count(b"\n") == 1 and json.loads(line)["form"] == 1 for line in to_lines(items))


@settings(deadline=None)
@given(LISTS)
def test_markdown_round_trips(items: list[Exported]) -> None:
    whole = "".join(to_markdown(items))
    assert from_markdown(whole, "x") == items
    assert from_markdown(whole.encode().decode(), "x") == items


def test_history_goes_along() -> None:
    document = Document.create(ONE.item, ADA, at=AT, by="user:ada")
    document.edit(Edit(kind="fact"), at=AT, by="user:ada")
    whole = Exported(ONE.id, document.item(), tuple(document.changes()))
    (back,) = from_lines(to_lines([whole]), "x")
    assert back == whole and Document.load(back.chunks).history() == document.history()


def test_markdown_as_a_person_sees_it() -> None:
    assert "".join(to_markdown([ONE, DECISION])) == SHOWN
    assert from_markdown(SHOWN, "x") == [ONE, DECISION]


def test_markdown_as_a_person_writes_it() -> None:
    (new,) = from_markdown('\n\n---\nkind: "note"\n\ntags: ["a", "b"]\n---\nNo empty line\n\nand another.', "x")
    assert new == Exported("", Item(kind="note", text="No empty line\n\nand another.", source="", tags=["a", "b"]))
    windows = SHOWN.replace("\n", "\r\n")
    assert from_markdown("\ufeff" + windows, "x") == [ONE, DECISION]
    assert from_markdown("", "x") == from_markdown("\n \n", "x") == []


def test_empty_lines_and_a_mark_at_the_beginning_are_passed_over() -> None:
    line = next(to_lines([ONE]))
    assert list(from_lines([b"\xef\xbb\xbf" + line.replace(b"\n", b"\r\n"), b"\n", b""], "x")) == [ONE]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"junk", "no item"),
        (b"\xff\xfe", "no item"),
        (b"[" * 100_000, "no item"),
        (b"{}", "form"),
        (b'{"form":1,"id":"mem_000000000000000000000000","item":{"kind":"note","text":"x"}}', "source"),
        (b'{"form":1,"id":"x","item":{"kind":"note","text":"x","source":""}}', "no id"),
        (b'{"form":1,"id":"","item":{"kind":"note","text":"x","source":""}}', "no id"),
        (b'{"form":2,"id":"mem_000000000000000000000000","item":{"kind":"note","text":"x","source":""}}', "form 2"),
        (b'{"form":1,"id":"mem_000000000000000000000001","item":{"kind":"odd","text":"x","source":""}}', "kind"),
        (b'{"form":1,"id":"mem_000000000000000000000001","item":{"kind":"note","text":"","source":""}}', "characters"),
        (b'{"form":1,"id":"mem_000000000000000000000001","more":1,"item":{}}', "more"),
        (
            b'{"form":1,"id":"mem_000000000000000000000001","item":{"kind":"note","text":"x","source":"","odd":1}}',
            "odd",
        ),
        (
            b'{"form":1,"id":"mem_000000000000000000000001","item":{"kind":"note","text":"x","source":""},"changes":["?"]}',
            "base64",
        ),
        (next(to_lines([ONE])), "twice"),
    ],
)
def test_a_bad_line_is_named(line: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        list(from_lines([next(to_lines([ONE])), b"\n", line], "items.jsonl"))
    assert (caught.value.code, caught.value.where) == ("memory.import", "items.jsonl line 3")
    assert said in caught.value.message and caught.value.advice


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("hello\n" + SHOWN, 1, "before"),
        ("\nhello", 2, "before"),
        ("---\n", 1, "end"),
        (SHOWN + "---\nkind: 1", 24, "end"),
        ('---\nkind: "note"\nodd: 1\n---\nx', 3, "odd"),
        ('---\nkind: "note"\ntext: "x"\n---\nx', 3, "text"),
        ("---\nkind: note\n---\nx", 2, "double quotes"),
        ('---\nkind: "note"\nkind: "note"\n---\nx', 3, "twice"),
        ("---\nkind\n---\nx", 2, "JSON"),
        ('\n---\nkind: "odd"\n---\nx', 2, "kind"),
        ('---\nsource: "x"\n---\nx', 1, "kind"),
        ('---\nkind: "note"\nconfidence: "much"\n---\nx', 1, "confidence"),
        ('---\nkind: "note"\n---\n', 1, "characters"),
        ('---\nid: "x"\nkind: "note"\n---\nx', 1, "no id"),
        ('---\nid: 5\nkind: "note"\n---\nx', 1, "id"),
        (SHOWN + SHOWN, 24, "twice"),
    ],
)
def test_a_bad_place_in_markdown_is_named(text: str, line: int, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        from_markdown(text, "items.md")
    assert (caught.value.code, caught.value.where) == ("memory.import", f"items.md line {line}")
    assert said in caught.value.message


@settings(deadline=None)
@given(st.text(st.sampled_from('-\\\n\r:"{}[]kind note1'), max_size=60) | st.text(max_size=40))
def test_anything_is_items_or_an_error(text: str) -> None:
    lines = text.encode("utf-8", "replace").split(b"\n")
    readers: list[Callable[[], list[Exported]]] = [
        lambda: from_markdown(text, "x"),
        lambda: list(from_lines(lines, "x")),
    ]
    for read in readers:
        try:
            found = read()
        except BadInput as error:
            assert error.code == "memory.import" and " line " in error.where
        else:
            for one in found:
                check(one.item)
