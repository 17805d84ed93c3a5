"""Signing in and out."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import (
    SESSION_COOKIE,
    VISITOR_COOKIE,
    Desk,
    local_path,
    set_cookie,
    visitor_token,
)
from shared.errors import Refused


class SignInPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._users = desk.services.users

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route("/login", self.ask, methods=["GET"], response_model=None)
        router.add_api_route("/login", self.sign_in, methods=["POST"], response_model=None)
        router.add_api_route("/logout", self.sign_out, methods=["POST"], response_model=None)

    async def ask(self, request: Request) -> Response:
        there = local_path(request.query_params.get("next", "/"))
        if await self._desk.visitor(request) is not None:
            return RedirectResponse(there, status_code=303)
        return self._page(request, there=there)

    async def sign_in(self, request: Request) -> Response:
        form = await self._desk.form(request, request.cookies.get(VISITOR_COOKIE, ""))
        name, there = form.get("name"), local_path(form.get("next") or "/")
        client = request.client.host if request.client else ""
        try:
            user = await run_in_threadpool(self._users.verify, name, form.fields.get("password", ""), client=client)
        except Refused as error:
            status = 429 if error.code == "user.throttled" else 403
            return self._page(request, there=there, status=status, name=name, error=error)
        token, _ = await run_in_threadpool(self._users.create_session, user)
        response = RedirectResponse(there, status_code=303)
        set_cookie(request, response, SESSION_COOKIE, token)
        response.delete_cookie(VISITOR_COOKIE, path="/")
        return response

    async def sign_out(self, request: Request) -> Response:
        person = await self._desk.person(request)
        await self._desk.form(request, person.csrf)
        await run_in_threadpool(self._users.end_session, person.token)
        response = RedirectResponse("/login?bye=1", status_code=303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    def _page(
        self, request: Request, *, there: str, status: int = 200, name: str = "", error: Refused | None = None
    ) -> Response:
        token = visitor_token(request)
        response = self._desk.page(
            request,
            "login.html",
            None,
            status,
            csrf=token,
            there=there,
            name=name,
            error=error,
            bye=request.query_params.get("bye") == "1",
        )
        if request.cookies.get(VISITOR_COOKIE) != token:
            set_cookie(request, response, VISITOR_COOKIE, token)
        return response
