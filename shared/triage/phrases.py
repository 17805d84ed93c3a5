"""Phrases of a playbook, matched against words. Never regular expressions: a release must not be able to hang a device.

``tuckpoint*`` is any word that begins so, ``#`` any number (in digits, or one to twelve in letters), and ``...`` up to
four words between two others. Case and punctuation do not count. Matching is linear in the text.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import BadInput
from shared.triage.text import words

GAP = "..."
GAP_WORDS = 4
PHRASE_WORDS = 12

_NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBERS = {name: number for number, name in enumerate(_NAMES, 1)}


def parse(phrase: str, *, where: str) -> tuple[str, ...]:
    """A phrase in matchable parts. Raises ``BadInput('plan.phrase')``."""
    parts: list[str] = []
    for piece in phrase.split():
        if piece in (GAP, "#"):
            parts.append(piece)
            continue
        inner = words(piece)
        if piece.endswith("*") and inner:
            inner[-1] += "*"
        parts += inner
    if not 1 <= len(parts) <= PHRASE_WORDS or GAP in (parts[0], parts[-1]):
        raise BadInput(
            "plan.phrase",
            f"{phrase!r} is not a phrase of 1 to {PHRASE_WORDS} words",
            advice="write plain words, `word*`, `#` for a number, `...` for a gap inside",
            where=where,
        )
    return tuple(parts)


def find(parts: Sequence[str], have: Sequence[str]) -> tuple[int, int] | None:
    """The first place where a phrase matches, as a half-open range of words."""
    for start in _starts(parts[0], have):
        end = _match(parts, have, start)
        if end is not None:
            return start, end
    return None


def number(word: str) -> int | None:
    """The number a word says, if it says one; at most nine digits."""
    if word.isdecimal() and len(word) <= 9:
        return int(word)
    return NUMBERS.get(word)


def _starts(part: str, have: Sequence[str]) -> list[int]:
    """Where a first part stands. Most phrases stand nowhere, so this must say so quickly."""
    if part == "#":
        return [place for place, word in enumerate(have) if number(word) is not None]
    if part.endswith("*"):
        stem = part[:-1]
        return [place for place, word in enumerate(have) if word.startswith(stem)]
    return [place for place, word in enumerate(have) if word == part] if part in have else []


def _match(parts: Sequence[str], have: Sequence[str], at: int) -> int | None:
    """Where a match that begins at ``at`` ends. A gap takes the nearest continuation, so work stays linear."""
    gap = False
    for part in parts:
        if part == GAP:
            gap = True
            continue
        reach = GAP_WORDS + 1 if gap else 1
        for place in range(at, min(at + reach, len(have))):
            if _same(part, have[place]):
                at = place + 1
                break
        else:
            return None
        gap = False
    return at


def _same(part: str, word: str) -> bool:
    if part == "#":
        return number(word) is not None
    return word.startswith(part[:-1]) if part.endswith("*") else word == part
