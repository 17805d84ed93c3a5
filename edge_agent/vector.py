"""The vector of a text, alike on the agent and the hub; see ``shared.memory.vector``."""

from __future__ import annotations

from shared.memory.vector import Embedding

__all__ = ["Embedding"]
