"""Home, runs and approvals: what the agent does, what it waits for, and what a person may tell it here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from edge_agent.panel.pages import Pages
from shared.errors import OutriderError

SHOWN = 50
Table = list[tuple[str, str, Callable[[Request], Any]]]

# What an order does, told before it is given.
ORDERS = {
    "pause": ("Pause it", "It stops before its next step, until it is resumed."),
    "resume": ("Resume it", "It goes on with its next step."),
    "cancel": ("Cancel it", "It ends, and what it did is taken back, as far as tools can."),
    "retry": ("Try again", "It goes on from what failed. What is done is not done again."),
    "dismiss": ("Lay it to rest", "It leaves the list of failures for good. Nothing is done."),
    "undo": ("Take it back", "What it did is taken back, the newest first, as far as tools can."),
}


class WorkPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._desk = pages.given.desk

    def table(self) -> Table:
        return [
            ("GET", "/", self.home),
            ("GET", "/runs", self.runs),
            ("GET", "/runs/{run}", self.run),
            ("POST", "/runs/{run}", self.order),
            ("GET", "/approvals", self.approvals),
            ("POST", "/approvals/{approval}", self.answer),
        ]

    async def home(self, request: Request) -> Response:
        runs = self._desk.runs(8)
        return self._pages.page(
            request, "home.html", device=self._desk.status(), runs=runs, now=self._pages.given.now(),
            items=self._pages.given.memory.count(),
        )  # fmt: skip

    async def runs(self, request: Request) -> Response:
        return self._pages.page(request, "runs.html", runs=self._desk.runs(SHOWN), shown=SHOWN)

    async def run(self, request: Request) -> Response:
        return self._run(request, request.path_params["run"])

    def _run(self, request: Request, name: str, error: OutriderError | None = None) -> Response:
        run = self._desk.run(name)
        return self._pages.page(
            request, "run.html", run=run, orders=ORDERS, error=error, hub_url=self._desk.status()["hub_url"]
        )

    async def order(self, request: Request) -> Response:
        form, run = await self._pages.form(request), request.path_params["run"]
        by, reason, step = self._pages.visit(request).by, form.text("reason")[:2000], form.get("step")
        try:
            await self._desk.order(run, form.get("order"), by=by, reason=reason, step=step)
        except OutriderError as error:
            return self._run(request, run, error)
        self._pages.visit(request).say("The agent has your order.")
        return self._pages.go(request, f"/runs/{quote(run, safe='')}")

    async def approvals(self, request: Request) -> Response:
        return self._approvals(request)

    def _approvals(self, request: Request, error: OutriderError | None = None) -> Response:
        asked = self._desk.approvals()
        runs = {one["run"]: self._desk.run(one["run"]) for one in asked}
        url = self._desk.status()["hub_url"]
        return self._pages.page(request, "approvals.html", asked=asked, runs=runs, hub_url=url, error=error)

    async def answer(self, request: Request) -> Response:
        form, visit = await self._pages.form(request), self._pages.visit(request)
        answer = form.get("answer")
        try:
            await self._desk.answer(
                request.path_params["approval"], answer, by=visit.by, reason=form.text("reason")[:2000]
            )
        except OutriderError as error:
            return self._approvals(request, error)
        visit.say("Approved." if answer == "approve" else "Denied: nothing is done.")
        return self._pages.go(request, "/approvals")
