"""``/memory/forgotten`` and ``/memory/holds``: forgetting for good, who has confirmed it, and what must be kept.

A member of a team who may write asks for single items to be forgotten; its stewards also for people and for the whole
scope; administrators for a person everywhere. Each is asked for on a page that says what will happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from shared.errors import BadInput, OutriderError, Refused
from shared.memory.feed import STEWARD, WRITER, may

if TYPE_CHECKING:
    from server.memory import Memory

REASONS = {
    "request": "The person it is about asked for it",
    "wrong": "It is wrong",
    "purpose": "It is no longer needed",
    "asked": "Another reason",
}


HOLD_REASONS = {
    "legal": "A court or an authority asked for it",
    "dispute": "There is a dispute about it",
    "audit": "An audit is under way",
    "other": "Another reason",
}


class ForgettingPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._memory: Memory = desk.services.memory

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/memory/forget", self.ask, methods=["GET"], response_model=None)
        add("/memory/forget", self.forget, methods=["POST"], response_model=None)
        add("/memory/forgotten", self.forgotten, methods=["GET"], response_model=None)
        add("/memory/holds", self.holds, methods=["GET"], response_model=None)
        add("/memory/holds", self.hold, methods=["POST"], response_model=None)

    # --- forgetting -------------------------------------------------------------------------------------------

    async def ask(self, request: Request) -> Response:
        person = await self._desk.person(request)
        given = {name: request.query_params.get(name, "") for name in ("kind", "scope", "item")}
        return await self._ask(request, person, Form(given))

    async def _ask(
        self, request: Request, person: Person, form: Form, failure: BaseException | None = None
    ) -> Response:
        kind, scope, item = form.get("kind"), form.get("scope"), form.get("item")
        await run_in_threadpool(self._may, person, kind, scope)
        view = await run_in_threadpool(self._memory.items.get, scope, item) if kind == "item" else None
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "memory_forget.html", person, told.status if told else 200, failure=told, kind=kind, scope=scope,
            view=view, form=form, reasons=REASONS,
            devices=await run_in_threadpool(self._memory.access.devices, scope),
        )  # fmt: skip

    def _may(self, person: Person, kind: str, scope: str) -> None:
        """Raises ``Refused('memory.role')``, ``BadInput('memory.forget')``."""
        role = self._memory.role(scope, f"user:{person.name}") if scope else ""
        allowed = {
            "item": may(role, WRITER),
            "scope": may(role, STEWARD),
            "subject": may(role, STEWARD) if scope else person.may("admin"),
        }
        if kind not in allowed:
            raise BadInput("memory.forget", "It is not clear what to forget.", advice="Start from the item's page.")
        if not allowed[kind]:
            raise Refused(
                "memory.role",
                "You may not make others forget this.",
                advice="Ask one of the scope's stewards; an administrator, where it is about a person everywhere.",
            )

    async def forget(self, request: Request) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            await run_in_threadpool(self._forget, person, form)
        except OutriderError as error:
            return await self._ask(request, person, form, error)
        return RedirectResponse("/memory/forgotten", status_code=303)

    def _forget(self, person: Person, form: Form) -> None:
        kind, scope, by = form.get("kind"), form.get("scope"), person.name
        self._may(person, kind, scope)
        if form.get("reason") not in REASONS:
            raise BadInput("console.reason", "No reason was chosen.", advice="Choose why it is forgotten.")
        erasure, reason = self._memory.erasure, form.get("reason")
        if kind == "item":
            erasure.item(scope, form.get("item"), by, reason)
        elif kind == "scope":
            if form.get("name") != scope:
                raise BadInput("memory.forget", "The scope's name was not repeated.", advice="Type it as shown.")
            erasure.scope(scope, by, reason)
        else:
            if not form.get("name"):
                raise BadInput("memory.subject", "No name was given.", advice="Type whose data is to be forgotten.")
            erasure.subject(form.get("name"), by, reason, scope)
        self._memory.finish()

    async def forgotten(self, request: Request) -> Response:
        person = await self._desk.person(request)
        stones = await run_in_threadpool(self._memory.tombstones)
        devices = await run_in_threadpool(self._desk.services.devices.list)
        return self._desk.page(
            request, "memory_forgotten.html", person, stones=stones, reasons=REASONS,
            seen={device.id: device for device in devices},
        )  # fmt: skip

    # --- holds ------------------------------------------------------------------------------------------------

    async def holds(self, request: Request) -> Response:
        return await self._holds(request, await self._desk.person(request))

    async def _holds(self, request: Request, person: Person, failure: BaseException | None = None) -> Response:
        _need_admin(person)
        found = await run_in_threadpool(self._memory.holds.list)
        views = await run_in_threadpool(self._memory.access.scopes)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "memory_holds.html", person, told.status if told else 200, failure=told, holds=found,
            given=request.query_params, reasons=HOLD_REASONS, scopes=[view.scope for view in views],
        )  # fmt: skip

    async def hold(self, request: Request) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        _need_admin(person)
        holds = self._memory.holds
        try:
            if form.get("lift"):
                await run_in_threadpool(holds.lift, form.get("lift"), person.name)
            else:
                scope, item = form.get("scope"), form.get("item")
                await run_in_threadpool(holds.hold, scope, item, person.name, form.get("reason"))
        except OutriderError as error:
            return await self._holds(request, person, error)
        return RedirectResponse("/memory/holds", status_code=303)


def _need_admin(person: Person) -> None:
    if not person.may("admin"):
        raise Refused(
            "console.role",
            "Only an administrator may put legal holds on and lift them.",
            advice="Ask someone with the role admin, or have the role given to you.",
        )
