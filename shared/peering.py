"""Devices that hand models to each other: who may ask whom, and how both prove it. Spec page: ``shared/spec/link.md``.

The hub knows which devices have a model and which of them are near each other. To one that asks it gives a *ticket*
for each peer (``shared.release.Ticket``), which names the two and their link keys: whoever sniffs it can do nothing
with it. Bytes are not believed for any of this; each chunk is held to the hashes that the release lists.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

from shared.errors import BadInput
from shared.keys import Envelope
from shared.protocol import lines
from shared.release import Sha256

Address = IPv4Address | IPv6Address

TICKET_HEADER, PROOF_HEADER = "Outrider-Ticket", "Outrider-Proof"
_LOCAL = [
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128")
]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/peers``: who near this device has the model? ``at`` is its clock in microseconds, ``signature`` hex
    by its link key over ``wanted_bytes``."""

    device: str
    sha256: Sha256
    at: int
    signature: str


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that has it, and the ticket for it, sealed for the purpose ``ticket``."""

    device: str
    ticket: Envelope


class Found(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hub's answer, in random order."""

    peers: list[Peer]


def wanted_bytes(hub: str, wanted: Wanted) -> bytes:
    """What a device signs to ask the hub of this name."""
    return lines("outrider/peers/v1", hub, wanted.device, wanted.sha256, str(wanted.at))


def asking_bytes(ticket: Envelope, nonce: str, start: int, end: int) -> bytes:
    """What the asker signs: its ticket, a nonce that is good once, and the bytes it wants, ``end`` not included."""
    return lines("outrider/peer-asks/v1", ticket.signature, nonce, str(start), str(end))


def answering_bytes(ticket: Envelope, nonce: str, start: int, end: int) -> bytes:
    """What the peer signs over the same."""
    return lines("outrider/peer-answers/v1", ticket.signature, nonce, str(start), str(end))


def is_local(address: Address) -> bool:
    """Whether it is of a private network (RFC 1918, RFC 4193) or of this computer."""
    zone = isinstance(address, IPv6Address) and address.scope_id is not None
    return not zone and any(address in network for network in _LOCAL if network.version == address.version)


def read_address(text: str) -> tuple[Address, int]:
    """``ADDRESS:PORT`` or ``[ADDRESS]:PORT``, a literal local address. Raises ``BadInput('peer.address')``."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
        fits = write_address(address, int(port)) == text and 0 <= int(port) < 65536 and is_local(address)
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(
            "peer.address",
            f"{text[:100]!r} is not an address of a private network and a port",
            advice="give this computer's own, as 192.168.1.20:8401 or [fd00::20]:8401; 0 takes any free port",
        )
    return address, int(port)


def write_address(address: Address, port: int) -> str:
    """As ``read_address`` takes it."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
