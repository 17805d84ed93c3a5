"""Which devices are near each other, judged by the addresses from which they come to the hub."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

from shared.errors import BadInput
from shared.peering import Address, is_local, read_address

_BITS = {4: 24, 6: 64}


def network(source: str) -> str:
    """What the devices of one network have in common: a private /24 or /64, else the address behind which all of them
    are. Empty for what is no address."""
    address = _read(source)
    if address is None:
        return ""
    return str(ip_network((address, _BITS[address.version]), strict=False)) if is_local(address) else str(address)


def believed(peer: str, source: str) -> str:
    """The address that a device announces, if it may be passed on; else nothing. One that comes from a private address
    can hand out models there and nowhere else; one behind a router is seen at the router's address, so its own cannot
    be checked."""
    address = _read(source)
    try:
        announced, port = read_address(peer)
    except BadInput:
        return ""
    if address is None or not port or (is_local(address) and announced != address):
        return ""
    return peer


def _read(source: str) -> Address | None:
    try:
        address = ip_address(source)
    except ValueError:
        return None
    mapped: IPv4Address | None = getattr(address, "ipv4_mapped", None)  # an IPv6 socket that takes IPv4 too
    return mapped or address
