"""The tables of authoring: the workspace's versions and what people said of them, and people's tokens for programs.

A version names its files by their hashes; the bytes stand once in ``draft_blobs``, however many versions have them.
Nothing here is ever overwritten or deleted, so every version can be read and restored.
"""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field

from server.store.tables import Row, core


class DraftRow(Row, table=True):
    """A version of the workspace. ``files`` is JSON from path to SHA-256, ``digest`` that of it. ``origin`` and
    ``source`` are as in the log's ``draft.saved``."""

    __tablename__ = "drafts"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    at: int = Field(sa_type=BigInteger)
    by: str
    origin: str
    source: int
    note: str
    digest: str = Field(index=True)
    files: str


class DraftBlobRow(Row, table=True):
    """The bytes of a file, by their hash."""

    __tablename__ = "draft_blobs"

    sha256: str = Field(primary_key=True)
    data: bytes


class DraftCommentRow(Row, table=True):
    """What somebody said of a version: of a file where ``path`` is not empty, of a line where ``line`` is not 0."""

    __tablename__ = "draft_comments"

    n: int | None = Field(default=None, primary_key=True)
    version: int = Field(index=True)
    path: str
    line: int
    by: str
    at: int = Field(sa_type=BigInteger)
    text: str


class DraftSignoffRow(Row, table=True):
    """Somebody signed a version off."""

    __tablename__ = "draft_signoffs"

    version: int = Field(primary_key=True)
    by: str = Field(primary_key=True)
    at: int = Field(sa_type=BigInteger)


class DraftReleaseRow(Row, table=True):
    """A version that was put forward for publishing: as which release, and by which proposal."""

    __tablename__ = "draft_releases"

    release: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    version: int = Field(index=True)
    proposal: str


class AccessTokenRow(Row, table=True):
    """A person's token for programs. Only the hash of its secret is kept; ``scopes`` is a JSON list."""

    __tablename__ = "access_tokens"

    id: str = Field(primary_key=True)
    token_sha256: str = Field(unique=True)
    user: str = Field(index=True)
    label: str
    scopes: str
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    revoked_at: int = Field(default=0, sa_type=BigInteger)
    used_at: int = Field(default=0, sa_type=BigInteger)


DRAFTS, DRAFT_BLOBS, DRAFT_COMMENTS = core(DraftRow), core(DraftBlobRow), core(DraftCommentRow)
DRAFT_SIGNOFFS, DRAFT_RELEASES, ACCESS_TOKENS = core(DraftSignoffRow), core(DraftReleaseRow), core(AccessTokenRow)
