"""Which sentences of a conversation to keep: chosen by their words alone, never rewritten.

A sentence is worth more when its words come back in the others, when it settles something (decided, must, prefers, by
Friday), when it holds a number; less when it is a question, an opening or a thank-you. What says the same as a chosen
sentence is passed over. Whole numbers only, and ties go to the earlier, so the same turns give the same summary.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec

from shared.memory.ranking import STOP

SENTENCE_CHARS = 400  # a longer one is cut at a space: it is a paste, not a sentence
_SAID = 1_000_000  # more than any sentence is worth
_WEIGHED = 500  # sentences that are weighed against each other; of a longer paste only the best are
_SPLIT = re.compile(r"(?<=[.!?])[\"')\]]{0,2}\s+(?=[\"'(\[]?[^\W_a-z])|\n+")
_WORD = re.compile(r"\w+")
_SETTLES = re.compile(
    r"\b(?:decid\w+|agree\w*|approv\w+|reject\w+|must|should|needs?|require\w*|deadline|due|until|before|because|"
    r"prefer\w*|"
    r"never|always|only|remember|important|changed?|instead|will|won't|cannot|confirm\w*|chosen?|cancel\w*|owner|"
    r"named?|called|"
    r"budget|limit|rule|entscheid\w+|vereinbart|immer|niemals|frist|bis zum|décid\w+|toujours|jamais)\b",
    re.I,
)
_POLITE = re.compile(
    r"\s*(?:ok(?:ay)?|thanks?|thank you|hello|hi|hey|good (?:morning|afternoon|evening)|sure|great|yes|no|"
    r"you're welcome|"
    r"bye|cheers|got it|sounds good|perfect|of course|no problem|happy to help)\b",
    re.I,
)


class Candidate(msgspec.Struct, frozen=True):
    """Characters ``start`` to ``end`` of turn number ``turn``, its cost in tokens, and what it was worth before."""

    turn: int
    start: int
    end: int
    text: str
    tokens: int


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends: half-open, without the space around it."""
    at = 0
    for end, after in [*((match.start(), match.end()) for match in _SPLIT.finditer(text)), (len(text), len(text))]:
        yield from _pieces(text, at, end)
        at = after


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        while start < end and text[start].isspace():
            start += 1
        stop = min(end, start + SENTENCE_CHARS)
        if stop < end:
            space = text.rfind(" ", start, stop)
            stop = space if space > start + SENTENCE_CHARS // 2 else stop
        last = stop
        while last > start and text[last - 1].isspace():
            last -= 1
        if last > start:
            yield start, last
        start = stop


def words(text: str) -> list[str]:
    """The words that say something, folded."""
    return [word for word in _WORD.findall(text.casefold()) if word not in STOP and len(word) > 1]


def worth(candidates: Sequence[Candidate]) -> list[int]:
    """How much each sentence says of all of them, in permille or so; what says nothing is below 0."""
    said = [words(one.text) for one in candidates]
    # What is said over and over in the same words counts once: it is a habit, not the matter.
    often = Counter(word for each in {frozenset(each) for each in said} for word in each)
    values = []
    for one, each in zip(candidates, said, strict=True):
        value = 1000 * sum(min(often[word], 6) - 1 for word in set(each)) // (len(set(each)) + 4)
        value += 500 if _SETTLES.search(one.text) else 0
        value += 300 if any(char.isdigit() for char in one.text) else 0
        value -= 500 if one.text.endswith("?") else 0
        value -= 900 if len(each) < 3 else 0
        value -= 700 if _POLITE.match(one.text) else 0
        values.append(value)
    return values


def pick(candidates: Sequence[Candidate], values: Sequence[int], budget: int) -> list[Candidate]:
    """The best sentences that fit the budget of tokens and do not repeat each other, in the order they were said."""
    said = [frozenset(words(one.text)) for one in candidates]
    worthy = sorted(
        (place for place, value in enumerate(values) if value > 0), key=lambda place: (-values[place], place)
    )
    left = set(worthy[:_WEIGHED])
    repeats = [0] * len(candidates)
    chosen: list[int] = []
    while left:
        best = max(left, key=lambda place: (values[place] - repeats[place], -place))
        left.discard(best)
        if values[best] <= repeats[best]:
            break  # and so has everything else been said
        if candidates[best].tokens > budget:
            continue
        chosen.append(best)
        budget -= candidates[best].tokens
        for place in left:
            same = _overlap(said[best], said[place])
            repeats[place] = max(repeats[place], _SAID if same > 900 else 4 * (same - 500))
    return sorted((candidates[place] for place in chosen), key=lambda one: (one.turn, one.start))


def _overlap(one: frozenset[str], other: frozenset[str]) -> int:
    """How much of the shorter is in the longer, in permille."""
    return 1000 * len(one & other) // max(1, min(len(one), len(other)))


def candidates_of(turn: int, text: str, count: Callable[[str], int]) -> list[Candidate]:
    """The sentences of one turn."""
    return [
        Candidate(turn, start, end, text[start:end], count(text[start:end] + "\n")) for start, end in sentences(text)
    ]
