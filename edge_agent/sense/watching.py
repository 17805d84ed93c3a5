"""The watched folders of the release in force: a file that is complete opens runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from edge_agent.sense.inbox import Inbox, Intake
from shared.errors import OutriderError
from shared.release import Release


class Watching:
    """``release`` is the one in force, or None; ``opened`` is called after each file with the runs that it opened."""

    def __init__(
        self,
        intake: Intake,
        inboxes: Path,
        release: Callable[[], Release | None],
        opened: Callable[[list[str]], None],
        trouble: Callable[[OutriderError], None],
        *,
        every_s: float,
    ) -> None:
        self._intake = intake
        self._folder = inboxes
        self._release = release
        self._opened = opened
        self._trouble = trouble
        self._every_s = every_s
        self._inboxes: dict[str, Inbox] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            except OutriderError as error:
                self._trouble(error)
            await asyncio.sleep(self._every_s)

    async def _look(self) -> None:
        release = self._release()
        if release is None:
            return
        for playbook in release.playbooks.values():
            folder = playbook.trigger.folder
            if folder is None:
                continue
            inbox = self._inboxes.setdefault(folder, Inbox(self._folder / folder))
            for path in inbox.ready():
                self._opened(await self._intake.take(path, playbook, release.number))
