"""Prefix states on disk: what the model had computed after a prompt's fixed beginning, for the next process.

A file's name carries its key (model, prefix, context parameters, llama.cpp version) and the hash of its own bytes,
which is checked before native code reads it. The oldest go first. They hold the tokens of prompt templates, never of
tasks; erasing them costs only time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from edge_agent.models.store import file_sha256


class StateFolder:
    """At most ``most`` files under ``folder``. Trouble with the disk means working without them, not failing."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most

    def find(self, key: str) -> Path | None:
        """The state with that key, if there is one and its bytes are those that were written."""
        for path in self._folder.glob(f"{key}.*.state"):
            with contextlib.suppress(OSError):
                if file_sha256(path) == path.name.split(".")[1]:
                    os.utime(path)
                    return path
                path.unlink()
        return None

    def save(self, key: str, write: Callable[[Path], bool]) -> None:
        """``write`` writes to the path it gets. A cut file is never found: its name comes last, by rename."""
        if self._most < 1:
            return
        fresh = self._folder / f"{os.getpid()}.new"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            if write(fresh):
                fresh.replace(self._folder / f"{key}.{file_sha256(fresh)}.state")
            self._prune()
        except OSError:
            return  # the disk is full or read-only: the next process computes the prefix again
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)

    def _prune(self) -> None:
        found = sorted(self._folder.glob("*.state"), key=lambda path: path.stat().st_mtime_ns)
        for path in found[: -self._most]:
            path.unlink(missing_ok=True)

    def clear(self) -> int:
        count = 0
        for path in [*self._folder.glob("*.state"), *self._folder.glob("*.new")]:
            path.unlink(missing_ok=True)
            count += path.suffix == ".state"
        return count
