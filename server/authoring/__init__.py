"""Authoring: policy, playbooks, prompts and the rest of a release, from the first edit to publication.

``room`` is its face; ``drafts`` keeps every version, ``checking`` judges the files (with ``lint_policy``,
``lint_playbooks`` and ``conditions``), ``diff`` shows what changed, ``access`` are people's tokens for programs,
``http`` is what these reach, ``commands`` with ``remote`` and ``folder`` are `outrider release`. How to:
``docs/how-to/author-a-release.md``.
"""

from server.authoring.access import Access, AccessToken
from server.authoring.drafts import Comment, Drafts, Version
from server.authoring.findings import ERROR, WARNING, Finding, Known
from server.authoring.http import routes
from server.authoring.room import AUTHORS, Authoring, Published, may_author

__all__ = [
    "AUTHORS", "ERROR", "WARNING", "Access", "AccessToken", "Authoring", "Comment", "Drafts", "Finding", "Known",
    "Published", "Version", "may_author", "routes",
]  # fmt: skip
