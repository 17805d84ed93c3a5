"""What every page needs: who is signed in, forms that are really theirs, and HTML to answer with.

A form counts only with the token of its session (``csrf``), sent in the form and kept by the session, so another site
cannot post in a signed-in person's name. Before sign-in there is no session, so a random cookie takes its place.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from server.console import rendering
from server.console.catalogue import Catalogue
from server.console.services import Services
from shared.errors import BadInput, Refused

SESSION_COOKIE = "outrider_session"
VISITOR_COOKIE = "outrider_visitor"
FORM_BYTES = 64 * 1024

# No inline script or style anywhere: what a hostile text could smuggle in would not run.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "HX-Request, Cookie",
}


class SignInNeeded(Exception):
    """Nobody is signed in. Answered with the way to the sign-in page, never shown."""


@dataclass(frozen=True)
class Person:
    """Who is signed in. ``csrf`` must come back in every form of this session.

    ``since`` marks, on the bus, the moment before anything was read for the answer: an open page listens from there on.
    """

    name: str
    roles: tuple[str, ...]
    csrf: str
    token: str
    since: str = ""

    def may(self, *roles: str) -> bool:
        return bool(set(roles) & set(self.roles))


@dataclass(frozen=True)
class Form:
    """A posted form whose token was right. The last value of a name counts."""

    fields: dict[str, str]

    def get(self, name: str) -> str:
        return self.fields.get(name, "").strip()

    def with_prefix(self, prefix: str) -> dict[str, str]:
        return {k.removeprefix(prefix): v.strip() for k, v in self.fields.items() if k.startswith(prefix)}


def is_htmx(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


def is_https(request: Request) -> bool:
    return request.url.scheme == "https"


def local_path(path: str) -> str:
    """Where to go after signing in: a path on this hub, and nothing that a browser could read as another host."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if plain else "/"


class Desk:
    """The services and the templates, and the few things that all pages do with them."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.catalogue = Catalogue(services.releases)
        self._templates = rendering.environment(services)

    # --- who ---

    async def person(self, request: Request) -> Person:
        """The signed-in person. Raises ``SignInNeeded``."""
        found = await self.visitor(request)
        if found is None:
            raise SignInNeeded
        return found

    async def visitor(self, request: Request) -> Person | None:
        token = request.cookies.get(SESSION_COOKIE, "")
        if not token:
            return None
        since = self.services.bus.mark()
        session = await run_in_threadpool(self.services.users.session, token)
        if session is None:
            return None
        return Person(session.user.name, session.user.roles, session.csrf, token, since)

    # --- forms ---

    async def form(self, request: Request, csrf: str, most: int = FORM_BYTES) -> Form:
        """Read a form of at most so many bytes. Raises ``Refused('console.csrf')`` unless it carries ``csrf``,
        ``BadInput('console.form')``."""
        form = Form(await _fields(request, most))
        if not csrf or not hmac.compare_digest(form.fields.get("csrf", "").encode(), csrf.encode()):
            raise Refused(
                "console.csrf",
                "This form does not belong to your session, so nothing was done.",
                advice="Go back, reload the page and send it again.",
            )
        return form

    # --- pages ---

    def fragment(self, template: str, person: Person | None, **context: Any) -> str:
        return self._templates.get_template(template).render(person=person, **context)

    def page(
        self, request: Request, template: str, person: Person | None, status: int = 200, **context: Any
    ) -> HTMLResponse:
        html = self.fragment(template, person, path=request.url.path, request=request, **context)
        return HTMLResponse(html, status_code=status)


async def _fields(request: Request, most: int) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise BadInput("console.form", "The form is too large.", advice="Shorten the text and send it again.")
    if kind != "application/x-www-form-urlencoded":
        raise BadInput("console.form", "This is not a form.", advice="Send it from the console's own page.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=200))
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadInput("console.form", "The form cannot be read.", advice="Send it from its own page.") from error


def visitor_token(request: Request) -> str:
    """The token of a browser that is not signed in; a fresh one where it has none."""
    return request.cookies.get(VISITOR_COOKIE, "") or secrets.token_urlsafe(24)


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """A cookie that scripts cannot read, other sites cannot send along, and that ends with the browser."""
    response.set_cookie(name, value, httponly=True, samesite="lax", secure=is_https(request), path="/")


def secured(response: Response) -> Response:
    """Add what every page's answer carries, without touching what it set itself."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def sign_in_path(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    back = request.url.path + query if request.method == "GET" else "/"
    return "/login" if back == "/" else f"/login?next={quote(back, safe='/')}"


def reason_phrase(status: int) -> str:
    return HTTPStatus(status).phrase
