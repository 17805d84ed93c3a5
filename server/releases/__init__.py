"""Releases: what the hub signs and every agent obeys. Spec page: ``shared/spec/release.md``.

``workspace`` reads the folder people edit, ``repository`` keeps the signed TUF repository, ``publisher`` joins the two
and is the room's face.
"""

from __future__ import annotations

from server.releases.publisher import HubLog, Releases

__all__ = ["HubLog", "Releases"]
