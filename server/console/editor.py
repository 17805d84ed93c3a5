"""``/workspace/files/PATH``: one file in an editor. What is found in it stands beside its lines, while one types.

Nothing typed is lost: what cannot be saved comes back with the reason, and the page's script keeps what was not sent,
so that it is still there after signing in again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from server.console.workspace import number
from shared.errors import BadInput, OutriderError

if TYPE_CHECKING:
    from server.authoring import Authoring

FILE_CHARS = 256 * 1024  # longer files are edited elsewhere, and pushed
_FORM_BYTES = 4 * FILE_CHARS


class EditorPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._room: Authoring = desk.services.authoring

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/workspace/check", self.check, methods=["POST"], response_model=None)
        add("/workspace/new", self.ask_new, methods=["GET"], response_model=None)
        add("/workspace/new", self.new, methods=["POST"], response_model=None)
        add("/workspace/files/{path:path}", self.show, methods=["GET"], response_model=None)
        add("/workspace/files/{path:path}", self.save, methods=["POST"], response_model=None)

    async def show(self, request: Request, path: str) -> Response:
        return await self._show(request, await self._desk.person(request), path)

    async def _show(
        self,
        request: Request,
        person: Person,
        path: str,
        failure: OutriderError | None = None,
        given: Form | None = None,
    ) -> Response:
        shown = await run_in_threadpool(self._file, person, path, given)
        told = describe(failure) if failure is not None else None
        saved = request.query_params.get("saved", "")
        return self._desk.page(
            request, "workspace_file.html", person, told.status if told else 200, failure=told, saved=saved, **shown
        )

    def _file(self, person: Person, path: str, given: Form | None) -> dict[str, Any]:
        """The file as it is in the newest version; with ``given``, as somebody has typed it and could not save."""
        from server.authoring import may_author
        from server.authoring.diff import diff

        newest = self._room.need()
        files = self._room.drafts.files(newest)
        data = files.get(path)
        if data is None and given is None:
            raise BadInput("draft.no-file", f"the workspace has no file {path}", advice="go back to its list of files")
        shown = _decoded(data or b"") if given is None else typed(given)
        moved = []
        if given is not None and shown is not None and data is not None:
            moved = diff({path: data}, {path: shown.encode()})
            files[path] = shown.encode()
        running = self._room.release_files(self._desk.services.releases.current())
        return {
            "file": path, "text": shown, "version": newest, "files": sorted(files), "moved": moved,
            "note": given.get("note") if given else "", "writes": may_author(person.roles),
            "changes": diff({path: running[path]} if path in running else {}, {path: files.get(path, b"")}),
            **self._found(files, path),
        }  # fmt: skip

    def _found(self, files: dict[str, bytes], path: str) -> dict[str, Any]:
        findings = self._room.check(files)
        mine = [finding for finding in findings if finding.path == path]
        return {"findings": mine, "elsewhere": [finding for finding in findings if finding.path != path]}

    async def check(self, request: Request) -> Response:
        """What is found in a file as it is being typed: a part of the page."""
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf, _FORM_BYTES)
        path = form.get("path")

        def found() -> dict[str, Any]:
            files = self._room.drafts.files(self._room.need())
            return self._found(files | {path: typed(form).encode()}, path)

        shown = await run_in_threadpool(found)
        return HTMLResponse(self._desk.fragment("workspace_findings.html", person, file=path, **shown))

    async def save(self, request: Request, path: str) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf, _FORM_BYTES)
        try:
            saved = await run_in_threadpool(self._save, person, path, form)
        except OutriderError as error:
            return await self._show(request, person, path, error, form)
        there = "/workspace" if form.get("remove") else f"/workspace/files/{quote(path)}?saved={saved}"
        return RedirectResponse(there, status_code=303)

    def _save(self, person: Person, path: str, form: Form) -> int:
        text = None if form.get("remove") else typed(form)
        if text is not None and len(text) > FILE_CHARS:
            advice = "Edit it elsewhere and push it: `outrider release push`."
            raise BadInput("console.form", "The file is too long for this page.", advice=advice)
        data = None if text is None else text.encode()
        base = number(form.get("base"))
        return self._room.edit(path, data, base=base, by=person, note=form.get("note")).version

    # --- a new file -------------------------------------------------------------------------------------------

    async def ask_new(self, request: Request) -> Response:
        return await self._new(request, await self._desk.person(request))

    async def _new(
        self, request: Request, person: Person, path: str = "", failure: OutriderError | None = None
    ) -> Response:
        told = describe(failure) if failure is not None else None
        status = told.status if told else 200
        return self._desk.page(request, "workspace_new.html", person, status, failure=told, given=path)

    async def new(self, request: Request) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        path = form.get("path")
        try:
            await run_in_threadpool(self._create, person, path)
        except OutriderError as error:
            return await self._new(request, person, path, error)
        return RedirectResponse(f"/workspace/files/{quote(path)}", status_code=303)

    def _create(self, person: Person, path: str) -> None:
        newest = self._room.need()
        if path in newest.files:
            raise BadInput("draft.path", f"there is a file {path} already", advice="open it from the list of files")
        self._room.edit(path, b"", base=newest.version, by=person, note=f"new file {path}")


def typed(form: Form) -> str:
    """A file's text as browsers send it, with the line ends that files have."""
    return form.fields.get("text", "").replace("\r\n", "\n")


def _decoded(data: bytes) -> str | None:
    """The text to edit; ``None`` where a text field would change more than what is typed."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    plain = "\r" not in text and "\0" not in text
    return text if plain and len(text) <= FILE_CHARS else None
