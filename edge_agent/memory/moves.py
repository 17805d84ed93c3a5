"""What one transaction changed, as the caches of memory need to know it."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.memory.vector import Embedding


@dataclass(frozen=True)
class Traits:
    """By what an item is let in or kept out of a search. Times are microseconds; ``expires_at`` is 0 for never."""

    scope: str
    kind: str
    expires_at: int
    changed_at: int


@dataclass
class Moves:
    """By row number of the item: what it became; which went; whose vectors went; the vectors that came, by part.
    ``asked`` is whether there is something new to tell the hub."""

    rows: dict[int, Traits] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    stripped: list[int] = field(default_factory=list)
    vectors: list[tuple[int, int, str, Embedding]] = field(default_factory=list)
    asked: bool = False

    @property
    def any(self) -> bool:
        """Whether an item or a vector is not as it was."""
        return bool(self.rows or self.gone or self.stripped or self.vectors)
