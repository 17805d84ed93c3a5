"""``/attention``: what only a person can settle; and the orders that people give about runs.

Everything is a plain form. Each order's consequences are told beside its button, before it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from server.console.desk import Desk, Person
from server.console.failures import describe
from server.console.runs import RunPages
from shared.errors import OutriderError

if TYPE_CHECKING:
    from server.ingest import Needing
    from server.orders import OrderView

SHOWN = 20  # of each kind
KINDS = ("doubt", "operator", "failed")


class OrderPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._orders = desk.services.orders
        self._record = desk.services.record
        self._runs = RunPages(desk)

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/attention", self.index, methods=["GET"], response_model=None)
        add("/attention/badge", self.badge, methods=["GET"], response_model=None)
        add("/runs/{run}/orders", self.give, methods=["POST"], response_model=None)

    async def index(self, request: Request) -> Response:
        person = await self._desk.person(request)
        counts = await run_in_threadpool(self._record.attention)
        found = {kind: await run_in_threadpool(self._record.needing, kind, SHOWN) for kind in KINDS}
        everything = [needing for kind in KINDS for needing in found[kind]]
        coming = {needing.view.id: await run_in_threadpool(self._coming, needing) for needing in everything}
        books = {needing.view.playbook for needing in everything}
        words = {book: await run_in_threadpool(self._desk.catalogue.wording, book) for book in books}
        may = await run_in_threadpool(self._may, person, everything)
        return self._desk.page(
            request, "attention.html", person, counts=counts, found=found, coming=coming, words=words, may=may,
            reconcile=await run_in_threadpool(self._desk.services.reconcile.waiting),
            drifted=await run_in_threadpool(self._desk.services.replays.drifted),
            ending=await run_in_threadpool(self._desk.services.releases.ending),
        )  # fmt: skip

    def _coming(self, needing: Needing) -> dict[str, OrderView]:
        """Orders on their way, by their step."""
        given = self._orders.given(needing.view.device, needing.view.run)
        return {order.step: order for order in given if order.state == "coming"}

    def _may(self, person: Person, everything: list[Needing]) -> set[str]:
        """The runs about which this person may give orders."""
        return {
            needing.view.id
            for needing in everything
            if person.may(*self._orders.roles_of(needing.view.playbook, needing.view.release))
        }

    async def badge(self, request: Request) -> Response:
        """How many runs need a person, for the menu."""
        await self._desk.person(request)
        counts = await run_in_threadpool(self._record.attention)
        number = sum(counts.values()) + await run_in_threadpool(self._desk.services.reconcile.waiting)
        number += len(await run_in_threadpool(self._desk.services.releases.ending))
        html = self._desk.fragment("badge.html", None, number=number, what="need attention")
        return HTMLResponse(html)

    async def give(self, request: Request, run: str) -> Response:
        person = await self._desk.person(request)
        try:
            form = await self._desk.form(request, person.csrf)
            await run_in_threadpool(
                lambda: self._orders.give(
                    run,
                    form.get("order"),
                    form.get("step"),
                    by=person.name,
                    roles=list(person.roles),
                    reason=form.get("reason"),
                )
            )
        except OutriderError as error:
            return await self._runs.page(request, person, run, failure=describe(error))
        there = "/attention" if form.get("back") == "attention" else f"/runs/{run}"
        return RedirectResponse(there, status_code=303)
