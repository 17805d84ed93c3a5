"""``/workspace``: what the next release will say. Its files, what changed since the release before, what is wrong, what
people say of it, sign-off and publishing; and every version there was.

Everybody who is signed in reads and comments; who may author also saves, restores, signs off and publishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from shared.errors import BadInput, OutriderError

if TYPE_CHECKING:
    from server.authoring import Authoring

VERSIONS_SHOWN = 50


class WorkspacePages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._room: Authoring = desk.services.authoring

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/workspace", self.show, methods=["GET"], response_model=None)
        add("/workspace", self.act, methods=["POST"], response_model=None)
        add("/workspace/publish", self.ask_publish, methods=["GET"], response_model=None)
        add("/workspace/versions", self.versions, methods=["GET"], response_model=None)
        add("/workspace/versions/{version}", self.version, methods=["GET"], response_model=None)
        add("/workspace/versions/{version}", self.act_on_version, methods=["POST"], response_model=None)

    # --- the newest version -----------------------------------------------------------------------------------

    async def show(self, request: Request) -> Response:
        return await self._show(request, await self._desk.person(request))

    async def _show(
        self, request: Request, person: Person, failure: OutriderError | None = None, said: str = ""
    ) -> Response:
        shown = await run_in_threadpool(self._all_of, person)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "workspace.html", person, told.status if told else 200, failure=told, said=said, **shown
        )

    def _all_of(self, person: Person) -> dict[str, Any]:
        from server.authoring import may_author
        from server.authoring.diff import diff

        version = self._room.drafts.newest()
        shown: dict[str, Any] = {"version": version, "writes": may_author(person.roles), "room": self._room}
        shown["folder_differs"] = self._room.folder_differs()
        if version is None:
            return shown
        files = self._room.drafts.files(version)
        running = self._desk.services.releases.current()
        changes = diff(self._room.release_files(running), files)
        findings = self._room.check(files)
        return shown | {
            "findings": findings,
            "running": running,
            "changes": changes,
            "rows": _rows(files, {change.path: change.state for change in changes}, findings),
            "comments": self._room.drafts.comments(version.version),
            "lacking": self._room.lacking(version),
            "may_sign": may_author(person.roles) and person.name not in (version.by, *version.signers),
        }

    async def act(self, request: Request) -> Response:
        """Comment, sign off, publish, or take the folder in."""
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            there = await run_in_threadpool(self._act, person, form)
        except OutriderError as error:
            return await self._show(request, person, error, form.get("text"))
        return RedirectResponse(there, status_code=303)

    def _act(self, person: Person, form: Form) -> str:
        act = form.get("act")
        if act == "folder":
            self._room.bring_folder(by=person)
        elif act == "comment":
            self._room.comment(number(form.get("version")), by=person, **_spot(form))
            return "/workspace#comments"
        elif act == "sign":
            self._room.sign(number(form.get("version")), by=person)
        elif act == "publish":
            staged = form.get("staged") == "yes"
            done = self._room.publish(number(form.get("version")), by=person, staged=staged)
            return "/releases" if done.proposal else f"/releases/{done.release}?published=1"
        else:
            raise BadInput("console.form", "This is no act of this page.", advice="Use the page's own buttons.")
        return "/workspace"

    async def ask_publish(self, request: Request) -> Response:
        """What publishing will do, told before it is done."""
        person = await self._desk.person(request)
        shown = await run_in_threadpool(self._all_of, person)
        devices = await run_in_threadpool(self._desk.services.devices.list)
        people = await run_in_threadpool(self._desk.services.releases.people_sign)
        active = [device for device in devices if device.state == "active"]
        return self._desk.page(
            request, "workspace_publish.html", person, devices=active, people=people,
            staged=self._desk.services.releases.staged, **shown,
        )  # fmt: skip

    # --- every version ----------------------------------------------------------------------------------------

    async def versions(self, request: Request) -> Response:
        person = await self._desk.person(request)
        before = number(request.query_params.get("before", "") or "0")
        found = await run_in_threadpool(self._room.drafts.list, VERSIONS_SHOWN + 1, before)
        older = f"?{urlencode({'before': found[VERSIONS_SHOWN - 1].version})}" if len(found) > VERSIONS_SHOWN else ""
        return self._desk.page(
            request, "workspace_versions.html", person, versions=found[:VERSIONS_SHOWN], older=older, before=before
        )

    async def version(self, request: Request, version: str) -> Response:
        return await self._version(request, await self._desk.person(request), number(version))

    async def _version(
        self, request: Request, person: Person, number: int, failure: OutriderError | None = None, said: str = ""
    ) -> Response:
        against = request.query_params.get("against", "")
        shown = await run_in_threadpool(self._one, person, number, against)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "workspace_version.html", person, told.status if told else 200, failure=told, said=said, **shown
        )

    def _one(self, person: Person, at: int, against: str) -> dict[str, Any]:
        from server.authoring import may_author
        from server.authoring.diff import diff

        drafts = self._room.drafts
        version, newest = drafts.get(at), self._room.need()
        other = number(against) if against else at - 1
        files = drafts.files(version)
        before = drafts.files(drafts.get(other)) if other else {}
        return {
            "version": version, "newest": newest, "against": other, "changes": diff(before, files),
            "files": texts(files), "comments": drafts.comments(at), "writes": may_author(person.roles),
        }  # fmt: skip

    async def act_on_version(self, request: Request, version: str) -> Response:
        """Comment on it, or restore it."""
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        at = number(version)
        try:
            if form.get("act") == "restore":
                await run_in_threadpool(lambda: self._room.restore(at, by=person))
                return RedirectResponse("/workspace", status_code=303)
            await run_in_threadpool(lambda: self._room.comment(at, by=person, **_spot(form)))
        except OutriderError as error:
            return await self._version(request, person, at, error, form.get("text"))
        return RedirectResponse(f"/workspace/versions/{at}#comments", status_code=303)


def _spot(form: Form) -> dict[str, Any]:
    """A comment as it was sent; a line counts in a file alone."""
    path = form.get("place")
    return {"text": form.get("text"), "path": path, "line": number(form.get("line") or "0") if path else 0}


def _rows(files: Mapping[str, bytes], states: Mapping[str, str], findings: list[Any]) -> list[dict[str, Any]]:
    """The files for the page's table: path, size, what changed, and how much was found in each."""
    counts: dict[str, list[int]] = {path: [0, 0] for path in files}
    for finding in findings:
        if finding.path in counts:
            counts[finding.path][finding.severity != "error"] += 1
    return [
        {"path": path, "size": len(data), "state": states.get(path, ""), "errors": counts[path][0],
         "warnings": counts[path][1]}
        for path, data in sorted(files.items(), key=lambda file: ("/" in file[0], file[0]))
    ]  # fmt: skip


def texts(files: Mapping[str, bytes]) -> dict[str, str]:
    """Files as people read them; what is no text as such is shown as far as it is."""
    ordered = sorted(files.items(), key=lambda file: ("/" in file[0], file[0]))
    return {path: data.decode(errors="replace") for path, data in ordered}


def number(text: str) -> int:
    """A number of a version or line, as addresses and forms give it. Raises ``BadInput('draft.unknown')``."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadInput("draft.unknown", f"there is no version {text[:20]!r}", advice="see the list of versions")
    return int(text)
