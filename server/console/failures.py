"""What people see when something is wrong: what happened, its code, and what to do about it.

    BadInput 400 · Refused 403 · Conflict 409 · Tampered 422 · Unavailable 503 · anything unforeseen 500

A page that was asked for by a script gets a fragment that fits in place; the rest get a whole page.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, SignInNeeded, is_htmx, reason_phrase, secured, sign_in_path
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered, Unavailable

_log = logging.getLogger(__name__)
_STATUS: dict[type[OutriderError], int] = {
    BadInput: 400,
    Refused: 403,
    Conflict: 409,
    Tampered: 422,
    Unavailable: 503,
}
_MISSING_CODES = frozenset(
    f"{what}.unknown" for what in ("device", "run", "approval", "memory", "draft", "release", "rollout")
) | {"draft.no-file"}


@dataclass(frozen=True)
class Failure:
    """An error as shown. ``where`` is empty or names the place."""

    status: int
    title: str
    code: str
    message: str
    advice: str
    where: str = ""


def missing(what: str) -> Failure:
    return Failure(
        404,
        "Not here",
        "console.not-found",
        f"There is no {what} at this address.",
        "Check the address, or start from the overview.",
    )


def describe(error: BaseException) -> Failure:
    """How an error is shown. Nothing of an unforeseen one is: its words may hold what is nobody's business."""
    if isinstance(error, OutriderError):
        if error.code in _MISSING_CODES:
            return Failure(404, "Not here", error.code, error.message, error.advice, error.where)
        status = _STATUS.get(type(error), 500)
        title = {403: "Not allowed", 409: "Not any more", 503: "Out of reach"}.get(status, "That did not work")
        return Failure(status, title, error.code, error.message, error.advice, error.where)
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return missing("page")
        return Failure(
            error.status_code,
            reason_phrase(error.status_code),
            f"console.http-{error.status_code}",
            "The console does not answer this request.",
            "Go back and use the page's own links and buttons.",
        )
    return Failure(
        500,
        "Something broke",
        "console.internal",
        "The console met an error that it did not foresee. Nothing you entered was kept.",
        "Try again. If it stays, look into the hub's own output for the time shown and report it.",
    )


async def answer(desk: Desk, request: Request, error: BaseException) -> Response:
    """The response to an error, whichever way the page was asked for."""
    if isinstance(error, SignInNeeded):
        return _to_sign_in(request)
    failure = describe(error)
    if is_htmx(request):
        html = desk.fragment("failure_fragment.html", None, failure=failure)
        return secured(Response(html, failure.status, media_type="text/html"))
    try:
        person = await desk.visitor(request)
    except OutriderError:  # the store is what failed: show the page without a name
        person = None
    return secured(desk.page(request, "failure.html", person, status=failure.status, failure=failure))


def _to_sign_in(request: Request) -> Response:
    path = sign_in_path(request)
    if is_htmx(request):
        return secured(Response(status_code=401, headers={"HX-Redirect": "/login"}))
    if request.url.path == "/events":
        return secured(Response(status_code=401))
    return secured(RedirectResponse(path, status_code=303))


def route_class(desk: Desk) -> type[APIRoute]:
    """A route whose errors become pages, and whose answers carry the security headers."""

    class ConsoleRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    return secured(await inner(request))
                except (SignInNeeded, OutriderError, HTTPException) as error:
                    return await answer(desk, request, error)

            return handle

    return ConsoleRoute


def handlers(desk: Desk, app: FastAPI, is_ours: Callable[[str], bool]) -> None:
    """Friendly pages for what no route took. Paths that are not the console's keep their own plain answers."""
    plain: dict[Any, Callable[[Request, Exception], Awaitable[Response] | Response]] = dict(app.exception_handlers)

    async def not_found(request: Request, error: Exception) -> Response:
        if is_ours(request.url.path):
            return await answer(desk, request, error)
        return await _await(plain[HTTPException](request, error))

    async def broken(request: Request, error: Exception) -> Response:
        _log.error("unforeseen error at %s", request.url.path, exc_info=error)
        if is_ours(request.url.path):
            return await answer(desk, request, error)
        return Response('{"code":"hub.internal"}', 500, media_type="application/json")

    app.add_exception_handler(404, not_found)
    app.add_exception_handler(405, not_found)
    app.add_exception_handler(500, broken)


async def _await(result: Awaitable[Response] | Response) -> Response:
    return result if isinstance(result, Response) else await result
