"""What every request meets first: is it meant for this hub, and does it come from this hub's own pages?

A Host that is not on the exact list is refused (421), so a web page cannot reach a hub on this machine by rebinding a
name of its own. An Origin, where a browser sends one, must be this hub's on anything that changes state and on every
WebSocket. Errors of ours become JSON for machines; the console has pages of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered, Unavailable

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# Pages of other origins may come here; which, is said by the token that they must have (server.opendoor).
_OTHER_ORIGINS = frozenset({"/memory/sync"})
_STATUS: dict[type[OutriderError], int] = {BadInput: 400, Refused: 403, Tampered: 422, Conflict: 409, Unavailable: 503}
_BY_CODE = {
    "http.host": 421,
    "admin.token": 401,
    "metrics.token": 401,
    "join.throttled": 429,
    "http.not-found": 404,
    "http.too-large": 413,
    "device.unknown": 404,
    "access.token": 401,
    "draft.unknown": 404,
}


def status_of(error: OutriderError) -> int:
    return _BY_CODE.get(error.code) or _STATUS.get(type(error), 500)


def body_of(error: OutriderError) -> dict[str, str]:
    """An error as JSON: what ``edge_agent`` and scripts read."""
    return {
        "kind": type(error).__name__,
        "code": error.code,
        "message": error.message,
        "advice": error.advice,
        "where": error.where,
    }


def answer(error: OutriderError) -> JSONResponse:
    return JSONResponse(body_of(error), status_code=status_of(error))


def judge(method: str, headers: Headers, hosts: frozenset[str], path: str = "") -> OutriderError | None:
    """Why a request is refused, if it is. ``method`` is empty for a WebSocket."""
    named = headers.getlist("host")
    if len(named) != 1 or named[0].lower() not in hosts:
        return Refused(
            "http.host",
            f"this hub is not called {', '.join(named)[:200] or 'nothing'}",
            advice="use its own address, or add the name with --allow-host",
        )
    origins = headers.getlist("origin")
    ours = {f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")}
    elsewhere = not method and path in _OTHER_ORIGINS
    if method not in _READS and not elsewhere and any(origin.lower() not in ours for origin in origins):
        return Refused("http.origin", f"the request comes from {origins[0][:200]}", advice="use the hub's own pages")
    return None


class Gate:
    """ASGI middleware around the whole application. ``direct`` are WebSockets by path that need nothing of it: each of
    thousands would hold what the application puts around a request for as long as it lasts."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], direct: Mapping[str, ASGIApp] | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._direct = direct or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        error = judge(scope.get("method", ""), Headers(scope=scope), self._hosts, scope["path"])
        if error is None and scope["type"] == "websocket":
            await self._direct.get(scope["path"], self._app)(scope, receive, send)
        elif error is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(error)(scope, receive, send)
        else:  # a WebSocket that is not one yet: closing it is a 403
            await send({"type": "websocket.close", "code": 1008})


def add_error_handlers(app: FastAPI) -> None:
    """Errors of ours, wherever they are raised, as JSON with their code and advice."""

    async def ours(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OutriderError)
        return answer(error)

    app.add_exception_handler(OutriderError, ours)
