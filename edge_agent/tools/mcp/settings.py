"""A table of kind ``mcp`` in ``tools.toml``, and what is handed to the server it names. Reference:
``docs/how-to/use-mcp.md``.

    [git]
    kind = "mcp"
    command = "mcp-server-git"
    args = ["--repository", "/srv/site"]
    tools.git_commit.risk = "high"

    [tickets]
    kind = "mcp"
    url = "https://tickets.example/mcp"
    bearer = "tickets-token"        # the name of a secret
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from edge_agent.tools import NotSent, Risk
from edge_agent.tools.build import Place
from edge_agent.tools.build import settings as read_settings
from edge_agent.tools.mcp.messages import Open
from shared.errors import BadInput, Unavailable

# All that a server's program inherits: where programs and its own files are, and the language. It runs as this user and
# could read the home folder anyway; what it must not get for nothing is the rest, where tokens and passwords stand.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")
_WINDOWS = ("APPDATA", "LOCALAPPDATA", "PATHEXT", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "USERPROFILE")
# For an address: how this network is reached, and which authorities it trusts. Only the worker gets them.
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE")
_HERE = ("localhost", "127.0.0.1", "::1")


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person at this computer says about one tool; it wins over what the server says. ``effect`` can be no
    other: nothing is known about how an MCP tool's effect is taken back."""

    effect: Literal["read", "irreversible"] | None = None
    risk: Risk | None = None
    idempotent: bool | None = None
    use: bool = True


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Either ``command`` (a program that speaks MCP on standard input and output) or ``url`` (streamable HTTP)."""

    command: str = ""
    args: list[str] = []
    env: dict[str, str] = {}
    env_secrets: dict[str, str] = {}  # variable: name of a secret
    cwd: str = ""
    url: str = ""
    bearer: str = ""  # name of a secret, sent as Authorization: Bearer
    headers: dict[str, str] = {}
    header_secrets: dict[str, str] = {}  # header: name of a secret
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    start_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    idle_s: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    recheck_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    result_bytes: Annotated[int, Meta(ge=200, le=40_000)] = 16_000
    tools: dict[str, Override] = {}


def read(place: Place, given: dict[str, Any]) -> Settings:
    """Raises ``BadInput``: ``tools.setting`` for an unknown or mistyped field, ``mcp.setting`` for those that do not go
    together."""
    found = read_settings(Settings, place, given)
    said = _mistake(found)
    if said:
        raise BadInput("mcp.setting", said, advice="see docs/how-to/use-mcp.md", where=f"tools.toml [{place.name}]")
    return found


def _mistake(found: Settings) -> str:
    if bool(found.command) == bool(found.url):
        return "give either command or url"
    stray = _given(found, "bearer", "headers", "header_secrets") if found.command else ""
    stray = _given(found, "args", "env", "env_secrets", "cwd") if found.url else stray
    if stray:
        return f"{stray} does not go with {'command' if found.command else 'url'}"
    if both := {*found.env} & {*found.env_secrets} or {*found.headers} & {*found.header_secrets}:
        return f"{sorted(both)[0]} is given twice"
    return _bad_url(found.url) if found.url else ""


def _given(found: Settings, *names: str) -> str:
    return next((name for name in names if getattr(found, name)), "")


def _bad_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        return "url is no address such as https://host/mcp (without a name or password in it)"
    if parts.scheme == "http" and parts.hostname not in _HERE:
        return "url is plain http, which is for this computer only: what is sent there could be read and changed"
    return ""


def opening(settings: Settings, place: Place, environ: Mapping[str, str]) -> Open:
    """What the worker is told first, secrets filled in. Raises ``NotSent`` where a secret is not there, and
    ``Refused('secret.exposed')``."""
    names = ("start_s", "recheck_s", "result_bytes")
    bounds: dict[str, Any] = {name: getattr(settings, name) for name in names}
    if settings.url:
        headers = settings.headers | _secret(place, settings.header_secrets)
        if settings.bearer:
            headers |= {"Authorization": f"Bearer {_secret(place, {'bearer': settings.bearer})['bearer']}"}
        return Open(**bounds, url=settings.url, headers=headers)
    env = inherited(environ) | settings.env | _secret(place, settings.env_secrets)
    return Open(**bounds, command=[settings.command, *settings.args], env=env, cwd=settings.cwd)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the agent's environment that a server's program gets."""
    names = INHERITED + (_WINDOWS if os.name == "nt" else ())
    return {name: environ[name] for name in names if name in environ}


def worker_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the worker process itself."""
    names = [*_NETWORK, *(name.lower() for name in _NETWORK)] if settings.url else []
    return inherited(environ) | {name: environ[name] for name in names if name in environ}


def _secret(place: Place, names: dict[str, str]) -> dict[str, str]:
    try:
        return {key: place.secret(name) for key, name in names.items()}
    except Unavailable as error:  # nothing was sent: the call can be made when the secret is there
        raise NotSent(error.code, error.message, advice=error.advice, where=f"tools.toml [{place.name}]") from error
