"""The hub as `outrider release` reaches it: over HTTP, with a person's token.

A token in the clear is anybody's who listens, so it is only sent over TLS, or within this computer.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from server.authoring.findings import Finding
from server.authoring.wire import BODY_BYTES, Check, Checked, Pulled, Push, Pushed, pack
from shared.errors import KINDS, BadInput, OutriderError, Refused, Unavailable

_TIMEOUT_S = 120
_LARGEST = 2 * BODY_BYTES
T = TypeVar("T")


class Remote:
    """``address`` is the hub's base URL. Raises ``BadInput('release.hub')``, ``Refused('release.clear-text')``."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address.rstrip("/")
        self._token = token
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise BadInput(
                "release.hub", f"{address!r} is no hub's address", advice="write https://NAME, as in the console"
            )
        if parts.scheme == "http" and not _is_here(parts.hostname):
            raise Refused(
                "release.clear-text",
                f"a token is not sent to {parts.hostname} over plain HTTP",
                advice="use https://, or a tunnel to 127.0.0.1",
            )
        self._parts = parts

    def pull(self, version: int = 0) -> Pulled:
        return self._ask("GET", f"/api/workspace{f'?version={version}' if version else ''}", None, Pulled)

    def push(self, files: Mapping[str, bytes], *, base: int, note: str, replace: bool) -> Pushed:
        return self._ask("POST", "/api/workspace", Push(base, pack(files), note, replace), Pushed)

    def check(self, files: Mapping[str, bytes]) -> list[Finding]:
        return self._ask("POST", "/api/workspace/check", Check(pack(files)), Checked).findings

    def _ask(self, method: str, path: str, body: object, kind: type[T]) -> T:
        """Raises what the hub refused, ``Unavailable('release.unreachable')`` where it does not answer as one."""
        status, said = self._send(method, self._parts.path + path, body)
        if status != 200:
            raise _refusal(said)
        try:
            return msgspec.json.decode(said, type=kind)
        except msgspec.MsgspecError as error:
            raise self._unreachable("it does not answer as a hub does") from error

    def _send(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        secure = self._parts.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(self._parts.hostname or "", self._parts.port, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
            response = connection.getresponse()
            return response.status, response.read(_LARGEST)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _unreachable(self, said: str) -> Unavailable:
        return Unavailable("release.unreachable", f"the hub at {self.address}: {said}", advice="is that its address?")


def _refusal(said: bytes) -> OutriderError:
    try:
        told: Any = json.loads(said)
    except ValueError:
        told = None
    known = told if isinstance(told, dict) else {}
    kind = KINDS.get(str(known.get("kind")), Unavailable)
    return kind(
        str(known.get("code", "release.unreachable")),
        str(known.get("message", "the hub refused, and did not say why")),
        advice=str(known.get("advice", "look into the hub's own output")),
        where=str(known.get("where", "")),
    )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
