"""``/releases``: what was published and what waits for people's signatures. Every release stays readable; any can be
restored into the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from server.console.workspace import number, texts
from shared.errors import BadInput, OutriderError, Refused

if TYPE_CHECKING:
    from server.authoring import Authoring
    from server.releases import Releases

SHOWN = 100


class ReleasePages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._room: Authoring = desk.services.authoring
        self._releases: Releases = desk.services.releases

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/releases", self.index, methods=["GET"], response_model=None)
        add("/releases", self.sign, methods=["POST"], response_model=None)
        add("/releases/proposals/{proposal}", self.offer, methods=["GET"], response_model=None)
        add("/releases/{release}", self.show, methods=["GET"], response_model=None)
        add("/releases/{release}", self.restore, methods=["POST"], response_model=None)

    async def index(self, request: Request) -> Response:
        return await self._index(request, await self._desk.person(request))

    async def _index(self, request: Request, person: Person, failure: OutriderError | None = None) -> Response:
        from server.authoring import may_author
        from server.releases.expiry import WHAT, ending

        published = await run_in_threadpool(self._room.published, SHOWN)
        waiting = [one for one in await run_in_threadpool(self._releases.proposals) if one.state == "open"]
        devices = [one for one in await run_in_threadpool(self._desk.services.devices.list) if one.state == "active"]
        told = describe(failure) if failure is not None else None
        trust = await run_in_threadpool(self._releases.trust)
        return self._desk.page(
            request, "releases.html", person, told.status if told else 200, failure=told, published=published,
            waiting=waiting, trust=trust, ending=ending(trust), what=WHAT, writes=may_author(person.roles), shown=SHOWN,
            runs={release.number: sum(one.release == release.number for one in devices) for release in published},
        )  # fmt: skip

    # --- proposals --------------------------------------------------------------------------------------------

    async def offer(self, request: Request, proposal: str) -> Response:
        """The file that people sign where their keys are."""
        await self._desk.person(request)
        found = await run_in_threadpool(self._releases.proposal, proposal)
        return Response(
            found.offer.data(),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{found.kind}-{found.number}.offer"'},
        )

    async def sign(self, request: Request) -> Response:
        """Hand in a signature, complete what has enough of them, or withdraw it."""
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            there = await run_in_threadpool(self._sign, person, form)
        except OutriderError as error:
            return await self._index(request, person, error)
        return RedirectResponse(there, status_code=303)

    def _sign(self, person: Person, form: Form) -> str:
        from server.authoring import AUTHORS
        from shared.offer import read_signature

        if not person.may(*AUTHORS):
            people = " or ".join(AUTHORS)
            raise Refused("draft.role", f"only {people} may do this", advice="ask somebody with that role")
        act, proposal = form.get("act"), form.get("proposal")
        if act == "signature":
            self._releases.add_signature(proposal, read_signature(form.get("signature").encode()), person.name)
        elif act == "complete":
            kind = self._releases.proposal(proposal).kind
            done = self._room.complete(proposal, by=person)
            return f"/releases/{done}?published=1" if kind == "release" else "/releases"
        elif act == "withdraw":
            self._releases.withdraw(proposal, person.name)
        else:
            raise BadInput("console.form", "This is no act of this page.", advice="Use the page's own buttons.")
        return "/releases"

    # --- one release ------------------------------------------------------------------------------------------

    async def show(self, request: Request, release: str) -> Response:
        return await self._show(request, await self._desk.person(request), number(release))

    async def _show(
        self, request: Request, person: Person, release: int, failure: OutriderError | None = None
    ) -> Response:
        shown = await run_in_threadpool(self._one, person, release)
        told = describe(failure) if failure is not None else None
        new = request.query_params.get("published") == "1"
        return self._desk.page(
            request, "release.html", person, told.status if told else 200, failure=told, new=new, **shown
        )

    def _one(self, person: Person, release: int) -> dict[str, Any]:
        from server.authoring import may_author
        from server.authoring.diff import diff

        found = next((one for one in self._room.published() if one.number == release), None)
        if found is None:
            raise BadInput("release.unknown", f"there is no release {release}", advice="see the list of releases")
        files = self._room.release_files(release)
        earlier = next((one.number for one in self._room.published() if one.number < release), 0)
        newest = self._room.drafts.newest()
        return {
            "release": found, "files": texts(files), "earlier": earlier, "writes": may_author(person.roles),
            "changes": diff(self._room.release_files(earlier), files), "current": self._releases.current(),
            "devices": [one for one in self._desk.services.devices.list() if one.state == "active"],
            "same": newest is not None and self._room.drafts.files(newest) == files,
            "version": self._room.drafts.of_release(release),
        }  # fmt: skip

    async def restore(self, request: Request, release: str) -> Response:
        person = await self._desk.person(request)
        await self._desk.form(request, person.csrf)
        wanted = number(release)
        try:
            await run_in_threadpool(lambda: self._room.restore_release(wanted, by=person))
        except OutriderError as error:
            return await self._show(request, person, wanted, error)
        return RedirectResponse("/workspace", status_code=303)
