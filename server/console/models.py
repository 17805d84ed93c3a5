"""``/models``: the registry of models, what is known of each, which devices use it, and which would not.

Everybody who is signed in reads; who may author names one for the next release; administrators add and remove.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.authoring import may_author
from server.console.desk import Desk, Form, Person
from server.console.devices import need_admin
from server.console.failures import describe
from server.console.uploads import receive
from server.models import About, Staged, naming
from server.releases.workspace import MODELS, read_models
from shared.errors import BadInput, OutriderError
from shared.release import ModelRef

if TYPE_CHECKING:
    from server.authoring import Authoring
    from server.models import Models


class ModelPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._models: Models = desk.services.models
        self._authoring: Authoring = desk.services.authoring

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/models", self.show, methods=["GET"], response_model=None)
        add("/models", self.act, methods=["POST"], response_model=None)
        add("/models/add", self.upload, methods=["POST"], response_model=None)

    async def show(self, request: Request) -> Response:
        return await self._page(request, await self._desk.person(request))

    async def _page(self, request: Request, person: Person, failure: OutriderError | None = None) -> Response:
        shown = await run_in_threadpool(self._all)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "models.html", person, told.status if told else 200, failure=told, admin=person.may("admin"),
            author=may_author(person.roles), **shown,
        )  # fmt: skip

    def _all(self) -> dict[str, Any]:
        releases = self._desk.services.releases
        number = releases.current()
        uses = self._models.uses()
        return {
            "models": self._models.list(),
            "uses": uses,
            "refused": [use for use in uses if use.refused],
            "number": number,
            "listed": _hashes(releases.release(number).manifest.models if number else []),
            "next_listed": _hashes(self._next()),
        }

    def _next(self) -> list[ModelRef]:
        """What the workspace names; nothing while it cannot be read."""
        version = self._authoring.drafts.newest()
        try:
            return read_models(self._authoring.drafts.files(version).get(MODELS) if version is not None else None)
        except BadInput:
            return []

    async def act(self, request: Request) -> Response:
        """Name a model in the workspace, or take one out of the registry."""
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            await run_in_threadpool(self._act, person, form)
        except OutriderError as error:
            return await self._page(request, person, error)
        return RedirectResponse("/models", status_code=303)

    def _act(self, person: Person, form: Form) -> None:
        name = form.get("name")
        if form.get("act") == "remove":
            need_admin(person)
            self._models.remove(name, person.name)
            return
        ref, version = self._models.get(name).ref, self._authoring.need()
        data = naming(self._authoring.drafts.files(version).get(MODELS), ref)
        self._authoring.edit(MODELS, data, base=version.version, by=person, note=f"uses the model {name}")

    async def upload(self, request: Request) -> Response:
        """A model's file, written to disk as it comes."""
        person = await self._desk.person(request)
        try:
            need_admin(person)
            staged, about = await self._staged(request, person)
            await run_in_threadpool(self._models.add, staged, about, person.name)
        except OutriderError as error:
            return await self._page(request, person, error)
        return RedirectResponse("/models", status_code=303)

    async def _staged(self, request: Request, person: Person) -> tuple[Staged, About]:
        with self._models.staging.receiving() as receiver:
            about = _about(await receive(request, person.csrf, receiver.write))
            return await run_in_threadpool(receiver.done), about


def _hashes(models: list[ModelRef]) -> set[str]:
    return {model.sha256 for model in models}


def _about(form: Form) -> About:
    return About(
        name=form.get("name"),
        version=form.get("version"),
        licence=form.get("licence"),
        context=_number(form, "context"),
        min_ram_mb=_number(form, "min_ram_mb"),
    )


def _number(form: Form, name: str) -> int:
    text = form.get(name) or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadInput("model.about", "Context and memory are whole numbers.", advice="Correct them, or leave them.")
    return int(text)
