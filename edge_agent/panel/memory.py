"""Memory's own pages: find items and see why they match, read one with all that is known of it, change it, add one."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from edge_agent.memory import Found, Query
from edge_agent.panel.forms import Form
from edge_agent.panel.pages import Pages
from edge_agent.panel.work import Table
from shared.errors import BadInput, Conflict, OutriderError
from shared.memory.feed import DEVICE, PERSON, WRITER, may
from shared.memory.forms import read_fields, read_tags, settled, untyped
from shared.memory.item import KINDS, Edit, Item

SHOWN = 50
VERSIONS = 20
_PLAIN = ("kind", "source", "subject", "sensitivity", "confidence", "valid_from", "expires_at", "pinned")
_US = 1_000_000


@dataclass(frozen=True)
class Looking:
    """What a person looks for; everything may be empty."""

    q: str = ""
    scope: str = ""
    kind: str = ""
    tag: str = ""
    about: str = ""
    expired: bool = False
    page: int = 0

    @classmethod
    def of(cls, request: Request) -> Looking:
        """From the address. What makes no sense is as good as not given."""
        given = request.query_params
        kind, page = given.get("kind", ""), given.get("page", "")
        return cls(
            q=given.get("q", "").strip()[:300],
            scope=given.get("scope", "").strip(),
            kind=kind if kind in KINDS else "",
            tag=given.get("tag", "").strip(),
            about=given.get("about", "").strip(),
            expired=given.get("expired") == "yes",
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 4 else 0,
        )

    @property
    def any(self) -> bool:
        return self != Looking(page=self.page)

    def address(self, **changes: Any) -> str:
        """The part of an address from ``?`` on that looks for the same, but for ``changes``."""
        one = replace(self, **changes)
        named = {"q": one.q, "scope": one.scope, "kind": one.kind, "tag": one.tag, "about": one.about}
        named |= {"expired": "yes" if one.expired else "", "page": str(one.page or "")}
        given = {name: value for name, value in named.items() if value}
        return f"?{urlencode(given)}" if given else ""

    def query(self, limit: int) -> Query:
        def only(value: str) -> list[str]:
            return [value] if value else []

        return Query(
            self.q, only(self.scope), only(self.kind), only(self.tag), self.about, limit=limit,
            include_expired=self.expired,
        )  # fmt: skip


class MemoryPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._memory = pages.given.memory

    def table(self) -> Table:
        return [
            ("GET", "/memory", self.index),
            ("GET", "/memory/new", self.ask_new),
            ("POST", "/memory/new", self.new),
            ("GET", "/memory/items/{item}", self.show),
            ("POST", "/memory/items/{item}", self.change),
        ]

    # --- finding ----------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        looking = Looking.of(request)
        found = await self.found(looking, (looking.page + 1) * SHOWN + 1)
        return await run_in_threadpool(self._index, request, looking, found)

    async def found(self, looking: Looking, limit: int) -> list[Found]:
        """What is looked for, best first: by words, and by meaning where the release has a model for it."""
        model, vector = await self._pages.given.meaning(looking.q)
        now = self._pages.given.now()
        return await run_in_threadpool(
            lambda: self._memory.find(looking.query(limit), now=now, vector=vector, model=model)
        )

    def _index(self, request: Request, looking: Looking, found: list[Found]) -> Response:
        shown = found[looking.page * SHOWN : (looking.page + 1) * SHOWN]
        return self._pages.page(
            request, "memory.html", looking=looking, found=shown, kinds=KINDS, scopes=self._scopes(),
            older=looking.address(page=looking.page + 1) if len(found) > (looking.page + 1) * SHOWN else "",
            total=self._memory.count(), now=self._pages.given.now(),
        )  # fmt: skip

    def _scopes(self) -> list[str]:
        return list(dict.fromkeys([DEVICE, PERSON, *self._memory.scopes(), *sorted(self._memory.feeds())]))

    # --- one item ---------------------------------------------------------------------------------------------

    def show(self, request: Request) -> Response:
        return self._show(request, request.path_params["item"])

    def _show(
        self, request: Request, id: str, error: OutriderError | None = None, form: Form | None = None
    ) -> Response:
        kept, document = self._memory.kept(id), self._memory.document(id)
        item, history = document.item(), document.history()
        newest = list(reversed(history))[: None if request.query_params.get("versions") == "all" else VERSIONS]
        versions = [
            (version, document.item_at(version.hash), document.item_at(version.parents[0]) if version.parents else None)
            for version in newest
        ]
        feed = self._memory.feeds().get(item.scope)
        return self._pages.page(
            request, "item.html", id=id, item=item, seen=kept.sha256, first=history[0], count=len(history),
            versions=[(version, was, _changed(before, was) if before else []) for version, was, before in versions],
            conflicts=document.conflicts(), holds=[hold for hold in self._memory.holds() if _covers(hold, kept)],
            writes=feed is None or not feed.role or may(feed.role, WRITER), role=feed.role if feed else "",
            run=_run_of(item.source), kinds=KINDS, typed=form, error=error, now=self._pages.given.now(),
        )  # fmt: skip

    async def change(self, request: Request) -> Response:
        form, id = await self._pages.form(request), request.path_params["item"]
        by = self._pages.visit(request).by
        try:
            said = await run_in_threadpool(self._change, id, form, by)
        except OutriderError as error:
            return await run_in_threadpool(self._show, request, id, error, form if form.get("seen") else None)
        self._pages.visit(request).say(said)
        return self._pages.go(request, f"/memory/items/{quote(id)}")

    def _change(self, id: str, form: Form, by: str) -> str:
        at = self._pages.given.now()
        if form.get("version"):
            made = self._memory.restore(id, form.get("version"), at=at, by=by)
            return "Brought back, as a new version." if made else "It says that already."
        if form.get("settle"):
            self._memory.edit(id, settled(form.get("settle"), form.text("value")), at=at, by=by)
            return "Settled."
        if self._memory.kept(id).sha256 != form.get("seen"):
            said = "this item was changed while you were writing"
            raise Conflict("memory.moved", said, advice="see what it says now, and save again; what you typed is kept")
        item = self._memory.get(id)
        made = self._memory.edit(id, edit_to(item, _kept(item, self._item(form, item.scope, by), form)), at=at, by=by)
        return "Saved." if made else "Nothing was changed."

    # --- a new one --------------------------------------------------------------------------------------------

    def ask_new(self, request: Request) -> Response:
        return self._ask_new(request, Form({"scope": request.query_params.get("scope", PERSON)}))

    def _ask_new(self, request: Request, form: Form, error: OutriderError | None = None) -> Response:
        roles = {scope: feed.role for scope, feed in self._memory.feeds().items()}
        writes = [scope for scope in self._scopes() if not roles.get(scope) or may(roles[scope], WRITER)]
        return self._pages.page(request, "new.html", kinds=KINDS, writes=writes, typed=form, error=error)

    async def new(self, request: Request) -> Response:
        form, by = await self._pages.form(request), self._pages.visit(request).by
        try:
            item = self._item(form, _scope(form), by)
            id = await run_in_threadpool(lambda: self._memory.write(item, at=self._pages.given.now(), by=by))
        except OutriderError as error:
            return await run_in_threadpool(self._ask_new, request, form, error)
        self._pages.visit(request).say("It is remembered.")
        return self._pages.go(request, f"/memory/items/{id}")

    def _item(self, form: Form, scope: str, by: str) -> Item:
        """What a form says an item should be."""
        return Item(
            kind=form.get("kind"),
            text=form.text("text"),
            source=form.get("source") or f"person {by}",
            scope=scope or PERSON,
            fields=read_fields(form.text("fields")),
            tags=read_tags(form.get("tags")),
            confidence=_permille(form.get("confidence")),
            sensitivity=form.get("sensitivity") or "normal",
            subject=form.get("subject"),
            valid_from=_moment(form.get("valid_from")),
            expires_at=_moment(form.get("expires_at")),
            pinned=form.get("pinned") == "yes",
        )


def _kept(item: Item, wanted: Item, form: Form) -> Item:
    """What a form wants of an item, and with it what no form can say."""
    same_text = wanted.text == item.text.replace("\r\n", "\n")
    tags = [tag for tag in item.tags if read_tags(tag) != [tag]]
    return msgspec.structs.replace(
        wanted,
        text=item.text if same_text else wanted.text,
        source=form.get("source"),
        fields=untyped(item.fields) | wanted.fields,
        tags=sorted({*tags, *wanted.tags}),
    )


def edit_to(item: Item, wanted: Item) -> Edit:
    """The edit that makes an item say what ``wanted`` says, and leaves alone what is the same; of a time, what is the
    same day. The scope stays."""
    plain = {name: value for name in _PLAIN if (value := getattr(wanted, name)) != getattr(item, name)}
    for name in ("valid_from", "expires_at"):
        if name in plain and _day(plain[name]) == _day(getattr(item, name)):
            del plain[name]
    return Edit(
        text=wanted.text if wanted.text != item.text else None,
        fields={
            **dict.fromkeys(set(item.fields) - set(wanted.fields)),
            **{name: value for name, value in wanted.fields.items() if item.fields.get(name) != value},
        },
        add_tags=sorted(set(wanted.tags) - set(item.tags)),
        remove_tags=sorted(set(item.tags) - set(wanted.tags)),
        **plain,
    )


def _changed(before: Item, after: Item) -> list[tuple[str, str, str]]:
    """What a version changed, as (name, what it was, what it is); nothing is an empty text."""
    was, now = _flat(before), _flat(after)
    return [(name, was.get(name, ""), now.get(name, "")) for name in {**now, **was} if was.get(name) != now.get(name)]


def _flat(item: Item) -> dict[str, str]:
    found = {"text": item.text, "tags": " · ".join(sorted(item.tags))}
    found |= {f"field {name}": value for name, value in item.fields.items()}
    for name in _PLAIN:
        value = getattr(item, name)
        found[name] = _day(value) if name in ("valid_from", "expires_at") else msgspec.json.encode(value).decode()
    return found | {name: getattr(item, name) for name in ("kind", "source", "subject", "sensitivity")}


def _covers(hold: Any, kept: Any) -> bool:
    return bool(hold.item == kept.id or (not hold.item and hold.scope == kept.scope))


def _run_of(source: str) -> str:
    words = source.split()
    return words[1] if len(words) > 1 and words[0] == "run" else ""


def _scope(form: Form) -> str:
    if form.get("scope") != "team":
        return form.get("scope")
    return f"team/{form.get('team')}"


def _day(at: int) -> str:
    return (
        f"{datetime.datetime.fromtimestamp(at // _US, datetime.UTC):%Y-%m-%d}" if 0 < at < 253_402_300_800 * _US else ""
    )


def _moment(day: str) -> int:
    """The beginning of a day, in UTC; 0 for none."""
    if not day:
        return 0
    try:
        found = datetime.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise BadInput("memory.item", f"{day[:40]!r} is no day", advice="write it as 2027-01-31") from error
    return max(0, int(found.timestamp())) * _US


def _permille(share: str) -> int:
    """From percent, with at most one decimal; all of it where nothing is said."""
    whole, _, tenth = (share or "100").partition(".")
    if not (whole.isascii() and whole.isdigit() and (not tenth or (len(tenth) == 1 and tenth.isdigit()))):
        raise BadInput("memory.item", f"{share[:20]!r} is no percentage", advice="write 0 to 100")
    return min(int(whole[:4]) * 10 + int(tenth or 0), 1001)
