"""Folding old turns into the summary, with or without the on-device model.

The model may only help to choose: it is given the sentences and says how much each is worth. Whatever it answers, the
summary is made of those sentences, and the store checks each against its turn before it is kept. A model that fails or
is missing changes nothing but the choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from edge_agent.sessions.extract import Candidate, pick, worth
from edge_agent.sessions.store import Folding, Sentence, Sessions
from shared.errors import OutriderError
from shared.memory.vector import Embedding

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Embedding]]]


class Chooser(Protocol):
    """Says how much each sentence is worth to the whole, in permille."""

    async def values(self, sentences: Sequence[str]) -> Sequence[int]: ...


class Meaning:
    """The on-device embedder as a chooser: a sentence is worth as much as it is near in meaning to all of them."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    async def values(self, sentences: Sequence[str]) -> list[int]:
        found = await self._embed(sentences)
        return await asyncio.to_thread(_nearness, [vector.floats() for vector in found])


def _nearness(vectors: list[list[float]]) -> list[int]:
    middle = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
    length = sum(value * value for value in middle) ** 0.5 or 1.0
    return [round(1000 * sum(a * b for a, b in zip(vector, middle, strict=True)) / length) for vector in vectors]


async def fold(sessions: Sessions, session: str, chooser: Chooser | None = None) -> list[Sentence] | None:
    """Fold what has outgrown its share, if anything has; return the new summary. May be called after every turn.
    Raises ``BadInput('session.unknown')`` and what the store raises."""
    folding = await asyncio.to_thread(sessions.folding, session)
    if folding is None:
        return None
    values = worth(folding.candidates)
    if chooser is not None and folding.candidates:
        values = await _with(chooser, folding.candidates, values)
    return await asyncio.to_thread(finish, sessions, session, folding, values)


def finish(sessions: Sessions, session: str, folding: Folding, values: Sequence[int]) -> list[Sentence]:
    """Choose by ``values`` and keep the choice."""
    chosen = pick(folding.candidates, values, folding.budget)
    summary = [Sentence(one.turn, one.start, one.end, one.text) for one in chosen]
    sessions.keep(session, folding.until, summary)
    return summary


async def _with(chooser: Chooser, candidates: Sequence[Candidate], values: list[int]) -> list[int]:
    """The values by words and by the model together; by words alone where the model does not answer as it should."""
    try:
        said = await chooser.values([one.text for one in candidates])
    except OutriderError:
        return values
    if len(said) != len(values):
        return values
    return [
        value + max(-1000, min(1000, other)) if value > 0 else value for value, other in zip(values, said, strict=True)
    ]
