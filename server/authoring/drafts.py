"""The workspace's versions: kept whole, never changed, each an entry of the hub's log; and what people say of them.

There is one workspace and one line of versions. Whoever saves names what they began from, so that two people who edit
at once hear of each other instead of one undoing the other in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from server.releases.workspace import belongs
from server.store import HubLog
from server.store.authoring_tables import DRAFT_BLOBS, DRAFT_COMMENTS, DRAFT_RELEASES, DRAFT_SIGNOFFS, DRAFTS
from shared import limits
from shared.codec import digest, hex_sha256
from shared.entries import Draft, DraftSaved, DraftSigned, Written
from shared.errors import BadInput, Conflict

EDIT, RESTORE, PUSH, FOLDER = "edit", "restore", "push", "folder"
MOST_FILES = 200
_NOTE_CHARS, _COMMENT_CHARS = 300, 4_000


@dataclass(frozen=True)
class Version:
    """A version of the workspace: ``files`` maps paths to hashes. ``release`` is the number it was put forward as, 0
    for none; ``proposal`` the proposal's id. ``at`` is microseconds since 1970 UTC."""

    version: int
    at: int
    by: str
    origin: str
    source: int
    note: str
    digest: str
    files: dict[str, str]
    release: int = 0
    proposal: str = ""
    signers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comment:
    """``path`` is empty for the version as a whole, ``line`` 0 for the whole file."""

    n: int
    version: int
    path: str
    line: int
    by: str
    at: int
    text: str


class Drafts:
    """The versions in the hub's store. Version 0 is none: what there is before the first."""

    def __init__(self, hublog: HubLog) -> None:
        self._log = hublog
        self._store = hublog.store

    # --- reading ------------------------------------------------------------------------------------------------

    def newest(self) -> Version | None:
        found = self.list(1)
        return found[0] if found else None

    def list(self, limit: int = 100, before: int = 0) -> Sequence[Version]:
        """The newest first; only those before a version, where one is given."""
        asked = select(DRAFTS).order_by(DRAFTS.c.version.desc()).limit(limit)
        if before:
            asked = asked.where(DRAFTS.c.version < before)
        with self._store.read() as conn:
            return [_version(conn, row) for row in conn.execute(asked).all()]

    def get(self, version: int) -> Version:
        """Raises ``BadInput('draft.unknown')``."""
        with self._store.read() as conn:
            row = conn.execute(select(DRAFTS).where(DRAFTS.c.version == version)).first()
            if row is None:
                raise BadInput("draft.unknown", f"there is no version {version}", advice="see the list of versions")
            return _version(conn, row)

    def like(self, digest: str) -> Version | None:
        """The newest version of exactly these files."""
        asked = select(DRAFTS).where(DRAFTS.c.digest == digest).order_by(DRAFTS.c.version.desc()).limit(1)
        with self._store.read() as conn:
            row = conn.execute(asked).first()
            return None if row is None else _version(conn, row)

    def of_release(self, release: int) -> Version | None:
        """The version that a release was made of; ``None`` for one that was published without a version."""
        with self._store.read() as conn:
            asked = select(DRAFT_RELEASES.c.version).where(DRAFT_RELEASES.c.release == release)
            version = conn.execute(asked).scalar()
        return None if version is None else self.get(version)

    def files(self, version: Version) -> dict[str, bytes]:
        """Its files' bytes, by path."""
        wanted = sorted(set(version.files.values()))
        with self._store.read() as conn:
            rows = conn.execute(select(DRAFT_BLOBS).where(DRAFT_BLOBS.c.sha256.in_(wanted)))
            blobs = {row.sha256: bytes(row.data) for row in rows}
        return {path: blobs[sha256] for path, sha256 in sorted(version.files.items())}

    def comments(self, version: int) -> Sequence[Comment]:
        """What was said of a version, the oldest first."""
        asked = select(DRAFT_COMMENTS).where(DRAFT_COMMENTS.c.version == version).order_by(DRAFT_COMMENTS.c.n)
        with self._store.read() as conn:
            return [Comment(**row._mapping) for row in conn.execute(asked)]

    # --- writing ------------------------------------------------------------------------------------------------

    def save(
        self, files: Mapping[str, bytes], *, by: str, origin: str, base: int, source: int = 0, note: str = ""
    ) -> Version:
        """A new version of these files, made from version ``base``.

        Raises ``Conflict('draft.moved')`` where another one came meanwhile, ``Conflict('draft.same')`` where nothing
        changed, ``BadInput('draft.path' | 'draft.too-many' | 'draft.note' | 'release.file-too-large')``.
        """
        note = _tidy(note)
        _check(files)
        hashes = {path: hex_sha256(data) for path, data in sorted(files.items())}
        with self._store.writing:
            newest = self.newest()
            at_newest = newest.version if newest else 0
            if at_newest != base:
                raise Conflict(
                    "draft.moved",
                    f"{newest.by if newest else 'nobody'} has saved version {at_newest} meanwhile",
                    advice="look at what changed, and save again on top of it",
                )
            if newest is not None and newest.files == hashes:
                raise Conflict("draft.same", "nothing was changed", advice="change something first")
            facts = DraftSaved(base + 1, by, origin, source, digest(hashes))

            def rows(conn: Connection, written: Sequence[Written]) -> None:
                _insert_blobs(conn, files, hashes)
                row = {"version": base + 1, "at": written[0].entry.at, "by": by, "origin": origin, "source": source}
                row |= {"note": note, "digest": facts.digest, "files": json.dumps(hashes)}
                conn.execute(insert(DRAFTS), [row])

            self._log.append([Draft(facts)], rows)
            return self.get(base + 1)

    def sign(self, version: Version, by: str) -> None:
        """Raises ``Conflict('draft.signed')`` the second time."""

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            if by in _signers(conn, version.version):
                raise Conflict("draft.signed", "you have signed this version off already", advice="ask somebody else")
            row = {"version": version.version, "by": by, "at": written[0].entry.at}
            conn.execute(insert(DRAFT_SIGNOFFS), [row])

        self._log.append([Draft(DraftSigned(version.version, by, version.digest))], rows)

    def comment(self, version: Version, by: str, text: str, path: str = "", line: int = 0) -> None:
        """Raises ``BadInput('draft.comment')``."""
        text = text.replace("\r\n", "\n").strip()
        if not text or len(text) > _COMMENT_CHARS or (path and path not in version.files) or line < 0:
            raise BadInput("draft.comment", "that is no comment on this version", advice="write a few words of it")
        row = {"version": version.version, "path": path, "line": line, "by": by, "at": self._log.clock(), "text": text}
        with self._store.write() as conn:
            conn.execute(insert(DRAFT_COMMENTS), [row])

    def put_forward(self, version: Version, release: int, proposal: str) -> None:
        """Note as which release a version is to be published."""
        with self._store.write() as conn:
            row = {"release": release, "version": version.version, "proposal": proposal}
            conn.execute(insert(DRAFT_RELEASES), [row])


def _signers(conn: Connection, version: int) -> list[str]:
    asked = select(DRAFT_SIGNOFFS.c.by).where(DRAFT_SIGNOFFS.c.version == version).order_by(DRAFT_SIGNOFFS.c.at)
    return list(conn.execute(asked).scalars())


def _version(conn: Connection, row: Row[Any]) -> Version:
    asked = (
        select(DRAFT_RELEASES).where(DRAFT_RELEASES.c.version == row.version).order_by(DRAFT_RELEASES.c.release.desc())
    )
    published = conn.execute(asked).first()
    known: dict[str, Any] = dict(row._mapping) | {"files": json.loads(row.files)}
    if published is not None:
        known |= {"release": published.release, "proposal": published.proposal}
    return Version(**known, signers=_signers(conn, row.version))


def _insert_blobs(conn: Connection, files: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
    wanted = {hashes[path]: data for path, data in files.items()}
    known = select(DRAFT_BLOBS.c.sha256).where(DRAFT_BLOBS.c.sha256.in_(sorted(wanted)))
    new = wanted.keys() - set(conn.execute(known).scalars())
    if new:
        conn.execute(insert(DRAFT_BLOBS), [{"sha256": sha256, "data": wanted[sha256]} for sha256 in sorted(new)])


def _check(files: Mapping[str, bytes]) -> None:
    if len(files) > MOST_FILES:
        raise BadInput("draft.too-many", f"there are more than {MOST_FILES} files", advice="remove what is not used")
    for path, data in files.items():
        if not belongs(path):
            raise BadInput(
                "draft.path",
                f"{path[:120]!r} is no file of a workspace",
                advice="known are policy.cedar, schema.cedarschema, models.json, memory.yaml, peers.yaml, and the "
                "folders playbooks and prompts",
            )
        if len(data) > limits.RELEASE_FILE_BYTES:
            raise BadInput("release.file-too-large", f"{path} is too large", advice="keep data in memory", where=path)


def _tidy(note: str) -> str:
    note = " ".join(note.split())
    if len(note) > _NOTE_CHARS:
        raise BadInput("draft.note", f"the note has {len(note)} characters", advice=f"use at most {_NOTE_CHARS}")
    return note
