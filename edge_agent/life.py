"""``live.json``: what only the running process knows, written every second for ``agent status``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.config import now_us
from shared.errors import OutriderError, Unavailable

_EVERY_S = 1.0


class Life:
    """``told`` gives what the other rooms say: JSON-plain."""

    def __init__(
        self, path: Path, told: Callable[[], dict[str, Any]], trouble: Callable[[OutriderError], None]
    ) -> None:
        self._path = path
        self._told = told
        self._trouble = trouble
        self._started = now_us()

    async def run(self) -> None:
        """Until cancelled."""
        temporary = self._path.with_suffix(".new")
        while True:
            live = {
                "pid": os.getpid(),
                "started_at": self._started,
                "at": now_us(),
                "rss_bytes": _rss(),
                **self._told(),
            }
            try:
                temporary.write_bytes(msgspec.json.encode(live))
                temporary.replace(self._path)
            except OSError as error:
                said = error.strerror or str(error)
                self._trouble(Unavailable("disk.write", f"{self._path}: {said}", advice="free some space"))
            await asyncio.sleep(_EVERY_S)

    def end(self) -> None:
        """Nobody lives here any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _rss() -> int:
    """Resident bytes of this process, 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
