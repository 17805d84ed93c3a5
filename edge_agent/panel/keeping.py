"""Keeping memory: what is forgotten and who knows of it, what is due or there twice, what would leave, and files."""

from __future__ import annotations

from itertools import islice
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edge_agent.memory import Query
from edge_agent.memory.asking import Asked
from edge_agent.memory.whole import brought, dated, exported, merge_of, twice
from edge_agent.panel.forms import Form
from edge_agent.panel.headers import HEADERS
from edge_agent.panel.memory import Looking, MemoryPages, edit_to
from edge_agent.panel.pages import Pages
from edge_agent.panel.work import Table
from shared.errors import BadInput, Conflict, OutriderError
from shared.formats import count
from shared.memory.exchange import to_lines, to_markdown
from shared.memory.feed import PERSON
from shared.memory.rules import leaving_item, stale

_MOST_FOUND = 5_000  # what words and meaning find; without a question all that is let in
_SHOWN = 200
_COMPARED = 25_000  # items that are looked through for what is there twice, those that changed last: some three seconds
_MERGES = 50  # proposed at once
_MOST_MERGED = 1_000  # items that become one
# Codes for the record, and what they say.
REASONS = {
    "asked": "The person it is about asked for it",
    "wrong": "It is not true",
    "outdated": "It is not needed any more",
    "mistake": "It should not have been kept",
}


class KeepingPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._memory = pages.given.memory

    def table(self) -> Table:
        return [
            ("GET", "/memory/forget", self.ask),
            ("POST", "/memory/forget", self.forget),
            ("GET", "/memory/forgotten", self.forgotten),
            ("GET", "/memory/tidy", self.tidy),
            ("POST", "/memory/tidy", self.merge),
            ("GET", "/memory/items/{item}/leaving", self.leaving),
            ("GET", "/memory/files", self.files),
            ("POST", "/memory/files", self.bring),
            ("GET", "/memory/export", self.export),
        ]

    # --- forgetting -------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> Response:
        given = request.query_params
        return self._ask(request, Form({name: given.get(name, "") for name in ("item", "about", "scope", "run")}))

    def _ask(self, request: Request, form: Form, error: OutriderError | None = None) -> Response:
        """What would go, before anybody says so."""
        item, about, scope = form.get("item"), form.get("about"), form.get("scope")
        kept = self._memory.kept(item) if item else None
        here = 0
        if about or scope:
            query = Query("", [scope] if scope else [], subject=about, include_expired=True)
            here = len(self._memory.ids(query, now=self._pages.given.now()))
        what = next((name for name in ("item", "scope", "run") if form.get(name)), "about")
        return self._pages.page(
            request, "forget.html", what=what, kept=kept, here=here, typed=form, reasons=REASONS, error=error
        )

    async def forget(self, request: Request) -> Response:
        form = await self._pages.form(request)
        try:
            asked = await run_in_threadpool(self._forget, form)
        except OutriderError as error:
            return await run_in_threadpool(self._ask, request, form, error)
        gone = f"{count(asked.erased, 'item')} {'is' if asked.erased == 1 else 'are'} gone from this computer."
        wait = " The hub is asked to make everybody forget." if asked.tombstones else ""
        self._pages.visit(request).say(gone + wait)
        return self._pages.go(request, "/memory/forgotten")

    def _forget(self, form: Form) -> Asked:
        if form.get("sure") != "yes":
            raise BadInput(
                "memory.forget", "you have not said that you are sure", advice="tick the box, and send again"
            )
        reason = form.get("reason") if form.get("reason") in REASONS else "asked"
        item = form.get("item")
        return self._pages.given.forget(
            reason=reason, items=[item] if item else [], about=form.get("about"), scope=form.get("scope"),
            run=form.get("run"),
        )  # fmt: skip

    def forgotten(self, request: Request) -> Response:
        """How each scope stands with the hub, and how far each wish to forget has come."""
        feeds, unsent, counts = self._memory.feeds(), self._memory.unsent(), self._memory.scopes()
        scopes = [
            (name, counts.get(name, 0), feeds[name].role if name in feeds else "", unsent.get(name, 0))
            for name in sorted({*feeds, *unsent, *counts})
        ]
        return self._pages.page(
            request, "forgotten.html", scopes=scopes, wishes=self._memory.wishes(), reasons=REASONS,
            stones=self._memory.tombstones(_SHOWN), holds=self._memory.holds(), refused=self._memory.aside(_SHOWN),
        )  # fmt: skip

    # --- tidying ----------------------------------------------------------------------------------------------

    def tidy(self, request: Request) -> Response:
        return self._tidy(request)

    def _tidy(self, request: Request, error: OutriderError | None = None) -> Response:
        rules, now = self._pages.given.rules(), self._pages.given.now()
        items = dated(self._memory, now)
        texts = {one.id: one.item.text for one in items}
        newest = sorted(items, key=lambda one: -one.changed_at)[:_COMPARED]
        return self._pages.page(
            request, "tidy.html", due=stale(items, rules, now)[:_SHOWN],
            twice=list(islice(twice(self._memory, newest, rules), _MERGES)), compared=len(newest), most=_MERGES,
            texts=texts, reviews=bool(rules.review), error=error,
        )  # fmt: skip

    async def merge(self, request: Request) -> Response:
        form, by = await self._pages.form(request), self._pages.visit(request).by
        try:
            await run_in_threadpool(self._merge, form, by)
        except OutriderError as error:
            return await run_in_threadpool(self._tidy, request, error)
        self._pages.visit(request).say("Merged. The others are forgotten.")
        return self._pages.go(request, f"/memory/items/{quote(form.get('keep'))}")

    def _merge(self, form: Form, by: str) -> None:
        """What was proposed, if it is what would be proposed now: the items may have moved since."""
        ids = [form.get("keep"), *form.get("drop").split()]
        for one in merge_of(self._memory, ids[:_MOST_MERGED], self._pages.given.rules()):
            if [one.keep, *one.drop] == ids:
                break
        else:
            raise Conflict("memory.moved", "these items were changed meanwhile", advice="look at what is proposed now")
        now = self._pages.given.now()
        self._memory.edit(one.keep, edit_to(self._memory.get(one.keep), one.merged), at=now, by=by)
        self._pages.given.forget(reason="duplicate", items=one.drop)

    # --- what would leave -------------------------------------------------------------------------------------

    def leaving(self, request: Request) -> Response:
        id = request.path_params["item"]
        item = self._memory.get(id)
        _, preview = leaving_item(item, self._pages.given.rules())
        return self._pages.page(request, "leaving.html", id=id, item=item, preview=preview)

    # --- files ------------------------------------------------------------------------------------------------

    def files(self, request: Request) -> Response:
        return self._files(request)

    def _files(self, request: Request, error: OutriderError | None = None) -> Response:
        return self._pages.page(request, "files.html", scopes=self._memory.scopes(), error=error)

    async def bring(self, request: Request) -> Response:
        try:
            form = await self._pages.form(request)
            if not form.file:
                raise BadInput("memory.import", "no file was chosen", advice="choose one of the three kinds")
            new, known = await run_in_threadpool(
                lambda: brought(self._memory, form.file, form.data, form.get("scope") or PERSON)
            )
        except OutriderError as error:
            return await run_in_threadpool(self._files, request, error)
        self._pages.visit(request).say(f"{count(new, 'item')} kept, {known} known already.")
        return self._pages.go(request, "/memory")

    async def export(self, request: Request) -> Response:
        """What was looked for, as a file."""
        looking = Looking.of(request)
        if looking.q:
            ids = [one.kept.id for one in await MemoryPages(self._pages).found(looking, _MOST_FOUND)]
        else:
            query, now = looking.query(1), self._pages.given.now()
            ids = await run_in_threadpool(lambda: self._memory.ids(query, now=now))
        plain = request.query_params.get("form") == "md"
        items = exported(self._memory, ids)
        parts: Any = (part.encode() for part in to_markdown(items)) if plain else to_lines(items)
        name, kind = ("memory.md", "text/markdown") if plain else ("memory.jsonl", "application/jsonl")
        said = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(parts, media_type=f"{kind}; charset=utf-8", headers=HEADERS | said)
