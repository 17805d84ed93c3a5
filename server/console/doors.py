"""``/memory/items/ID/doors``: the addresses by which programs of other makers open a team's document. For its stewards.

An address holds a token and is shown once, on the page that answers the form; afterwards only what it allows is known.
"""

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
    from server.doors import Doors

DAYS = (1, 7, 30, 90, 365)
_DAY_S = 24 * 3600


class DoorPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._doors: Doors = desk.services.doors
        self._memory = desk.services.memory

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/memory/items/{item}/doors", self.show, methods=["GET"], response_model=None)
        add("/memory/items/{item}/doors", self.change, methods=["POST"], response_model=None)

    async def show(self, request: Request, item: str) -> Response:
        person = await self._desk.person(request)
        return await self._page(request, person, request.query_params.get("scope", ""), item)

    async def _page(
        self,
        request: Request,
        person: Person,
        scope: str,
        item: str,
        failure: OutriderError | None = None,
        new: str = "",
    ) -> Response:
        found = await run_in_threadpool(self._doors.of, scope, item, person.name)
        view = await run_in_threadpool(self._memory.items.get, scope, item)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "memory_doors.html", person, told.status if told else 200, failure=told, view=view, doors=found,
            url=self._doors.url(item), new=new, days=DAYS,
        )  # fmt: skip

    async def change(self, request: Request, item: str) -> Response:
        """Make a token, or revoke one."""
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        scope = form.get("scope")
        try:
            if form.get("revoke"):
                await run_in_threadpool(lambda: self._doors.revoke(form.get("revoke"), by=person.name))
                return RedirectResponse(request.url.include_query_params(scope=scope), status_code=303)
            path = await run_in_threadpool(self._issue, person, scope, item, form)
        except OutriderError as error:
            return await self._page(request, person, scope, item, failure=error)
        address = self._desk.services.hub.address.replace("http", "ws", 1)
        return await self._page(request, person, scope, item, new=address + path)

    def _issue(self, person: Person, scope: str, item: str, form: Form) -> str:
        days = form.get("days")
        if not days.isascii() or not days.isdigit() or int(days[:4]) not in DAYS:
            raise BadInput("door.time", "A token lives one of the times that are offered.", advice="Choose one.")
        origins = form.get("origins").split()
        token, _ = self._doors.issue(
            scope,
            item,
            role=form.get("role"),
            origins=origins,
            seconds=int(days) * _DAY_S,
            label=form.get("label"),
            by=person.name,
        )
        return self._doors.path(token)
