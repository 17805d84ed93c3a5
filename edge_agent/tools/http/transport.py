"""One HTTP exchange over one new connection, exact about whether anything was sent.

``http.client`` over a socket of our own, and neither urllib3 nor httpx: a pool that connects, sends and retries by
itself cannot say on which side of "sent" it failed, and resolves names where they cannot be judged. Here the name is
resolved once, the answer is judged (``addresses``), and the socket is opened to exactly that address, with the name in
SNI, in the certificate check and in Host. A connection serves one request: one kept open may be closed by the other
side just as a request is written to it, and then nobody knows whether it was read. It costs no import beyond the
standard library's.

Bounds: ``deadline`` ends everything, however slowly the other side drips; bodies are read no further than ``most``.
Proxies named in the environment are not used, redirects are not followed, cookies are not kept, nothing is unpacked.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_agent.tools import NotSent
from edge_agent.tools.http.addresses import Egress, Resolve, Url, system_resolve
from shared import __version__
from shared.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_PIECE = 64 * 1024
_AGENT = f"outrider/{__version__}"


@dataclass(frozen=True)
class Answer:
    """``headers`` by lower-case name, the first of each. ``whole`` is False where the body was longer than allowed:
    ``body`` is its beginning then."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True


@dataclass(frozen=True)
class Call:
    """What is sent. ``headers`` hold no line breaks."""

    method: str
    url: Url
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Transport:
    """Exchanges for one tool set. Blocking: use it in a thread. ``monotonic`` is in seconds."""

    def __init__(
        self,
        egress: Egress,
        *,
        ca: Path | None = None,
        connect_s: float = 10.0,
        most: int = 1024 * 1024,
        resolve: Resolve = system_resolve,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._egress = egress
        self._ca = ca
        self._connect_s = connect_s
        self._most = most
        self._resolve = resolve
        self._monotonic = monotonic
        self._open: set[socket.socket] = set()
        self._context: ssl.SSLContext | None = None  # the system's certificates take memory: loaded when needed
        if ca is not None:
            self._tls()

    def exchange(self, call: Call, deadline: float) -> Answer:
        """Send and read the answer, by ``deadline`` on the monotonic clock.

        Raises ``Refused`` (``web.egress``, ``web.plain``, ``web.address``) and ``NotSent`` (``web.resolve``,
        ``web.connect``, ``web.tls``) when surely nothing was sent, ``Unavailable`` (``web.cut``, ``web.slow``,
        ``web.answer``) when nobody knows.
        """
        origin = call.url.origin
        self._egress.check_origin(origin)
        context = self._tls() if origin.scheme == "https" else None
        raw = self._connect(call.url, deadline)
        try:
            if context is not None:
                raw = self._encrypt(raw, context, call.url, deadline)
            self._open.add(raw)
            return self._talk(_Wire(raw, lambda: deadline - self._monotonic()), call)
        finally:
            self._open.discard(raw)
            raw.close()

    def cut(self) -> None:
        """End the exchanges that are under way in other threads: they raise ``Unavailable('web.cut')``."""
        for raw in tuple(self._open):
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket, which takes the encryption off first: its thread could still write.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)

    def _connect(self, url: Url, deadline: float) -> socket.socket:
        origin = url.origin
        try:
            found = self._resolve(origin.host, origin.port)
        except OSError as error:
            raise NotSent(
                "web.resolve", f"the name {origin.host} is not known: {_said(error)}", advice="check name and network"
            ) from error
        until = min(deadline, self._monotonic() + self._connect_s)
        trouble: OSError = TimeoutError("it has no address, or no time was left")
        for address in self._egress.check_addresses(origin.host, found):
            left = until - self._monotonic()
            if left <= 0:
                break
            try:
                made = socket.create_connection((address, origin.port), timeout=left)
            except OSError as error:
                trouble = error
                continue
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        raise NotSent(
            "web.connect", f"{origin} cannot be reached: {_said(trouble)}", advice="is the service up, and the network?"
        ) from trouble

    def _tls(self) -> ssl.SSLContext:
        """Verifying. Not ``create_default_context``: that writes keys to a file which the environment may name."""
        if self._context is None:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.minimum_version = ssl.TLSVersion.TLSv1_2
            try:
                if self._ca is None:
                    made.load_default_certs()
                else:
                    made.load_verify_locations(self._ca)
            except OSError as error:  # an SSLError is one
                raise BadInput(
                    "web.ca", f"{self._ca} holds no certificates: {_said(error)}", advice="name a PEM file in ca"
                ) from error
            self._context = made
        return self._context

    def _encrypt(self, raw: socket.socket, context: ssl.SSLContext, url: Url, deadline: float) -> socket.socket:
        left = min(deadline - self._monotonic(), self._connect_s)
        try:
            raw.settimeout(max(left, 0.001))
            # Ragged ends raise: an answer that ends without a farewell may have been cut by somebody in between.
            return context.wrap_socket(raw, server_hostname=url.origin.host, suppress_ragged_eofs=False)
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate can have
            raise NotSent(
                "web.tls", f"{url.origin} does not prove who it is: {_said(error)}", advice="check its certificate"
            ) from error

    def _talk(self, wire: _Wire, call: Call) -> Answer:
        connection = http.client.HTTPConnection(call.url.origin.host, call.url.origin.port)
        connection.auto_open = 0
        connection.sock = cast(socket.socket, wire)  # what it uses of one: sendall, makefile, close
        try:
            # It may have answered before it had read everything; if it has not, reading fails as well.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                _write(connection, call)
            return self._read(connection.getresponse(), wire)
        except TimeoutError as error:
            raise Unavailable(
                "web.slow", f"{call.url.origin} did not answer in time", advice="whether it acted is not known"
            ) from error
        except http.client.IncompleteRead as error:
            raise _cut(call.url, "the answer ended too early") from error
        except (http.client.RemoteDisconnected, OSError) as error:
            raise _cut(call.url, _said(error)) from error
        except (http.client.HTTPException, ValueError) as error:
            raise Unavailable(
                "web.answer",
                f"{call.url.origin} does not speak HTTP: {type(error).__name__}",
                advice="check the address",
            ) from error
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, wire: _Wire) -> Answer:
        if wire.ended:  # http.client takes the end of the stream for the end of the headers
            raise http.client.IncompleteRead(b"")
        body = response.read(self._most + 1)
        if len(body) <= self._most and response.length:
            raise http.client.IncompleteRead(b"")
        headers: dict[str, str] = {}
        for name, value in response.getheaders():
            headers.setdefault(name.lower(), value)
        return Answer(response.status, headers, body[: self._most], whole=len(body) <= self._most)


def _write(connection: http.client.HTTPConnection, call: Call) -> None:
    connection.putrequest(call.method, call.url.target, skip_host=True, skip_accept_encoding=True)
    headers = {"Host": call.url.origin.authority, "User-Agent": _AGENT, "Accept-Encoding": "identity"}
    headers |= {"Connection": "close"} | call.headers
    if call.body is not None or call.method not in ("GET", "HEAD"):
        headers["Content-Length"] = str(len(call.body or b""))
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(call.body)


class _Wire:
    """A connected socket of which every single operation ends at the deadline."""

    def __init__(self, raw: socket.socket, left: Callable[[], float]) -> None:
        self.raw = raw
        self.ended = False
        self._left = left

    def arm(self) -> None:
        left = self._left()
        if left <= 0:
            raise TimeoutError("the time is over")
        self.raw.settimeout(left)

    def sendall(self, data: ReadableBuffer) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            self.arm()
            self.raw.sendall(view[start : start + _PIECE])

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """The socket is closed by who opened it."""


class _Reader(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._wire.arm()
        got = self._wire.raw.recv_into(buffer)
        self._wire.ended = got == 0
        return got


def _cut(url: Url, said: str) -> Unavailable:
    return Unavailable("web.cut", f"{url.origin}: {said}", advice="whether it acted is not known")


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
