"""What the hub's pages show and edit, and that an edit there is a change like any other."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from server.bus import Bus
from server.memory import Memory
from server.memory.items import Asked
from server.store import HubLog, Store
from shared.codec import unb64
from shared.errors import BadInput, Refused
from shared.memory import Item
from shared.memory.bench import Bench
from shared.memory.document import Document
from shared.memory.feed import change
from shared.memory.item import Edit
from tests.server.conftest import Clock
from tests.server.memory.conftest import Room
from tests.server.test_migrations import DEVICE, first

__all__ = ["first"]  # the fixture

BRAND = Item("brand-rule", "Never say cheap.\nSay fair.", "handbook", scope="team/shop", tags=["words"])


def test_people_write_edit_and_restore_at_the_hub(room: Room) -> None:
    phone = room.join("phone", "mara")
    room.memory.grant("team/shop", "user:mara", "reader", "clara")
    items = room.memory.items
    name = items.create(BRAND, "team/shop", "user:clara")
    view = items.get("team/shop", name)
    assert (view.title, view.kind, view.tags, view.changes) == ("Never say cheap.", "brand-rule", ["words"], 1)
    assert view.changed_by == "user:clara"
    assert items.edit("team/shop", name, Edit(text="Never say cheap. Say good value."), "user:otto")
    assert not items.edit("team/shop", name, Edit(kind="brand-rule"), "user:otto")
    before, after = items.history("team/shop", name)
    assert (before.by, after.by, after.parents) == ("user:clara", "user:otto", (before.hash,))
    assert items.item_at("team/shop", name, before.hash).text == BRAND.text
    assert items.senders("team/shop", name)[after.hash][0] == "hub"
    assert items.restore("team/shop", name, before.hash, "user:clara")
    assert items.get("team/shop", name).text == BRAND.text
    got = [record for answer in room.pull(phone, "team/shop") for record in answer.records]
    assert Document.load([unb64(r.data, what="t") for r in got]).item() == BRAND
    assert items.get("team/shop", name).changes == len(got) == 3


def test_edits_here_and_on_a_device_meet(room: Room) -> None:
    laptop = room.join("laptop", "mara")
    name = laptop.note("The gate is green.")
    room.store_all(laptop, name)
    room.memory.items.edit("person/mara", name, Edit(add_tags=["hub"]), "user:mara")
    laptop.edit(name, Edit(add_tags=["laptop"]))
    room.store_all(laptop, name)
    assert room.memory.items.get("person/mara", name).tags == ["hub", "laptop"]


def test_lists_are_filtered(room: Room) -> None:
    items = room.memory.items
    soon = room.clock() + 1_000_000
    mine, by = "person/mara", "user:mara"
    made = {
        "fact": items.create(Item("fact", "Slate is heavy.", "a", subject="Anna", tags=["roof"]), mine, by),
        "note": items.create(Item("note", "100% of slate_x", "b", fields={"lane": "Express"}), mine, by),
        "old": items.create(Item("note", "Slate, once.", "c", expires_at=soon), mine, by),
        "brand": items.create(BRAND, "team/shop", by),
    }
    room.clock.step(5)

    def found(**asked: object) -> set[str]:
        wanted = Asked(**asked)  # type: ignore[arg-type]  # each test names real fields
        names = {view.item for view in items.list(wanted)}
        assert items.count(wanted) == len(names)
        return {key for key, name in made.items() if name in names}

    assert found() == {"fact", "note", "brand"}
    assert found(expired=True) == set(made)
    assert found(scopes=("team/shop",)) == {"brand"}
    assert found(kinds=("fact",)) == {"fact"}
    assert found(tags=("roof",)) == {"fact"} and found(tags=("roo",)) == set()
    assert found(text="SLATE heavy") == {"fact"} and found(text="express") == {"note"}
    assert found(text="100%") == {"note"} and found(text="slate_x") == {"note"} and found(text="%") == {"note"}
    assert found(subject="Anna") == {"fact"} and found(conflicts=True) == set()
    assert len(items.list(limit=2)) == 2 and len(items.list(limit=2, offset=2)) == 1


def test_what_is_not_there_or_not_allowed(room: Room) -> None:
    items = room.memory.items
    for missing in ("mem_" + "0" * 24, "x"):
        with pytest.raises(BadInput) as caught:
            items.get("person/mara", missing)
        assert caught.value.code == "memory.unknown"
        with pytest.raises(BadInput):
            items.edit("person/mara", missing, Edit(text="x"), "user:mara")
    with pytest.raises(BadInput):
        items.create(Item("rumour", "x", "y"), "person/mara", "user:mara")
    name = items.create(Item("note", "x", "y"), "person/mara", "user:mara")
    document = items.document("person/mara", name)
    room.memory.erasure.item("person/mara", name, "user:mara")
    chunk = document.edit(Edit(text="z"), at=room.clock(), by="user:mara")
    assert chunk is not None

    assert [one.code for one in room.memory.push("person/mara", [change(name, chunk)], "hub").refused] == [
        "memory.erased"
    ]
    with pytest.raises(Refused) as erased:
        items._push("person/mara", name, [chunk])
    assert erased.value.code == "memory.erased"


def test_another_process_writes_as_another_actor(room: Room, bench: Bench) -> None:
    name = room.memory.items.create(Item("note", "x", "y"), "person/mara", "user:mara")
    again = Memory(room.hublog, room.bus, bench)
    again.items.edit("person/mara", name, Edit(text="xy"), "user:mara")
    actors = [version.actor for version in again.items.history("person/mara", name)]
    assert len(set(actors)) == 2


def test_a_hub_of_before_memory_has_one_now(first: Path, bench: Bench) -> None:
    store = Store(first)
    try:
        hublog = HubLog(store, clock=Clock(1_790_000_100_000_000), random=secrets.token_bytes)
        memory = Memory(hublog, Bus(), bench)
        assert memory.access.places(DEVICE)["person"].scope == f"person/device:{DEVICE}"
        assert memory.own(DEVICE, "mara", "clara") == "person/mara"
        name = memory.items.create(Item("note", "x", "y"), "person/mara", "user:mara")
        assert [view.item for view in memory.items.list()] == [name]
    finally:
        store.close()
