"""Who may speak to the local API: judged before a route is found or a byte of a body is read.

1. One Host, and it is this address. A web page that reaches the port under a name of its own has another.
2. No Origin: browsers send one with what pages ask for. ``origins`` lists those that may.
3. The token of HOME/api.json, compared in constant time, but for liveness, webhooks (which are signed) and, where the
   settings say so, metrics.

The panel is for a browser, which has no token: where it is served, what is below ``/panel/`` is judged by its own door.
From here it gets an Origin of this very address or, where nothing is changed, none.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from edge_agent.api.wire import refusal
from shared.errors import OutriderError, Refused

_NO_TOKEN = {"/healthz"}
_SIGNED = "/hooks/"
_PAGES = "/panel/"


class Gate:
    """ASGI middleware around everything."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        token: str,
        origins: Iterable[str] = (),
        open_metrics: bool = False,
        panel: bool = False,
    ) -> None:
        self._app = app
        self._hosts = {host.encode() for host in hosts}
        self._origins = {origin.encode() for origin in origins}
        self._wanted = f"Bearer {token}".encode()
        self._open = _NO_TOKEN | ({"/metrics"} if open_metrics else set())
        self._panel = panel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan and no WebSocket is served
        error = self.judge(scope["method"], scope["path"], scope["headers"])
        app = self._app if error is None else refusal(error)
        await app(scope, receive, send)

    def judge(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> OutriderError | None:
        """Why a request is refused, if it is. Header names are lower case."""
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return Refused("api.host", "that is not this agent's address", advice="use the address of HOME/api.json")
        origins = [value for name, value in headers if name == b"origin"]
        if self._panel and path.startswith(_PAGES):
            return _of_another_page(method, hosts[0].lower(), origins)
        if any(origin not in self._origins for origin in origins):
            return Refused(
                "api.origin", "web pages may not speak to the agent", advice="use a program of this computer"
            )
        if path in self._open or path.startswith(_SIGNED):
            return None
        shown = [value for name, value in headers if name == b"authorization"]
        if not hmac.compare_digest(shown[0] if len(shown) == 1 else b"", self._wanted):
            return Refused("api.token", "that is not this agent's token", advice="read it from HOME/api.json anew")
        return None


def _of_another_page(method: str, host: bytes, origins: list[bytes]) -> OutriderError | None:
    """What the panel asks of itself comes from this very address, and says so where it changes anything."""
    own = b"http://" + host
    if any(origin != own for origin in origins) or (method not in ("GET", "HEAD") and len(origins) != 1):
        return Refused("api.origin", "another page may not use the panel", advice="use the panel's own page")
    return None
