"""Who may make tokens, what they open, and how they end."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import select

from server.bus import Bus
from server.doors import Door, Doors
from server.store import HubLog
from server.store.memory_tables import MEMORY_DOORS
from shared.errors import BadInput, Refused
from shared.memory.item import Item
from tests.server.conftest import Clock
from tests.server.opendoor.conftest import RULES, SCOPE, Place, Raw, Shelf


@pytest.fixture
def doors(hublog: HubLog, bus: Bus, memory: Shelf) -> Doors:
    return Doors(hublog, bus, memory.room)


@pytest.fixture
def item(memory: Shelf) -> str:
    return memory.put(RULES)


def made(doors: Doors, item: str, **given: object) -> tuple[str, Door]:
    asked = {"role": "writer", "seconds": 3600, "by": "clara"} | given
    return doors.issue(SCOPE, item, **asked)  # type: ignore[arg-type] # a test may give what it wants


def test_a_token_opens_its_document_and_is_kept_hashed(doors: Doors, item: str, hublog: HubLog) -> None:
    token, door = made(doors, item, origins=["https://shop.example"], label="shop window")
    assert doors.open(token, ()) == door and doors.open(token, ["https://shop.example"]).id == door.id
    assert (door.scope, door.item, door.role, door.label, door.by) == (SCOPE, item, "writer", "shop window", "clara")
    with hublog.store.read() as conn:
        (row,) = conn.execute(select(MEMORY_DOORS)).all()
    assert token not in str(row) and token.removeprefix("odt_") not in str(row)
    entries = b"".join(data for _, data in hublog.entries())
    assert token.encode() not in entries
    last = json.loads(hublog.entries()[-1][1])
    assert (last["type"], last["facts"]["member"], last["facts"]["role"]) == ("memory.granted", door.member, "writer")
    assert [one.used_at > 0 for one in doors.list(SCOPE, item)] == [True]


def test_it_ends(doors: Doors, item: str, clock: Clock) -> None:
    token, _ = made(doors, item, seconds=60)
    clock.step(59)
    doors.open(token, ())
    clock.step(2)
    with pytest.raises(Refused, match="door.expired"):
        doors.open(token, ())


def test_it_is_revoked_by_a_steward(doors: Doors, item: str, hublog: HubLog) -> None:
    token, door = made(doors, item)
    with pytest.raises(Refused, match="door.steward"):
        doors.revoke(door.id, by="wim")
    doors.revoke(door.id, by="clara")
    size = hublog.size
    doors.revoke(door.id, by="clara")
    assert hublog.size == size and json.loads(hublog.entries()[-1][1])["facts"]["role"] == ""
    with pytest.raises(Refused, match="door.revoked"):
        doors.open(token, ())
    with pytest.raises(BadInput, match="door.unknown"):
        doors.revoke("dor_" + "0" * 24, by="clara")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"by": "wim"}, "door.steward"),
        ({"by": "nobody"}, "door.steward"),
        ({"role": "steward"}, "door.role"),
        ({"role": ""}, "door.role"),
        ({"origins": ["https://shop.example/"]}, "door.origins"),
        ({"origins": ["*"]}, "door.origins"),
        ({"origins": ["null"]}, "door.origins"),
        ({"origins": ["https://Shop.example"]}, "door.origins"),
        ({"origins": [f"https://s{n}.example" for n in range(21)]}, "door.origins"),
        ({"seconds": 59}, "door.time"),
        ({"seconds": 10**9}, "door.time"),
        ({"label": "x" * 101}, "door.label"),
        ({"label": "a\nb"}, "door.label"),
    ],
)
def test_what_no_token_is_made_for(doors: Doors, item: str, given: dict[str, object], code: str) -> None:
    with pytest.raises((BadInput, Refused), match=code):
        made(doors, item, **given)


def test_only_items_of_teams_have_doors(doors: Doors, memory: Shelf) -> None:
    with pytest.raises(BadInput, match="door.item"):
        made(doors, "mem_" + "0" * 24)
    own = memory.room.items.create(Item(kind="note", text="mine", source="me"), "person/clara", "clara")
    with pytest.raises(BadInput, match="door.item"):
        doors.issue("person/clara", own, role="reader", seconds=60, by="operator", operator=True)


def test_a_document_has_so_many_tokens(doors: Doors, item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.doors.tokens.MOST", 3)
    kept = [made(doors, item)[1] for _ in range(3)]
    with pytest.raises(Refused, match="door.too-many"):
        made(doors, item)
    doors.revoke(kept[0].id, by="clara")
    made(doors, item, by="operator", operator=True)


async def test_who_is_inside_leaves_when_the_token_ends(place: Place, hublog: HubLog, clock: Clock) -> None:
    token, _ = place.token(seconds=60)
    clock.step(59.5)
    client = await Raw.open(place, f"ws://{place.address}/memory/sync?token={token}")
    await client.join()
    clock.step(10)
    async with asyncio.timeout(60):
        told = await client.receive()
    await Raw.close_all()
    assert told["type"] == "error" and told["message"].startswith("door.expired")
