"""Pieces turn the old text into the new one, are small, and take a time that grows with the text."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from shared.memory.difference import Piece, pieces

TEXT = st.text(st.sampled_from("ab .\n😀é"), max_size=60) | st.text(max_size=60)


def applied(old: str, found: list[Piece]) -> str:
    for start, end, text in found:
        old = old[:start] + text + old[end:]
    return old


def touched(found: list[Piece]) -> int:
    return sum(end - start + len(text) for start, end, text in found)


@given(TEXT, TEXT)
@example("a b c a b c", "b c a b c a")
@example("", "")
def test_pieces_make_the_new_text(old: str, new: str) -> None:
    found = pieces(old, new)
    assert applied(old, found) == new
    assert touched(found) <= len(old) + len(new)
    assert [piece[0] for piece in found] == sorted((piece[0] for piece in found), reverse=True)


def test_only_what_differs_is_touched() -> None:
    assert pieces("same", "same") == []
    assert pieces("The desk opens at nine.", "The desk opens at ten.") == [(18, 22, "ten")]
    assert pieces("Hello big world, it is me", "Oh Hello small world, it was me!") == [
        (25, 25, "!"),
        (20, 21, "wa"),
        (6, 9, "small"),
        (0, 0, "Oh "),
    ]


def test_words_far_apart_in_a_long_text() -> None:
    old = "".join(f"word number {n}, and so on. " for n in range(4000))
    new = old.replace("number 9,", "nummer 9,").replace("number 2900,", "none,")
    found = pieces(old, new)
    assert applied(old, found) == new and len(found) == 2 and touched(found) < 30


def test_a_long_text_of_few_words_is_compared_all_the_same() -> None:
    old = "yes no " * 20_000
    new = "start " + old.replace("no", "maybe")
    assert applied(old, pieces(old, new)) == new
