"""One process per home: the log has one writer, and this is how it stays so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shared.errors import Conflict


class Lock:
    """Held from construction to ``release`` or the process's end, however it ends."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(self._handle)
        except OSError as error:
            os.close(self._handle)
            raise Conflict(
                "agent.running", f"another agent works in {path.parent}", advice="stop it first, or use another --home"
            ) from error

    def release(self) -> None:
        os.close(self._handle)


def is_held(path: Path) -> bool:
    """Whether an agent works in this home now."""
    if not path.exists():
        return False
    try:
        Lock(path).release()
    except Conflict:
        return True
    return False


if sys.platform == "win32":  # pragma: no cover - the other half of a platform seam
    import msvcrt

    def _take(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
