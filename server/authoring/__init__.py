"""Authoring: policy, playbooks, prompts and the rest of a release, from the first edit to publication.

``room`` is its face; ``drafts`` keeps every version, ``checking`` judges the files (with ``lint_policy``,
``lint_playbooks`` and ``conditions``), ``diff`` shows what changed, ``access`` are people's tokens for programs,
``http`` is what these reach, ``commands`` with ``remote`` and ``folder`` are `outrider release`. How to:
``docs/how-to/author-a-release.md``.

The names below are loaded when they are used: `outrider release` runs where no hub is, and should not wait for one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.authoring.access import Access
    from server.authoring.drafts import Version
    from server.authoring.findings import ERROR, WARNING, Finding, Known
    from server.authoring.http import routes
    from server.authoring.room import AUTHORS, Authoring, Published, may_author

__all__ = [
    "AUTHORS", "ERROR", "WARNING", "Access", "Authoring", "Finding", "Known", "Published", "Version", "may_author",
    "routes",
]  # fmt: skip

_HOMES = {
    "access": ("Access",),
    "drafts": ("Version",),
    "findings": ("ERROR", "WARNING", "Finding", "Known"),
    "http": ("routes",),
    "room": ("AUTHORS", "Authoring", "Published", "may_author"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(name)
