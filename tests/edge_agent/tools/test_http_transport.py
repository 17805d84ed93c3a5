"""One exchange against real sockets: what was sent and what was not, bounds in time and size, and whose certificate."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.tools import NotSent
from edge_agent.tools.http.addresses import Egress, Resolve, parse_url, system_resolve
from edge_agent.tools.http.transport import Answer, Call, Transport
from shared.errors import BadInput, Refused, Unavailable
from tests.edge_agent.tools.shop import Shop, make_certificates, raw_server, read_request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pems")
    make_certificates(folder)
    return folder


def exchange(
    url: str,
    *,
    ca: Path | None = None,
    method: str = "GET",
    body: bytes | None = None,
    most: int = 10_000,
    seconds: float = 60,
    connect_s: float = 60,
    resolve: Resolve = system_resolve,
    private: list[str] | None = None,
) -> Answer:
    parsed = parse_url(url)
    listed = ["localhost", "127.0.0.1", "shop.test", "other.test"] if private is None else private
    egress = Egress(parsed.origin, private=listed)
    transport = Transport(egress, ca=ca, connect_s=connect_s, most=most, resolve=resolve)
    return transport.exchange(Call(method, parsed, {"X-Test": "1"}, body), time.monotonic() + seconds)


def says(data: bytes, *, after: Callable[[socket.socket], object] = lambda _: None) -> Callable[[socket.socket], None]:
    def say(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(data)
        after(connection)

    return say


def test_an_exchange_says_who_and_what(pems: Path) -> None:
    seen = []

    def say(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)

    with raw_server(say, pems / "server.pem") as port:
        answer = exchange(f"https://localhost:{port}/a?b=1", ca=pems / "ca.pem", method="POST", body=b"{}")
    assert answer == Answer(200, {"content-length": "2"}, b"ok")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a?b=1 HTTP/1.1" and body == b"{}"
    assert f"Host: localhost:{port}" in lines and "Content-Length: 2" in lines and "X-Test: 1" in lines
    assert "Connection: close" in lines and "Accept-Encoding: identity" in lines


@pytest.mark.parametrize("file", ["server.pem", "other.pem"])
def test_a_certificate_that_does_not_prove_the_name_is_not_sent_to(pems: Path, file: str) -> None:
    """server.pem is for localhost and from an unknown authority; other.pem from a known one, for another name."""
    seen = []
    ca = pems / "ca.pem" if file == "other.pem" else None
    listen = raw_server(lambda connection: seen.append(read_request(connection)), pems / file)
    with listen as port, pytest.raises(NotSent) as caught:
        exchange(f"https://localhost:{port}/", ca=ca)
    assert caught.value.code == "web.tls" and seen == []


def test_the_name_checked_is_the_url_s_and_not_the_address_s(pems: Path) -> None:
    """The resolver sends shop.test to 127.0.0.1: SNI, certificate and Host are shop.test's."""
    hosts = []

    def say(connection: socket.socket) -> None:
        hosts.append(next(line for line in read_request(connection).split(b"\r\n") if line.startswith(b"Host:")))
        connection.sendall(OK)

    with raw_server(say, pems / "server.pem") as port:
        exchange(f"https://shop.test:{port}/", ca=pems / "ca.pem", resolve=lambda *_: ["127.0.0.1"])
        with pytest.raises(NotSent, match="web.tls"):
            exchange(f"https://other.test:{port}/", ca=pems / "ca.pem", resolve=lambda *_: ["127.0.0.1"])
    assert hosts == [f"Host: shop.test:{port}".encode()]


def test_only_modern_verified_tls_is_spoken(pems: Path) -> None:
    transport = Transport(Egress(parse_url("https://localhost/").origin), ca=pems / "ca.pem")
    assert transport._tls().minimum_version == ssl.TLSVersion.TLSv1_2
    assert transport._tls().verify_mode == ssl.CERT_REQUIRED and transport._tls().check_hostname


def test_a_file_without_certificates_is_told_when_the_tool_is_made(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        with pytest.raises(BadInput) as caught:
            Transport(Egress(parse_url("https://localhost/").origin), ca=path)
        assert caught.value.code == "web.ca"


def test_keys_and_proxies_of_the_environment_are_not_used(
    pems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with raw_server(says(OK), pems / "server.pem") as port:
        assert exchange(f"https://localhost:{port}/", ca=pems / "ca.pem").status == 200
    with raw_server(says(OK)) as port:
        assert exchange(f"http://localhost:{port}/").status == 200
    assert not (tmp_path / "keys").exists()


# --- where it connects --------------------------------------------------------------------------------------------


class Rebinding:
    """Answers with a good address first and with the victim's ever after."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def test_a_name_is_resolved_once_and_what_was_judged_is_connected_to() -> None:
    """127.0.0.1 plays the judged address; were the name resolved again, the second answer would be met."""
    seen = []
    with raw_server(lambda connection: (seen.append(connection.getsockname()), says(OK)(connection))) as port:
        rebinding = Rebinding(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"])
        assert exchange(f"http://shop.test:{port}/", resolve=rebinding).status == 200
    assert rebinding.asked == 1 and seen == [("127.0.0.1", port)]


def test_a_name_that_turns_to_the_local_network_is_refused() -> None:
    """First 8.8.8.8 (nothing is sent there: the time is over), then the loopback: the second call is refused."""
    seen = []
    with raw_server(seen.append) as port:
        rebinding = Rebinding(["8.8.8.8"], ["127.0.0.1"])
        with pytest.raises(NotSent):
            exchange(f"https://victim.example:{port}/", resolve=rebinding, seconds=0)
        with pytest.raises(Refused) as caught:
            exchange(f"https://victim.example:{port}/", resolve=rebinding)
    assert caught.value.code == "web.address" and seen == []


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with raw_server(says(OK)) as port:
        answer = exchange(f"http://shop.test:{port}/", resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])
    assert answer.status == 200


@pytest.mark.parametrize(
    ("url", "code"),
    [("https://no-such-host.invalid/", "web.resolve"), ("http://localhost:1/", "web.connect")],
)
def test_nobody_there_means_not_sent(url: str, code: str) -> None:
    with pytest.raises(NotSent) as caught:
        exchange(url)
    assert caught.value.code == code


def test_a_name_without_an_address_means_not_sent() -> None:
    with pytest.raises(NotSent, match="web.connect"):
        exchange("https://nothing.example/", resolve=lambda *_: [])


def test_a_listener_that_never_shakes_hands_means_not_sent(pems: Path) -> None:
    def listen(connection: socket.socket) -> None:
        while connection.recv(65536):  # until the client has had enough
            pass

    with raw_server(listen) as port, pytest.raises(NotSent) as caught:
        exchange(f"https://localhost:{port}/", ca=pems / "ca.pem", connect_s=0.2)
    assert caught.value.code == "web.tls"


def test_what_speaks_no_tls_means_not_sent(pems: Path) -> None:
    with raw_server(lambda connection: connection.sendall(OK)) as port, pytest.raises(NotSent, match="web.tls"):
        exchange(f"https://localhost:{port}/", ca=pems / "ca.pem")


# --- after it was sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_an_answer_cut_short_means_that_nobody_knows(data: bytes, tls: bool, pems: Path) -> None:
    with raw_server(says(data), pems / "server.pem" if tls else None) as port, pytest.raises(Unavailable) as caught:
        exchange(f"http{'s' * tls}://localhost:{port}/", ca=pems / "ca.pem", method="POST", body=b"{}")
    assert caught.value.code in ("web.cut", "web.answer") and not isinstance(caught.value, NotSent)


def test_tls_without_a_farewell_is_a_cut(pems: Path) -> None:
    """A body that ends with the connection, and somebody in between who closes it early."""

    def say(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of wh")
        socket.socket(fileno=connection.detach()).close()

    with raw_server(say, pems / "server.pem") as port, pytest.raises(Unavailable, match="web.cut"):
        exchange(f"https://localhost:{port}/", ca=pems / "ca.pem")


def test_a_reset_after_the_request_means_that_nobody_knows() -> None:
    def say(connection: socket.socket) -> None:
        read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with raw_server(say) as port, pytest.raises(Unavailable, match="web.cut") as caught:
        exchange(f"http://localhost:{port}/", method="POST", body=b"{}")
    assert not isinstance(caught.value, NotSent)


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"\x00" * 70_000]
)
def test_what_speaks_no_http_means_that_nobody_knows(data: bytes) -> None:
    with raw_server(says(data)) as port, pytest.raises(Unavailable) as caught:
        exchange(f"http://localhost:{port}/")
    assert caught.value.code in ("web.answer", "web.cut")


def test_an_early_refusal_is_read_though_not_everything_was_sent() -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        while connection.recv(1 << 20):
            pass

    with raw_server(say) as port:
        assert exchange(f"http://localhost:{port}/", method="POST", body=b"x" * 3_000_000).status == 413


def drip(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def say(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        while True:  # until the client has had enough
            connection.sendall(piece)
            time.sleep(0.02)

    return say


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b"0"),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_an_answer_that_drips_ends_at_the_deadline(head: bytes, piece: bytes, tls: bool, pems: Path) -> None:
    drips = raw_server(drip(head, piece), pems / "server.pem" if tls else None)
    with drips as port, pytest.raises(Unavailable) as caught:
        exchange(f"http{'s' * tls}://localhost:{port}/", ca=pems / "ca.pem", seconds=1.0 if tls else 0.4)
    assert caught.value.code == "web.slow"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
    ],
)
def test_an_endless_answer_is_read_no_further_than_allowed(head: bytes) -> None:
    sent = [0]

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        while sent[0] < 50_000_000:
            sent[0] += connection.send(b"x" * 65536)

    with raw_server(flood) as port:
        answer = exchange(f"http://localhost:{port}/", most=1000)
    assert not answer.whole and len(answer.body) == 1000 and sent[0] < 40_000_000


def test_an_answer_of_exactly_the_allowed_size_is_whole() -> None:
    for data in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1000,
    ):
        with raw_server(says(data)) as port:
            answer = exchange(f"http://localhost:{port}/", most=1000)
        assert answer.whole and len(answer.body) == 1000


def test_nothing_is_unpacked() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"
    with raw_server(says(data)) as port:
        assert exchange(f"http://localhost:{port}/").body == b"\x1f\x8b\x08"


def test_the_shop_answers_over_tls(pems: Path) -> None:
    shop = Shop(pems / "server.pem")
    shop.start()
    try:
        assert exchange(f"{shop.base}/v1/orders?reference=x", ca=pems / "ca.pem").body == b'{"data": []}'
    finally:
        shop.stop()
