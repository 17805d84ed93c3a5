"""Act: carry out what the guard allowed, under an intent that is on the disk already."""

from edge_agent.act.hands import Hands, intent

__all__ = ["Hands", "intent"]
