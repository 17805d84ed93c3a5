"""Handing models to other devices of the same hub, where the release in force and this computer's owner both allow it.

``requests`` judges what is asked, ``server`` is the listener. How this device asks others: ``edge_agent.models.peers``.
"""

from __future__ import annotations

from edge_agent.peering.server import PeerServer

__all__ = ["PeerServer"]
