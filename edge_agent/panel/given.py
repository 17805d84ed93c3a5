"""What the app hands to the panel: the rooms whose work it shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_agent.api.desk import Desk

if TYPE_CHECKING:
    from edge_agent.memory import Memory
    from edge_agent.memory.asking import Asked
    from edge_agent.sessions import Sessions
    from shared.memory.rules import MemoryRules
    from shared.memory.vector import Embedding


class Forget(Protocol):
    """Forget in memory and in sessions, as ``edge_agent.upkeep.forget`` does; one of the four at a time."""

    def __call__(
        self, *, reason: str, items: Sequence[str] = (), about: str = "", scope: str = "", run: str = ""
    ) -> Asked: ...


@dataclass(frozen=True)
class Given:
    """``rules`` are those of memory in force; ``meaning`` gives a question's vector and the model that made it, none
    where there is no model; ``forget_sessions`` erases conversations by name, and says how many; ``now`` is the clock,
    µs since 1970 UTC."""

    desk: Desk
    memory: Memory
    rules: Callable[[], MemoryRules]
    meaning: Callable[[str], Awaitable[tuple[str, Embedding | None]]]
    sessions: Sessions
    forget: Forget
    forget_sessions: Callable[[Sequence[str]], int]
    now: Callable[[], int]
