"""A web service to act on: a shop with orders and a token endpoint, over real TLS, in threads of its own.

It knows idempotency keys and counts what took effect by key, so that tests need not believe the adapter. ``Raw`` is a
server that says exact bytes, for answers that no well-behaved one gives.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CLIENT, CLIENT_SECRET = "outrider agent", "client-s3cret/+%"


def make_certificates(folder: Path) -> None:
    """``ca.pem`` (an authority), ``server.pem`` (key and certificate for localhost) and ``other.pem`` (for a host of
    another name), all in ``folder``."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, authority=True, names=[])
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    local = [x509.DNSName("localhost"), x509.DNSName("shop.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    for file, names in (("server.pem", local), ("other.pem", [x509.DNSName("other.test")])):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A service")])
        made = _certificate(subject, ca_name, key, ca_key, authority=False, names=names)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / file).write_bytes(private + made.public_bytes(serialization.Encoding.PEM))


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
    names: list[Any],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


class Shop:
    """``state`` outlives ``stop`` and ``start``, as a service's does. With ``tokens`` on, calls need a live one."""

    def __init__(self, pem: Path | None) -> None:
        self.pem = pem
        self.port = 0
        self.orders: dict[str, dict[str, Any]] = {}  # by id
        self.by_key: dict[str, str] = {}
        self.effects: Counter[str] = Counter()
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.tokens_needed = False
        self.live: set[str] = set()
        self.issued = 0
        self.expires_in: Any = 3600
        self.token_status = 200
        self.token_answer: dict[str, Any] | None = None
        self.delay_s = 0.0
        self.answers = threading.Event()  # cleared, it holds its answers back
        self.answers.set()
        self.lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def base(self) -> str:
        return f"{'https' if self.pem else 'http'}://localhost:{self.port}"

    def start(self) -> None:
        shop = self

        class Handler(_Handler):
            service = shop

        server = _Server(("127.0.0.1", self.port), Handler)
        if self.pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.pem)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self.answers.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def last(self, path: str) -> tuple[str, str, dict[str, str], bytes]:
        return [row for row in self.requests if row[1].startswith(path)][-1]

    def seen(self, path: str) -> int:
        return sum(row[1].startswith(path) for row in self.requests)

    # --- what it does -----------------------------------------------------------------------------------------------

    def place(self, key: str, wanted: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            if key not in self.by_key:
                number = f"o-{len(self.orders) + 1}"
                self.orders[number] = {"id": number, **wanted, "reference": key, "status": "open"}
                self.by_key[key] = number
                self.effects[key] += 1
            return self.orders[self.by_key[key]]

    def token(self, form: dict[str, list[str]], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        shown = base64.b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        by_header = shown == "outrider+agent:client-s3cret%2F%2B%25"
        by_body = form.get("client_id") == [CLIENT] and form.get("client_secret") == [CLIENT_SECRET]
        if self.token_status != 200 or self.token_answer is not None:
            return self.token_status, self.token_answer or {}
        if form.get("grant_type") != ["client_credentials"] or not (by_header or by_body):
            return 401, {"error": "invalid_client", "error_description": "wrong " + shown}
        with self.lock:
            self.issued += 1
            made = f"token-{self.issued}"
            self.live.add(made)
        return 200, {"access_token": made, "token_type": "Bearer", "expires_in": self.expires_in}


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    service: Shop
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 - names that http.server looks for

    def _serve(self) -> None:
        shop = self.service
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with shop.lock:
            shop.requests.append((self.command, self.path, headers, body))
        time.sleep(shop.delay_s)
        shop.answers.wait(60)
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        if parts.path == "/token":
            return self._json(*shop.token(parse_qs(body.decode()), headers))
        if shop.tokens_needed and headers.get("authorization", "").removeprefix("Bearer ") not in shop.live:
            return self._json(401, {"error": "invalid_token", "detail": f"not good: {headers.get('authorization')}"})
        return self._route(parts.path.strip("/").split("/"), query, headers, body)

    def _route(self, path: list[str], query: dict[str, list[str]], headers: dict[str, str], body: bytes) -> None:
        shop = self.service
        match [self.command, *path]:
            case ["POST", "v1", "orders"]:
                return self._json(201, shop.place(headers.get("idempotency-key", ""), json.loads(body)))
            case ["GET", "v1", "orders"]:
                found = shop.by_key.get(query.get("reference", [""])[0])
                return self._json(200, {"data": [shop.orders[found]] if found else []})
            case ["GET", "v1", "orders", number] if number in shop.orders:
                return self._json(200, shop.orders[number])
            case ["POST", "v1", "orders", number, "cancel"] if number in shop.orders:
                with shop.lock:
                    shop.effects[f"cancel {number}"] = 1  # cancelling what is cancelled changes nothing
                    shop.orders[number]["status"] = "cancelled"
                return self._json(200, {"status": "cancelled"})
            case [_, "status", number]:
                return self._json(int(number), json.loads(query.get("say", ["{}"])[0]), _pairs(query))
            case ["GET", "raw"]:
                return self._bytes(
                    200,
                    query["say"][0].encode() * int(query.get("times", ["1"])[0]),
                    {"Content-Type": query["type"][0]},
                )
            case [_, "echo", *_]:
                text = body.decode()
                return self._json(200, {"path": self.path, "headers": headers, "body": text, "floats": [1.50, 1e99]})
        return self._json(404, {"title": "There is no such thing"})

    def _json(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        self._bytes(status, json.dumps(said).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _bytes(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(data)


def _pairs(query: dict[str, list[str]]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in query.get("header", []))


@contextmanager
def raw_server(say: Callable[[socket.socket], None], pem: Path | None = None) -> Iterator[int]:
    """A port on 127.0.0.1 whose every connection is handed to ``say`` and closed after it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(60)
                with contextlib.suppress(OSError):  # a client that goes away is no news
                    _handle(connection, say, pem)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        thread.join()
        listener.close()


def _handle(connection: socket.socket, say: Callable[[socket.socket], None], pem: Path | None) -> None:
    if pem is None:
        say(connection)
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with context.wrap_socket(connection, server_side=True) as wrapped:
        say(wrapped)


def read_request(connection: socket.socket) -> bytes:
    """One request, headers and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
