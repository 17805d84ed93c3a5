"""A workspace in a plain folder, so that it can live in git: what was pulled when, and how it meets what is newer.

Beside the files stands ``.outrider-release.json``: the hub, the version that was pulled, and the hashes of its files.
By these, what was changed here and what was changed there are told apart, file by file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from server.releases.workspace import belongs
from shared.codec import canonical, hex_sha256, parse
from shared.errors import BadInput, Conflict, Unavailable

STATE = ".outrider-release.json"


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was pulled last: ``files`` maps paths to SHA-256. Version 0 is nothing yet."""

    hub: str = ""
    version: int = 0
    files: dict[str, str] = {}


def read_state(folder: Path) -> State:
    """Raises ``BadInput('release.state')``."""
    path = folder / STATE
    if not path.exists():
        return State()
    try:
        return parse(path.read_bytes(), State, code="release.state", what=str(path))
    except (BadInput, OSError) as error:
        raise BadInput(
            "release.state", f"{path} cannot be read", advice="remove it, and pull into another folder", where=str(path)
        ) from error


def write_state(folder: Path, hub: str, version: int, files: Mapping[str, bytes]) -> None:
    hashes = {path: hex_sha256(data) for path, data in sorted(files.items())}
    _write(folder / STATE, canonical(State(hub, version, hashes)) + b"\n")


def merged(base: Mapping[str, str], mine: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """What both sides made of ``base``, file by file. Raises ``Conflict('draft.conflict')`` where both changed one."""
    found: dict[str, bytes] = {}
    clashing = []
    for path in sorted({*base, *mine, *theirs}):
        one, other = mine.get(path), theirs.get(path)
        before = base.get(path)
        if one == other or _hash(other) == before:
            kept = one
        elif _hash(one) == before:
            kept = other
        else:
            clashing.append(path)
            continue
        if kept is not None:
            found[path] = kept
    if clashing:
        raise Conflict(
            "draft.conflict",
            f"changed here and at the hub: {', '.join(clashing)}",
            advice="pull into another folder, bring both together there, and push with --replace",
            where=clashing[0],
        )
    return found


def put(folder: Path, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Make the folder's files those of ``after``; the paths that changed. Raises ``BadInput('draft.path')`` for a path
    that would not lie in it, ``Unavailable('release.folder')``."""
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    for path in changed:
        if not belongs(path):
            raise BadInput("draft.path", f"{path[:120]!r} is no file of a workspace", advice="do not trust that hub")
    try:
        for path in changed:
            if path in after:
                _write(folder / path, after[path])
            else:
                (folder / path).unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(
            "release.folder", f"{error.strerror or error}", advice="check the folder and its owner", where=str(folder)
        ) from error
    return changed


def _hash(data: bytes | None) -> str | None:
    return None if data is None else hex_sha256(data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(data)
    os.replace(draft, path)  # noqa: PTH105 - Path.replace says the same; this one is atomic by name
