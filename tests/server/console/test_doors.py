"""Addresses by which programs open a team's document: made, shown once, listed and revoked by its stewards."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import httpx
import pytest

from tests.server.console.conftest import session_csrf, signed_in
from tests.server.console.sample_hub import MARIA, OMAR, SampleHub
from tests.server.console.sample_memory import SHOP, note, share


@pytest.fixture
def item(hub: SampleHub) -> str:
    share(hub)
    return note(hub, "Prices end with a full stop.")


def look(client: httpx.Client, item: str) -> httpx.Response:
    return client.get(f"/memory/items/{item}/doors?{urlencode({'scope': SHOP})}")


def send(client: httpx.Client, item: str, **fields: str) -> httpx.Response:
    given = {"csrf": session_csrf(client), "scope": SHOP, **fields}
    return client.post(f"/memory/items/{item}/doors", data=given)


def test_a_steward_makes_an_address_and_revokes_it(hub: SampleHub, item: str) -> None:
    client = signed_in(hub, OMAR)
    there = client.get(f"/memory/items/{item}?{urlencode({'scope': SHOP})}").text
    assert f"/memory/items/{item}/doors" in there
    made = send(client, item, label="<b>shop</b>", role="writer", days="7", origins="https://shop.example")
    assert made.status_code == 200
    address = re.search(r"ws://127\.0\.0\.1:8400/memory/sync\?token=(odt_[0-9a-f]{64})", made.text)
    assert address is not None and "automerge:" in made.text and "&lt;b&gt;shop" in made.text
    doors = hub.services.doors
    (door,) = doors.list(SHOP, item)
    assert doors.open(address[1], ["https://shop.example"]).id == door.id
    assert (door.role, door.by, door.expires_at - door.created_at) == ("writer", "omar", 7 * 86_400_000_000)
    again = look(client, item).text
    assert "may write" in again and "https://shop.example" in again and address[1] not in again
    assert send(client, item, revoke=door.id).status_code == 303
    assert "revoked" in look(client, item).text and doors.get(door.id).revoked_at > 0


def test_what_is_not_made(hub: SampleHub, item: str) -> None:
    client = signed_in(hub, OMAR)
    for fields, code in (
        ({"role": "writer", "days": "7", "origins": "*"}, "door.origins"),
        ({"role": "steward", "days": "7"}, "door.role"),
        ({"role": "reader", "days": "8"}, "door.time"),
        ({"role": "reader", "days": ""}, "door.time"),
        ({"revoke": "dor_none"}, "door.unknown"),
    ):
        answer = send(client, item, label="x", **fields)
        assert answer.status_code >= 400 and code in answer.text, fields
    assert hub.services.doors.list() == []


def test_others_see_and_make_nothing(hub: SampleHub, item: str) -> None:
    client = signed_in(hub, MARIA)  # an administrator, and a writer of the team
    assert look(client, item).status_code == 403
    assert f"/memory/items/{item}/doors" not in client.get(f"/memory/items/{item}?{urlencode({'scope': SHOP})}").text
    assert send(client, item, label="x", role="reader", days="1").status_code == 403
    assert hub.services.doors.list() == []
