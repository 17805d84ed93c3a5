"""A team that remembers: items, a conflict, a hold, and something forgotten."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shared.memory.document import Document
from shared.memory.feed import change
from shared.memory.item import Edit, Item
from tests.server.console.sample_hub import SampleHub

SHOP = "team/shop"
FORMER = "team/old campaign"


def share(hub: SampleHub) -> None:
    """Omar is the team's steward, maria a writer and administrator, lena no member."""
    hub.memory.grant(SHOP, "user:omar", "steward", "maria")
    hub.memory.grant(SHOP, "user:maria", "writer", "maria")


def note(hub: SampleHub, text: str, scope: str = SHOP, **more: Any) -> str:
    """An item by omar; its id."""
    item = Item(kind="note", text=text, source="a test", scope="person" if scope.startswith("person/") else scope)
    return hub.memory.items.create(replace(item, **more), scope, "user:omar")


def dispute(hub: SampleHub, id: str, field: str, **values: str) -> None:
    """Several people (by name) set a field apart from each other."""
    base = hub.memory.chunks(SHOP, id)
    for number, (by, value) in enumerate(values.items(), 1):
        edit = Edit(fields={field: value})
        chunk = Document.load(base, bytes([number]) * 16).edit(edit, at=hub.clock() + number, by=f"user:{by}")
        assert chunk is not None
        hub.memory.push(SHOP, [change(id, chunk)], "test")


def a_memory(hub: SampleHub) -> str:
    """All that the pages can show; the id of the item that is in conflict."""
    share(hub)
    hub.memory.grant(FORMER, "user:lena", "reader", "maria")
    note(
        hub, "Prices end with a full stop, also in headlines.", kind="brand-rule", pinned=True, tags=["style", "prices"]
    )
    note(hub, "Ann Smith would rather be written to than called.", kind="preference", subject="Ann Smith")
    disputed = note(
        hub, "The depot opens at seven.", kind="fact", source="page example.org/hours", fields={"town": "Elm"}
    )
    dispute(hub, disputed, "town", ann="Oak", bob="Ash")
    hub.memory.items.edit(
        SHOP, disputed, Edit(text="The depot opens at seven, on Sundays at nine.", pinned=True), "user:maria"
    )
    hub.memory.holds.hold(SHOP, disputed, "maria", "legal")
    if hub.desk is not None:
        hub.memory.grant(SHOP, f"device:{hub.desk.device}", "writer", "omar")
    hub.memory.erasure.item(SHOP, note(hub, "The code of the safe is 4711."), "omar", "wrong")
    hub.memory.finish()
    return disputed
