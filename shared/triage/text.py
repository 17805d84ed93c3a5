"""Text as planning reads it: cleaned, bounded, in words. What an applicant wrote is data, whatever it says."""

from __future__ import annotations

import re
import unicodedata

import msgspec

from shared import limits

_WORD = re.compile(r"[^\W\d_]+|\d+")
_SPACES = re.compile(r"\s+")


class Word(msgspec.Struct, frozen=True):
    """A folded word and where it stands in the cleaned text."""

    text: str
    start: int
    end: int


def clean(text: str) -> str:
    """One line without control, format or unassigned characters, at most ``limits.FIELD_CHARS`` long."""
    text = unicodedata.normalize("NFC", text[: limits.FIELD_CHARS])
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    return _SPACES.sub(" ", kept).strip()[: limits.FIELD_CHARS]


def split(text: str) -> list[Word]:
    """Words and numbers of a cleaned text in their order; punctuation only parts them."""
    return [Word(_fold(found.group()), found.start(), found.end()) for found in _WORD.finditer(text)]


def words(text: str) -> list[str]:
    """The folded words of any text."""
    return [_fold(word) for word in _WORD.findall(clean(text))]


def _fold(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def key(text: str) -> str:
    """Two texts with the same key say the same words in the same order."""
    return " ".join(words(text))


def excerpt(text: str, most: int) -> str:
    """The beginning of a text, cut at a word where that loses little, with an ellipsis where it was cut."""
    text = clean(text)
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    head, _, _ = cut.rpartition(" ")
    return (head if len(head) > most // 2 else cut).rstrip(" ,;:-") + "…"
