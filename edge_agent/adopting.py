"""The models of the release in force: fetched, tried, switched to between runs; the one before stays until then.

A model that a release assigns is (1) fetched and held to its hash, beside the one in use, (2) tried in a process of its
own: it must load and pass the smoke cases of its release, (3) put to use while no run is being worked on. What the
device did is an entry of its log, so the hub sees it: ``model.taken``, or ``model.refused`` with the one that stays.
Refused, it is not tried again for that release. Which model is in use is thus read back from the log; that its bytes
are ones that a release lists is verified again through TUF, whichever release that was.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from edge_agent.models.catalogue import Kind
from edge_agent.models.engine import Models
from edge_agent.models.fetch import Progress, Report
from edge_agent.models.fit import fitting, form, memory_mb
from edge_agent.models.smoke import prove
from edge_agent.models.store import ModelStore
from edge_agent.models.worker import runtime_missing
from edge_agent.plan.planner import Planner
from edge_agent.releases import Releases
from shared.entries import Draft, ModelRefused, ModelTaken
from shared.errors import OutriderError, Unavailable
from shared.release import ModelRef, Release
from shared.runs import Device

KINDS: tuple[Kind, ...] = ("embedder", "language")
_FIRST_S, _MOST_S, _LOOK_S = 2.0, 300.0, 10.0
_QUIET_S = 600.0  # a device that is never without work switches after this long, between two requests
_POLL_S = 0.2


class Obtain(Protocol):
    """Has a model in the store, its bytes checked. In a thread; what ``report`` raises breaks it off."""

    def __call__(self, model: ModelRef, *, report: Report) -> object: ...


class Adopting:
    """``obtain`` is ``None`` where models are added by hand; ``budget`` is what they may take on disk, in bytes, 0 for
    any. ``idle`` says whether no run is being worked on, ``changed`` is told when another model is in use, ``mended``
    when one is as it was wanted."""

    def __init__(
        self,
        store: ModelStore,
        device: Device,
        releases: Releases,
        models: Models,
        planner: Planner,
        append: Callable[[Draft], Awaitable[object]],
        *,
        obtain: Obtain | None,
        budget: int,
        idle: Callable[[], bool],
        changed: Callable[[], None],
        trouble: Callable[[OutriderError], None],
        mended: Callable[[], None],
    ) -> None:
        self._store = store
        self._device = device
        self._releases = releases
        self._models = models
        self._planner = planner
        self._append = append
        self._obtain = obtain
        self._budget = budget
        self._idle = idle
        self._changed = changed
        self._trouble = trouble
        self._mended = mended
        self._task: asyncio.Task[None] | None = None
        self._put: tuple[str, str, dict[str, str]] | None = None  # what runs, and what is held back and why

    async def use(self, release: Release) -> None:
        """Put the models of a verified release into force, as far as they are known to work; the others follow."""
        self.close()
        self._planner.models = self._models
        await self._switch(release)
        self._task = asyncio.create_task(self._adopt(release))

    def close(self) -> None:
        """Give up what is under way; what was fetched is kept."""
        if self._task is not None:
            self._task.cancel()

    # --- what is in use -------------------------------------------------------------------------------------------

    def _wanted(self, release: Release, kind: Kind) -> ModelRef | None:
        return fitting(release.manifest.models, kind)

    def _before(self, kind: Kind) -> str:
        """The model of this kind in use, if a release that this device verified lists it and it is still here."""
        held = self._device.models.get(kind)
        if held is None:
            return ""
        try:
            listed = self._releases.get(held.release).permitted(held.sha256)
            self._store.by_hash(held.sha256)
        except OutriderError:
            return ""
        return held.sha256 if listed is not None else ""

    def _refused(self, release: Release, model: ModelRef) -> ModelRefused | None:
        refused = self._device.models_refused.get(model.kind)
        same = refused is not None and (refused.release, refused.sha256) == (release.number, model.sha256)
        return refused if same else None

    def _chosen(self, release: Release, kind: Kind) -> tuple[str, OutriderError | None]:
        """The hash to run, and why not yet, or not, where it is not known to work."""
        wanted = self._wanted(release, kind)
        if wanted is None:
            return "", None
        held = self._device.models.get(kind)
        if held is not None and held.sha256 == wanted.sha256:
            return wanted.sha256, None
        before = self._before(kind)
        if before:
            return before, None
        refused = self._refused(release, wanted)
        if refused is not None:
            said = f"{wanted.name} was refused on this device: {refused.code}"
            return wanted.sha256, Unavailable("model.refused", said, advice="publish a release with another model")
        return wanted.sha256, _UNTRIED

    async def _switch(self, release: Release) -> None:
        """Run what is chosen now, if that is another than before."""
        chosen = {kind: self._chosen(release, kind) for kind in KINDS}
        held_back = {sha256: error for sha256, error in chosen.values() if error is not None}
        language, embedder = chosen["language"][0], chosen["embedder"][0]
        put = language, embedder, {sha256: error.code for sha256, error in held_back.items()}
        if put != self._put:
            await self._models.use(language=language, embedder=embedder, held_back=held_back)
            self._planner.embedder = embedder
            self._put = put
        self._changed()

    # --- how another comes into use -------------------------------------------------------------------------------

    async def _adopt(self, release: Release) -> None:
        """Until each kind is settled; what fails for now is tried again, ever more rarely."""
        left, pause = list(KINDS), _FIRST_S
        while True:
            for kind in KINDS:
                if kind in left and await self._tried(release, kind):
                    left.remove(kind)
            if not left:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MOST_S if self._obtain is not None else _LOOK_S)

    async def _tried(self, release: Release, kind: Kind) -> bool:
        """Whether this kind is settled for this release."""
        wanted = self._wanted(release, kind)
        if wanted is None or self._refused(release, wanted) is not None:
            return True
        held = self._device.models.get(kind)
        try:
            if not await self._is_here(release, wanted):
                return False
            if held is None or held.sha256 != wanted.sha256:
                if runtime_missing(form(wanted)) is not None:
                    return True  # not the model's fault; ``Models.status`` says what to do, and the next start tries
                await self._settle(release, wanted)
        except OutriderError as error:
            self._trouble(error)
            return self._refused(release, wanted) is not None
        self._mended()
        self._changed()
        return True

    async def _is_here(self, release: Release, wanted: ModelRef) -> bool:
        if self._obtain is None:
            return any(row.sha256 == wanted.sha256 for row in self._store.installed())
        if wanted.min_ram_mb > memory_mb():
            said = f"{wanted.name} wants {wanted.min_ram_mb} MiB of memory, this computer has {memory_mb()}"
            error = Unavailable("model.memory", said, advice="publish a release that lists a smaller one after it")
            await self._refuse(release, wanted, error)
            raise error
        here = {row.sha256 for row in self._store.installed()}
        room = 0 if wanted.sha256 in here else wanted.size
        await asyncio.to_thread(self._store.collect, self._kept(release), room, self._budget)
        stop = threading.Event()

        def report(_: Progress) -> None:
            if stop.is_set():
                raise Unavailable("model.stopped", "the fetch was broken off", advice="it goes on when it is wanted")

        obtain = self._obtain
        try:
            await asyncio.to_thread(lambda: obtain(wanted, report=report))
        finally:
            stop.set()
        return True

    def _kept(self, release: Release) -> set[str]:
        """What is never thrown away: the models in use, those before them, and those that the release lists."""
        used = [*self._device.models.values(), *self._device.models_before.values()]
        return {one.sha256 for one in used} | {model.sha256 for model in release.manifest.models}

    async def _settle(self, release: Release, wanted: ModelRef) -> None:
        path = await asyncio.to_thread(self._store.path_for, wanted.sha256)
        wrong = await prove(wanted.kind, path, wanted.sha256, wanted.smoke)
        if wrong is not None:
            await self._refuse(release, wanted, wrong)
            raise wrong
        await self._between_runs(wanted.kind)
        taken = ModelTaken(kind=wanted.kind, model=wanted.name, sha256=wanted.sha256, release=release.number)
        await self._append(Draft(taken))
        await self._switch(release)

    async def _refuse(self, release: Release, wanted: ModelRef, error: OutriderError) -> None:
        facts = ModelRefused(
            kind=wanted.kind,
            model=wanted.name,
            sha256=wanted.sha256,
            release=release.number,
            code=error.code,
            kept=self._before(wanted.kind),
        )
        await self._append(Draft(facts))
        await self._switch(release)

    async def _between_runs(self, kind: Kind) -> None:
        """Until no run is being worked on, where a model of this kind is in use. Runs that wait for a person or a time
        are not being worked on."""
        until = time.monotonic() + _QUIET_S
        while self._before(kind) and not self._idle() and time.monotonic() < until:  # noqa: ASYNC110 - the runner has no event for it
            await asyncio.sleep(_POLL_S)


_UNTRIED = Unavailable(
    "model.untried", "the model has not been tried on this device yet", advice="it is tried as soon as it is here"
)
