"""Fetching from devices near by that help, lie, break off, are gone or others than they say; the hub mends it all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.config import now_us
from edge_agent.models import hub as download
from edge_agent.models.fetch import Progress
from edge_agent.models.hub import Broken, Source, add_from_hub
from edge_agent.models.obtain import obtain
from edge_agent.models.pace import Pace
from edge_agent.models.peers import PeerFinder
from edge_agent.models.store import ModelStore
from shared import limits
from shared.codec import parse
from shared.errors import Tampered, Unavailable
from shared.keys import SigningKey
from shared.peering import Found, Peer, Wanted, wanted_bytes
from shared.release import ModelRef, Release
from tests.edge_agent.models.test_hub import Handler, Server, url
from tests.edge_agent.peering.kit import CHUNK, DATA, HUB, LIST, MODEL, Listening, Member, release, ticket


class HubHandler(Handler):
    """The hub's files, and its word on who has a model."""

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        hub = self.server
        assert isinstance(hub, Hub)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        wanted = parse(body, Wanted, code="test", what="the request")
        assert self.path == "/api/peers" and wanted.device == hub.asker.identity.device
        signed = wanted_bytes("city", wanted)
        hub.asker.key.public.verify(bytes.fromhex(wanted.signature), signed, code="test", what="the request")
        hub.questions += 1
        answer = hub.answer if hub.answer is not None else msgspec.json.encode(Found(hub.found))
        self.send_response(hub.says)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class Hub(Server):
    data, says, questions = DATA, 200, 0
    answer: bytes | None = None
    found: list[Peer]
    asker: Member


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("tests.edge_agent.models.test_hub.LIST", LIST)
    made = Hub(("127.0.0.1", 0), HubHandler)
    made.asked, made.found = [], []
    made.asker = Member(tmp_path, "d-asker", url(made).rstrip("/"))
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def peer(hub: Hub, tmp_path: Path) -> Iterator[Callable[..., Listening]]:
    """Makes a device that has the model, whatever its bytes, listens, and is named by the hub."""
    with ExitStack() as stack:

        def make(data: bytes = DATA, *, named: Member | None = None) -> Listening:
            member = Member(tmp_path, f"d-peer-{len(hub.found)}")
            member.has(data)
            listening = Listening(member)
            stack.callback(listening.stop)
            sealed = ticket(named or member, hub.asker, listening.address)
            hub.found.append(Peer((named or member).identity.device, sealed))
            return listening

        yield make


def fetched(hub: Hub, in_force: Release | None = None, model: ModelRef = MODEL) -> list[str]:
    """Fetch the model; the ranges of it that the hub was asked for."""
    asker = hub.asker
    finder = PeerFinder(asker.identity, asker.key, lambda: in_force or release(), now_us)
    obtain(asker.home, model, None, hub=url(hub), peers=finder)
    assert asker.store.path_for(MODEL.sha256).read_bytes() == DATA
    assert [path.name for path in asker.store.folder.glob(".*")] == []
    return [given for path, given in hub.asked if not path.endswith(".chunks")]


def damaged(place: int) -> bytes:
    return DATA[:place] + bytes([DATA[place] ^ 1]) + DATA[place + 1 :]


def test_a_peer_that_has_it_spares_the_hub_the_whole_file(hub: Hub, peer: Callable[..., Listening]) -> None:
    first, second = peer(), peer()
    assert fetched(hub) == []
    assert hub.questions == 1
    assert first.server.status()["sent_bytes"] == len(DATA)
    assert second.server.status()["sent_bytes"] == 0


def test_nobody_is_asked_where_the_release_does_not_let_them(hub: Hub, peer: Callable[..., Listening]) -> None:
    peer()
    assert fetched(hub, release(peers=False)) == [""]
    assert hub.questions == 0


def test_nobody_is_asked_for_a_model_of_another_release_or_one_without_a_chunk_list(
    hub: Hub, peer: Callable[..., Listening]
) -> None:
    peer()
    assert fetched(hub, release(models=())) == [""]
    hub.asker.store.remove(MODEL.name)
    assert fetched(hub, model=msgspec.structs.replace(MODEL, chunks="")) == ["", ""]
    assert hub.questions == 0


def test_a_peer_that_lies_is_left_for_the_next_and_asked_no_more(hub: Hub, peer: Callable[..., Listening]) -> None:
    liar, honest = peer(damaged(2 * CHUNK + 7)), peer()
    connections = liar.server._nonces
    assert fetched(hub) == []
    assert len(connections) == 0 and len(liar.server._nonces) == 1
    assert honest.server.status()["sent_bytes"] == len(DATA) - 2 * CHUNK


def test_a_liar_alone_costs_nothing_that_others_sent(hub: Hub, peer: Callable[..., Listening]) -> None:
    peer(damaged(CHUNK + 7))
    assert fetched(hub) == [f"bytes={CHUNK}-{len(DATA) - 1}"]


def test_a_peer_that_breaks_off_has_brought_its_whole_chunks(hub: Hub, peer: Callable[..., Listening]) -> None:
    peer(DATA[: 2 * CHUNK + 100])
    assert fetched(hub) == [f"bytes={2 * CHUNK}-{len(DATA) - 1}"]


def test_a_piece_of_a_chunk_is_not_left_to_the_next_to_answer_for(hub: Hub, peer: Callable[..., Listening]) -> None:
    """One lies within a chunk and breaks off before its end: the honest one after it is not taken for a liar."""
    peer(damaged(2 * CHUNK + 7)[: 2 * CHUNK + 100])
    honest = peer()
    assert fetched(hub) == []
    assert honest.server.status()["sent_bytes"] == len(DATA) - 2 * CHUNK


@pytest.mark.parametrize("case", ["gone", "busy", "shut", "impostor", "no device", "elsewhere", "forged"])
def test_a_peer_that_does_not_help_is_no_error(
    hub: Hub, peer: Callable[..., Listening], tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Member(tmp_path, "d-other")
    with socket.create_server(("127.0.0.1", 0)) as none:
        gone = f"127.0.0.1:{none.getsockname()[1]}"
    if case == "busy":
        monkeypatch.setattr(limits, "PEER_DOWNLOADS", 0)
        peer()
    elif case == "shut":
        peer().release = release(models=())
    elif case == "impostor":  # it has the model, and neither the ticket nor the key of the one it poses as
        peer(named=other)
    else:
        hubs = url(hub).removeprefix("http://").rstrip("/")
        address = {"no device": hubs, "elsewhere": "8.8.8.8:80"}.get(case, gone)
        key = SigningKey(b"x" * 32) if case == "forged" else HUB
        hub.found = [Peer("d-other", ticket(other, hub.asker, address, hub=key))]
    assert [given for given in fetched(hub) if given != f"bytes=0-{len(DATA) - 1}"] == [""]


def test_a_peer_is_believed_only_with_its_proof(hub: Hub, peer: Callable[..., Listening]) -> None:
    """The one at this address opens the ticket, but signs with another key than the hub named."""
    listening = peer()
    listening.server._key = SigningKey(b"y" * 32)
    assert fetched(hub) == [""]


@pytest.mark.parametrize(
    ("status", "answer"),
    [(403, b'{"code":"peers.policy"}'), (404, b""), (200, b"[]"), (200, b'{"peers":[{}]}'), (200, b"x" * 200_000)],
)
def test_a_hub_that_names_nobody_sends_it_itself(hub: Hub, status: int, answer: bytes) -> None:
    hub.says, hub.answer = status, answer
    assert fetched(hub) == [""]
    assert hub.questions == 1


def test_what_a_peer_began_goes_on_after_a_restart(hub: Hub, peer: Callable[..., Listening]) -> None:
    def stop(now: Progress) -> None:
        if now.done > 2 * CHUNK + 9:
            raise Unavailable("test.enough", "enough", advice="")

    first = peer()
    finder = PeerFinder(hub.asker.identity, hub.asker.key, release, now_us)
    with pytest.raises(Unavailable) as caught:
        add_from_hub(hub.asker.store, url(hub), MODEL, peers=finder, report=stop)
    assert caught.value.code == "test.enough"
    assert hub.asked[1:] == [], "whatever breaks the fetch off breaks it off with peers, too"
    assert (hub.asker.store.folder / f".part-{MODEL.sha256}").stat().st_size == 2 * CHUNK
    first.release = release(models=())
    assert fetched(hub) == [f"bytes={2 * CHUNK}-{len(DATA) - 1}"]


# --- whatever they send ---------------------------------------------------------------------------------------------

SMALL = 64  # bytes of a chunk, for as long as the property is tried
TEXT = bytes(range(256)) * 3 + b"end"


class Sender:
    """Any behaviour: it answers with ``data`` from ``start`` on, or all of it, or not at all."""

    name, least = "a sender", 1

    def __init__(self, data: bytes, whole: bool, there: bool) -> None:
        self._data, self._whole, self._there, self.pace = data, whole, there, Pace(0)

    def ask(self, start: int, end: int) -> urllib3.BaseHTTPResponse:
        if not self._there:
            raise Broken("it is gone")
        body = self._data if self._whole else self._data[start:]
        return urllib3.HTTPResponse(body=body, status=200 if self._whole else 206, preload_content=False)


def changed(edits: list[tuple[int, int]], cut: int) -> bytes:
    data = bytearray(TEXT)
    for place, bit in edits:
        data[place] ^= bit
    return bytes(data[:cut])


senders = st.builds(
    Sender,
    st.builds(
        changed,
        st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 255)), max_size=3),
        st.integers(0, len(TEXT)),
    ),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(others=st.lists(senders, max_size=5), hub_sends=senders, begun=st.binary(max_size=200))
def test_no_sequence_of_sources_puts_other_bytes_into_the_store(
    tmp_path_factory: pytest.TempPathFactory, others: list[Sender], hub_sends: Sender, begun: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MODEL_CHUNK_BYTES", SMALL)
        patch.setattr("os.fsync", lambda _: None)
        hashes = [sha256(TEXT[place : place + SMALL]).digest() for place in range(0, len(TEXT), SMALL)]
        listed = sha256(b"".join(hashes)).hexdigest()
        model = ModelRef("t", "embedder", sha256(TEXT).hexdigest(), len(TEXT), "hub:", chunks=listed)
        patch.setattr(download._Hub, "chunk_list", lambda _: hashes)
        patch.setattr(download._Hub, "ask", lambda _, start, end: hub_sends.ask(start, end))
        store = ModelStore(tmp_path_factory.mktemp("store"))
        store.folder.mkdir()
        part = store.folder / f".part-{model.sha256}"
        part.write_bytes(begun)
        sources: list[Source] = [*others]
        try:
            add_from_hub(store, "http://x", model, peers=lambda _: sources)
        except (Unavailable, Tampered):
            assert store.installed() == ()
            kept = part.read_bytes() if part.exists() else b""
            whole = len(kept) // SMALL * SMALL
            came = max(SMALL * -(-len(begun) // SMALL), 0)
            assert kept[came:whole] == TEXT[came:whole], "no whole chunk that came is a wrong one"
        else:
            assert store.path_for(model.sha256).read_bytes() == TEXT
