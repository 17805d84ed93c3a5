"""BERT's uncased WordPiece tokenizer, in the few lines it takes.

The rules are those of BERT's own tokenizer: clean control characters, space out CJK ideographs, lower-case, drop
accents (NFD, non-spacing marks), split on white space and punctuation, then match greedily the longest piece in the
vocabulary. Tests hold it to ids that the reference implementation gave.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_WORD_CHARS = 100  # BERT's limit: a longer word is one [UNK]
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_cjk(code: int) -> bool:
    return code >= 0x3400 and any(first <= code <= last for first, last in _CJK)


def _is_punctuation(char: str) -> bool:
    # BERT counts every ASCII symbol as punctuation, also those ($, +, ^, `, ~ ...) that Unicode calls symbols.
    if char.isascii():
        return not char.isalnum() and "!" <= char <= "~"
    return unicodedata.category(char).startswith("P")


def _cleaned(text: str) -> Iterator[str]:
    for char in text:
        if char in "\t\n\r" or (char.isspace() and unicodedata.category(char) == "Zs"):
            yield " "
        elif char in "\0\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Co"):
            continue
        elif _is_cjk(ord(char)):
            yield f" {char} "
        else:
            yield char


def words(text: str) -> Iterator[str]:
    """Lower-case words and single punctuation marks, accents dropped."""
    plain = unicodedata.normalize("NFD", "".join(_cleaned(text)))
    plain = "".join(char for char in plain if unicodedata.category(char) != "Mn").lower()
    word = ""
    for char in plain:
        if char.isspace() or _is_punctuation(char):
            if word:
                yield word
                word = ""
            if not char.isspace():
                yield char
        else:
            word += char
    if word:
        yield word


class WordPiece:
    """Turns text into ids. ``vocabulary`` is the lines of ``vocab.txt``: the line number is the id."""

    def __init__(self, vocabulary: list[str]) -> None:
        self._ids = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown = self._ids["[UNK]"]
        self._first = self._ids["[CLS]"]
        self._last = self._ids["[SEP]"]
        self._known: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str, most: int) -> list[int]:
        """[CLS] pieces [SEP], at most ``most`` ids; what is longer is cut at the end, as the model was trained."""
        found: list[int] = []
        for word in words(text):
            found.extend(self._pieces(word))
            if len(found) >= most - 2:
                break
        return [self._first, *found[: most - 2], self._last]

    def _pieces(self, word: str) -> tuple[int, ...]:
        known = self._known.get(word)
        if known is None:
            known = self._match(word)
            if len(self._known) < 20_000:  # words repeat; a stream of random ones must not grow this for ever
                self._known[word] = known
        return known

    def _match(self, word: str) -> tuple[int, ...]:
        if len(word) > _WORD_CHARS:
            return (self._unknown,)
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return (self._unknown,)
        return tuple(found)
