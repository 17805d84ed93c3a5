"""The agent's long-term memory: items as Automerge documents in SQLite, with words and vectors to find them by."""

from __future__ import annotations

from edge_agent.memory.decisions import read_decisions
from edge_agent.memory.feeds import Feed, Taken, Wish
from edge_agent.memory.items import Kept
from edge_agent.memory.search import Found, Query, Why
from edge_agent.memory.store import Memory

__all__ = ["Feed", "Found", "Kept", "Memory", "Query", "Taken", "Why", "Wish", "read_decisions"]
