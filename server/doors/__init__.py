"""Tokens that open a team's documents to programs of other makers, and who may make them.

Where they are used is ``server/opendoor``. How to: ``docs/how-to/edit-with-automerge.md``.
"""

from __future__ import annotations

from server.doors.orders import DoorOrder, carry_out
from server.doors.tokens import PATH, Door, Doors

__all__ = ["PATH", "Door", "DoorOrder", "Doors", "carry_out"]
