"""``/safety``: what people have stopped, who obeys it by now, and the form that stops it.

Whoever may stop may let go, and must say that they are sure before either. Everybody sees what stands still, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from server.switches import REASONS, ROLES
from shared.errors import BadInput, OutriderError, Refused

if TYPE_CHECKING:
    from server.devices import DeviceView
    from server.switches import SwitchView

PAST_SHOWN = 20
AWAY_SHOWN = 8


@dataclass(frozen=True)
class Standing:
    """A stop in force, what it is called, and who has said that they obey it: of how many."""

    switch: SwitchView
    name: str
    obeying: int
    covered: int
    away: list[DeviceView]


class SafetyPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._services = desk.services

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/safety", self.index, methods=["GET"], response_model=None)
        add("/safety", self.press, methods=["POST"], response_model=None)
        add("/safety/{switch}/release", self.release, methods=["POST"], response_model=None)

    async def index(self, request: Request) -> Response:
        person = await self._desk.person(request)
        return await self._page(request, person, Form({"what": request.query_params.get("what", "")}))

    async def _page(
        self, request: Request, person: Person, form: Form, failure: BaseException | None = None
    ) -> Response:
        switches, told = self._services.switches, describe(failure) if failure is not None else None
        devices = await run_in_threadpool(self._services.devices.list)
        active = [device for device in devices if device.state == "active"]
        names = {device.id: device.name for device in devices}
        in_force = await run_in_threadpool(switches.in_force)
        past = await run_in_threadpool(switches.past)
        return self._desk.page(
            request, "safety.html", person, told.status if told else 200, failure=told, form=form, reasons=REASONS,
            may=person.may(*ROLES), standing=[_standing(one, active, names) for one in in_force], names=names,
            past=past[:PAST_SHOWN], choices=await run_in_threadpool(self._choices, active), away_shown=AWAY_SHOWN,
        )  # fmt: skip

    def _choices(self, active: list[DeviceView]) -> dict[str, list[tuple[str, str]]]:
        """What can be chosen in the form: by kind, its value and its name. Tools are those that playbooks name."""
        names = self._services.releases.names()
        return {
            "Devices": sorted(((f"device:{one.id}", one.name) for one in active), key=lambda pair: pair[1]),
            "Playbooks": [(f"playbook:{name}", name) for name in names["playbook"]],
            "Tools": [(f"tool:{name}", name) for name in names["tool"]],
        }

    async def press(self, request: Request) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            _need_role(person)
            _need_sure(form)
            kind, _, name = form.get("what").partition(":")
            await run_in_threadpool(
                lambda: self._services.switches.press(
                    kind, name, by=person.name, reason=form.get("reason"), note=form.get("note")
                )
            )
        except OutriderError as error:
            return await self._page(request, person, form, error)
        return RedirectResponse("/safety", status_code=303)

    async def release(self, request: Request, switch: str) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            _need_role(person)
            await run_in_threadpool(
                lambda: self._services.switches.release(switch, by=person.name, note=form.get("note"))
            )
        except OutriderError as error:
            return await self._page(request, person, Form({}), error)
        return RedirectResponse("/safety", status_code=303)


def _standing(switch: SwitchView, active: list[DeviceView], names: dict[str, str]) -> Standing:
    covered = [device for device in active if switch.kind != "device" or device.id == switch.name]
    obeying = [device for device in covered if device.stops >= switch.version]
    away = [device for device in covered if device.stops < switch.version]
    name = names.get(switch.name, switch.name) if switch.kind == "device" else switch.name
    return Standing(switch, name, len(obeying), len(covered), away)


def _need_role(person: Person) -> None:
    if not person.may(*ROLES):
        raise Refused(
            "console.role",
            "Only an administrator, or somebody with the role safety, may do this.",
            advice="Ask one of them, at once.",
        )


def _need_sure(form: Form) -> None:
    if form.get("sure") != "yes":
        raise BadInput("console.sure", "It was not said to be sure.", advice="Tick the box and send it again.")
