"""Unmodified automerge-repo clients and the hub edit one document, live."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.memory.item import Edit
from tests.server.opendoor.conftest import SCOPE, Place, Script


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_clients_and_the_hub_edit_a_document_live(place: Place, script: Callable[[], Script]) -> None:
    one, two = script(), script()
    for client in (one, two):
        client.do("connect", address=place.way_in())
        doc = client.do("open", url=place.url)["doc"]
        assert doc["text"] == "Write plainly." and doc["fields"] == {"voice": "calm"} and doc["tags"] == {"brand": True}

    one.do("edit", at=5, text=" very")
    two.do("text", text="Write very plainly.")
    eventually(lambda: place.says().text == "Write very plainly.")

    two.do("edit", fields={"voice": "warm", "audience": "everyone 😀"}, scalar={"tense": "present"}, tag="reviewed")
    one.do("field", name="audience", value="everyone 😀")
    eventually(lambda: "tense" in place.says().fields)
    assert place.says().fields == {"voice": "warm", "audience": "everyone 😀", "tense": "present"}
    assert place.says().tags == ["brand", "reviewed"]

    place.memory.edit(SCOPE, place.item, Edit(text="Write very plainly. No jargon.", fields={"voice": "dry"}))
    for client in (one, two):
        client.do("text", text="Write very plainly. No jargon.")
        client.do("field", name="voice", value="dry")

    one.do("edit", whole="Write plainly. No jargon!")
    two.do("edit", untag="brand")
    eventually(lambda: place.says().tags == ["reviewed"] and place.says().text == "Write plainly. No jargon!")
    two.do("text", text="Write plainly. No jargon!")
    eventually(
        lambda: (
            one.do("look")["heads"] == two.do("look")["heads"] == list(place.memory.document(SCOPE, place.item).heads())
        )
    )


def test_what_is_written_apart_is_merged_when_they_meet(place: Place, script: Callable[[], Script]) -> None:
    one = script()
    one.do("connect", address=place.way_in(), retry=50)
    one.do("open", url=place.url)
    for number in range(20):
        one.do("edit", at=0, text=f"{number},")
        place.memory.edit(SCOPE, place.item, Edit(fields={"count": str(number)}))
    one.do("field", name="count", value="19")
    eventually(lambda: place.says().text.startswith("19,18,17,") and place.says().fields["count"] == "19")


def test_a_wrong_token_opens_nothing(place: Place, script: Callable[[], Script]) -> None:
    one = script()
    one.do("connect", address=place.way_in()[:-1] + "x")
    one.do("seek", url=place.url)
    assert one.do("closed")["closes"] == [{"code": 4401, "reason": "door.token"}]


def test_what_a_reader_writes_is_refused(place: Place, script: Callable[[], Script]) -> None:
    reader, writer = script(), script()
    reader.do("connect", address=place.way_in("reader"))
    writer.do("connect", address=place.way_in())
    for client in (reader, writer):
        client.do("open", url=place.url)
    writer.do("edit", at=0, text="Always: ")
    reader.do("text", text="Always: Write plainly.")
    reader.do("edit", at=0, text="Never: ")
    assert reader.do("closed")["closes"] == [{"code": 4403, "reason": "door.read-only"}]
    writer.do("edit", at=0, text="- ")
    eventually(lambda: place.says().text == "- Always: Write plainly.")
    assert "Never" not in writer.do("look")["doc"]["text"]


def test_what_a_client_may_not_write_is_refused_and_others_go_on(place: Place, script: Callable[[], Script]) -> None:
    good = script()
    good.do("connect", address=place.way_in())
    good.do("open", url=place.url)
    for edit, code in (
        ({"root": {"kind": "note"}}, "door.field"),
        ({"root": {"extra": 1}}, "door.field"),
        ({"list": True}, "memory.hostile."),
        ({"counter": True}, "memory.hostile."),
    ):
        bad = script()
        bad.do("connect", address=place.way_in())
        bad.do("open", url=place.url)
        bad.do("edit", **edit)
        closed = bad.do("closed")["closes"][0]
        assert closed["code"] == 4403 and closed["reason"].startswith(code), (edit, closed)
    before = place.says()
    assert before.kind == "brand-rule" and before.fields == {"voice": "calm"}
    good.do("edit", at=0, text="> ")
    eventually(lambda: place.says().text == "> Write plainly.")


def test_a_document_that_the_token_is_not_for_is_not_there(place: Place, script: Callable[[], Script]) -> None:
    from shared.memory.repo import names

    one = script()
    one.do("connect", address=place.way_in())
    one.do("open", url=place.url)
    one.do("seek", url=names.document_url("mem_" + "77" * 12))
    assert "unavailable" in one.do("sought")["found"]
    one.do("open", url=place.url)
    one.do("edit", at=0, text="still ")
    eventually(lambda: place.says().text == "still Write plainly.")


def test_a_revoked_token_ends_the_connection_and_a_message_to_others_goes_nowhere(
    place: Place, script: Callable[[], Script]
) -> None:
    one = script()
    token, door = place.token()
    one.do("connect", address=f"ws://{place.address}/memory/sync?token={token}")
    one.do("open", url=place.url)
    one.do("say", message={"cursor": 3})
    place.doors.revoke(door.id, by="clara")
    assert one.do("closed")["closes"] == [{"code": 4403, "reason": "door.revoked"}]


def test_an_erased_document_closes_its_door(place: Place, script: Callable[[], Script]) -> None:
    one = script()
    way_in = place.way_in()
    one.do("connect", address=way_in)
    one.do("open", url=place.url)
    place.memory.erase(SCOPE, place.item)
    assert one.do("closed")["closes"] == [{"code": 4403, "reason": "door.gone"}]
    again = script()
    again.do("connect", address=way_in)
    assert again.do("closed")["closes"] == [{"code": 4403, "reason": "door.gone"}]
