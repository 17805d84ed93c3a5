"""The hub's end of the link: one WebSocket per agent. Protocol: ``shared/spec/link.md``.

``handshake`` finds out who is there, ``connection`` serves one agent until it goes, ``exchange`` is what the two say to
each other, and ``switchboard`` keeps each device to one connection.
"""

from __future__ import annotations

from server.link.switchboard import Link

__all__ = ["Link"]
