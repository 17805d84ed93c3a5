"""Who is told of whom: near, connected, with the model and the leave of a release; and who is told nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from server.devices.networks import believed, network
from server.peers import Peers
from shared import limits
from shared.entries import Draft, ModelTaken
from shared.errors import OutriderError
from shared.keys import SigningKey
from shared.peering import Found, Wanted, wanted_bytes
from shared.protocol import PROTOCOL_VERSION, Hello, Status
from shared.release import ModelRef, Release, Ticket, open_signed
from tests.fakes import FakeDevice, make_release
from tests.server.conftest import Rooms, Serving

MODEL = ModelRef("team", "embedder", "ab" * 32, 5_000_000, "hub:", chunks="cd" * 32)


def listing(number: int, *, peers: bool = True) -> Release:
    made = make_release(number)
    made.manifest = msgspec.structs.replace(made.manifest, models=[MODEL], peers=peers)
    return made


@dataclass
class Desk:
    """Releases by number (1 has ``peers``, 2 does not), and which of them a device is to run."""

    runs: dict[str, int] = field(default_factory=dict)
    releases: dict[int, Release] = field(default_factory=lambda: {1: listing(1), 2: listing(2, peers=False)})

    def told(self) -> Desk:
        return self

    def due(self, device: str) -> int:
        return self.runs.get(device, 1)

    def release(self, number: int) -> Release:
        return self.releases[number]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def peers(rooms: Rooms, desk: Desk) -> Peers:
    return Peers(rooms.hublog, rooms.devices, desk, desk)


@pytest.fixture
def lender(rooms: Rooms) -> Callable[..., FakeDevice]:
    """Joins a device that has taken the model, and connects it."""

    def make(name: str, source: str = "192.168.1.20", peer: str = "192.168.1.20:8401", model: str = "") -> FakeDevice:
        device = rooms.join(name)
        device.add(Draft(ModelTaken("embedder", "team", model or MODEL.sha256, 1)))
        rooms.sync(device)
        connect(rooms, device, source, peer)
        return device

    return make


def connect(rooms: Rooms, device: FakeDevice, source: str, peer: str) -> int:
    hello = Hello(PROTOCOL_VERSION, device.id, "00", device.size, "", 1, "fake", "")
    connection = rooms.devices.arrive(hello, source)
    rooms.devices.status(device.id, Status(1, device.size, 0, 0, 0, peer=peer))
    return connection


def wanted(rooms: Rooms, device: FakeDevice, *, key: SigningKey | None = None, late_s: int = 0) -> Wanted:
    blank = Wanted(device.id, MODEL.sha256, rooms.clock() - late_s * 1_000_000, "")
    signed = (key or device.link_key).sign(wanted_bytes(rooms.hublog.hub, blank)).hex()
    return msgspec.structs.replace(blank, signature=signed)


def names(found: Found) -> set[str]:
    return {peer.device for peer in found.peers}


def code(call: Callable[[], object]) -> str:
    with pytest.raises(OutriderError) as caught:
        call()
    return caught.value.code


def test_a_device_near_by_that_has_the_model_is_named_with_a_ticket(
    rooms: Rooms, peers: Peers, lender: Callable[..., FakeDevice]
) -> None:
    one, asker = lender("one"), rooms.join("two")
    (found,) = peers.find(wanted(rooms, asker), "192.168.1.77").peers
    assert found.device == one.id
    ticket = open_signed(found.ticket, Ticket, rooms.hublog.key.public, one.id)
    assert (ticket.address, ticket.sha256) == ("192.168.1.20:8401", MODEL.sha256)
    assert (ticket.key, ticket.asker, ticket.asker_key) == (
        one.link_key.public.text,
        asker.id,
        asker.link_key.public.text,
    )
    left = ticket.expires_at - rooms.clock.now
    assert 0 < left <= limits.PEER_TICKET_SECONDS * 1_000_000
    assert rooms.devices.get(one.id).peer == "192.168.1.20:8401"


def test_nobody_is_named_to_itself_or_to_another_network(
    rooms: Rooms, peers: Peers, lender: Callable[..., FakeDevice]
) -> None:
    one, asker = lender("one"), rooms.join("two")
    assert peers.find(wanted(rooms, one), "192.168.1.20").peers == []
    for source in ("192.168.2.77", "10.0.0.1", "127.0.0.1", "203.0.113.9", "fd00::1", "", "testclient"):
        assert peers.find(wanted(rooms, asker), source).peers == []


def test_devices_behind_one_public_address_are_near(
    rooms: Rooms, peers: Peers, lender: Callable[..., FakeDevice]
) -> None:
    one, asker = lender("one", "203.0.113.9", "10.1.2.3:8401"), rooms.join("two")
    assert names(peers.find(wanted(rooms, asker), "203.0.113.9")) == {one.id}
    assert names(peers.find(wanted(rooms, asker), "203.0.113.10")) == set()


def test_only_so_many_are_named_and_not_always_the_same(
    rooms: Rooms, peers: Peers, lender: Callable[..., FakeDevice]
) -> None:
    all_ = {lender(f"one {n}", f"192.168.1.{n}", f"192.168.1.{n}:8401").id for n in range(1, 9)}
    asker = rooms.join("two")
    rounds = [peers.find(wanted(rooms, asker), "192.168.1.77") for _ in range(40)]
    assert {len(names(found)) for found in rounds} == {limits.PEERS_OFFERED}
    assert set.union(*map(names, rounds)) == all_


def test_who_left_or_was_let_go_or_uses_another_model_or_shut_its_door_is_not_named(
    rooms: Rooms, peers: Peers, lender: Callable[..., FakeDevice]
) -> None:
    asker = rooms.join("two")
    away = lender("away", "192.168.1.1", "192.168.1.1:1")
    rooms.devices.leave(away.id, 1)
    gone, shut = lender("gone", "192.168.1.2", "192.168.1.2:1"), lender("shut", "192.168.1.3", "192.168.1.3:1")
    rooms.devices.revoke(gone.id, "clara")
    rooms.devices.status(shut.id, Status(1, 1, 0, 0, 0))
    lender("other", "192.168.1.4", "192.168.1.4:1", model="ef" * 32)
    assert peers.find(wanted(rooms, asker), "192.168.1.77").peers == []
    connect(rooms, away, "192.168.1.1", "192.168.1.1:2")
    assert names(peers.find(wanted(rooms, asker), "192.168.1.77")) == {away.id}
    connect(rooms, away, "10.0.0.9", "10.0.0.9:2")
    assert peers.find(wanted(rooms, asker), "192.168.1.77").peers == []


def test_both_must_be_told_to_run_a_release_that_lets_them(
    rooms: Rooms, peers: Peers, desk: Desk, lender: Callable[..., FakeDevice]
) -> None:
    one, asker = lender("one"), rooms.join("two")
    desk.runs = {one.id: 2}
    assert peers.find(wanted(rooms, asker), "192.168.1.77").peers == []
    for number in (2, 0):
        desk.runs = {asker.id: number}
        assert code(lambda: peers.find(wanted(rooms, asker), "192.168.1.77")) == "peers.policy"
    desk.runs = {}
    other = msgspec.structs.replace(wanted(rooms, asker), sha256="ef" * 32, signature="")
    signed = asker.link_key.sign(wanted_bytes(rooms.hublog.hub, other)).hex()
    asked = msgspec.structs.replace(other, signature=signed)
    assert code(lambda: peers.find(asked, "192.168.1.77")) == "peers.policy"


def test_who_does_not_prove_who_it_is_or_was_let_go_is_told_nothing(
    rooms: Rooms, peers: Peers, lender: Callable[..., FakeDevice]
) -> None:
    lender("one")
    asker = rooms.join("two")
    right = wanted(rooms, asker)
    for asked, expected in (
        (msgspec.structs.replace(right, device="d-none"), "device.unknown"),
        (msgspec.structs.replace(right, signature="xy"), "peers.form"),
        (msgspec.structs.replace(right, at=right.at + 1), "peers.signature"),
        (wanted(rooms, asker, key=asker.log_key), "peers.signature"),
        (wanted(rooms, asker, late_s=limits.CLOCK_SKEW_SECONDS + 5), "peers.time"),
        (wanted(rooms, asker, late_s=-limits.CLOCK_SKEW_SECONDS - 5), "peers.time"),
    ):
        assert code(lambda asked=asked: peers.find(asked, "192.168.1.77")) == expected  # type: ignore[misc]  # a default
    rooms.devices.revoke(asker.id, "clara")
    assert code(lambda: peers.find(wanted(rooms, asker), "192.168.1.77")) == "device.revoked"


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("192.168.1.20", "192.168.1.99", True),
        ("192.168.1.20", "192.168.2.20", False),
        ("10.0.0.1", "::ffff:10.0.0.9", True),
        ("fd00::1:2", "fd00::1:9", True),
        ("fd00:0:0:1::1", "fd00:0:0:2::1", False),
        ("203.0.113.1", "203.0.113.1", True),
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8::1", "2001:db8::2", False),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
def test_what_is_near(one: str, other: str, near: bool) -> None:
    assert (network(one) == network(other)) is near
    assert network("unix") == network("") == ""


@pytest.mark.parametrize(
    ("peer", "source", "expected"),
    [
        ("192.168.1.20:8401", "192.168.1.20", True),
        ("192.168.1.20:8401", "::ffff:192.168.1.20", True),
        ("192.168.1.21:8401", "192.168.1.20", False),
        ("192.168.1.20:8401", "203.0.113.1", True),
        ("203.0.113.1:8401", "203.0.113.1", False),
        ("127.0.0.1:8401", "127.0.0.1", True),
        ("192.168.1.20:8401", "127.0.0.1", False),
        ("[fd00::20]:8401", "fd00::20", True),
        ("192.168.1.20:0", "192.168.1.20", False),
        ("evil.example:80", "192.168.1.20", False),
        ("192.168.1.20:8401", "unix", False),
    ],
)
def test_which_announced_address_is_passed_on(peer: str, source: str, expected: bool) -> None:
    assert believed(peer, source) == (peer if expected else "")


def test_over_http_a_device_asks_and_a_stranger_is_refused(serving_hub: Serving) -> None:
    device = serving_hub.join()
    blank = Wanted(device.id, MODEL.sha256, serving_hub.hub.hublog.clock(), "")
    signed = device.link_key.sign(wanted_bytes(serving_hub.hub.hublog.hub, blank)).hex()
    asked = msgspec.json.encode(msgspec.structs.replace(blank, signature=signed))
    status, _, body = serving_hub.request("POST", "/api/peers", asked)
    assert (status, msgspec.json.decode(body)["code"]) == (403, "peers.policy")
    assert serving_hub.request("POST", "/api/peers", asked.replace(b'"at":1', b'"at":2'))[0] == 422
    assert serving_hub.request("POST", "/api/peers", b"{}")[0] == 400
    assert serving_hub.request("GET", "/api/peers")[0] == 405
