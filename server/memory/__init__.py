"""The hub's memory: one feed per scope, who may use it, what is in it, and how it is forgotten.

Devices push changes and pull records (``feeds``); every change is judged before it is kept (``judging``). ``access``
says whose scope is whose, ``erasure`` forgets, ``holds`` keeps from forgetting, and ``items`` shows and edits what
there is. The records of the feeds are the truth; everything else is made from them.
"""

from __future__ import annotations

from server.memory.orders import MemoryOrder, carry_out
from server.memory.room import Memory

__all__ = ["Memory", "MemoryOrder", "carry_out"]
