"""The release in force: its policy and rules for whoever asks, its models, and the hub's daily word that it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_agent.adopting import Adopting
from edge_agent.config import now_us
from edge_agent.link.updates import Updates
from edge_agent.releases import Releases
from shared.errors import OutriderError
from shared.memory.rules import MemoryRules
from shared.policy import Asking, Policy
from shared.release import Release
from shared.runs import Device

_LOOK_S = 30.0
_CONFIRM_US = 24 * 3600 * 1_000_000


class InForce:
    """``adopting`` sees to the release's models. ``mended``: the hub has confirmed the release in force."""

    def __init__(
        self,
        device: Device,
        updates: Updates,
        releases: Releases,
        adopting: Adopting,
        *,
        online: Callable[[], bool],
        trouble: Callable[[OutriderError], None],
        mended: Callable[[], None],
    ) -> None:
        self._device = device
        self._updates = updates
        self._releases = releases
        self._adopting = adopting
        self._online = online
        self._trouble = trouble
        self._mended = mended

    # --- what the rooms ask ---------------------------------------------------------------------------------------

    def release(self) -> Release | None:
        """The installed release, or None before the first. Raises what keeps an installed one from being used."""
        installed = self._device.release
        return self._releases.get(installed.release) if installed is not None else None

    def policy(self) -> tuple[Policy, int] | None:
        """The policy and its release's number; None, which means deny, where there is none that can be used."""
        try:
            release = self.release()
        except OutriderError as error:
            self._trouble(error)
            return None
        return (release.policy, release.number) if release is not None else None

    def rules(self) -> MemoryRules:
        """The rules of memory; before the first release, those of an empty file."""
        release = self.release()
        return release.memory if release is not None else MemoryRules()

    def asking(self, rules: list[str]) -> Asking:
        """How the policy wants people to be asked where these rules of it ask."""
        installed = self.policy()
        return installed[0].asking(rules) if installed is not None else Asking(people=1, similar_s=0, local=False)

    # --- its life -------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Put the release that is installed into force, as far as it can be."""
        try:
            release = self.release()
            if release is not None:
                await self.use(release)
                await self._check_root()
        except OutriderError as error:
            self._trouble(error)

    async def use(self, release: Release) -> None:
        """Put a verified release into force: its models are the only ones that may run."""
        await self._adopting.use(release)

    async def run(self) -> None:
        """Until cancelled: see to it that the hub's word on the release is never older than a day while there is a
        link, because its proof may be only so old when there is none."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._confirm()
            except OutriderError as error:
                self._trouble(error)

    async def _confirm(self) -> None:
        installed = self._device.release
        if installed is None or not self._online():
            return
        if now_us() - await asyncio.to_thread(self._updates.confirmed_at) > _CONFIRM_US:
            await self._releases.fetch(installed.release)
            self._mended()
            await self._check_root()

    async def _check_root(self) -> None:
        await asyncio.to_thread(self._updates.check_root, now_us())

    def close(self) -> None:
        """Give up what is under way."""
        self._adopting.close()
