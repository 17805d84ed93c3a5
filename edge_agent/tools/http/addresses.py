"""Where an HTTP tool may connect to: which origins, and which addresses those may turn out to be.

An agent sits inside its user's network, where a request to a name that resolves to a router, a database or a cloud's
metadata service does what no stranger could do from outside (server-side request forgery). So every address is judged
after it was resolved, and the connection is made to exactly that address: a name that answers differently a moment
later (DNS rebinding) changes nothing.

Only addresses of the public internet pass. A host listed as ``private`` may besides be on the local networks: loopback,
private, shared (CGNAT) and unique local addresses. Link-local addresses, where the metadata services of clouds are, and
those metadata services that stand elsewhere, pass only where the address itself is listed.

The lists follow the IANA special-purpose address registries (RFC 6890 and its updates), written out because the
standard library's ``is_global`` differs from one patch release of Python to the next.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.errors import BadInput, Refused

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]  # host, port -> addresses as text; raises OSError

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?")

_LOCAL_4 = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_LOCAL_6 = ("::1/128", "fc00::/7")
_NEVER_4 = (
    "0.0.0.0/8",  # this network
    "100.100.100.200/32",  # metadata of Alibaba Cloud
    "168.63.129.16/32",  # the wire server of Azure, in the midst of public addresses
    "169.254.0.0/16",  # link-local, and the metadata of most clouds
    "192.0.0.0/24",  # protocol assignments, and the metadata of Oracle Cloud
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
)
_NEVER_6 = (
    "2001::/23",  # Teredo, ORCHID and other protocol assignments
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
    "fd00:ec2::/32",  # metadata of AWS
    "fd20:ce::/32",  # metadata of Google Cloud
)
_GLOBAL_6 = ipaddress.ip_network("2000::/3")  # all that is assigned for use; the rest is refused as it is
_MAPPED = ipaddress.ip_network("::ffff:0:0/96")  # RFC 4291: the IPv4 address in its last 32 bits
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the same

_LOCAL = tuple(ipaddress.ip_network(net) for net in (*_LOCAL_4, *_LOCAL_6))
_NEVER = tuple(ipaddress.ip_network(net) for net in (*_NEVER_4, *_NEVER_6))


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port. ``host`` is lower case, without brackets or a trailing dot."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As in the Host header: brackets around IPv6, the port where it is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True)
class Url:
    """``target`` is path and query, percent-encoded."""

    origin: Origin
    target: str

    def __str__(self) -> str:
        return f"{self.origin}{self.target.partition('?')[0]}"  # without the query: this is for people


def parse_url(text: str) -> Url:
    """An absolute http or https URL of plain ASCII, without user and password. Raises ``BadInput('web.url')``; a
    fragment is dropped."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _no_url(text) from error
    host = (parts.hostname or "").rstrip(".")
    literal = _literal(host)
    plain = text.isascii() and text.isprintable() and " " not in text and "\\" not in text
    named = _NAME.fullmatch(host) and "[" not in parts.netloc if literal is None else "%" not in host
    if not plain or not named or parts.scheme not in _PORTS or "@" in parts.netloc or port == 0:
        raise _no_url(text)
    host = host if literal is None else str(literal)  # one form of each address
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(Origin(parts.scheme, host, port or _PORTS[parts.scheme]), target)


def _no_url(text: str) -> BadInput:
    return BadInput(
        "web.url",
        f"{text.rpartition('@')[2].partition('?')[0][:200]!r} is no address of a web service",
        advice="write https://HOST/PATH in ASCII (xn--... for other names), without a user or password",
    )


def system_resolve(host: str, port: int) -> list[str]:
    """What the operating system knows ``host`` as."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is too long
        raise OSError(str(error)) from error
    return [str(address[0]) for _, _, _, _, address in found]


class Egress:
    """What one tool set may reach. ``allow`` are exact hosts (any port, https) or origins, ``private`` exact hosts."""

    def __init__(self, base: Origin, *, allow: Iterable[str] = (), private: Iterable[str] = ()) -> None:
        self._origins = {base}
        self._hosts: set[str] = set()
        self._private = {_host(name) for name in private}
        for entry in allow:
            if "://" in entry:
                self._origins.add(parse_url(entry).origin)
            else:
                self._hosts.add(_host(entry))

    def check_origin(self, origin: Origin) -> None:
        """Raises ``Refused('web.egress')`` unless the origin is on the list, by a scheme it may be reached by."""
        if origin not in self._origins and not (origin.host in self._hosts and origin.scheme == "https"):
            raise Refused("web.egress", f"{origin} is not on the tool's list", advice="add it to allow in tools.toml")
        if origin.scheme == "http" and origin.host not in self._private:
            raise Refused(
                "web.plain",
                f"{origin} would be reached without encryption",
                advice="use https; http is for hosts listed in private",
            )

    def check_addresses(self, host: str, found: list[str]) -> list[str]:
        """The addresses to connect to, in order and without repetition. Raises ``Refused('web.address')`` if any of
        them is one that this host may not have: a name that mixes allowed with forbidden ones is an attack."""
        listed = host in self._private
        for text in found:
            if not _may_connect(text, listed, _literal(host)):
                raise Refused(
                    "web.address",
                    f"{host} is at {text}, which is not on the public internet",
                    advice="list the exact host in private in tools.toml if it is meant to be there",
                )
        return list(dict.fromkeys(found))


def _may_connect(text: str, listed: bool, literal: IPAddress | None) -> bool:
    address = _literal(text)
    if address is None:
        return False
    if listed and address == literal:
        return not address.is_multicast and not address.is_unspecified
    inner = _embedded(address)
    if _within(inner, _NEVER):
        return False
    if _within(inner, _LOCAL):
        return listed
    return inner.version == 4 or inner in _GLOBAL_6


def _embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if address.version == 6 and (address in _MAPPED or address in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _within(address: IPAddress, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address in network for network in networks)


def _literal(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _host(text: str) -> str:
    """A listed host, as it stands in an origin."""
    return parse_url(f"https://[{text}]/" if text.count(":") > 1 and text[0] != "[" else f"https://{text}/").origin.host
