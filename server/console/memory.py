"""``/memory``: what devices and teams remember: find, read, edit, see where it comes from, share and export.

Who is no member of a scope does not see what is in it, administrators included: they see that there is one, how much it
holds, and who shares it. What is forgotten, and who has confirmed it, stands in ``forgetting``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from server.console.forgetting import HOLD_REASONS
from shared.errors import Conflict, OutriderError, Refused
from shared.memory.feed import PERSON, READER, ROLES, STEWARD, WRITER, may
from shared.memory.forms import read_fields, read_tags, settled, untyped
from shared.memory.item import KINDS, Edit, Item

if TYPE_CHECKING:
    from server.embedding.index import Hit
    from server.memory import Memory
    from server.memory.items import Asked, ItemView

SHOWN = 50
_EXPORTED = 100_000


@dataclass(frozen=True)
class Looking:
    """What a person looks for; everything may be empty."""

    q: str = ""
    scope: str = ""
    kind: str = ""
    tag: str = ""
    contested: bool = False
    page: int = 0

    @classmethod
    def of(cls, request: Request) -> Looking:
        """From the address. What makes no sense is as good as not given: addresses are typed and shared."""
        given = request.query_params
        kind, page = given.get("kind", ""), given.get("page", "0")
        return cls(
            q=given.get("q", "").strip()[:300],
            scope=given.get("scope", ""),
            kind=kind if kind in KINDS else "",
            tag=given.get("tag", "").strip()[:300],
            contested=given.get("contested") == "yes",
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 0,
        )

    @property
    def any(self) -> bool:
        return self != Looking(page=self.page)

    def query(self, **changes: object) -> str:
        one = replace(self, **changes)  # type: ignore[arg-type]  # only called with fields of its own
        named = {"q": one.q, "scope": one.scope, "kind": one.kind, "tag": one.tag}
        named |= {"contested": "yes" if one.contested else "", "page": str(one.page or "")}
        given = {name: value for name, value in named.items() if value}
        return f"?{urlencode(given)}" if given else ""

    def asked(self, scopes: list[str]) -> Asked:
        from server.memory.items import Asked

        wanted = tuple(scope for scope in scopes if not self.scope or scope == self.scope)
        return Asked(
            scopes=wanted,
            kinds=(self.kind,) if self.kind else (),
            tags=(self.tag,) if self.tag else (),
            text=self.q,
            conflicts=self.contested,
        )


class MemoryPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._memory: Memory = desk.services.memory

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/memory", self.index, methods=["GET"], response_model=None)
        add("/memory/new", self.ask_new, methods=["GET"], response_model=None)
        add("/memory/new", self.new, methods=["POST"], response_model=None)
        add("/memory/export", self.export, methods=["GET"], response_model=None)
        add("/memory/scopes", self.scopes, methods=["GET"], response_model=None)
        add("/memory/scopes", self.share, methods=["POST"], response_model=None)
        add("/memory/items/{item}", self.show, methods=["GET"], response_model=None)
        add("/memory/items/{item}", self.change, methods=["POST"], response_model=None)

    # --- finding ----------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        person = await self._desk.person(request)
        looking, mine = Looking.of(request), await run_in_threadpool(self.mine, person)
        asked = looking.asked(list(mine))
        found, total = await run_in_threadpool(self._found, looking, asked) if asked.scopes else ([], 0)
        why = await self._meant(looking, asked) if asked.scopes and looking.q and not looking.page else {}
        if why:
            found = await run_in_threadpool(self._best_first, why, found)
            total = max(total, len(found))
        return self._desk.page(
            request, "memory.html", person, looking=looking, found=found, total=total, why=why, mine=mine, kinds=KINDS,
            older=looking.query(page=looking.page + 1) if total > (looking.page + 1) * SHOWN else "",
            writes=[scope for scope, role in mine.items() if may(role, WRITER)],
        )  # fmt: skip

    async def _meant(self, looking: Looking, asked: Asked) -> dict[tuple[str, str], Hit]:
        """What the index finds, by words and meaning, best first; it does not know tags, nor what changed just now."""
        index = self._desk.services.index
        if index is None or looking.tag or looking.contested:
            return {}
        found = await index.search(looking.q, asked.scopes, kinds=asked.kinds, limit=SHOWN)
        return {(hit.shown.scope, hit.shown.item): hit for hit in found.hits}

    def _best_first(self, why: dict[tuple[str, str], Hit], plain: Sequence[ItemView]) -> list[ItemView]:
        """What the index found, and behind it what only looking through the texts has."""
        rest = [view for view in plain if (view.scope, view.item) not in why]
        return [*self._memory.items.some(list(why)), *rest][:SHOWN]

    def _found(self, looking: Looking, asked: Asked) -> tuple[Sequence[ItemView], int]:
        items = self._memory.items
        return items.list(asked, limit=SHOWN, offset=looking.page * SHOWN), items.count(asked)

    def mine(self, person: Person) -> dict[str, str]:
        """The scopes of a person, each with their role in it; their own first."""
        own = f"{PERSON}/{person.name}"
        found = {own: STEWARD}
        for view in self._memory.access.scopes():
            role = self._memory.role(view.scope, f"user:{person.name}")
            if role:
                found[view.scope] = role
        return found

    async def export(self, request: Request) -> Response:
        """What was looked for, as a file: JSON Lines with the whole history, or Markdown."""
        person = await self._desk.person(request)
        looking, mine = Looking.of(request), await run_in_threadpool(self.mine, person)
        asked = looking.asked(list(mine))
        plain = request.query_params.get("form") == "md"
        name, kind = ("memory.md", "text/markdown") if plain else ("memory.jsonl", "application/jsonl")
        return StreamingResponse(
            self._parts(asked, plain),
            media_type=f"{kind}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    def _parts(self, asked: Asked, plain: bool) -> Iterator[bytes]:
        from shared.memory.exchange import Exported, to_lines, to_markdown

        def items() -> Iterator[Exported]:
            for view in self._memory.items.list(asked, limit=_EXPORTED) if asked.scopes else ():
                document = self._memory.items.document(view.scope, view.item)
                yield Exported(view.item, document.item(), tuple(document.changes()))

        if plain:
            yield from (part.encode() for part in to_markdown(items()))
        else:
            yield from to_lines(items())

    # --- one item ---------------------------------------------------------------------------------------------

    def _need(self, person: Person, scope: str, role: str) -> str:
        """The person's role in a scope. Raises ``Refused('memory.role')`` where it is less than ``role``."""
        found = self._memory.role(scope, f"user:{person.name}")
        if not may(found, role):
            words = {READER: "read", WRITER: "write", STEWARD: "forget and share"}[role]
            raise Refused(
                "memory.role",
                f"You may not {words} what {scope or 'this scope'} remembers.",
                advice="Ask one of its stewards, or an administrator where it has none.",
            )
        return found

    async def show(self, request: Request, item: str) -> Response:
        return await self.page(request, await self._desk.person(request), request.query_params.get("scope", ""), item)

    async def page(
        self,
        request: Request,
        person: Person,
        scope: str,
        item: str,
        failure: BaseException | None = None,
        typed: Form | None = None,
    ) -> Response:
        """``typed`` is what a form that was refused held, so that it is not lost."""
        role = await run_in_threadpool(self._need, person, scope, READER)
        shown = await run_in_threadpool(self._all_of, scope, item)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "memory_item.html", person, told.status if told else 200, failure=told, kinds=KINDS, typed=typed,
            writes=may(role, WRITER), steward=may(role, STEWARD), **shown,
        )  # fmt: skip

    def _all_of(self, scope: str, item: str) -> dict[str, object]:
        items = self._memory.items
        view = items.get(scope, item)
        document, senders = items.document(scope, item), items.senders(scope, item)
        names = {device.id: device.name for device in self._desk.services.devices.list()}
        history = document.history()
        versions = [
            (version, document.item_at(version.hash), *senders.get(version.hash, ("", 0)))
            for version in reversed(history)
        ]
        run = re.match(r"run (run_[0-9a-f]+)", view.source)
        holds = [hold for hold in self._memory.holds.list(scope) if not hold.lifted_at and hold.item in ("", item)]
        return {
            "view": view, "versions": versions, "conflicts": document.conflicts(), "names": names,
            "run": run.group(1) if run else "", "holds": holds, "reasons": HOLD_REASONS,
        }  # fmt: skip

    async def change(self, request: Request, item: str) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        scope = form.get("scope")
        try:
            await run_in_threadpool(self._change, person, scope, item, form)
        except OutriderError as error:
            return await self.page(request, person, scope, item, error, form if "text" in form.fields else None)
        return RedirectResponse(f"/memory/items/{item}?{urlencode({'scope': scope})}", status_code=303)

    def _change(self, person: Person, scope: str, item: str, form: Form) -> None:
        self._need(person, scope, WRITER)
        items, by = self._memory.items, f"user:{person.name}"
        if form.get("version"):
            items.restore(scope, item, form.get("version"), by)
            return
        if form.get("settle"):
            items.edit(scope, item, settled(form.get("settle"), form.fields.get("value", "")), by)
            return
        view = items.get(scope, item)
        if form.get("seen") != view.sha256:
            said = "This item was changed while you were writing."
            raise Conflict("memory.moved", said, advice="See what it says now, and save again; what you typed is kept.")
        tags, fields = read_tags(form.get("tags")), read_fields(form.fields.get("fields", ""))
        fields = untyped(view.fields) | fields
        edit = Edit(
            text=form.fields.get("text", "").replace("\r\n", "\n"),
            kind=form.get("kind") or None,
            subject=form.get("subject"),
            source=form.get("source"),
            sensitivity=form.get("sensitivity") or None,
            fields={**dict.fromkeys(set(view.fields) - set(fields)), **fields},
            add_tags=[tag for tag in tags if tag not in view.tags],
            remove_tags=[tag for tag in view.tags if tag not in tags and read_tags(tag) == [tag]],
            pinned=form.get("pinned") == "yes",
        )
        items.edit(scope, item, edit, by)

    # --- a new one --------------------------------------------------------------------------------------------

    async def ask_new(self, request: Request) -> Response:
        person = await self._desk.person(request)
        mine = await run_in_threadpool(self.mine, person)
        writes = [scope for scope, role in mine.items() if may(role, WRITER)]
        return self._desk.page(request, "memory_new.html", person, kinds=KINDS, writes=writes, given=Form({}))

    async def new(self, request: Request) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            scope, item = await run_in_threadpool(self._new, person, form)
        except OutriderError as error:
            mine = await run_in_threadpool(self.mine, person)
            writes = [scope for scope, role in mine.items() if may(role, WRITER)]
            told = describe(error)
            return self._desk.page(
                request, "memory_new.html", person, told.status, kinds=KINDS, writes=writes, given=form, failure=told
            )
        return RedirectResponse(f"/memory/items/{item}?{urlencode({'scope': scope})}", status_code=303)

    def _new(self, person: Person, form: Form) -> tuple[str, str]:
        scope = form.get("scope")
        self._need(person, scope, WRITER)
        item = Item(
            kind=form.get("kind"),
            text=form.fields.get("text", "").replace("\r\n", "\n"),
            source=form.get("source") or f"person {person.name}",
            scope=PERSON if scope.startswith(f"{PERSON}/") else scope,
            fields=read_fields(form.fields.get("fields", "")),
            tags=read_tags(form.get("tags")),
            subject=form.get("subject"),
            sensitivity=form.get("sensitivity") or "normal",
            pinned=form.get("pinned") == "yes",
        )
        return scope, self._memory.items.create(item, scope, f"user:{person.name}")

    # --- who shares what --------------------------------------------------------------------------------------

    async def scopes(self, request: Request) -> Response:
        return await self._scopes(request, await self._desk.person(request))

    async def _scopes(self, request: Request, person: Person, failure: BaseException | None = None) -> Response:
        mine = await run_in_threadpool(self.mine, person)
        views = await run_in_threadpool(self._memory.access.scopes)
        told = describe(failure) if failure is not None else None
        return self._desk.page(
            request, "memory_scopes.html", person, told.status if told else 200, failure=told, mine=mine, roles=ROLES,
            views=[view for view in views if view.scope in mine or person.may("admin")],
            users=[user.name for user in await run_in_threadpool(self._desk.services.users.list)],
            devices=[one for one in await run_in_threadpool(self._desk.services.devices.list) if one.state == "active"],
        )  # fmt: skip

    async def share(self, request: Request) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            await run_in_threadpool(self._share, person, form)
        except OutriderError as error:
            return await self._scopes(request, person, error)
        return RedirectResponse("/memory/scopes", status_code=303)

    def _share(self, person: Person, form: Form) -> None:
        scope = form.get("scope")
        if not person.may("admin"):
            self._need(person, scope, STEWARD)
        if form.get("role"):
            self._memory.grant(scope, form.get("member"), form.get("role"), person.name)
        else:
            self._memory.revoke(scope, form.get("member"), person.name)
