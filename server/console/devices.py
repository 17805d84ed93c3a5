"""``/devices``: every agent, what it runs, and whether its log and the hub's copy agree."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, Person
from server.switches import ROLES
from shared.errors import BadInput, Refused

RUNS_SHOWN = 8
REASONS = {
    "lost": "It was lost or stolen",
    "compromised": "Its keys may be in other hands",
    "retired": "It is no longer used",
    "operator": "Another reason",
}


def need_admin(person: Person) -> None:
    if not person.may("admin"):
        raise Refused(
            "console.role",
            "Only an administrator may do this.",
            advice="Ask someone with the role admin, or have the role given to you.",
        )


class DevicePages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._devices = desk.services.devices

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/devices", self.index, methods=["GET"], response_model=None)
        add("/devices/token", self.token, methods=["POST"], response_model=None)
        add("/devices/{device}", self.show, methods=["GET"], response_model=None)
        add("/devices/{device}/revoke", self.ask_revoke, methods=["GET"], response_model=None)
        add("/devices/{device}/revoke", self.revoke, methods=["POST"], response_model=None)

    async def index(self, request: Request) -> Response:
        person = await self._desk.person(request)
        devices = await run_in_threadpool(self._devices.list)
        devices.sort(key=lambda device: (device.state != "active", not device.problem_code, device.name))
        told = await run_in_threadpool(self._desk.services.rollouts.told)
        due = {device.id: told.due(device.id) for device in devices}
        return self._desk.page(request, "devices.html", person, devices=devices, due=due)

    async def token(self, request: Request) -> Response:
        """A one-time token for a new device, shown on this page only."""
        person = await self._desk.person(request)
        need_admin(person)
        await self._desk.form(request, person.csrf)
        services = self._desk.services
        token = await run_in_threadpool(self._devices.issue_token, person.name, services.hub.token_seconds)
        expires_at = services.clock() + services.hub.token_seconds * 1_000_000
        return self._desk.page(request, "device_token.html", person, token=token, expires_at=expires_at)

    async def show(self, request: Request, device: str) -> Response:
        person = await self._desk.person(request)
        services = self._desk.services
        view = await run_in_threadpool(self._devices.get, device)
        runs = await run_in_threadpool(lambda: services.record.runs(device=device, limit=RUNS_SHOWN))
        told = await run_in_threadpool(services.rollouts.told)
        lanes = await run_in_threadpool(self._desk.catalogue.lanes)
        return self._desk.page(
            request, "device.html", person, device=view, runs=runs, due=told.due(device), lanes=lanes,
            stop=services.switches.covering("device", device), may_stop=person.may(*ROLES),
        )  # fmt: skip

    async def ask_revoke(self, request: Request, device: str) -> Response:
        person = await self._desk.person(request)
        need_admin(person)
        view = await run_in_threadpool(self._devices.get, device)
        return self._desk.page(request, "device_revoke.html", person, device=view, reasons=REASONS)

    async def revoke(self, request: Request, device: str) -> Response:
        person = await self._desk.person(request)
        need_admin(person)
        form = await self._desk.form(request, person.csrf)
        if form.get("code") not in REASONS:
            raise BadInput("console.reason", "No reason was chosen.", advice="Choose why the device is revoked.")
        await run_in_threadpool(self._devices.revoke, device, person.name, form.get("code"))
        return RedirectResponse(f"/devices/{device}", status_code=303)
