"""What the hub's log says of releases and rollouts, folded one entry at a time.

A release that is published for all counts at once, unless a rollout is under way; then, as one that was published
``staged``, it is for nobody until its own rollout starts. The very first has nothing to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shared import entries as e
from shared import rollout as r
from shared.entries import FACTS, Facts

# The types of entry that say anything of this.
TYPES = sorted({name for (name, _), kind in FACTS.items() if issubclass(kind, (e.ReleasePublishedV1, *r.OF_ROLLOUTS))})


@dataclass(frozen=True)
class Event:
    """An entry of the hub's log about a rollout."""

    at: int
    facts: Facts


@dataclass(frozen=True)
class Told:
    """What the hub's log says, as far as it was read. ``newest`` is the last release published, ``current`` the last
    one published for all since the newest rollout; 0 for none."""

    state: r.Rollout | None = None
    current: int = 0
    newest: int = 0

    def due(self, device: str) -> int:
        """The release a device is to run; 0 before the first."""
        return r.assigned(self.state, self.current, device)

    @property
    def base(self) -> int:
        """The release that everybody runs whom nobody put apart; during a rollout, the control. 0 before the first."""
        if self.state is not None and self.state.active and self.state.plan is not None:
            return self.state.plan.control
        return self.due("")

    def further(self, facts: Facts, at: int) -> Told:
        """One entry further. Raises ``Conflict('rollout.order')`` on what cannot follow."""
        if isinstance(facts, e.ReleasePublishedV1):
            return self if facts.release <= self.newest else self._published(facts)  # after a kill it may stand twice
        state = r.fold(self.state, facts, at)
        return replace(self, state=state, current=0 if isinstance(facts, e.RolloutStarted) else self.current)

    def _published(self, facts: e.ReleasePublishedV1) -> Told:
        under_way = self.state is not None and self.state.active
        staged = isinstance(facts, e.ReleasePublished) and facts.staged
        for_nobody = under_way or (staged and self.base)
        return replace(self, newest=facts.release, current=self.current if for_nobody else facts.release)


@dataclass
class Course:
    """One rollout: its newest state, and what was done about it."""

    state: r.Rollout
    events: list[Event] = field(default_factory=list)
