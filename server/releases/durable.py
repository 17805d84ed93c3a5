"""Writing files so that a kill or a power cut leaves the old file or the new one, never half of one."""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import Unavailable


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` beside ``path``, force it to disk, then rename it into place and force the folder to disk.

    Raises ``Unavailable('disk.write')``; whatever stood at ``path`` still stands then.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        make_folder(path.parent)
        part.unlink(missing_ok=True)  # left by a kill; only the holder of the hub's lock writes here
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise Unavailable("disk.write", f"{path}: {error.strerror}", advice="free space, check its owner") from error


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Make a folder and those above it, and force their names to disk: a synced file in a lost folder is lost too."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=mode, exist_ok=True)
        _sync_folder(folder.parent)


def remove(path: Path) -> None:
    """Remove a file, and force that to disk."""
    path.unlink(missing_ok=True)
    if path.parent.exists():
        _sync_folder(path.parent)


def rename(path: Path, to: Path) -> None:
    """Put a file in another's place in the same folder, and force that to disk."""
    path.replace(to)
    _sync_folder(to.parent)


def _sync_folder(path: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened to be synced
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
