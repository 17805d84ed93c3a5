"""What ``kill -9`` leaves of a machine: its files as they were before some SQL statement."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


class Image:
    """A copy of ``home`` at ``to``, made before statement number ``left``. ``note`` is called at that moment."""

    def __init__(self, home: Path, to: Path, left: int, note: Callable[[], None] = lambda: None) -> None:
        self._home, self._to, self._left, self._note = home, to, left, note
        self.taken = False

    def statement(self, _sql: str) -> None:
        self._left -= 1
        if self._left == 0:
            copy(self._home, self._to)
            self._note()
            self.taken = True

    def put_back(self) -> None:
        """Nothing that came after it has happened."""
        shutil.rmtree(self._home)
        self._to.rename(self._home)


def copy(home: Path, to: Path) -> None:
    """A folder's files, without SQLite's shared-memory index, which a killed process's successor makes anew."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(home, to, ignore=shutil.ignore_patterns("*-shm"))
