"""Which addresses and origins an HTTP tool may reach: by the registries, in every disguise."""

from __future__ import annotations

import pytest

from edge_agent.tools.http.addresses import Egress, Origin, parse_url, system_resolve
from shared.errors import BadInput, Refused

BASE = Origin("https", "api.shop.example", 443)
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.0",
    "2606:4700::1111",
    "2a00:1450:4001:800::200e",
    "2001:200::1",
]
LOCAL = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.127.255.255", "::1", "fc00::1", "fd12:3456:789a::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1",
    "64:ff9b::7f00:1", "64:ff9b::10.1.2.3",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.1.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::a00:1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "3fff::1", "5f00::1", "100::1", "not-an-address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert Egress(BASE).check_addresses(BASE.host, [address]) == [address]


@pytest.mark.parametrize("address", LOCAL)
def test_local_addresses_pass_for_a_listed_host_alone(address: str) -> None:
    assert Egress(BASE, private=[BASE.host]).check_addresses(BASE.host, [address]) == [address]
    for egress in (Egress(BASE), Egress(BASE, private=["other.example"])):
        with pytest.raises(Refused) as caught:
            egress.check_addresses(BASE.host, [address])
        assert caught.value.code == "web.address" and "private" in caught.value.advice


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_special_addresses_pass_for_no_name(address: str) -> None:
    with pytest.raises(Refused) as caught:
        Egress(BASE, private=[BASE.host]).check_addresses(BASE.host, [address])
    assert caught.value.code == "web.address"


def test_an_address_that_is_listed_itself_passes_as_itself_alone() -> None:
    egress = Egress(BASE, private=["169.254.10.20", "[fe80::7]", "0.0.0.0", "224.0.0.1"])
    assert egress.check_addresses("169.254.10.20", ["169.254.10.20"]) == ["169.254.10.20"]
    assert egress.check_addresses("fe80::7", ["fe80::7"]) == ["fe80::7"]
    for host, found in (("169.254.10.20", "169.254.169.254"), ("0.0.0.0", "0.0.0.0"), ("224.0.0.1", "224.0.0.1")):
        with pytest.raises(Refused):
            egress.check_addresses(host, [found])


def test_one_forbidden_address_among_good_ones_refuses_them_all() -> None:
    with pytest.raises(Refused, match="10.0.0.1"):
        Egress(BASE).check_addresses(BASE.host, ["8.8.8.8", "10.0.0.1"])
    assert Egress(BASE).check_addresses(BASE.host, ["8.8.8.8", "1.1.1.1", "8.8.8.8"]) == ["8.8.8.8", "1.1.1.1"]


@pytest.mark.parametrize(
    "disguise", ["127.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.1", "localhost"]
)
def test_numbers_in_disguise_are_judged_by_what_they_resolve_to(disguise: str) -> None:
    host = parse_url(f"https://{disguise}/").origin.host
    with pytest.raises(Refused, match="web.address"):
        Egress(Origin("https", host, 443)).check_addresses(host, system_resolve(host, 443))


def test_only_listed_origins_may_be_reached() -> None:
    egress = Egress(BASE, allow=["https://id.shop.example:8443", "files.example", "http://plain.example"])
    for text in ("https://api.shop.example/x", "https://id.shop.example:8443/", "https://files.example:9/"):
        egress.check_origin(parse_url(text).origin)
    for text in (
        "https://id.shop.example/",
        "https://api.shop.example:8443/",
        "https://shop.example/",
        "https://api.shop.example.evil.example/",
        "https://xapi.shop.example/",
        "http://files.example/",
        "http://api.shop.example/",
    ):
        with pytest.raises(Refused, match="web.egress"):
            egress.check_origin(parse_url(text).origin)


def test_plain_http_is_for_private_hosts_alone() -> None:
    plain = parse_url("http://register.lan:8080").origin
    with pytest.raises(Refused, match="web.plain"):
        Egress(plain).check_origin(plain)
    Egress(plain, private=["register.lan"]).check_origin(plain)


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("https://API.Shop.Example", "https://api.shop.example", "/"),
        ("https://api.shop.example./a?b=1#c", "https://api.shop.example", "/a?b=1"),
        ("https://api.shop.example:443/", "https://api.shop.example", "/"),
        ("http://127.0.0.1:8080/a%20b", "http://127.0.0.1:8080", "/a%20b"),
        ("https://[0:0:0:0:0:0:0:1]:7/", "https://[::1]:7", "/"),
        ("https://xn--mnchen-3ya.example/", "https://xn--mnchen-3ya.example", "/"),
    ],
)
def test_addresses_have_one_form(text: str, origin: str, target: str) -> None:
    url = parse_url(text)
    assert (str(url.origin), url.target) == (origin, target)


@pytest.mark.parametrize(
    "text",
    [
        "", "shop", "//shop.example/", "ftp://shop.example/", "file:///etc/passwd", "https://", "https:///x",
        "https://user@shop.example/", "https://user:password@shop.example/", "https://shop.example@evil.example/",
        "https://münchen.example/", "https://shop.example/\r\nX: y", "https://shop.example/a b", "https://shop.example\\@evil",
        "https://shop.example:0/", "https://shop.example:99999/", "https://shop.example:x/", "https://[::1", "https://[::1%25eth0]/",
        "https://%6c%6fcalhost/", "https://.shop.example/", "https://sh$op/", "https://[v1.x]/",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_url(text)
    assert caught.value.code == "web.url" and "password" not in caught.value.message


def test_names_that_cannot_be_resolved_raise_what_a_socket_raises() -> None:
    for host in ("no-such-host.invalid", "x" * 70 + ".example"):
        with pytest.raises(OSError):
            system_resolve(host, 443)
