"""What people did to the workspace that releases are made of, and to their own access to it. In the hub's log."""

from __future__ import annotations

from shared.facts.base import Facts


class DraftSaved(Facts, frozen=True):
    """The workspace has a new version. ``origin`` is ``edit``, ``restore`` (of version ``source``), ``push`` or
    ``folder``; ``digest`` is that of its list of files, each with its hash."""

    version: int
    by: str
    origin: str
    source: int
    digest: str


class DraftSigned(Facts, frozen=True):
    """A person signed a version of the workspace off: exactly these files may be published."""

    version: int
    by: str
    digest: str


class AccessIssued(Facts, frozen=True):
    """A person's token for programs; only the hash of its secret is kept, and not here."""

    token: str
    user: str
    scopes: list[str]
    expires_at: int
    by: str


class AccessRevoked(Facts, frozen=True):
    token: str
    by: str
