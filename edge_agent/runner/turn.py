"""One stretch of a run's way: drafts that are folded but not yet on the disk.

They are folded at the journal's time, the one they will be written with, so that what holds here holds in the log: an
engine that went wrong stops before it writes. Until they are committed their entries have negative numbers, by which
their bodies are found all the same.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any

from edge_agent.journal import Journal
from shared.entries import Draft, Entry, Facts, type_of
from shared.runs import Device, Run, fold


class Turn:
    """``run`` is the run as far as it was folded. Nothing outside sees it before ``commit``."""

    def __init__(self, journal: Journal, device: Device, run: Run) -> None:
        self._journal = journal
        self._device = device
        self._drafts: list[Draft] = []
        self._bodies: dict[int, dict[str, Any]] = {}
        self._reserved = ExitStack()
        self.run = run

    @property
    def pending(self) -> bool:
        return bool(self._drafts)

    def add(self, facts: Facts, *, not_after: int = 0, **bodies: Any) -> None:
        """Fold a draft. Raises ``Tampered('run.order')`` before anything that may not follow can be written."""
        name, version = type_of(facts)
        seq = -2 - len(self._bodies)
        entry = Entry(seq=seq, at=self._journal.now(), type=name, v=version, run=self.run.id, facts=facts, bodies={})
        self.run = fold(self.run, entry)
        self._bodies[seq] = bodies.get("shared") or {}
        self._drafts.append(Draft(facts, self.run.id, bodies, not_after=not_after))

    def take(self, draft: Draft) -> None:
        self.add(draft.facts, not_after=draft.not_after, **draft.bodies)

    def also(self, draft: Draft) -> None:
        """Commit a draft of another run together with this one's."""
        self._drafts.append(draft)

    def reserve(self, reservation: AbstractContextManager[None]) -> None:
        """Hold something until the next commit."""
        self._reserved.enter_context(reservation)

    def body(self, seq: int) -> dict[str, Any] | None:
        """The shared body of one of the run's entries; ``None`` where it was erased."""
        return self._bodies.get(seq) if seq < -1 else self._journal.body(seq)

    async def commit(self) -> None:
        """Put what was folded on the disk."""
        try:
            if self._drafts:
                drafts, self._drafts = self._drafts, []
                await self._journal.append(*drafts)
                self._bodies.clear()
                self.run = self._device.find(self.run.id) or self.run
        finally:
            self._reserved.close()

    def drop(self) -> None:
        """Forget what was not committed."""
        self._drafts.clear()
        self._reserved.close()
