"""The hub's devices: how they join, how they are seen, what they are lent and sent, and how they are let go."""

from __future__ import annotations

from server.devices.fleet import Devices, Pinned, revoked
from server.devices.views import DeviceView

__all__ = ["DeviceView", "Devices", "Pinned", "revoked"]
