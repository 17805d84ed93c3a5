"""The agent's long-term memory: items as Automerge documents in SQLite, with words and vectors to find them by.

SQLite is the only truth. The columns beside a document, the word index and the vectors are derived from it and can be
made again. A vector carries the hash of the model that made it; vectors of another model are not used and are made
anew. One class put together from its parts: ``base`` (the database), ``items``, ``forgetting``, ``feeds`` (as one of
many replicas) and ``search``.
"""

from __future__ import annotations

from typing import overload

from edge_agent.memory.feeds import Feeds
from edge_agent.memory.items import Kept
from edge_agent.memory.search import Finding, Found, Query
from shared.memory.vector import Embedding


class Memory(Feeds, Finding):
    """One device's memory. Its methods may be called from any thread."""

    @overload
    def search(self, wanted: str, *, limit: int = 20) -> list[Kept]: ...

    @overload
    def search(
        self, wanted: Query, *, limit: int = 20, now: int = 0, vector: Embedding | None = None, model: str = ""
    ) -> list[Found]: ...

    def search(
        self, wanted: str | Query, *, limit: int = 20, now: int = 0, vector: Embedding | None = None, model: str = ""
    ) -> list[Kept] | list[Found]:
        """Items that match, best first. For a ``Query``: by words and, where ``vector`` (that of its text, by
        ``model``) is given, by meaning; ``now`` in microseconds decides what is expired. For a plain text: by words,
        the expired too."""
        if isinstance(wanted, Query):
            return self.find(wanted, now=now, vector=vector, model=model)
        if not wanted.strip():
            return []
        return [found.kept for found in self.find(Query(wanted, limit=limit, include_expired=True), now=0)]
