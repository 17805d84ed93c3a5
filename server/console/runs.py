"""``/runs``: every task the agents took up; ``/runs/ID``: one of them, told from its entries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from server.console import story
from server.console.controls import CONTROLS, controls
from server.console.desk import Desk, Person
from server.console.failures import Failure
from server.console.steps import is_plain, tree
from shared.runs.words import OUTCOMES, STATUSES

if TYPE_CHECKING:
    from server.ingest import RunView

PAGE = 50
SEARCHED = 2_000  # runs looked through for a text; subjects stand in erasable bodies, which no index copies
_BATCH = 200


@dataclass(frozen=True)
class Filters:
    """What the list is narrowed to; empty means everything. ``status`` is a run's status or, once closed, its
    outcome."""

    status: str = ""
    label: str = ""
    device: str = ""
    text: str = ""
    before: int | None = None

    @property
    def any(self) -> bool:
        return bool(self.status or self.label or self.device or self.text)

    def query(self) -> str:
        """As a query string; ``?`` and all."""
        named = {"status": self.status, "lane": self.label, "device": self.device, "q": self.text}
        kept = {name: value for name, value in named.items() if value}
        if self.before is not None:
            kept["before"] = str(self.before)
        return f"?{urlencode(kept)}" if kept else "?"


def read_filters(request: Request) -> Filters:
    """From the address. What makes no sense is as good as not given: addresses are typed and shared."""
    asked = request.query_params
    status = asked.get("status", "")
    return Filters(
        status=status if status in STATUSES or status in OUTCOMES else "",
        label=asked.get("lane", "")[:200],
        device=asked.get("device", "")[:200],
        text=asked.get("q", "").strip()[:200],
        before=_before(request),
    )


@dataclass(frozen=True)
class Found:
    """One page of runs. ``next`` is where the following page begins; ``searched`` says that not all were looked at."""

    runs: list[RunView]
    next: int | None
    searched: bool = False


def _fits(run: RunView, filters: Filters) -> bool:
    if filters.status in OUTCOMES and run.outcome != filters.status:
        return False
    return filters.text.casefold() in f"{run.subject}\n{run.id}".casefold()


def _before(request: Request) -> int | None:
    """Where a page of a long list or story goes on."""
    before = request.query_params.get("before", "")
    return int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None


class RunPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._record = desk.services.record

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route("/runs", self.index, methods=["GET"], response_model=None)
        router.add_api_route("/runs/{run}", self.show, methods=["GET"], response_model=None)

    async def index(self, request: Request) -> Response:
        person = await self._desk.person(request)
        filters = read_filters(request)
        found = await run_in_threadpool(self._find, filters)
        counts = await run_in_threadpool(self._record.counts)
        devices = await run_in_threadpool(self._desk.services.devices.list)
        return self._desk.page(
            request,
            "runs.html",
            person,
            found=found,
            filters=filters,
            first=replace(filters, before=None),
            older=replace(filters, before=found.next) if found.next is not None else None,
            labels=sorted(counts.by_label),
            devices=devices,
            lanes=await run_in_threadpool(self._desk.catalogue.lanes),
            statuses={name: words for name, (words, _) in STATUSES.items() if name != "closed"},
            outcomes={name: words for name, (words, _) in OUTCOMES.items()},
            searched=SEARCHED,
        )

    def _page(self, filters: Filters, limit: int, before: int | None) -> list[RunView]:
        return self._record.runs(
            device=filters.device or None,
            status="closed" if filters.status in OUTCOMES else filters.status or None,
            label=filters.label or None,
            limit=limit,
            before=before,
        )

    def _find(self, filters: Filters) -> Found:
        """One page. The record narrows by what it has columns for; the rest is looked for among the latest runs."""
        kept: list[RunView] = []
        before = filters.before
        for _ in range(SEARCHED // _BATCH):
            batch = self._page(filters, _BATCH, before)
            for place, run in enumerate(batch):
                if _fits(run, filters):
                    kept.append(run)
                if len(kept) == PAGE:
                    more = place + 1 < len(batch) or len(batch) == _BATCH
                    return Found(kept, run.row if more else None)
            if len(batch) < _BATCH:
                return Found(kept, None)
            before = batch[-1].row
        return Found(kept, before, searched=True)

    async def show(self, request: Request, run: str) -> Response:
        person = await self._desk.person(request)
        return await self.page(request, person, run)

    async def page(self, request: Request, person: Person, run: str, failure: Failure | None = None) -> Response:
        """A run, and what went wrong with an order about it, if something did."""
        told = await run_in_threadpool(self._record.run, run, _before(request))
        words = await run_in_threadpool(self._desk.catalogue.wording, told.view.playbook, told.run.opened.release)
        orders = self._desk.services.orders
        given = await run_in_threadpool(orders.given, told.view.device, told.view.run)
        coming = [order for order in given if order.state == "coming"]
        roles = await run_in_threadpool(orders.roles, told.run)
        return self._desk.page(
            request,
            "run.html",
            person,
            failure.status if failure else 200,
            run=told.run,
            told=told,
            view=told.view,
            chapters=story.tell(told, words),
            words=words,
            steps=[] if is_plain(words.book, told.run) else tree(told.run, words.book, words.step),
            controls=controls(told.run, words.book),
            settling={order.step: order for order in coming if order.order not in CONTROLS},
            coming=[order for order in coming if order.order in CONTROLS],
            roles=roles,
            failure=failure,
        )
