"""A mail server as the settings name it: where it is, how it is trusted, and who we are there."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge_agent.tools import NotSent
from shared.errors import BadInput, OutriderError, Refused

PORTS = {("smtp", "tls"): 465, ("smtp", "starttls"): 587, ("smtp", "none"): 25,
         ("imap", "tls"): 993, ("imap", "starttls"): 143, ("imap", "none"): 143}  # fmt: skip


class Given(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings ``smtp`` and ``imap`` of a table."""

    host: Annotated[str, Meta(min_length=1, max_length=253, description="The server's name.")]
    port: Annotated[int, Meta(ge=0, le=65535, description="Its port; 0 is the usual one for `security`.")] = 0
    security: Annotated[
        Literal["tls", "starttls", "none"],
        Meta(
            description="TLS from the first byte, TLS after a greeting, or none, which only a loopback host may have."
        ),
    ] = "tls"
    user: Annotated[str, Meta(description="Who logs in; empty does not log in.")] = ""
    secret: Annotated[str, Meta(description="The name of the secret with the password.")] = ""
    ca_file: Annotated[str, Meta(description="A PEM file of certificates to trust instead of the system's.")] = ""
    timeout_s: Annotated[int, Meta(ge=1, le=300, description="Seconds that one answer may take.")] = 30


@dataclass(frozen=True)
class Server:
    """One server, its settings checked. ``table`` is where they stand: ``post.smtp``."""

    table: str
    host: str
    port: int
    security: Literal["tls", "starttls", "none"]
    user: str
    secret: str
    ca_file: str
    timeout_s: int

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Login:
    """Who we are at a server."""

    user: str
    password: str = field(repr=False)

    @property
    def plain(self) -> bytes:
        """As SASL's PLAIN says it, in UTF-8 (RFC 4616)."""
        return f"\0{self.user}\0{self.password}".encode()


def server(table: str, kind: Literal["smtp", "imap"], given: Given) -> Server:
    """Raises ``BadInput('tools.setting')`` when mail or a password would go over a network in clear."""
    where = f"tools.toml [{table}.{kind}]"
    if given.security == "none" and not _loopback(given.host):
        raise BadInput(
            "tools.setting", f"security is 'none' for {given.host}, which is not this computer",
            advice="use 'tls' or 'starttls'", where=where,
        )  # fmt: skip
    if bool(given.user) != bool(given.secret) or (kind == "imap" and not given.user):
        raise BadInput("tools.setting", "user and secret go together", advice="give both", where=where)
    return Server(
        f"{table}.{kind}", given.host, given.port or PORTS[kind, given.security], given.security, given.user,
        given.secret, given.ca_file, given.timeout_s,
    )  # fmt: skip


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def context(server: Server) -> ssl.SSLContext:
    """TLS 1.2 or later, the certificate checked. Raises ``Refused('mail.tls')`` when ``ca_file`` cannot be read."""
    try:
        if server.ca_file:
            made = ssl.create_default_context(cafile=str(Path(server.ca_file).expanduser()))
        else:
            made = ssl.create_default_context()
    except (OSError, ssl.SSLError) as error:
        raise untrusted(server, f"ca_file {server.ca_file} cannot be read: {error}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def untrusted(server: Server, why: str) -> OutriderError:
    return Refused(
        "mail.tls", f"{server.name} cannot be trusted: {why}",
        advice="check host and ca_file; if neither changed, somebody may stand in between", where=server.table,
    )  # fmt: skip


def unreachable(server: Server, error: Exception) -> OutriderError:
    return NotSent(
        "mail.unreachable", f"{server.name} is out of reach: {error or type(error).__name__}",
        advice="check the network and the server; nothing was sent or changed", where=server.table,
    )  # fmt: skip
