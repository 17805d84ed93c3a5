"""Releases: what the hub signs and every agent obeys. Spec page: ``shared/spec/release.md``.

``workspace`` reads the folder people edit, ``repository`` keeps the signed TUF repository (``state`` in memory,
``ceremony`` who may sign, ``expiry`` when that ends), ``proposals`` what waits for people's signatures; ``publisher``
joins them and is the room's face.
"""

from __future__ import annotations

from server.releases.ceremony import RootChange
from server.releases.proposals import Proposal
from server.releases.publisher import HubLog, Releases

__all__ = ["HubLog", "Proposal", "Releases", "RootChange"]
