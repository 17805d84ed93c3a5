"""``/workspace/replay`` and ``/releases/N/replay``: what a candidate would have made of the last days, before anybody
runs it; and ``/reconcile``: what devices did offline that would not be done alone any more, with the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.controls import UNDOING
from server.console.desk import Desk, Person
from server.console.failures import Failure, describe
from shared.errors import BadInput, OutriderError
from shared.policy import HOST_RULES
from shared.replay import Difference

if TYPE_CHECKING:
    from server.ingest import RunView
    from server.replay import Subject

DAYS = (7, 30, 90, 365)
SHOWN = 100
SAMPLE = 50
KINDS = ("denied", "unjudged", "asked", "allowed")


class ReplayPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._replays = desk.services.replays
        self._reconcile = desk.services.reconcile

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/workspace/replay", self.of_workspace, methods=["GET"], response_model=None)
        add("/releases/{release}/replay", self.of_release, methods=["GET"], response_model=None)
        add("/releases/{release}/replay", self.ask, methods=["POST"], response_model=None)
        add("/reconcile", self.index, methods=["GET"], response_model=None)
        add("/reconcile", self.settle, methods=["POST"], response_model=None)

    # --- replay -------------------------------------------------------------------------------------------------------

    async def of_workspace(self, request: Request) -> Response:
        return await self._page(request, await self._desk.person(request), 0)

    async def of_release(self, request: Request, release: str) -> Response:
        return await self._page(request, await self._desk.person(request), _number(release))

    async def ask(self, request: Request, release: str) -> Response:
        """Ask the devices to try it on their own runs."""
        person = await self._desk.person(request)
        number = _number(release)
        try:
            await self._desk.form(request, person.csrf)
            await run_in_threadpool(lambda: self._replays.ask(number, SAMPLE, by=person.name, roles=list(person.roles)))
        except OutriderError as error:
            return await self._page(request, person, number, failure=describe(error))
        return RedirectResponse(f"/releases/{number}/replay#devices", status_code=303)

    async def _page(self, request: Request, person: Person, number: int, failure: Failure | None = None) -> Response:
        from server.replay.room import ROLES

        days = _days(request.query_params.get("days", ""))
        subject: Subject | None = None
        try:
            subject = await run_in_threadpool(self._replays.subject, number)
        except OutriderError as error:
            if number:
                raise
            failure = failure or (None if error.code == "draft.none" else describe(error))
        found = await run_in_threadpool(lambda: self._replays.compare(subject, days, most=SHOWN)) if subject else None
        runs = await run_in_threadpool(self._runs, found.found) if found else {}
        return self._desk.page(
            request,
            "replay.html",
            person,
            failure.status if failure else 200,
            number=number,
            empty=subject is None and failure is None,
            days=days,
            choices=DAYS,
            found=found,
            kinds={kind: [one for one in found.found if _kind(one) == kind] for kind in KINDS} if found else {},
            runs=runs,
            about=_explainer(subject),
            cases=subject.cases if subject else [],
            asked=await run_in_threadpool(self._replays.asked, number) if number else [],
            drift=await run_in_threadpool(self._replays.drift),
            may=person.may(*ROLES),
            sample=SAMPLE,
            failure=failure,
        )

    def _runs(self, found: list[Difference]) -> dict[str, RunView]:
        return self._desk.services.record.named({(one.past.device, one.past.run) for one in found})

    # --- reconciliation -----------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        return await self._list(request, await self._desk.person(request))

    async def _list(self, request: Request, person: Person, failure: Failure | None = None) -> Response:
        listed = await run_in_threadpool(self._reconcile.open)
        words = {
            (one.playbook, one.release): await run_in_threadpool(
                self._desk.catalogue.wording, one.playbook, one.release
            )
            for one in listed
        }
        return self._desk.page(
            request,
            "reconcile.html",
            person,
            failure.status if failure else 200,
            listed=listed,
            words=words,
            settled=await run_in_threadpool(self._reconcile.settled),
            undoing=UNDOING,
            failure=failure,
        )

    async def settle(self, request: Request) -> Response:
        """Take one back, or let it stand."""
        person = await self._desk.person(request)
        try:
            form = await self._desk.form(request, person.csrf)
            n, reason, roles = _number(form.get("n")), form.get("reason"), list(person.roles)
            if form.get("act") == "undo":
                await run_in_threadpool(
                    lambda: self._reconcile.take_back(n, by=person.name, roles=roles, reason=reason)
                )
            else:
                await run_in_threadpool(lambda: self._reconcile.excuse(n, by=person.name, roles=roles, reason=reason))
        except OutriderError as error:
            return await self._list(request, person, describe(error))
        return RedirectResponse("/reconcile", status_code=303)


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    raise BadInput("console.form", "That is no number.", advice="Use the page's own links and buttons.")


def _days(text: str) -> int:
    """How far back; what makes no sense is as good as not given."""
    return int(text) if text in map(str, DAYS) else 30


def _kind(one: Difference) -> str:
    if one.unjudged:
        return "unjudged"
    return {"deny": "denied", "ask": "asked", "allow": "allowed"}[one.now]


def _explainer(subject: Subject | None) -> dict[str, str]:
    """What the rules of the candidate say of themselves."""
    return HOST_RULES | (subject.release.policy.about if subject else {})
