"""Session memory: what was said in a conversation or a run, and a summary that keeps the prompt flat.

A session keeps its turns, the sentences that sum up what came before the newest of them, and what it refers to (files,
items, entries) by name and hash, never as a copy. When the turns outgrow their share of the prompt the oldest are
folded into the summary: sentences are *chosen*, word for word, with the turn each comes from; nothing is written anew,
so the summary cannot say what nobody said. A session that has rested becomes items of kind ``summary``, and its turns
expire.
"""

from __future__ import annotations

from edge_agent.sessions.fold import Chooser, Meaning, fold
from edge_agent.sessions.rest import Rested, rested
from edge_agent.sessions.store import Artefact, Budget, Sentence, Session, Sessions, Turn

__all__ = [
    "Artefact",
    "Budget",
    "Chooser",
    "Meaning",
    "Rested",
    "Sentence",
    "Session",
    "Sessions",
    "Turn",
    "fold",
    "rested",
]
