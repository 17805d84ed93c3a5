"""Addresses of a local network, and what devices sign when they ask each other."""

from __future__ import annotations

import msgspec
import pytest

from shared import peering
from shared.errors import BadInput, Tampered
from shared.keys import Envelope
from tests.shared import examples

TICKET = Envelope("ticket", "{}", "AAAA")


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1:80", "172.16.0.9:1", "172.31.255.255:65535", "192.168.1.20:8401", "127.0.0.1:0", "[fd00::20]:8401",
        "[::1]:0",
    ],
)  # fmt: skip
def test_local_addresses_are_read_and_written_alike(text: str) -> None:
    assert peering.write_address(*peering.read_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":1", "10.0.0.1", "10.0.0.1:", "10.0.0.1:-1", "10.0.0.1: 1", "10.0.0.1:01", "10.0.0.1:65536"),
        *("0.0.0.0:1", "[::]:1", "8.8.8.8:1", "172.32.0.1:1", "169.254.1.1:1", "100.64.0.1:1", "224.0.0.1:1"),
        *("[fe80::1]:1", "[fe80::1%eth0]:1", "[fd00::1%eth0]:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"),
        *("fd00::1:2", "[127.0.0.1]:1", "localhost:1", "printer.local:1", "010.0.0.1:1", "127.0.0.1:\u0663"),
    ],
)
def test_every_other_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        peering.read_address(text)
    assert caught.value.code == "peer.address" and caught.value.advice


@pytest.mark.parametrize("name", ["device", "sha256", "at"])
def test_every_field_of_a_request_is_signed(name: str) -> None:
    value = getattr(examples.WANTED, name)
    other = msgspec.structs.replace(examples.WANTED, **{name: value + 1 if isinstance(value, int) else value + "x"})
    assert peering.wanted_bytes("city", examples.WANTED) != peering.wanted_bytes("city", other)
    assert peering.wanted_bytes("city", examples.WANTED) != peering.wanted_bytes("town", examples.WANTED)


def test_asker_and_peer_sign_the_ticket_the_nonce_and_the_range_and_never_the_same() -> None:
    given = [(TICKET, "aa", 0, 9), (Envelope("ticket", "{}", "BBBB"), "aa", 0, 9), (TICKET, "bb", 0, 9)]
    given += [(TICKET, "aa", 1, 9), (TICKET, "aa", 0, 8)]
    signed = [sign(*one) for one in given for sign in (peering.asking_bytes, peering.answering_bytes)]
    assert len(set(signed)) == len(signed)
    with pytest.raises(Tampered):
        peering.asking_bytes(TICKET, "aa\n0", 0, 9)
