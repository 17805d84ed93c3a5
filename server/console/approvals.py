"""``/approvals``: the actions that wait for a person, and the answers given.

The page works as plain forms; with scripts the board is fetched anew after each answer and whenever ``/events`` says
that something changed. Cards that stay are left alone, so what someone is typing is never lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from server.console.desk import Desk, Form, Person, is_htmx
from server.console.failures import Failure, describe
from shared.errors import BadInput, OutriderError

if TYPE_CHECKING:
    from server.approvals import ApprovalView

CARDS = 30  # shown at once; the rest follow as these are answered
RECENT = 12
MANY = 5  # from so many on, choosing among them is worth its place
ANSWERS = ("approve", "deny", "correct")


def check_answer(form: Form) -> tuple[str, str, dict[str, str], int]:
    """The answer, its reason and corrections, and for how many seconds it covers others like it. Raises
    ``BadInput('console.answer' | 'console.reason')``."""
    answer, reason = form.get("answer"), form.get("reason")
    if answer not in ANSWERS:
        raise BadInput("console.answer", "No answer was chosen.", advice="Approve, correct or deny the action.")
    if answer != "approve" and not reason:
        raise BadInput(
            "console.reason",
            "A denial or a correction needs a reason.",
            advice="Say why in a few words: the reason is kept with the record, and the agent learns from it.",
        )
    corrections = {name: value for name, value in form.with_prefix("arg.").items() if value}
    covers = form.get("covers")
    seconds = int(covers) if covers.isascii() and covers.isdigit() and len(covers) < 7 else 0
    return answer, reason, corrections if answer == "correct" else {}, seconds if answer == "approve" else 0


@dataclass(frozen=True)
class Pick:
    """Which of the waiting questions somebody wants to see: all, or those about ``what`` or of ``device``."""

    what: str = ""
    device: str = ""

    def fits(self, view: ApprovalView) -> bool:
        return self.what in ("", _about(view)) and self.device in ("", view.device)

    def query(self, **changes: str) -> str:
        picked = replace(self, **changes)
        chosen = {name: text for name, text in vars(picked).items() if text}
        return f"?{urlencode(chosen)}" if chosen else ""


def read_pick(request: Request) -> Pick:
    asked = request.query_params
    return Pick(asked.get("what", "")[:200], asked.get("device", "")[:200])


def _about(view: ApprovalView) -> str:
    """What is recommended or asked, as cases of one sort have it in common."""
    return view.label or ("A question" if view.question else view.tool)


class ApprovalPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._approvals = desk.services.approvals

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/approvals", self.index, methods=["GET"], response_model=None)
        add("/approvals/board", self.board, methods=["GET"], response_model=None)
        add("/approvals/badge", self.badge, methods=["GET"], response_model=None)
        add("/approvals/{approval}", self.show, methods=["GET"], response_model=None)
        add("/approvals/{approval}/answer", self.answer, methods=["POST"], response_model=None)

    # --- pages ---

    async def index(self, request: Request) -> Response:
        person = await self._desk.person(request)
        answered = request.query_params.get("answered", "")
        flash = await self._found(answered) if answered else None
        board = await self._board(read_pick(request))
        return self._desk.page(request, "approvals.html", person, flash=flash, **board)

    async def board(self, request: Request) -> Response:
        """The waiting and the recent, for the page to swap in."""
        person = await self._desk.person(request)
        return self._fragment(person, None, await self._board(read_pick(request)))

    async def badge(self, request: Request) -> Response:
        """How many wait, for the menu."""
        await self._desk.person(request)
        waiting = await run_in_threadpool(self._approvals.waiting)
        return HTMLResponse(self._desk.fragment("badge.html", None, number=len(waiting), what="waiting"))

    async def show(self, request: Request, approval: str) -> Response:
        person = await self._desk.person(request)
        view = await run_in_threadpool(self._approvals.get, approval)
        return await self._detail(request, person, view, None)

    # --- answers ---

    async def answer(self, request: Request, approval: str) -> Response:
        person = await self._desk.person(request)
        try:
            form = await self._desk.form(request, person.csrf)
            answer, reason, corrections, covers = check_answer(form)
            await run_in_threadpool(
                lambda: self._approvals.decide(
                    approval,
                    by=person.name,
                    roles=list(person.roles),
                    answer=answer,
                    reason=reason,
                    corrections=corrections,
                    similar_s=covers,
                )
            )
        except OutriderError as error:
            return await self._refused(request, person, approval, error)
        if is_htmx(request):
            view = await run_in_threadpool(self._approvals.get, approval)
            return self._fragment(person, view, await self._board(read_pick(request)))
        return RedirectResponse(f"/approvals?answered={approval}", status_code=303)

    async def _refused(self, request: Request, person: Person, approval: str, error: OutriderError) -> Response:
        failure = describe(error)
        if not is_htmx(request):
            view = await run_in_threadpool(self._approvals.get, approval)
            return await self._detail(request, person, view, failure)
        if failure.status in (400, 403):  # the question still waits: say so on its card
            html = self._desk.fragment("failure_fragment.html", person, failure=failure)
            headers = {"HX-Retarget": f"#error-{approval}", "HX-Reswap": "innerHTML"}
            return HTMLResponse(html, failure.status, headers=headers)
        return self._fragment(person, None, await self._board(read_pick(request)), failure=failure)

    # --- parts ---

    async def _board(self, pick: Pick) -> dict[str, Any]:
        waiting = await run_in_threadpool(self._approvals.waiting)
        recent = await run_in_threadpool(self._approvals.recent, RECENT)
        picked = [view for view in waiting if pick.fits(view)]
        shown = sorted(picked, key=lambda view: view.asked_at)[:CARDS]
        books = {view.playbook for view in [*shown, *recent]}
        words = {book: await run_in_threadpool(self._desk.catalogue.wording, book) for book in books}
        return {
            "shown": shown, "total": len(picked), "everything": len(waiting), "recent": recent, "words": words,
            "pick": pick, "many": len(waiting) >= MANY, "abouts": Counter(map(_about, waiting)).most_common(),
            "devices": Counter((view.device, view.device_name) for view in waiting).most_common(),
        }  # fmt: skip

    async def _found(self, approval: str) -> ApprovalView | None:
        try:
            return await run_in_threadpool(self._approvals.get, approval)
        except OutriderError:  # the address was typed or is old: there is nothing to say, and the page stands
            return None

    def _fragment(
        self, person: Person, flash: ApprovalView | None, board: dict[str, Any], failure: Failure | None = None
    ) -> Response:
        status = failure.status if failure else 200
        html = self._desk.fragment("approvals_board.html", person, flash=flash, failure=failure, **board)
        return HTMLResponse(html, status)

    async def _detail(self, request: Request, person: Person, view: ApprovalView, failure: Failure | None) -> Response:
        words = await run_in_threadpool(self._desk.catalogue.wording, view.playbook)
        status = failure.status if failure else 200
        return self._desk.page(
            request, "approval.html", person, status, view=view, words={view.playbook: words}, failure=failure
        )
