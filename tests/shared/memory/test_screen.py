"""What honest writers write passes the screen; everything known to hurt the native library, and its kind, does not."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import limits
from shared.errors import OutriderError, Tampered
from shared.memory.document import Document, Edit
from shared.memory.item import TEXT_CHARS, Item
from shared.memory.scratch import judge
from shared.memory.screen import screen
from shared.memory.verdict import Task
from tests import npm
from tests.shared.memory import hostile
from tests.shared.memory.test_items import ITEMS

CRAFTED = hostile.crafted()
AT = 1_700_000_000_000_000


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_change_is_refused(name: str) -> None:
    chunk, code = CRAFTED[name]
    began = time.process_time()
    with pytest.raises(Tampered) as refused:
        screen(chunk)
    assert refused.value.code == f"memory.hostile.{code}", refused.value.message
    assert time.process_time() - began < 1


def test_what_it_is_made_from_passes() -> None:
    for which, chunk in enumerate(hostile.good()):
        assert hostile.draft(which).built() == chunk
        assert screen(chunk) == screen(hostile.deflated(chunk))
        assert screen(chunk).raw == chunk


@settings(deadline=None, max_examples=60)
@given(ITEMS, ITEMS)
def test_every_item_and_every_edit_passes(item: Item, other: Item) -> None:
    document = Document.create(item, hostile.ACTOR, at=AT, by="user:ada")
    edit = Edit(
        text=other.text,
        kind=other.kind,
        subject=other.subject,
        fields={**other.fields, **dict.fromkeys(item.fields)},
        add_tags=other.tags,
        remove_tags=item.tags,
        expires_at=other.expires_at,
        pinned=True,
    )
    document.edit(edit, at=AT + 1, by="run run_1")
    for chunk in document.changes():
        assert screen(chunk).ops >= 1


def test_the_largest_text_passes_and_so_does_taking_it_away() -> None:
    item = Item(kind="document", text="Ätsch 😀" * (TEXT_CHARS // 7), source="test")
    document = Document.create(item, hostile.ACTOR, at=AT, by="user:ada")
    document.edit(Edit(text="x"), at=AT + 1, by="user:ada")
    first, second = map(screen, document.changes())
    assert first.ops > 99_000 and second.ops > 99_000
    assert len(second.raw) < 1_000


@given(st.binary(max_size=200))
def test_junk_is_refused_and_nothing_else_happens(junk: bytes) -> None:
    for chunk in (junk, hostile.framed(junk), hostile.framed(junk, 2)):
        with pytest.raises(Tampered, match="memory.hostile"):
            screen(chunk)


def test_every_single_byte_matters() -> None:
    """No bit can be another under the checksum; where the checksum is made to fit, there is nothing but our errors."""
    for which, chunk in enumerate(hostile.good()):
        for place in range(len(chunk)):
            spoilt = bytearray(chunk)
            spoilt[place] ^= 1 << (place % 8)
            with pytest.raises(Tampered, match="memory.hostile"):
                screen(bytes(spoilt))
        body = hostile.draft(which).body()
        for place in range(len(body)):
            for bit in range(8):
                spoilt = bytearray(body)
                spoilt[place] ^= 1 << bit
                try:
                    screen(hostile.framed(bytes(spoilt)))
                except OutriderError as error:
                    assert error.code.startswith("memory.hostile.")


def test_the_spec_page_shows_one_and_says_the_bounds() -> None:
    page = Path(limits.__file__).with_name("spec").joinpath("memory.md").read_text()
    section = page.partition("## Screening")[2]
    shown = hostile.rows(2**24)
    assert shown.hex() in section and f"of {len(shown)} bytes" in section
    for bound in (limits.MEMORY_CHANGE_OPS, limits.MEMORY_CHANGE_NAMED, limits.MEMORY_MESSAGE_BYTES):
        assert f"{bound:,}" in section
    for size in (limits.MEMORY_CHANGE_BYTES, limits.MEMORY_CHANGE_INFLATED, limits.MEMORY_SCRATCH_BYTES):
        assert f"{size // 2**20} MiB" in section
    assert limits.MEMORY_DOCUMENT_OPS == 2**30 and "2^30" in section
    assert f"{limits.MEMORY_SCRATCH_CPU_SECONDS:.0f} s of a processor" in section
    assert f"{limits.MEMORY_SCRATCH_SECONDS:.0f} s of the clock" in section
    assert {f"`{code}`" for _, code in CRAFTED.values()} <= set(re.findall("`[a-z-]+`", section))


def test_a_bound_is_a_bound() -> None:
    assert screen(hostile.rows(limits.MEMORY_CHANGE_NAMED)).ops == limits.MEMORY_CHANGE_NAMED
    with pytest.raises(Tampered, match="memory.hostile.operation"):
        screen(hostile.rows(limits.MEMORY_CHANGE_NAMED + 1))


def test_what_javascript_writes_passes(tmp_path: Path) -> None:
    command = npm.script(Path(__file__).with_name("screen_peer.mjs"), tmp_path)
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    parsed = [screen(base64.b64decode(chunk)) for chunk in json.loads(made)]
    assert len(parsed) == 8
    assert (parsed[1].message, parsed[1].time) == ("why", 1_700_000_000)
    assert parsed[4].other_actors == ("0f" * 16,)
    assert [screen(hostile.deflated(change.raw)) for change in parsed] == parsed
    # The last puts a date where an item has strings: a change well made, of no item.
    verdict = judge(Task("mem", b"", [hostile.deflated(change.raw) for change in reversed(parsed)]))
    assert [(why.place, why.code) for why in verdict.refused] == [(0, "memory.hostile.item")]
    assert verdict.probe is not None
    assert (verdict.probe.item.kind, verdict.probe.item.text[-6:]) == ("summary", "😀 text")
