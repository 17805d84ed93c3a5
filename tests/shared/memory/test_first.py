"""An item's first change has the bytes that the codec writes for the same operations."""

from __future__ import annotations

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.memory import Item
from shared.memory.first import first_change
from shared.memory.item import TEXT_CHARS
from shared.memory.screen import screen
from shared.memory.stamp import leb, signed_leb
from tests.shared.memory import foreign
from tests.shared.memory.documents import ADA, PLAIN
from tests.shared.memory.test_items import ITEMS


def replaced(**changes: object) -> Item:
    return msgspec.structs.replace(PLAIN, **changes)


@settings(deadline=None, max_examples=300)
@given(ITEMS)
@example(replaced(text="a"))
@example(replaced(text="ab", tags=["t"], fields={"a": "b"}, pinned=True))
@example(replaced(text="é😀x", fields={"a": "same", "b": "same"}, tags=["a", "b", "b"]))
@example(replaced(source="note", sensitivity="note", valid_from=63, expires_at=64))
@example(replaced(valid_from=2**63 - 1, expires_at=2**62))
def test_the_bytes_are_the_codecs(item: Item) -> None:
    chunk = first_change(item, ADA, at=0, by="")
    assert chunk == foreign.first_change(item, ADA)
    assert screen(chunk).seq == 1


def test_a_long_text() -> None:
    item = replaced(text=("The roof é 😀 " * TEXT_CHARS)[:5_000])
    assert first_change(item, ADA, at=0, by="") == foreign.first_change(item, ADA)


@given(st.integers(0, 2**64))
def test_numbers(number: int) -> None:
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(leb(number))) == number
    for value in (number, -number):
        data = signed_leb(value)
        told = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data))
        assert (told - (1 << 7 * len(data)) if data[-1] & 0x40 else told) == value
