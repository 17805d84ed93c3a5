"""The whole way, with a hub that runs: its commands make the token, and npm's client and a device edit one document."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from server.admin import Operator
from server.app import open_hub
from server.config import HubConfig
from shared.codec import unb64
from shared.memory.document import Document
from shared.memory.feed import change
from shared.memory.item import Edit, Item, new_id
from shared.protocol import Recall, Remember
from tests.server.conftest import Serving
from tests.server.memory.test_commands import ask, refused
from tests.server.opendoor.conftest import SCOPE, Script
from tests.server.opendoor.test_clients import eventually
from tests.server.test_commands import first, made, running, typed

__all__ = ["first", "made"]  # the fixtures


def test_a_device_and_a_client_edit_the_brand_rules_of_a_team(
    serving_hub: Serving, script: Callable[[], Script]
) -> None:
    here = serving_hub.hub
    device = serving_hub.join()
    here.memory.grant(SCOPE, f"device:{device.id}", "writer", "operator")
    rules = Item(kind="brand-rule", text="Say what it costs.", source="workshop", scope=SCOPE)
    actor, item = secrets.token_bytes(16), new_id(secrets.token_bytes)
    held = Document.create(rules, actor, at=time.time_ns() // 1000, by="device").changes()
    assert not here.memory.remember(device.id, Remember(SCOPE, [change(item, chunk) for chunk in held])).refused

    operator = Operator(here.config)
    made = operator.door("issue", scope=SCOPE, item=item, role="writer", origins=[], seconds=3600, label="shop")
    assert [one["label"] for one in operator.door("list", scope=SCOPE)["doors"]] == ["shop"]
    client = script()
    client.do("connect", address="ws" + serving_hub.address.removeprefix("http") + made["path"])
    assert client.do("open", url=made["url"])["doc"]["text"] == "Say what it costs."

    def pulled() -> Document:
        told = here.memory.recall(device.id, Recall({SCOPE: 0}))
        return Document.load([unb64(record.data, what="a record") for record in told.records], actor)

    client.do("edit", at=18, text=" In euros.", fields={"currency": "EUR"})
    eventually(lambda: pulled().item().fields == {"currency": "EUR"})
    document = pulled()
    assert document.item().text == "Say what it costs. In euros."

    chunk = document.edit(Edit(text="Say what it costs. In euros and cents."), at=time.time_ns() // 1000, by="device")
    assert chunk is not None
    assert not here.memory.remember(device.id, Remember(SCOPE, [change(item, chunk)])).refused
    client.do("text", text="Say what it costs. In euros and cents.")
    assert here.memory.items.edit(SCOPE, item, Edit(add_tags=["prices"]), "clara")
    eventually(lambda: client.do("look")["doc"]["tags"] == {"prices": True})
    assert {who for who, _ in here.memory.items.senders(SCOPE, item).values()} == {
        device.id,
        f"door:{made['id']}",
        "hub",
    }

    operator.door("revoke", door=made["id"])
    assert client.do("closed")["closes"] == [{"code": 4403, "reason": "door.revoked"}]


@pytest.mark.system
def test_the_commands(made: Path, script: Callable[[], Script]) -> None:
    with open_hub(HubConfig(home=made)) as opened:
        rules = Item(kind="brand-rule", text="Be brief.", source="workshop", scope=SCOPE)
        item = opened.memory.items.create(rules, SCOPE, "clara")
    origin = "https://shop.example"
    with running(made) as (_, address):
        issued = ask(made, "door", "issue", SCOPE, item, "--ttl", "1h", "--origin", origin, "--label", "shop")
        assert (issued["role"], issued["origins"], issued["by"]) == ("reader", [origin], "operator")
        assert issued["expires_at"] - issued["created_at"] == 3_600_000_000
        shown = typed("door", "list", "--home", str(made)).stdout
        assert issued["id"] in shown and issued["token"] not in shown and "reader, shop" in shown
        client = script()
        client.do("connect", address="ws" + address.removeprefix("http") + issued["path"])
        assert client.do("open", url=issued["url"])["doc"]["text"] == "Be brief."
        assert "door.origins" in refused(made, "door", "issue", SCOPE, item, "--origin", "*")
    ask(made, "door", "revoke", issued["id"])
    assert ask(made, "door", "list", "--scope", SCOPE)[0]["revoked_at"] > 0
