"""The hub put together expires memory by the rules of its newest release."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from server import admin, app
from server.config import HubConfig
from shared.memory import Item
from shared.memory.document import Document
from shared.memory.feed import change
from shared.memory.item import new_id
from tests.server.conftest import Clock


def test_the_newest_release_says_how_long_items_live(home: Path, clock: Clock) -> None:
    with app.open_hub(HubConfig(home=home), clock) as hub:
        hub.releases.init_repository()
        for kind in ("note", "fact"):
            item = Item(kind, kind, "test", scope="team/x")
            chunks = Document.create(item, secrets.token_bytes(16), at=clock(), by="mara").changes()
            done = hub.memory.push(
                "team/x", [change(new_id(secrets.token_bytes), chunk) for chunk in chunks], by="mara"
            )
            assert done.refused == []
        clock.step(2 * 3600)
        app.expire(hub)
        assert _kinds(hub) == ["fact", "note"], "without a release nothing ends by rule"
        shutil.copytree(admin.STARTERS / "permits", home / "workspace")
        rules = home / "workspace" / "memory.yaml"
        rules.write_text("memory: 1\nexpire: [{kinds: [note], after: 1h}]\n")
        hub.releases.publish("eve")
        app.expire(hub)
        assert _kinds(hub) == ["fact"]
        rules.write_text("memory: 1\nexpire: [{kinds: [fact], after: 1h}]\n")
        hub.releases.publish("eve")
        app.expire(hub)
        assert _kinds(hub) == []


def _kinds(hub: app.Hub) -> list[str]:
    return sorted(view.kind for view in hub.memory.items.list())
