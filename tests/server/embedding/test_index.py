"""Team memory indexed and searched, with the real database and a real worker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from server.embedding.encoder import Encoder, Vectors
from server.embedding.index import TeamIndex
from server.embedding.messages import Kind
from server.embedding.shelf import Shelf, Stale
from server.store import Store
from server.store.memory_tables import MEMORY_VECTORS, MEMORY_WORDS
from shared.errors import BadInput, Unavailable
from shared.memory.vector import Embedding
from tests.server.embedding.items import NOW, Items

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
TEXTS = {
    "mem_sink": "Replacing a kitchen sink like for like needs no plan review.",
    "mem_solar": "Solar panels on a roof are reviewed over the counter up to 10 kW.",
    "mem_tone": "We write warmly and plainly, and never promise a delivery date.",
    "mem_fence": "A fence of up to two metres is exempt from permits.",
}
TEAM = ("team/permits",)


@pytest.fixture
async def index(store: Store, artefact: Path, items: Items) -> AsyncIterator[TeamIndex]:
    for name, text in TEXTS.items():
        items.add(name, text)
    made = TeamIndex(store, artefact, clock=lambda: NOW, wait_s=60, poll_s=0.1)
    yield made
    await made.close()


async def settle(index: TeamIndex) -> None:
    while await index.step():
        pass


def rows(store: Store, table: type[object] | object, item: str) -> int:
    with store.read() as conn:
        query = select(func.count()).select_from(table).where(table.c.item == item)  # type: ignore[attr-defined,arg-type]
        return int(conn.execute(query).scalar() or 0)


async def test_an_item_is_found_by_meaning_by_words_and_by_both_and_says_why(index: TeamIndex) -> None:
    await settle(index)
    assert (await index.status()).embedded == len(TEXTS)

    found = await index.search("photovoltaic system on the house", TEAM)
    assert found.trouble == ""
    assert found.hits[0].shown.item == "mem_solar"
    assert (found.hits[0].words, found.hits[0].meaning, found.hits[0].matched) == (0, 1000, ())

    found = await index.search("What about kitchen sinks?", TEAM)
    first = found.hits[0]
    assert (first.shown.item, first.words, first.meaning, first.score) == ("mem_sink", 1000, 1000, 1000)
    assert first.matched == ("kitchen", "sinks")


async def test_filters_hold_for_words_and_for_meaning(index: TeamIndex, items: Items) -> None:
    items.add("mem_other", "Kitchen sinks of the shop", scope="team/shop")
    items.add("mem_old", "Kitchen sinks until last year", expires_at=NOW - 1)
    items.add("mem_rule", "Kitchen sinks are called basins", kind="brand-rule")
    items.add("mem_own", "Kitchen sinks of one person", scope="person/clara")
    await settle(index)

    def names(found: object) -> set[str]:
        return {hit.shown.item for hit in found.hits}  # type: ignore[attr-defined]

    everywhere = names(await index.search("kitchen sinks", (*TEAM, "team/shop", "person/clara")))
    assert everywhere >= {"mem_sink", "mem_other", "mem_rule"}
    assert not everywhere & {"mem_old", "mem_own"}
    assert "mem_other" not in names(await index.search("kitchen sinks", TEAM))
    assert names(await index.search("kitchen sinks", TEAM, kinds=("brand-rule",))) == {"mem_rule"}
    assert (await index.search("kitchen sinks", ())).hits == ()
    assert (await index.search("?!", TEAM)).hits == ()
    assert len((await index.search("kitchen sinks", TEAM, limit=1)).hits) == 1
    with pytest.raises(BadInput) as caught:
        await index.search("x" * 5000, TEAM)
    assert caught.value.code == "memory.search"


async def test_a_changed_item_is_indexed_anew_and_an_erased_one_is_gone(
    index: TeamIndex, items: Items, store: Store
) -> None:
    await settle(index)
    items.change("mem_fence", "Garden walls need a drawing to scale.")
    await settle(index)
    found = await index.search("fence", TEAM)
    assert all(hit.words == 0 for hit in found.hits)
    assert (await index.search("garden wall", TEAM)).hits[0].shown.item == "mem_fence"

    items.erase("mem_fence")
    assert rows(store, MEMORY_WORDS, "mem_fence") == rows(store, MEMORY_VECTORS, "mem_fence") == 0
    found = await index.search("garden wall", TEAM)
    assert "mem_fence" not in {hit.shown.item for hit in found.hits}


def test_nothing_is_written_for_an_item_that_went_meanwhile(store: Store, items: Items) -> None:
    items.add("mem_a", "one")
    items.add("mem_b", "two")
    shelf = Shelf(store)
    stale = shelf.stale("", 10)
    assert [one.item for one in stale] == ["mem_a", "mem_b"]
    items.erase("mem_a")
    items.change("mem_b", "three")
    vector = Embedding(bytes(384), 1)
    assert shelf.put([*stale, Stale("team/none", "mem_none", 1, "four")], "m" * 64, [vector] * 3) == 0
    assert rows(store, MEMORY_VECTORS, "mem_a") == rows(store, MEMORY_WORDS, "mem_b") == 0


async def test_another_model_makes_every_vector_anew(index: TeamIndex, store: Store, items: Items) -> None:
    shelf = Shelf(store)
    shelf.put(shelf.stale("", 100), "", ())
    shelf.put(shelf.stale("old", 100), "old", [Embedding(bytes(range(100)), 1)] * len(TEXTS))
    assert shelf.count("old") == (4, 4)
    assert shelf.stale("old", 100) == []
    await settle(index)
    assert shelf.count("old") == (0, 4)
    assert (await index.status()).embedded == 4


async def test_without_a_model_the_hub_searches_by_words_and_says_so(
    store: Store, items: Items, tmp_path: Path
) -> None:
    for name, text in TEXTS.items():
        items.add(name, text)
    for folder, code in ((None, "embedder.none"), (tmp_path / "none", "embedder.none")):
        index = TeamIndex(store, folder, clock=lambda: NOW)
        await settle(index)
        found = await index.search("kitchen sinks", TEAM)
        assert [hit.shown.item for hit in found.hits] == ["mem_sink"]
        assert found.trouble == code
        await index.close()


async def test_the_background_task_wakes_and_outlives_a_crash_of_its_worker(index: TeamIndex, items: Items) -> None:
    running = asyncio.create_task(index.run())

    async def all_embedded() -> None:
        async with asyncio.timeout(100):
            while (status := await index.status()).embedded < status.items:
                await asyncio.sleep(0.05)

    try:
        await all_embedded()
        pid = index.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        items.add("mem_new", "Chimneys are inspected before the first fire.")
        await asyncio.to_thread(index.wake, "anything")
        await all_embedded()
        assert (await index.search("fireplace flue inspection", TEAM)).hits[0].shown.item == "mem_new"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Choking(Encoder):
    """A worker that dies of one text."""

    async def embed(self, texts: Sequence[str], kind: Kind = "text") -> Vectors:
        if any("poison" in text for text in texts):
            raise Unavailable("embedder.crashed", "the embedding worker ended with SIGSEGV", advice="none")
        return await super().embed(texts, kind)


async def test_a_text_that_breaks_the_worker_does_not_keep_others_from_their_vectors(
    index: TeamIndex, items: Items, artefact: Path
) -> None:
    items.add("mem_bad", "A poison cabinet is kept locked.")
    items.add("mem_last", "Keys hang at the porter's lodge.")
    index._encoder = Choking(artefact)
    await settle(index)
    status = await index.status()
    assert (status.embedded, status.items, status.trouble) == (6, 6, "")
    assert (await index.search("where are the keys", TEAM)).hits[0].shown.item == "mem_last"
    found = (await index.search("locked cabinet", TEAM)).hits
    assert (found[0].shown.item, found[0].meaning) == ("mem_bad", 0)


async def test_a_worker_that_breaks_on_everything_costs_no_item_its_vector_but_one(
    index: TeamIndex, items: Items, store: Store, artefact: Path
) -> None:
    for name in TEXTS:
        items.change(name, f"poison {name}")
    index._encoder = Choking(artefact)
    for _ in range(20):
        await index.step()
    assert (await index.status()).trouble == "embedder.crashed"
    assert len(Shelf(store).stale((await index.status()).model, 10)) == len(TEXTS) - 1
    index._encoder = Encoder(artefact)
    await settle(index)
    assert (await index.status()).trouble == ""
