"""The log's files as files: room in the write-ahead log, whether they are still there, and how far the log had come.

SQLite keeps a log in ``log.sqlite3`` and ``log.sqlite3-wal``. Beside them stands ``log.sqlite3-head``, a copy of the
newest checkpoint. It is written after every commit without a sync, and proves nothing by its absence; but a log that is
shorter than its head, or has another root at that size, was cut or restored from an older copy.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge_agent.database import FOLD_PAGES
from shared.errors import Unavailable

_RESERVE = FOLD_PAGES * 4120 + 64 * 1024  # what SQLite's write-ahead log grows to before it begins again
_CHUNK = bytes(256 * 1024)
_HEAD_BYTES = 1024


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def sync_folder(folder: Path) -> None:
    """Make sure that a file's new name in it is on the disk. Windows does that by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reserve(path: Path) -> None:
    """Grow the write-ahead log to its usual size with zeros, which SQLite reads as its end.

    A sync of a file that grew must also write the file's new size: commits take half as long where the room is there
    already. Left out where the disk is short of space, or will not have it.
    """
    file = wal(path)
    try:
        if shutil.disk_usage(path.parent).free < 16 * _RESERVE:
            return
        with file.open("r+b", buffering=0) as handle:
            left = _RESERVE - handle.seek(0, os.SEEK_END)
            while left > 0:
                left -= handle.write(_CHUNK[:left])
            os.fsync(handle.fileno())
    except OSError:
        return


class Watched:
    """Files that must stay where they are: what is written to a removed file is gone when the process ends."""

    def __init__(self, path: Path) -> None:
        self._paths = (str(path), str(wal(path)))
        self._seen = tuple(_identity(path) for path in self._paths)

    def gone(self) -> list[str]:
        """Those that were removed or replaced since."""
        return [path for path, seen in zip(self._paths, self._seen, strict=True) if _identity(path) != seen]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - after every commit, and half the price of Path.stat
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _head(path: Path) -> Path:
    return path.with_name(path.name + "-head")


def read_head(path: Path) -> bytes:
    """The copy of the newest checkpoint beside a log; empty when there is none."""
    try:
        return _head(path).read_bytes().rstrip(b"\0")
    except OSError:
        return b""


class Head:
    """The copy of the newest checkpoint beside a log. One writer; a torn or foreign one counts as none."""

    def __init__(self, path: Path) -> None:
        file = _head(path)
        try:
            file.touch(mode=0o600)
            self._handle = file.open("r+b", buffering=0)
        except OSError as error:
            raise Unavailable(
                "log.read-only", f"{file}: {error.strerror}", advice="mount it writable, check its owner"
            ) from error

    def write(self, note: bytes) -> None:
        """Keep a note; not synced. A disk that will not take it does not stop the log: the commit itself is there."""
        try:
            self._handle.seek(0)
            self._handle.write(note.ljust(_HEAD_BYTES, b"\0"))
        except OSError:
            return

    def close(self) -> None:
        self._handle.close()
