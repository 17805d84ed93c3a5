"""What the tests of tools share: a place, a snapshot of a folder, the kernel's own count of what became of names."""

from __future__ import annotations

import ctypes
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools.build import Place
from shared.errors import Unavailable

_CREATE, _DELETE, _MOVED_TO = 0x100, 0x200, 0x80


class Watch:
    """Counts, by inotify and so at the receiver, how often each name of a folder came to be or went."""

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._handle >= 0
        for folder in folders:
            wanted = _CREATE | _DELETE | _MOVED_TO
            assert self._libc.inotify_add_watch(self._handle, os.fsencode(folder), wanted) >= 0
        self._came: Counter[str] = Counter()
        self._went: Counter[str] = Counter()

    def _drain(self) -> None:
        while True:
            try:
                data = os.read(self._handle, 1 << 16)
            except BlockingIOError:
                return
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                name = data[16 : 16 + length].rstrip(b"\0").decode()
                data = data[16 + length :]
                if not name.startswith(".outrider-"):
                    (self._went if mask & _DELETE else self._came)[name] += 1

    def came(self, name: str | None = None) -> int:
        """Times that a file of this name (of any) was made, or took the name of another."""
        self._drain()
        return self._came.total() if name is None else self._came[name]

    def went(self, name: str | None = None) -> int:
        self._drain()
        return self._went.total() if name is None else self._went[name]

    def forget(self) -> None:
        self._drain()
        self._came.clear()
        self._went.clear()

    def close(self) -> None:
        os.close(self._handle)


@pytest.fixture
def watching() -> Iterator[Callable[..., Watch]]:
    """``watching(folder, ...)`` begins to count."""
    begun: list[Watch] = []

    def begin(*folders: Path) -> Watch:
        begun.append(Watch(*folders))
        return begun[-1]

    yield begin
    for watch in begun:
        watch.close()


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], Place]:
    """``place(table)``: a tool set's place, with a clock that counts."""
    ticks = iter(range(1_790_000_000_000_000, 1_790_000_001_000_000))

    def no_secret(name: str) -> str:
        raise Unavailable("secret.missing", f"no secret {name}", advice="set it")

    return lambda table: Place(table, tmp_path / "state" / table, no_secret, lambda: next(ticks))


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, Any]]:
    """``snapshot(folder)``: every name below it, with content, permission bits and time of modification of files."""
    return _snapshot


def _snapshot(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file" if path.is_file() else "other"
        content = path.read_bytes() if kind == "file" else b""
        when = status.st_mtime_ns if kind == "file" else 0
        found[str(path.relative_to(folder))] = (kind, content, status.st_mode & 0o777, when)
    return found
