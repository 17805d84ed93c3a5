"""The agent's long-term memory: items as Automerge documents in SQLite, with words and vectors to find them by."""

from __future__ import annotations

from edge_agent.memory.store import Kept, Memory, read_decisions

__all__ = ["Kept", "Memory", "read_decisions"]
