"""``/``: what needs a person now, and whether all is well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from server.console.desk import Desk

if TYPE_CHECKING:
    from server.devices import DeviceView
    from server.ingest import Day, Record, RunView

PROBLEMS_SHOWN = 5
LATEST = 1_000  # runs that the figures are about
DAYS = 14  # that the bars are about
KINDS = {"alone": "Done alone", "asked": "Asked a person", "denied": "Denied", "other": "Other"}


@dataclass(frozen=True)
class Slice:
    """A part of the bar of lanes, in permille of its whole; ``start`` is where it begins."""

    label: str
    number: int
    start: int
    width: int


def slices(by_label: dict[str, int], runs: int) -> list[Slice]:
    """Largest first; runs without a recommendation come under an empty label. The last takes what rounding left, so the
    bar is always full."""
    left = runs - sum(by_label.values())
    by_label = by_label | ({"": left} if left > 0 else {})
    total = sum(by_label.values())
    parts: list[Slice] = []
    start = 0
    ordered = sorted(by_label.items(), key=lambda item: (-item[1], item[0]))
    for place, (label, number) in enumerate(ordered):
        width = 1000 - start if place == len(ordered) - 1 else number * 1000 // total
        parts.append(Slice(label, number, start, width))
        start += width
    return parts


@dataclass(frozen=True)
class Bar:
    """A day as a bar that stands on its ground: ``parts`` are kind, upper edge and height, in runs, where the busiest
    day is the whole height."""

    day: Day
    parts: list[tuple[str, int, int]]


def bars(days: list[Day]) -> list[Bar]:
    edge = max(day.runs for day in days)
    found = []
    for day in days:
        top, parts = edge, []
        for kind in KINDS:
            if number := getattr(day, kind):
                top -= number
                parts.append((kind, top, number))
        found.append(Bar(day, parts))
    return found


@dataclass(frozen=True)
class Recently:
    """How the latest ``runs`` were decided. ``alone``: done without a person."""

    runs: int
    alone: int
    asked: int
    denied: int


def recently(record: Record) -> Recently:
    runs: list[RunView] = []
    before: int | None = None
    while len(runs) < LATEST and (batch := record.runs(limit=500, before=before)):
        runs += batch
        before = batch[-1].row
    return Recently(
        runs=len(runs),
        alone=sum(run.outcome == "done" and not run.approval for run in runs),
        asked=sum(bool(run.approval) for run in runs),
        denied=sum(run.outcome == "denied" for run in runs),
    )


def problems(devices: list[DeviceView]) -> list[DeviceView]:
    """Devices with a problem, newest first."""
    found = [device for device in devices if device.problem_code]
    return sorted(found, key=lambda device: -device.problem_at)[:PROBLEMS_SHOWN]


class OverviewPage:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route("/", self.show, methods=["GET"], response_model=None)

    async def show(self, request: Request) -> Response:
        person = await self._desk.person(request)
        services = self._desk.services
        devices = await run_in_threadpool(services.devices.list)
        counts = await run_in_threadpool(services.record.counts)
        waiting = await run_in_threadpool(services.approvals.waiting)
        days = await run_in_threadpool(services.record.days, DAYS)
        return self._desk.page(
            request,
            "overview.html",
            person,
            devices=devices,
            bars=bars(days),
            kinds=KINDS,
            active=[device for device in devices if device.state == "active"],
            problems=problems(devices),
            counts=counts,
            waiting=waiting,
            oldest=min(waiting, key=lambda view: view.asked_at, default=None),
            soonest=min(waiting, key=lambda view: view.expires_at, default=None),
            slices=slices(counts.by_label, counts.runs),
            lanes=await run_in_threadpool(self._desk.catalogue.lanes),
            recent=await run_in_threadpool(recently, services.record),
            ending=await run_in_threadpool(services.releases.ending),
        )
