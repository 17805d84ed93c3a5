"""When and by whom goes into a change and comes out; what others wrote there is read with patience."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput, Tampered
from shared.memory import Item
from shared.memory.chunks import read_change
from shared.memory.document import Document
from shared.memory.stamp import BY_CHARS, check_stamp, stamp, written

ACTOR = bytes(range(16))
PLAIN = Item(kind="note", text="The desk opens at nine.", source="test")
BARE = Document.create(PLAIN, ACTOR, at=0, by="").changes()[0]
NAMES = st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=BY_CHARS).filter(str.isprintable)


def stamped(at: int, by: str) -> bytes:
    return stamp(BARE, deps=0, actor=ACTOR, seq=1, start_op=1, at=at, by=by)


@given(st.integers(0, 2**63 - 1), NAMES)
def test_round_trip(at: int, by: str) -> None:
    try:
        check_stamp(at, by)
    except BadInput:
        assert written(0, by) != (0, by)  # a name that would be taken for another
        return
    change = read_change(stamped(at, by))
    assert written(change.time, change.message) == (at, by)
    assert change.time == at // 1_000_000
    assert change.columns == read_change(BARE).columns


def test_nothing_to_say_leaves_a_change_as_it_was() -> None:
    assert stamped(0, "") == BARE


def test_the_checksum_is_made_anew() -> None:
    chunk = stamped(1_750_000_000_250_000, "user:ada")
    assert chunk[4:8] == hashlib.sha256(chunk[8:]).digest()[:4] != BARE[4:8]
    assert read_change(chunk).message == "user:ada .250000"
    assert read_change(stamped(1_750_000_000_000_000, "user:ada")).message == "user:ada"
    assert read_change(stamped(1, "")).message == ".000001"


@pytest.mark.parametrize(
    ("time", "message", "told"),
    [
        (0, "", (0, "")),
        (1_795_358_544, "", (1_795_358_544_000_000, "")),
        (-5, "x", (0, "x")),
        (2**62, "x", (2**63 - 1, "x")),
        (2**62, "x .000001", (2**63 - 1, "x")),
        (7, "fixed typo\nand more", (7_000_000, "fixed typo\nand more")),
        (7, "x .12345", (7_000_000, "x .12345")),
        (7, "two\nlines .000009", (7_000_009, "two\nlines")),
        (7, "x" * 999, (7_000_000, "x" * BY_CHARS)),
    ],
)
def test_what_others_write(time: int, message: str, told: tuple[int, str]) -> None:
    assert written(time, message) == told


@pytest.mark.parametrize(
    ("at", "by"),
    [(-1, ""), (2**63, ""), (0, "x" * (BY_CHARS + 1)), (0, "a\nb"), (0, "\x00"), (0, "\ud800"), (0, "x .123456")],
)
def test_bounds(at: int, by: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_stamp(at, by)
    assert caught.value.code == "memory.stamp"


def test_a_change_that_is_stamped_already_is_left_alone() -> None:
    with pytest.raises(Tampered):
        stamp(stamped(5_000_000, "x"), deps=0, actor=ACTOR, seq=1, start_op=1, at=0, by="")
