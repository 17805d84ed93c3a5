"""What is put before a planner, within a budget of tokens. Pure, and the same for the same input.

A prompt's room is fixed, what could stand in it is not. So everything that could is put in one order of importance, and
the longest beginning of that order that fits is taken:

1. pinned rules, as they are given;
2. the newest turn: what is being answered;
3. the rolling summary, sentence by sentence, as it is given;
4. in rounds, one retrieved item (the best first) and two older turns (the newest first).

Trimming therefore goes from the end: the oldest turns and the weakest items first, pinned rules last. Nothing is
skipped to let something smaller in, so a larger budget never loses what a smaller one had. A part that no budget could
be meant for (longer than ``most`` tokens), that says what stands there already, or that says nothing is left out before
that. Whatever is left out is listed, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from shared.errors import BadInput

Kind = Literal["pinned", "summary", "item", "turn"]
Reason = Literal["budget", "too-large", "repeated", "empty"]
Count = Callable[[str], int]

SHOWN: tuple[Kind, ...] = ("pinned", "summary", "item", "turn")  # the order on the page
_TURNS_A_ROUND = 2


class Part(msgspec.Struct, frozen=True):
    """One text that may be put before the planner, and the id it is recorded by."""

    id: str
    text: str


class Parts(msgspec.Struct, frozen=True):
    """All there is: ``pinned`` and ``items`` best first, ``turns`` oldest first, ``summary`` in reading order."""

    pinned: list[Part] = msgspec.field(default_factory=list)
    turns: list[Part] = msgspec.field(default_factory=list)
    items: list[Part] = msgspec.field(default_factory=list)
    summary: list[Part] = msgspec.field(default_factory=list)


class Block(msgspec.Struct, frozen=True):
    """A part that was taken."""

    kind: Kind
    id: str
    text: str
    tokens: int


class LeftOut(msgspec.Struct, frozen=True):
    """A part that was not, its size in tokens, and why."""

    kind: Kind
    id: str
    tokens: int
    reason: Reason


class Context(msgspec.Struct, frozen=True):
    """``text`` is what the planner reads, ``used`` its tokens. ``left_out`` is in the order of importance."""

    text: str
    blocks: list[Block]
    used: int
    left_out: list[LeftOut]

    @property
    def lacks_pinned(self) -> bool:
        """Whether a pinned rule did not fit: a planner must not go on without it."""
        return any(left.kind == "pinned" and left.reason in ("budget", "too-large") for left in self.left_out)


_Entry = tuple[Kind, Part]


def assemble(parts: Parts, budget: int, count: Count, *, most: int | None = None) -> Context:
    """The context of at most ``budget`` tokens, as ``count`` counts them. ``most`` bounds one part that is not pinned.
    Raises ``BadInput('plan.budget')`` where the budget is negative."""
    if budget < 0:
        raise BadInput("plan.budget", "a budget of tokens is negative", advice="use a larger context")
    order: list[tuple[Block, int]] = []
    left: list[tuple[int, LeftOut]] = []
    seen: set[str] = set()
    for rank, (kind, part) in enumerate(_order(parts)):
        tokens = count(part.text + "\n")
        said = " ".join(part.text.split())
        reason: Reason | None = None
        if not said:
            reason = "empty"
        elif said in seen and kind != "turn":  # a turn may repeat another: that it was said again is what it says
            reason = "repeated"
        elif most is not None and kind != "pinned" and tokens > most:
            reason = "too-large"
        seen.add(said)
        if reason:
            left.append((rank, LeftOut(kind, part.id, tokens, reason)))
        else:
            order.append((Block(kind, part.id, part.text, tokens), rank))
    taken, text, used = _longest(order, budget, count)
    left += [(rank, LeftOut(block.kind, block.id, block.tokens, "budget")) for block, rank in order[taken:]]
    blocks = _shown(order[:taken])
    return Context(text, blocks, used, [entry for _, entry in sorted(left, key=lambda pair: pair[0])])


def _order(parts: Parts) -> Iterator[_Entry]:
    """Every part, the most important first."""
    for part in parts.pinned:
        yield "pinned", part
    turns = list(reversed(parts.turns))
    for part in turns[:1]:
        yield "turn", part
    for part in parts.summary:
        yield "summary", part
    at = 1
    for item in parts.items:
        yield "item", item
        for part in turns[at : at + _TURNS_A_ROUND]:
            yield "turn", part
        at += _TURNS_A_ROUND
    for part in turns[at:]:
        yield "turn", part


def _longest(order: list[tuple[Block, int]], budget: int, count: Count) -> tuple[int, str, int]:
    """How many parts fit, their text, and its tokens. The whole text is counted again: parts that stand together may
    count for more than each alone."""
    taken = total = 0
    while taken < len(order) and total + order[taken][0].tokens <= budget:
        total += order[taken][0].tokens
        taken += 1
    while taken:
        text = "\n".join(block.text for block in _shown(order[:taken]))
        used = count(text)
        if used <= budget:
            return taken, text, used
        taken -= 1
    return 0, "", 0


def _shown(taken: list[tuple[Block, int]]) -> list[Block]:
    """In reading order: rules, summary, items by importance, then turns as they were said."""
    ranked = [(SHOWN.index(block.kind), -rank if block.kind == "turn" else rank, block) for block, rank in taken]
    return [block for _, _, block in sorted(ranked, key=lambda entry: entry[:2])]
