"""How a release's models come into use: real models in real processes, a real log; only the hub is left out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from edge_agent.adopting import Adopting
from edge_agent.journal import Journal
from edge_agent.memory import Memory
from edge_agent.models.catalogue import known
from edge_agent.models.engine import Models
from edge_agent.models.fetch import Progress, Report, add_known
from edge_agent.models.store import Installed, ModelStore
from edge_agent.plan.planner import Planner
from shared.codec import hex_sha256
from shared.entries import Entry, Facts, ModelRefused, ModelTaken
from shared.errors import Conflict, OutriderError, Unavailable
from shared.keys import SigningKey
from shared.release import ModelRef, Release, SmokeCase
from shared.runs import Device
from tests.edge_agent.rig import Clock, make_release

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

RIGHT = SmokeCase(given="a new roof", answer="shingles are replaced", others=["a trombone lesson", "tax law"])
WRONG = SmokeCase(given="a new roof", answer="a trombone lesson", others=["shingles are replaced"])


@pytest.fixture(scope="session")
def embedder() -> bytes:
    """MiniLM as ONNX, from the cache that all tests share."""
    home = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser()
    store = ModelStore(home)
    for _ in range(600):
        try:
            return store.path_for(add_known(store, known("minilm-l6")).sha256).read_bytes()
        except Conflict:  # another test run is fetching it
            import time

            time.sleep(0.2)
    raise AssertionError("the cache stays locked")


def variant(data: bytes, number: int) -> bytes:
    """The same graph in other bytes: with a field that no reader of protobufs knows."""
    return data + b"\xc0\x3e" + bytes([number])


class Hub:
    """What can be fetched, by hash; ``down`` while nothing can."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self.files: dict[str, bytes] = {}
        self.down = False
        self.asked: list[str] = []

    def ref(self, name: str, data: bytes, *, smoke: list[SmokeCase] | None = None, min_ram_mb: int = 0) -> ModelRef:
        sha256 = hex_sha256(data)
        self.files[sha256] = data
        return ModelRef(
            name, "embedder", sha256, len(data), "hub:", smoke=smoke or [], min_ram_mb=min_ram_mb, format="onnx"
        )

    def obtain(self, model: ModelRef, *, report: Report) -> object:
        if any(row.sha256 == model.sha256 for row in self.store.installed()):
            return self.store.by_hash(model.sha256)
        self.asked.append(model.name)
        if self.down:
            raise Unavailable("model.fetch", "the hub is away", advice="")
        report(Progress("download", 0, model.size))
        with self.store.installing() as incoming:
            (incoming / "model").write_bytes(self.files[model.sha256])
            row = Installed(model.name, model.kind, "onnx", model.sha256, model.size, model.source)
            return self.store.register(row, incoming / "model")


class Rig:
    """One device; ``restart`` opens it again."""

    def __init__(self, home: Path, budget: int = 0) -> None:
        self.home, self.budget = home, budget
        self.store = ModelStore(home)
        self.hub = Hub(self.store)
        self.releases: dict[int, Release] = {}
        self.busy = False
        self.looks = 0  # how often it was asked whether runs are being worked on
        self.troubles: list[str] = []
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.home / "log", "city/dev", SigningKey(b"k" * 32), now=self.clock, software="test")
        self.journal.attach(asyncio.get_running_loop())
        self.device = Device()
        self.facts: list[Facts] = []
        self.fold(list(self.journal.entries()))
        self.journal.listen(self.fold)
        self.models = Models(self.home)
        self.memory = Memory(self.home / "memory")
        self.planner = Planner(self.memory, now=self.clock, monotonic_us=self.clock, models=None, embedder="")
        self.adopting = Adopting(
            self.store,
            self.device,
            self,  # type: ignore[arg-type] # of releases, only ``get`` is asked
            self.models,
            self.planner,
            self.journal.append,
            obtain=self.hub.obtain,
            budget=self.budget,
            idle=self.idle,
            changed=lambda: None,
            trouble=lambda error: self.troubles.append(error.code),
            mended=self.troubles.clear,
        )

    def fold(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.device.fold(entry)
            if isinstance(entry.facts, ModelTaken | ModelRefused):
                self.facts.append(entry.facts)

    def idle(self) -> bool:
        self.looks += 1
        return not self.busy

    def get(self, number: int) -> Release:
        return self.releases[number]

    async def close(self) -> None:
        self.adopting.close()
        await self.models.close()
        self.memory.close()
        self.journal.close()

    async def restart(self) -> None:
        await self.close()
        self.open()

    async def use(self, number: int, *models: ModelRef) -> None:
        release = make_release(number)
        release.manifest = msgspec.structs.replace(release.manifest, models=list(models))
        self.releases[number] = release
        await self.adopting.use(release)

    async def told(self, count: int) -> None:
        """Until the log says so many things of models, and what follows from the last of them is done."""
        async with asyncio.timeout(120):
            while len(self.facts) < count:
                await asyncio.sleep(0.02)
            assert self.adopting._task is not None
            await self.adopting._task

    async def runs(self) -> str:
        """The hash of the model that embeds."""
        return (await self.models.embed(["a text"])).model


@pytest.fixture
async def make_rig(tmp_path: Path) -> AsyncIterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(budget: int = 0) -> Rig:
        made.append(Rig(tmp_path, budget))
        return made[-1]

    yield make
    for rig in made:
        await rig.close()


async def test_a_model_is_tried_and_taken_and_the_next_life_knows(
    make_rig: Callable[..., Rig], embedder: bytes
) -> None:
    rig = make_rig()
    first = rig.hub.ref("first", embedder, smoke=[RIGHT])
    await rig.use(1, first)
    with pytest.raises(OutriderError) as caught:
        await rig.runs()
    assert caught.value.code in ("model.missing", "model.untried")
    await rig.told(1)
    assert rig.facts == [ModelTaken("embedder", "first", first.sha256, 1)]
    assert await rig.runs() == first.sha256 == rig.planner.embedder
    await rig.restart()
    await rig.use(1, first)
    assert await rig.runs() == first.sha256
    await rig.use(2, first)
    assert len(rig.facts) == 1
    assert rig.hub.asked == ["first"]


@pytest.mark.parametrize("how", ["load", "smoke"])
async def test_a_model_that_fails_is_refused_and_the_one_before_goes_on(
    make_rig: Callable[..., Rig], embedder: bytes, how: str
) -> None:
    rig = make_rig()
    first = rig.hub.ref("first", embedder, smoke=[RIGHT])
    data = b"\x08\x07 not a graph" if how == "load" else variant(embedder, 1)
    second = rig.hub.ref("second", data, smoke=[RIGHT] if how == "load" else [RIGHT, WRONG])
    await rig.use(1, first)
    await rig.told(1)
    await rig.use(2, second)
    assert await rig.runs() == first.sha256
    await rig.told(2)
    assert rig.facts[1] == ModelRefused("embedder", "second", second.sha256, 2, f"model.{how}", first.sha256)
    assert await rig.runs() == first.sha256 == rig.planner.embedder
    assert f"model.{how}" in rig.troubles
    await rig.restart()
    await rig.use(2, second)
    assert await rig.runs() == first.sha256
    third = rig.hub.ref("third", variant(embedder, 3), smoke=[RIGHT])
    await rig.use(3, third)
    await rig.told(3)
    assert rig.facts[2] == ModelTaken("embedder", "third", third.sha256, 3)
    assert await rig.runs() == third.sha256
    assert rig.device.models_before["embedder"].sha256 == first.sha256


async def test_a_first_model_that_fails_is_not_used(make_rig: Callable[..., Rig], embedder: bytes) -> None:
    rig = make_rig()
    await rig.use(1, rig.hub.ref("first", embedder, smoke=[WRONG]))
    await rig.told(1)
    assert isinstance(rig.facts[0], ModelRefused)
    assert rig.facts[0].kept == ""
    with pytest.raises(Unavailable) as caught:
        await rig.runs()
    assert caught.value.code == "model.refused"


async def test_models_are_switched_between_runs(make_rig: Callable[..., Rig], embedder: bytes) -> None:
    rig = make_rig()
    first, second = rig.hub.ref("first", embedder), rig.hub.ref("second", variant(embedder, 2))
    await rig.use(1, first)
    await rig.told(1)
    rig.busy = True
    await rig.use(2, second)
    async with asyncio.timeout(60):
        while rig.looks < 3:  # it was tried, and waits for a moment between runs
            await asyncio.sleep(0.05)
    assert len(rig.facts) == 1
    assert await rig.runs() == first.sha256
    rig.busy = False
    await rig.told(2)
    assert await rig.runs() == second.sha256


async def test_what_cannot_be_fetched_yet_is_asked_for_again(make_rig: Callable[..., Rig], embedder: bytes) -> None:
    rig = make_rig()
    rig.hub.down = True
    await rig.use(1, rig.hub.ref("first", embedder))
    async with asyncio.timeout(60):
        while len(rig.hub.asked) < 2:
            await asyncio.sleep(0.05)
    assert rig.facts == []
    assert "model.fetch" in rig.troubles
    rig.hub.down = False
    await rig.told(1)
    assert isinstance(rig.facts[0], ModelTaken)
    assert rig.troubles == []


async def test_what_no_release_lists_is_not_run_even_if_the_log_says_so(
    make_rig: Callable[..., Rig], embedder: bytes
) -> None:
    rig = make_rig()
    first = rig.hub.ref("first", embedder)
    await rig.use(1, first)
    await rig.told(1)
    rig.releases[1].manifest = msgspec.structs.replace(rig.releases[1].manifest, models=[])
    rig.hub.down = True
    await rig.use(2, rig.hub.ref("second", variant(embedder, 2)))
    with pytest.raises(Unavailable) as caught:
        await rig.runs()
    assert caught.value.code == "model.missing"
    await rig.use(3)
    with pytest.raises(Unavailable) as caught:
        await rig.runs()
    assert caught.value.code == "model.not-chosen"


async def test_the_longest_unused_models_make_room_but_none_that_is_needed(
    make_rig: Callable[..., Rig], embedder: bytes
) -> None:
    size = len(embedder) + 3
    rig = make_rig(budget=3 * size)
    for number in range(1, 5):
        await rig.use(number, rig.hub.ref(f"model-{number}", variant(embedder, number)))
        await rig.told(number)
    assert [row.name for row in rig.store.installed()] == ["model-2", "model-3", "model-4"]
    rig.adopting.close()
    rig.budget = size
    await rig.restart()
    await rig.use(5, rig.hub.ref("model-5", variant(embedder, 5)))
    async with asyncio.timeout(60):
        while "model.budget" not in rig.troubles:
            await asyncio.sleep(0.05)
    assert [row.name for row in rig.store.installed()] == ["model-3", "model-4"]
    assert await rig.runs() == hex_sha256(variant(embedder, 4))


async def test_a_model_that_wants_more_memory_than_there_is_is_not_fetched(
    make_rig: Callable[..., Rig], embedder: bytes
) -> None:
    rig = make_rig()
    await rig.use(1, rig.hub.ref("huge", embedder, min_ram_mb=2**30))
    await rig.told(1)
    assert isinstance(rig.facts[0], ModelRefused)
    assert (rig.facts[0].code, rig.hub.asked) == ("model.memory", [])
