"""The open door: unmodified automerge-repo clients read and edit chosen documents of teams, live.

How to: ``docs/how-to/edit-with-automerge.md``. ``server.doors`` says who may open which document, ``documents`` keeps
those that are open, ``connection`` talks with one client, and ``door`` lets them in. The wire is in
``shared/memory/repo``.

What a client sends goes the way of everything else that comes from outside: read in pure Python, screened, applied to a
scratch copy in a worker, and then into the team's feed. A client is never nearer to the record than a device is.
"""

from __future__ import annotations

from server.opendoor.door import OpenDoor

__all__ = ["OpenDoor"]
