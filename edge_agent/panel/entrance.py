"""What the API serves below ``/panel/``: the way in, and the pages once somebody is in.

``/panel/open?code=…`` answers with a page that leads on at once, not with a redirect: where another program's page led
here the browser would not send the new ``SameSite=Strict`` cookie along with a redirect. Everything else stands below
``/panel/ROOM/``, where ROOM is the session's own: the cookie is bound to that path, so another server on this computer,
to which browsers would send a cookie of ours whatever its port, cannot ask for it.
"""

from __future__ import annotations

import asyncio
from functools import cache
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_agent.api.wire import status_of
from edge_agent.panel.door import VISIT, Door
from edge_agent.panel.headers import HEADERS
from shared.errors import OutriderError

if TYPE_CHECKING:
    from edge_agent.panel.given import Given

COOKIE = "outrider_panel"
_STATIC = Path(__file__).parent / "static"
_TYPES = {"panel.css": "text/css; charset=utf-8", "outrider.svg": "image/svg+xml"}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">{more}<title>{title} · Outrider</title>
<link rel="icon" href="/panel/outrider.svg" type="image/svg+xml"><link rel="stylesheet" href="/panel/panel.css"></head>
<body><main class="alone"><h1>{title}</h1>{body}</main></body></html>
"""


class Panel:
    """ASGI. The pages are made when somebody is in for the first time."""

    def __init__(self, given: Given, door: Door | None = None) -> None:
        self._given = given
        self._door = door or Door()
        self._making = asyncio.Lock()
        self._pages: ASGIApp | None = None

    def invite(self, by: str) -> str:
        return self._door.invite(by)

    def close(self) -> int:
        return self._door.close_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        room, _, rest = scope["path"].removeprefix("/panel/").partition("/")
        if room in _TYPES and not rest:
            await _file(room)(scope, receive, send)
            return
        try:
            if room == "open" and not rest and scope["method"] == "GET":
                await self._opened(scope)(scope, receive, send)
                return
            cookie = _cookie(scope)
            scope[VISIT] = self._door.visit(room, cookie)
        except OutriderError as error:
            await _closed(error)(scope, receive, send)
            return
        if rest == "close" and scope["method"] == "POST":  # needs no form's token: whoever could forge it only leaves
            self._door.close(room, cookie)
            await _left(room)(scope, receive, send)
            return
        await (await self._all())(scope, receive, send)

    def _opened(self, scope: Scope) -> Response:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("code", [""])
        room, cookie = self._door.enter(given[0])
        there = f"/panel/{room}/"
        more = f'<meta http-equiv="refresh" content="0;url={there}">'
        body = f'<p>The panel is open. <a href="{there}">Go on</a></p>'
        made = HTMLResponse(_PAGE.format(title="Opening", more=more, body=body), headers=HEADERS)
        made.set_cookie(COOKIE, cookie, path=there, httponly=True, samesite="strict")
        return made

    async def _all(self) -> ASGIApp:
        async with self._making:
            if self._pages is None:
                self._pages = await asyncio.to_thread(_made, self._given)
        return self._pages


def _made(given: Given) -> ASGIApp:
    from edge_agent.panel.app import make_app  # templates: nothing that an agent at rest should hold

    return make_app(given)


def _cookie(scope: Scope) -> str:
    """The one cookie of ours that a browser shows. Two with one name are none."""
    shown = [value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"]
    try:
        jar: SimpleCookie = SimpleCookie("; ".join(shown))
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar and "; ".join(shown).count(f"{COOKIE}=") == 1 else ""


def _closed(error: OutriderError) -> Response:
    body = (
        f"<p>{error.message[:1].upper()}{error.message[1:]}. A panel closes when the agent stops, after two hours "
        "without use, and when it is closed.</p><p>Open one from a terminal on this computer:</p>"
        "<pre><code>outrider panel</code></pre>"
    )
    page = _PAGE.format(title="This panel is closed", more="", body=body)
    return HTMLResponse(page, status_of(error), HEADERS)


def _left(room: str) -> Response:
    body = "<p>Nobody can use this window any more. To open the panel again:</p><pre><code>outrider panel</code></pre>"
    made = HTMLResponse(_PAGE.format(title="The panel is closed", more="", body=body), headers=HEADERS)
    made.delete_cookie(COOKIE, path=f"/panel/{room}/", httponly=True, samesite="strict")
    return made


@cache
def _data(name: str) -> bytes:
    return (_STATIC / name).read_bytes()


def _file(name: str) -> Response:
    return Response(_data(name), headers=HEADERS | {"Content-Type": _TYPES[name], "Cache-Control": "no-cache"})
