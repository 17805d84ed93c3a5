"""Conversations kept on the real stores and asked for through the real local API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.memory import Memory
from edge_agent.sessions import Budget, Sessions
from edge_agent.talk import Talk
from edge_agent.upkeep import drop_in_sessions, tokens
from shared.errors import BadInput, OutriderError, Unavailable
from shared.memory import Item
from shared.memory.vector import Embedding
from tests.edge_agent.api import kit

NOW = 1_795_000_000_000_000


class Models:
    """Two directions of meaning: what has to do with water, and the rest. ``broken`` models raise."""

    def __init__(self) -> None:
        self.broken = False

    async def embed(self, texts: Sequence[str], *, deadline_s: float | None = None) -> Any:
        if self.broken:
            raise Unavailable("model.crashed", "it is gone", advice="wait")
        wet = [any(word in text for word in ("rain", "flood", "water")) for text in texts]
        return SimpleNamespace(embeddings=[Embedding(bytes([127 * one, 127 * (not one)]), 127) for one in wet])


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = ""
        self.models = Models()
        self.memory = Memory(folder / "memory.sqlite3")
        self.sessions = Sessions(folder / "sessions.sqlite3", count=tokens, budget=Budget(120, 60))
        self.talk = Talk(
            self.sessions, self.memory, self.models, embedder=lambda: self.model, now=lambda: NOW, count=tokens
        )

    def note(self, text: str, scope: str = "person", *, pinned: bool = False) -> str:
        return self.memory.write(Item("note", text, "test", scope=scope, pinned=pinned), at=NOW, by="mara")

    async def say(
        self, text: str, role: str = "user", *, session: str = "chat", scope: str = "person"
    ) -> dict[str, Any]:
        return await self.talk.say(session, role, text, scope=scope, subject="", run="", artefacts=[])

    def raw(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.folder.iterdir() if path.is_file())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.sessions.close()
    made.memory.close()


async def refused(code: str, asked: Any) -> None:
    with pytest.raises(OutriderError) as error:
        await asked
    assert error.value.code == code


async def test_a_context_is_put_together_and_its_record_kept(rig: Rig) -> None:
    rule = rig.note("Never promise a date.", pinned=True)
    gate = rig.note("The gate of the depot opens at seven.")
    rig.note("The canteen is closed on Fridays.")
    await rig.say("Good morning.")
    await rig.say("When does the gate open?")
    told = await rig.talk.context("chat", "", 200)
    assert told["text"].splitlines() == [
        "Never promise a date.",
        "The gate of the depot opens at seven.",
        "user: Good morning.",
        "user: When does the gate open?",
    ]
    assert [(one["kind"], one["id"]) for one in told["blocks"]] == [
        ("pinned", rule), ("item", gate), ("turn", "1"), ("turn", "2")
    ]  # fmt: skip
    assert told["tokens"] == tokens(told["text"]) <= 200 and told["left_out"] == [] and not told["lacks_pinned"]
    again = await rig.talk.context("chat", "", 200)
    assert again == told, "the same twice"
    less = await rig.talk.context("chat", "", 22)
    assert [(one["kind"], one["id"], one["reason"]) for one in less["left_out"]] == [
        ("item", gate, "too-large"), ("turn", "1", "budget")
    ]  # fmt: skip
    assert rig.talk.show("chat")["told"] == {name: less[name] for name in less if name not in ("text", "lacks_pinned")}
    assert (await rig.talk.context("chat", "", 0))["lacks_pinned"]


async def test_what_was_answered_from_an_item_goes_with_it(rig: Rig) -> None:
    gate = rig.note("The code of the gate is Quagga.")
    await rig.say("What is the code of the gate?")
    assert gate in repr(await rig.talk.context("chat", "", 400))
    await rig.say("The code of the gate is Quagga.", "assistant")
    assert [one["place"] for one in rig.talk.show("chat")["turns"][1]["refers"]] == [gate]
    rig.sessions.erase_items([gate])
    rig.memory.erase([gate])
    assert b"Quagga" not in rig.raw()
    assert [turn["erased"] for turn in rig.talk.show("chat")["turns"]] == [False, True]


async def test_nothing_flows_into_a_wider_scope(rig: Rig) -> None:
    rig.memory.set_feeds({"person": "steward", "team/x": "writer", "team/y": "writer"})
    ids = {scope: rig.note(f"The gate of {scope}.", scope) for scope in ("device", "person", "team/x", "team/y")}
    seen = {}
    for scope in ids:
        await rig.say("The gate?", session=scope.replace("/", "-"), scope=scope)
        told = await rig.talk.context(scope.replace("/", "-"), "", 1000)
        seen[scope] = {one["id"] for one in told["blocks"] if one["kind"] == "item"}
    assert seen == {
        "device": set(ids.values()),
        "person": {ids["person"], ids["team/x"], ids["team/y"]},
        "team/x": {ids["team/x"]},
        "team/y": {ids["team/y"]},
    }
    await rig.say("It is the gate of team/x.", "assistant", session="person", scope="person")
    drop_in_sessions(rig.sessions, rig.memory, "team/x")
    assert [one.id for one in rig.sessions.newest()] == ["device", "person", "team-y"]
    assert [turn.erased for turn in rig.sessions.turns("person")] == [False, True]


async def test_meaning_helps_where_there_is_a_model_and_words_do_where_there_is_none(rig: Rig) -> None:
    flood = rig.note("When the river comes up, the flood door is shut.")
    vectors = (await rig.models.embed(["the flood door"])).embeddings
    rig.memory.put_vectors("m", [(flood, vectors[0])])
    await rig.say("What about the rain?")
    assert flood not in repr(await rig.talk.context("chat", "", 400))
    rig.model = "m"
    assert flood in repr(await rig.talk.context("chat", "", 400))
    rig.models.broken = True
    assert flood not in repr(await rig.talk.context("chat", "", 400)), "it goes on without"


@pytest.mark.parametrize("model", ["", "m"])
async def test_a_long_conversation_keeps_its_prompt_flat(rig: Rig, model: str) -> None:
    rig.model = model
    folded = []
    for number in range(60):
        folded.append(
            (await rig.say(f"Point {number}: we decided that wall {number} must stay by the water."))["folded"]
        )
    told = await rig.talk.context("chat", "", 500)
    assert 3 <= sum(folded) < 30
    assert told["left_out"] == [] and told["tokens"] < 250
    assert {one["kind"] for one in told["blocks"]} == {"summary", "turn"}


async def test_what_does_not_fit_is_refused(rig: Rig) -> None:
    await refused("session.unknown", rig.talk.context("none", "", 100))
    await refused("session.name", rig.say("x", session="../x"))
    await refused("session.role", rig.say("x", "User!"))
    await refused("session.scope", rig.say("x", scope="team"))
    await refused("session.turn", rig.say("  "))
    await rig.say("x")
    await refused("session.scope", rig.say("x", scope="device"))
    await refused("session.budget", rig.talk.context("chat", "", -1))
    with pytest.raises(BadInput):
        rig.talk.show("none")


# --- through the local API ----------------------------------------------------------------------------------------


async def test_a_program_keeps_its_conversation_here(rig: Rig) -> None:
    async with kit.serving(rig.folder, talk=rig.talk) as api:
        said = await api.ask("POST", "/v1/sessions/chat/turns", {"role": "user", "text": "When does the gate open?"})
        assert (said.status, said.json) == (201, {"turn": 1, "folded": False})
        assert rig.sessions.session("chat").scope == "device"
        told = await api.ask("POST", "/v1/sessions/chat/context", {"budget": 300})
        assert (told.status, told.json["text"]) == (200, "user: When does the gate open?")
        shown = (await api.ask("GET", "/v1/sessions/chat")).json
        assert (shown["turns"][0]["text"], shown["told"]["budget"]) == ("When does the gate open?", 300)
        for path, body, expected in (
            ("none/context", {"budget": 300}, (404, "session.unknown")),
            ("chat/context", {}, (400, "api.body")),
            ("chat/turns", {"role": "user", "text": ""}, (400, "session.turn")),
            ("chat/turns", {"role": "user", "text": "x", "by": "me"}, (400, "api.body")),
        ):
            answer = await api.ask("POST", f"/v1/sessions/{path}", body)
            assert (answer.status, answer.json["code"]) == expected


async def test_an_agent_without_sessions_has_nothing_there(tmp_path: Path) -> None:
    async with kit.serving(tmp_path) as api:
        assert (await api.ask("GET", "/v1/sessions/chat")).status == 404
