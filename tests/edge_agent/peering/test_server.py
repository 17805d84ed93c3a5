"""A real listener on loopback, asked rightly, wrongly, slowly and by the wrong ones."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from edge_agent.peering import server as room
from shared import limits
from shared.errors import BadInput
from shared.keys import SigningKey
from shared.peering import PROOF_HEADER, answering_bytes
from shared.release import Lease, Release, sign
from tests.edge_agent.peering.kit import (
    CHUNK,
    DATA,
    HUB,
    MODEL,
    Listening,
    Member,
    answered,
    ask,
    asking,
    release,
    ticket,
    until,
)

OTHER = MODEL.sha256[::-1]


def right(listening: Listening, asker: Member, start: int = 0, end: int = 1000) -> bytes:
    return asking(ticket(listening.member, asker, listening.address), asker.key, start, end)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, len(DATA)), (CHUNK - 1, CHUNK + 1), (len(DATA) - 1, len(DATA))])
def test_the_bytes_come_with_a_proof_of_who_sends_them(
    listening: Listening, asker: Member, start: int, end: int
) -> None:
    sealed = ticket(listening.member, asker, listening.address)
    found = ask(listening, asking(sealed, asker.key, start, end, nonce="ab" * 16))
    assert (found.status, found.body) == (206, DATA[start:end])
    assert found.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    signature = bytes.fromhex(found.headers[PROOF_HEADER.lower()])
    signed = answering_bytes(sealed, "ab" * 16, start, end)
    listening.member.key.public.verify(signature, signed, code="test", what="the answer")
    wanted = {"on": True, "address": listening.address, "sent_bytes": end - start}
    until(lambda: listening.server.status() == wanted)


# --- who may ask ----------------------------------------------------------------------------------------------------


def test_a_sniffed_ticket_is_of_no_use_to_another(listening: Listening, asker: Member, tmp_path: Path) -> None:
    thief = Member(tmp_path, "d-thief")
    sealed = ticket(listening.member, asker, listening.address)
    found = ask(listening, asking(sealed, thief.key))
    assert (found.status, found.code) == (403, "peer.proof")


def test_a_sniffed_request_is_answered_once(listening: Listening, asker: Member) -> None:
    request = right(listening, asker)
    assert ask(listening, request).status == 206
    again = ask(listening, request)
    assert (again.status, again.code) == (403, "peer.replayed")
    moved = request.replace(b"bytes=0-999", b"bytes=0-1999")
    assert ask(listening, moved).code == "peer.proof"


def test_a_ticket_is_for_one_device_one_model_and_a_while(listening: Listening, asker: Member, tmp_path: Path) -> None:
    peer, address, key = listening.member, listening.address, asker.key
    for sealed, code in (
        (ticket(peer, asker, address, seconds=-1), "peer.ticket"),
        (ticket(peer, asker, address, sha256=OTHER), "peer.ticket"),
        (ticket(Member(tmp_path, "d-third"), asker, address), "signed.device"),
        (ticket(peer, asker, address, hub=SigningKey(b"x" * 32)), "envelope.signature"),
        (sign(Lease("l", peer.identity.device, 1, 2, 3, 4), HUB), "envelope.purpose"),
    ):
        found = ask(listening, asking(sealed, key))
        assert (found.status, found.code) == (403, code)
    assert ask(listening, right(listening, asker)).status == 206


def test_nothing_but_models_that_the_release_in_force_lists(listening: Listening, asker: Member) -> None:
    other = ticket(listening.member, asker, listening.address, sha256=OTHER)
    found = ask(listening, asking(other, asker.key, sha256=OTHER))
    assert (found.status, found.code) == (403, "peer.policy")
    listening.release = release(models=())
    found = ask(listening, right(listening, asker))
    assert (found.status, found.code) == (403, "peer.policy")
    listening.release = release()
    listening.member.store.remove(MODEL.name)
    found = ask(listening, right(listening, asker))
    assert (found.status, found.code) == (404, "model.missing")


@pytest.mark.parametrize("case", ["no peers", "no release", "let go"])
def test_it_is_open_only_while_the_release_lets_it(listening: Listening, asker: Member, case: str) -> None:
    host, port = listening.address.split(":")
    shut: dict[str, Release | None] = {"no peers": release(peers=False), "no release": None, "let go": release()}
    listening.release, listening.trusted = shut[case], case != "let go"
    until(lambda: not listening.server.address)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    listening.release, listening.trusted = release(), True
    assert ask(listening, right(listening, asker)).status == 206
    assert [bool(address) for address in listening.said] == [True, False, True]


# --- what is no request ---------------------------------------------------------------------------------------------

MESS = {
    "nothing": b"\r\n\r\n",
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "another method": b"POST /models/HASH HTTP/1.1\r\n\r\n",
    "head": b"HEAD /models/HASH HTTP/1.1\r\n\r\n",
    "a list": b"GET /models/ HTTP/1.1\r\n\r\n",
    "root": b"GET / HTTP/1.1\r\n\r\n",
    "above": b"GET /models/../log.sqlite3 HTTP/1.1\r\n\r\n",
    "above, quoted": b"GET /models/%2e%2e/log.sqlite3 HTTP/1.1\r\n\r\n",
    "absolute": b"GET http://x/models/HASH HTTP/1.1\r\n\r\n",
    "a query": b"GET /models/HASH?x=1 HTTP/1.1\r\n\r\n",
    "twice the slash": b"GET //models/HASH HTTP/1.1\r\n\r\n",
    "capitals": b"GET /MODELS/HASH HTTP/1.1\r\n\r\n",
    "http 1.0": b"GET /models/HASH HTTP/1.0\r\n\r\n",
    "two spaces": b"GET  /models/HASH HTTP/1.1\r\n\r\n",
    "without a proof": b"GET /models/HASH HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\n\r\n",
    "a field without a name": b"GET /models/HASH HTTP/1.1\r\n: x\r\n\r\n",
    "a folded field": b"GET /models/HASH HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "a bare newline": b"GET /models/HASH HTTP/1.1\nHost: x\r\n\r\n",
    "too long": b"GET /models/HASH HTTP/1.1\r\nA: " + b"x" * limits.PEER_HEAD_BYTES + b"\r\n\r\n",
}


@pytest.mark.parametrize("case", MESS)
def test_what_is_no_request_is_refused_and_the_next_is_served(listening: Listening, asker: Member, case: str) -> None:
    found = ask(listening, MESS[case].replace(b"HASH", MODEL.sha256.encode()))
    assert (found.status, found.code) == (400, "peer.request") or (found.status == 0 and case == "too long")
    assert ask(listening, right(listening, asker)).status == 206


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"bytes=0-999", b"bytes=-5", 400),
        (b"bytes=0-999", b"bytes=5-", 400),
        (b"bytes=0-999", b"bytes=0-1,5-9", 400),
        (b"bytes=0-999", b"bytes=00-999", 400),
        (b"bytes=0-999", b"bytes=0-99999999999999999999", 400),
        (b"Host: x", b"Range: bytes=0-999", 400),
        (b"Host: x", b"Content-Length: 5", 400),
        (b"Host: x", b"Transfer-Encoding: chunked", 400),
        (b"Outrider-Ticket: ", b"Outrider-Ticket: !", 400),
        (b"Outrider-Ticket: ", b"Outrider-Ticket: bnVsbA== ", 400),
        (b"Outrider-Proof: ", b"Outrider-Proof: 00", 400),
    ],
)
def test_a_request_that_was_tampered_with(
    listening: Listening, asker: Member, old: bytes, new: bytes, status: int
) -> None:
    request = right(listening, asker)
    assert request.count(old) == 1
    assert ask(listening, request.replace(old, new)).status == status


@pytest.mark.parametrize(("start", "end"), [(0, len(DATA) + 1), (5, 5), (9, 5), (len(DATA), len(DATA) + 1)])
def test_bytes_that_are_not_there(listening: Listening, asker: Member, start: int, end: int) -> None:
    found = ask(listening, right(listening, asker, start, end))
    assert (found.status, found.code) in [(416, "peer.range"), (400, "peer.request")]
    assert found.status == 416 or end == 0


# --- too many, too slow ---------------------------------------------------------------------------------------------


def test_only_so_many_fetch_at_once(tmp_path: Path, asker: Member) -> None:
    peer = Member(tmp_path, "d-peer")
    peer.has()
    listening = Listening(peer, rate=CHUNK // 2)
    try:
        lines = [listening.connect() for _ in range(limits.PEER_DOWNLOADS)]
        for line in lines:
            line.sendall(right(listening, asker, 0, len(DATA)))
            assert line.recv(1)
        found = ask(listening, right(listening, asker))
        assert (found.status, found.code) == (503, "peer.busy")
        for line in lines:
            line.close()
        until(lambda: ask(listening, right(listening, asker)).status == 206)
    finally:
        listening.stop()


def test_connections_that_say_nothing_are_counted_and_dropped(
    listening: Listening, asker: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_ASK_S", 3.0)
    lines = [listening.connect() for _ in range(limits.PEER_CONNECTIONS)]
    for line in lines[:8]:
        line.sendall(b"GET /models/")
    until(lambda: len(listening.server._connections) == limits.PEER_CONNECTIONS)
    assert ask(listening, right(listening, asker)).status == 0
    for line in lines:
        assert answered(line).status == 0
        line.close()
    assert ask(listening, right(listening, asker)).status == 206


def test_whoever_does_not_read_is_hung_up_on(tmp_path: Path, asker: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_GAP_S", 0.5)
    monkeypatch.setattr(limits, "PEER_LEAST_BYTES_S", 10 * CHUNK)
    big = DATA * 8  # more than the sockets between the two hold
    peer = Member(tmp_path, "d-peer")
    peer.has(big, MODEL.__class__("team", "embedder", MODEL.sha256, len(big), "hub:"))
    listening = Listening(peer)
    try:
        with listening.connect() as line:
            line.sendall(right(listening, asker, 0, len(big)))
            until(lambda: bool(listening.server.status()["sent_bytes"]))
            until(lambda: listening.server._downloads == 0)
            assert listening.server.status()["sent_bytes"] < len(big)
    finally:
        listening.stop()


def test_a_rate_holds_for_all_downloads_together(tmp_path: Path, asker: Member) -> None:
    peer = Member(tmp_path, "d-peer")
    peer.has()
    listening = Listening(peer, rate=CHUNK)
    try:
        began = time.monotonic()
        lines = [listening.connect() for _ in range(2)]
        for line in lines:
            line.sendall(right(listening, asker, 0, CHUNK // 2))
        assert [answered(line).body for line in lines] == [DATA[: CHUNK // 2]] * 2
        assert time.monotonic() - began > 0.45  # each alone would wait for half of it
        for line in lines:
            line.close()
    finally:
        listening.stop()


def test_a_file_that_is_shorter_than_it_was_ends_early(listening: Listening, asker: Member) -> None:
    path = listening.member.store.folder / listening.member.store.installed()[0].file
    path.write_bytes(DATA[: CHUNK + 5])
    with listening.connect() as line:
        line.sendall(right(listening, asker, 0, len(DATA)))
        got = b""
        while part := line.recv(65536):
            got += part
    assert got.partition(b"\r\n\r\n")[2] == DATA[: CHUNK + 5]


# --- the address ----------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listening = Listening(Member(tmp_path, "d-peer"), f"127.0.0.1:{taken.getsockname()[1]}")
        until(lambda: bool(listening.troubles))
        listening.stop()
    assert [error.code for error in listening.troubles] == ["peer.port"]
    assert listening.server.status()["address"] == ""


@pytest.mark.parametrize("address", ["0.0.0.0:8401", "8.8.8.8:8401", "[::]:0", "localhost:8401", "8401"])
def test_a_public_or_wildcard_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput) as caught:
        Listening(Member(tmp_path, "d-peer"), address)
    assert caught.value.code == "peer.address"


def test_without_an_address_nothing_listens(tmp_path: Path) -> None:
    listening = Listening(Member(tmp_path, "d-peer"), "")
    listening._thread.join(30)
    assert not listening._thread.is_alive()
    assert listening.server.status() == {"on": False, "address": "", "sent_bytes": 0}
