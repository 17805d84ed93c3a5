"""A client that says what it wants: the hub answers with a code, keeps the document whole, and serves the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from server.opendoor.connection import Rate
from shared.errors import OutriderError
from shared.memory import feed
from shared.memory.item import Edit
from shared.memory.repo import cbor, leb, names, sync
from shared.memory.repo.bloom import Bloom
from shared.memory.repo.sync import Have, Message
from shared.memory.screen import screen
from tests.server.opendoor.conftest import RULES, SCOPE, Place, Raw
from tests.shared.memory.hostile import crafted

END = 60.0


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    await Raw.close_all()


async def end_of(client: Raw) -> tuple[int, str, str]:
    """The close code and reason, and the code in the error message before it."""
    said = ""
    with pytest.raises(ConnectionClosed) as ended:
        async with asyncio.timeout(END):
            while True:
                told = await client.receive()
                if told["type"] == "error":
                    said = told["message"].partition(":")[0]
    close = ended.value.rcvd
    assert close is not None
    return close.code, close.reason, said


async def still_serves(place: Place) -> None:
    """Another client opens the document, writes to it, and is heard."""
    client = await Raw.open(place)
    await client.join()
    await client.settle()
    document = client.document_here()
    before = place.says()
    assert document.item() == before
    chunk = document.edit(Edit(fields={"seen": str(len(document.changes()))}), at=1_790_000_000_000_000, by="")
    assert chunk is not None
    client.add(chunk)
    async with asyncio.timeout(END):
        await client.settle()
        while place.says().fields.get("seen") is None:
            await asyncio.sleep(0.01)
    await client.socket.close()


async def test_a_client_joins_and_is_told_who_is_there(place: Place) -> None:
    client = await Raw.open(place)
    told = await client.join()
    assert told["type"] == "peer" and told["targetId"] == "raw" and told["selectedProtocolVersion"] == "1"
    assert told["peerMetadata"] == {"isEphemeral": True} and told["senderId"].startswith("hub-dor_")
    await client.settle()
    assert client.document_here().item() == place.says()
    await client.send({"type": "leave", "senderId": "raw"})
    assert await end_of(client) == (1000, "", "")


GARBAGE: list[tuple[str, Any, tuple[int, str]]] = [
    ("no CBOR", b"\xff\xff", (4400, "repo.cbor")),
    ("lists within lists", b"\x81" * 5000, (4400, "repo.cbor")),
    ("2^63 entries", b"\xbb\x7f" + b"\xff" * 7, (4400, "repo.cbor")),
    ("a tag", b"\xd8\x1c\x80", (4400, "repo.cbor")),
    ("text", "join me", (4400, "repo.message")),
    ("no bytes", b"", (4400, "repo.message")),
    ("no type", cbor.encode({"senderId": "raw"}), (4400, "repo.message")),
    ("a nameless document", cbor.encode({"type": "sync", "senderId": "raw", "data": b""}), (4400, "repo.message")),
    ("another version", cbor.encode({"type": "join", "senderId": "r", "supportedProtocolVersions": []}), (4403, "")),
]


@pytest.mark.parametrize(("what", "data", "end"), GARBAGE, ids=[what for what, _, _ in GARBAGE])
async def test_garbage_ends_the_connection_with_a_code(
    place: Place, what: str, data: Any, end: tuple[int, str]
) -> None:
    for joined in (False, True):
        client = await Raw.open(place)
        if joined:
            await client.join()
        await client.socket.send(data)
        code, reason, said = await end_of(client)
        assert code == end[0] and reason.startswith(end[1]) and said == reason, what
    await still_serves(place)


SYNC = [
    ("nothing", b""),
    ("17 GB of hashes", b"\x42" + leb.write(2**29) + bytes(22)),
    ("17 GB of filters", b"\x42\x00\x00" + leb.write(2**30) + bytes(20)),
    ("probes without end", b"\x42\x00\x00\x01\x00\x08\x01\x08" + leb.write(2**32 - 1) + b"x"),
    ("a filter of no bits", b"\x42\x00\x00\x01\x00\x04\x01\x00\x07\x00"),
    ("a whole document", b"\x43\x00\x00\x00\x01\x0d\x85\x6f\x4a\x83sum!\x00\x03xyz"),
    ("a change cut off", b"\x42\x00\x00\x00\x01\x0c\x85\x6f\x4a\x83sum!\x01\x03x"),
]


@pytest.mark.parametrize(("what", "data"), SYNC, ids=[what for what, _ in SYNC])
async def test_a_hostile_sync_message_is_refused(place: Place, what: str, data: bytes) -> None:
    client = await Raw.open(place)
    await client.join()
    await client.say(data)
    assert await end_of(client) == (4400, "repo.sync", "repo.sync"), what
    await still_serves(place)


async def test_mutants_of_good_changes_are_refused(place: Place) -> None:
    rng = random.Random(4)
    document = place.memory.document(SCOPE, place.item)
    good = document.edit(Edit(text="Write plainly, always.", fields={"a": "b"}), at=1_790_000_000_000_000, by="")
    assert good is not None
    codes: set[str] = set()
    while len(codes) < 4:
        bad = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(9, len(bad))] = rng.randrange(256)
        if rng.random() < 0.8:  # a right checksum for wrong content
            bad[4:8] = bytes.fromhex(feed.change_hash(bytes(bad)))[:4]
        with contextlib.suppress(OutriderError):
            screen(bytes(bad))
            continue  # another letter makes another good change
        client = await Raw.open(place)
        await client.join()
        await client.sync(Message(changes=(bytes(bad),)))
        code, reason, said = await end_of(client)
        assert code in (4400, 4403) and reason == said
        codes.add(reason)
    assert all(code.startswith(("memory.", "repo.")) for code in codes)
    assert place.says().text == "Write plainly."
    await still_serves(place)


async def test_changes_known_to_hurt_are_refused(place: Place) -> None:
    way_in = place.way_in()
    hurting = crafted()
    del hurting["nothing"], hurting["two changes"]  # in a sync message these carry none, or two
    for name, (chunk, code) in hurting.items():
        client = await Raw.open(place, way_in)
        await client.join()
        await client.sync(Message(changes=(chunk,)))
        _, reason, said = await end_of(client)
        assert reason == said and (reason.startswith(f"memory.hostile.{code}") or reason == "repo.sync"), name
        await client.socket.close()
    assert place.says() == RULES
    await still_serves(place)


async def test_changes_that_build_on_nothing_are_asked_about_and_bounded(place: Place) -> None:
    document = place.memory.document(SCOPE, place.item)
    first = document.edit(Edit(fields={"a": "1"}), at=1_790_000_000_000_000, by="")
    second = document.edit(Edit(fields={"a": "2"}), at=1_790_000_000_000_001, by="")
    assert first is not None and second is not None
    client = await Raw.open(place)
    await client.join()
    await client.sync(Message(heads=(feed.change_hash(second),), changes=(second,)))
    told = await client.receive()
    assert sync.parse(told["data"]).need == (feed.change_hash(first),)
    await client.sync(Message(heads=(feed.change_hash(second),), changes=(first,)))
    async with asyncio.timeout(END):
        while place.says().fields.get("a") != "2":
            await asyncio.sleep(0.01)


async def test_one_bad_change_keeps_out_all_of_its_message(place: Place) -> None:
    document = place.memory.document(SCOPE, place.item)
    good = document.edit(Edit(fields={"a": "1"}), at=1_790_000_000_000_000, by="")
    bad = document.edit(Edit(kind="note"), at=1_790_000_000_000_001, by="")
    assert good is not None and bad is not None
    client = await Raw.open(place)
    await client.join()
    await client.sync(Message(changes=(good, bad)))
    assert await end_of(client) == (4403, "door.field", "door.field")
    assert place.says().fields == {"voice": "calm"}


async def test_other_documents_are_not_there(place: Place) -> None:
    other = place.memory.put(place.says())
    client = await Raw.open(place)
    await client.join()
    for document in (names.document_id(other), names.base58check(bytes(16)), "no name at all"):
        await client.sync(Message(), document)
        told = await client.receive()
        assert (told["type"], told["documentId"]) == ("doc-unavailable", document)
    await client.settle()


@pytest.mark.parametrize(
    ("origins", "header", "code"),
    [
        ((), "", ""),
        (("https://shop.example",), "https://shop.example", ""),
        (("https://shop.example",), "", ""),
        ((), "https://shop.example", "door.origin"),
        (("https://shop.example",), "https://shop.example.evil.example", "door.origin"),
        (("https://shop.example",), "http://shop.example", "door.origin"),
        (("https://shop.example",), "null", "door.origin"),
    ],
)
async def test_pages_of_other_origins_are_refused(
    place: Place, origins: tuple[str, ...], header: str, code: str
) -> None:
    client = await Raw.open(place, place.way_in(origins=origins), **({"Origin": header} if header else {}))
    if code:
        assert await end_of(client) == (4403, code, code)
    else:
        assert (await client.join())["type"] == "peer"


@pytest.mark.parametrize("query", ["", "?token=", "?token=odt_x", "?token=a&token=b", "?" + "a=1&" * 50, "?token=%ff"])
async def test_whoever_has_no_token_is_refused(place: Place, query: str) -> None:
    client = await Raw.open(place, f"ws://{place.address}/memory/sync{query}")
    assert await end_of(client) == (4401, "door.token", "door.token")


async def test_who_sends_too_much_is_let_go(serve: Callable[..., Place]) -> None:
    place = serve(rate=Rate(messages=20, messages_s=1, bytes=10_000, bytes_s=1))
    client = await Raw.open(place)
    await client.join()
    with contextlib.suppress(ConnectionClosed):  # let go before the last of them
        for _ in range(30):
            await client.send({"type": "ephemeral"})
    assert await end_of(client) == (4429, "door.rate", "door.rate")
    client = await Raw.open(place)
    await client.send({"type": "ephemeral", "data": bytes(11_000)})
    assert await end_of(client) == (4429, "door.rate", "door.rate")


async def test_a_door_holds_so_many(serve: Callable[..., Place]) -> None:
    place = serve(connections=3, clients=2)
    held = [await Raw.open(place), await Raw.open(place)]
    for client in held:
        await client.join()
    assert await end_of(await Raw.open(place)) == (4429, "door.full", "door.full")
    await held.pop().socket.close()
    async with asyncio.timeout(END):
        while True:
            client = await Raw.open(place)
            try:
                await client.join()
                break
            except (ConnectionClosed, AssertionError):
                await asyncio.sleep(0.05)
    await still_closed(place)


async def still_closed(place: Place) -> None:
    assert (await end_of(await Raw.open(place)))[1] == "door.full"


async def test_who_does_not_join_is_let_go(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.opendoor.connection._JOIN_SECONDS", 0.1)
    assert await end_of(await Raw.open(place)) == (4408, "door.silent", "door.silent")


async def test_who_does_not_read_is_dropped_and_others_go_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.opendoor.connection._SEND_SECONDS", 2)
    rng = random.Random(5)
    text = "".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(15_000))
    place.item = place.memory.put(msgspec.structs.replace(RULES, text=text))
    deaf = await Raw.open(place)
    await deaf.join()
    deaf.socket.transport.pause_reading()
    with contextlib.suppress(ConnectionClosed):  # dropped before the last of them
        for _ in range(190):  # "I have nothing": some 50 KB each time
            await deaf.sync(Message(have=(Have(),)))
            await asyncio.sleep(0.005)
    await still_serves(place)
    async with asyncio.timeout(END):
        while place.connected():
            await asyncio.sleep(0.01)
    deaf.socket.transport.resume_reading()
    with pytest.raises(ConnectionClosed) as ended:
        async with asyncio.timeout(END):
            while True:
                await deaf.receive()
    assert ended.value.rcvd is None or ended.value.rcvd.reason == "door.slow"


async def test_a_client_that_claims_to_have_all_costs_little(place: Place) -> None:
    client = await Raw.open(place)
    await client.join()
    lie = Have(tuple(f"{number:064x}" for number in range(500)), Bloom(1, 1, 8, b"\xff"))
    for _ in range(20):
        await client.sync(Message(heads=lie.last_sync, have=(lie,)))
    told = sync.parse((await client.receive())["data"])
    assert told.heads and told.changes == ()
    await client.socket.close()
    await still_serves(place)


async def test_no_log_has_the_token(serve: Callable[..., Place], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        place = serve(log="info")
        token, _ = place.token()
        client = await Raw.open(place, f"ws://{place.address}/memory/sync?token={token}")
        await client.join()
        await client.socket.send(b"\xff")
        await end_of(client)
        await end_of(await Raw.open(place, f"ws://{place.address}/memory/sync?token={token}x"))
    assert "/memory/sync" in caplog.text and "door.token" in caplog.text
    assert token not in caplog.text and "token=" not in caplog.text
