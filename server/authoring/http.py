"""The workspace over HTTP, for `outrider release`: with a person's own token, and as far as that person may.

    GET  /api/workspace         the newest version, or ``?version=N``     scope workspace:read
    POST /api/workspace         a whole folder as the next version        scope workspace:write
    POST /api/workspace/check   what would be wrong with these files      scope workspace:read

Files travel as base64, so that what is not text arrives as it is and can be refused with its line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.authoring.access import READ, WRITE, Access
from server.authoring.drafts import Version
from server.authoring.room import Authoring
from server.authoring.wire import BODY_BYTES, Check, Checked, Pulled, Push, Pushed, pack, unpack
from server.users import User
from shared.codec import parse
from shared.errors import BadInput

T = TypeVar("T")


def routes(authoring: Authoring, access: Access) -> APIRouter:
    """The routes of the workspace."""
    router = APIRouter()

    def add(path: str, method: str, scope: str, answer: Callable[[Request, User], Awaitable[object]]) -> None:
        async def route(request: Request) -> Response:
            user = await asyncio.to_thread(access.use, _token(request), scope)
            return Response(msgspec.json.encode(await answer(request, user)), media_type="application/json")

        router.add_api_route(path, route, methods=[method], response_model=None)

    async def pull(request: Request, _user: User) -> Pulled:
        return await asyncio.to_thread(_pull, authoring, request.query_params.get("version", ""))

    async def push(request: Request, user: User) -> Pushed:
        return await asyncio.to_thread(_push, authoring, await _read(request, Push), user)

    async def check(request: Request, _user: User) -> Checked:
        asked = await _read(request, Check)
        return Checked(await asyncio.to_thread(authoring.check, unpack(asked.files)))

    add("/api/workspace", "GET", READ, pull)
    add("/api/workspace", "POST", WRITE, push)
    add("/api/workspace/check", "POST", READ, check)
    return router


def _pull(authoring: Authoring, asked: str) -> Pulled:
    if asked and not (asked.isascii() and asked.isdigit() and len(asked) < 10):
        raise BadInput("draft.unknown", f"there is no version {asked[:20]!r}", advice="name it by its number")
    found: Version = authoring.drafts.get(int(asked)) if asked else authoring.need()
    return Pulled(found.version, found.by, found.at, found.release, pack(authoring.drafts.files(found)))


def _push(authoring: Authoring, asked: Push, user: User) -> Pushed:
    files = unpack(asked.files)
    saved = authoring.push(files, base=asked.base, by=user, note=asked.note, replace=asked.replace)
    return Pushed(saved.version, authoring.check(files))


def _token(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


async def _read(request: Request, kind: type[T]) -> T:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise BadInput("http.too-large", "the workspace is too large", advice="keep data out of the release")
    return parse(bytes(body), kind, code="http.body", what="the request")
