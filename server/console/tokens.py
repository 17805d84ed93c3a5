"""``/workspace/tokens``: tokens by which programs (`outrider release`) speak for a person. One's own; administrators
see and revoke everybody's. A token is shown once, on the page that answers the form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from shared.errors import BadInput, OutriderError

if TYPE_CHECKING:
    from server.authoring import Access

DAYS = (1, 7, 30, 90, 365)
_DAY_S = 24 * 3600


class TokenPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._access: Access = desk.services.access

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route("/workspace/tokens", self.show, methods=["GET"], response_model=None)
        router.add_api_route("/workspace/tokens", self.change, methods=["POST"], response_model=None)

    async def show(self, request: Request) -> Response:
        return await self._page(request, await self._desk.person(request))

    async def _page(
        self, request: Request, person: Person, failure: OutriderError | None = None, new: str = ""
    ) -> Response:
        from server.authoring import may_author
        from server.authoring.access import SCOPES

        found = await run_in_threadpool(self._access.list, "" if person.may("admin") else person.name)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "workspace_tokens.html", person, told.status if told else 200, failure=told, new=new, tokens=found,
            scopes=SCOPES, days=DAYS, writes=may_author(person.roles),
        )  # fmt: skip

    async def change(self, request: Request) -> Response:
        """Make a token, or revoke one."""
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            if form.get("revoke"):
                admin = person.may("admin")
                await run_in_threadpool(lambda: self._access.revoke(form.get("revoke"), by=person.name, admin=admin))
                return RedirectResponse("/workspace/tokens", status_code=303)
            token = await run_in_threadpool(self._issue, person, form)
        except OutriderError as error:
            return await self._page(request, person, failure=error)
        return await self._page(request, person, new=token)

    def _issue(self, person: Person, form: Form) -> str:
        days = form.get("days")
        if not days.isascii() or not days.isdigit() or int(days[:4]) not in DAYS:
            raise BadInput("access.time", "A token lives one of the times that are offered.", advice="Choose one.")
        token, _ = self._access.issue(
            person.name,
            scopes=list(form.with_prefix("scope ")),
            seconds=int(days) * _DAY_S,
            label=form.get("label"),
            by=person.name,
        )
        return token
