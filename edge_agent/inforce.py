"""The release in force: its policy and rules for whoever asks, its models, and the hub's daily word that it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from edge_agent.config import now_us
from edge_agent.link.updates import Updates
from edge_agent.models.engine import Models
from edge_agent.models.fit import fitting
from edge_agent.models.obtain import obtain
from edge_agent.plan.planner import Planner
from edge_agent.releases import Releases
from shared.errors import OutriderError
from shared.memory.rules import MemoryRules
from shared.policy import Asking, Policy
from shared.release import ModelRef, Release
from shared.runs import Device

_LOOK_S = 30.0
_CONFIRM_US = 24 * 3600 * 1_000_000


class InForce:
    """``fetch`` says whether models that are not here are to be fetched, from ``cache`` (another home's store) first.
    ``embeddable`` is told when texts may be embedded that could not be before."""

    def __init__(
        self,
        root: Path,
        hub_url: str,
        device: Device,
        updates: Updates,
        releases: Releases,
        models: Models,
        planner: Planner,
        *,
        fetch: bool,
        cache: Path | None,
        online: Callable[[], bool],
        embeddable: Callable[[], None],
        trouble: Callable[[OutriderError], None],
    ) -> None:
        self._root = root
        self._hub_url = hub_url
        self._device = device
        self._updates = updates
        self._releases = releases
        self._models = models
        self._planner = planner
        self._fetch = fetch
        self._cache = cache
        self._online = online
        self._embeddable = embeddable
        self._trouble = trouble
        self._obtaining: asyncio.Task[None] | None = None

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
        except OutriderError as error:
            self._trouble(error)

    async def use(self, release: Release) -> None:
        """Put a verified release into force: its models are the only ones that may run."""
        models = release.manifest.models
        language, embedder = fitting(models, "language"), fitting(models, "embedder")
        await self._models.use(
            language=language.sha256 if language else "", embedder=embedder.sha256 if embedder else ""
        )
        self._planner.models = self._models
        self._planner.embedder = embedder.sha256 if embedder else ""
        self._embeddable()
        if self._fetch:
            self.close()
            self._obtaining = asyncio.create_task(self._obtain([one for one in (language, embedder) if one]))

    async def _obtain(self, models: list[ModelRef]) -> None:
        """Fetch those that are not here yet. Planning goes on without them meanwhile."""
        for model in models:
            try:
                await asyncio.to_thread(obtain, self._root, model, self._cache, hub=self._hub_url)
            except OutriderError as error:
                self._trouble(error)
        self._embeddable()

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

    def close(self) -> None:
        """Give up a fetch that is under way; what came of it is kept."""
        if self._obtaining is not None:
            self._obtaining.cancel()
