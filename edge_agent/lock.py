"""One process per home: the log has one writer, and this is how it stays so."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from shared.errors import Conflict, Unavailable

_WAITS = (0.01, 0.02, 0.04, 0.08, 0.0)  # seconds between tries


class Lock:
    """Held from construction to ``release`` or the process's end, however it ends."""

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unavailable("agent.lock", f"{path}: {error.strerror}", advice="check the folder's owner") from error
        for wait in _WAITS:
            try:
                _take(self._handle)
                return
            except OSError:
                time.sleep(wait)  # perhaps somebody only looks whether it is held
        os.close(self._handle)
        raise Conflict(
            "agent.running", f"another agent works in {path.parent}", advice="stop it first, or use another --home"
        )

    def release(self) -> None:
        os.close(self._handle)


def is_held(path: Path) -> bool:
    """Whether an agent works in this home now."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _take(handle)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


if sys.platform == "win32":  # pragma: no cover - the other half of a platform seam
    import msvcrt

    def _take(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
