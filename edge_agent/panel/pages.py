"""What all pages share: who looks, forms that are really theirs, templates, and failures in words."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from edge_agent.api.wire import status_of as status_code
from edge_agent.panel import forms
from edge_agent.panel.door import VISIT, Visit
from edge_agent.panel.forms import Form
from edge_agent.panel.given import Given
from edge_agent.panel.headers import HEADERS
from shared import formats
from shared.errors import OutriderError, Refused
from shared.memory.difference import pieces
from shared.memory.forms import typed_fields, typed_tags
from shared.runs.words import status_of

_CONTEXT = 120  # letters of what stayed that are shown around what changed


class Pages:
    """The agent's rooms, and the few things that all pages do with them."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self._templates = _environment(given)

    def visit(self, request: Request) -> Visit:
        return cast(Visit, request.scope[VISIT])

    async def form(self, request: Request) -> Form:
        """The posted form, if it is one of this panel's own. Raises ``Refused('panel.csrf')`` and what ``forms.read``
        raises."""
        form = await forms.read(request)
        if not hmac.compare_digest(form.get("csrf").encode(), self.visit(request).csrf.encode()):
            said = "this form is not from this panel"
            raise Refused("panel.csrf", said, advice="open the page again in the panel, and send it from there")
        return form

    def page(
        self, request: Request, name: str, *, error: OutriderError | None = None, status: int = 0, **values: Any
    ) -> Response:
        """A page; with an ``error``, told at its top."""
        visit = self.visit(request)
        base = f"/panel/{visit.room}"
        html = self._templates.get_template(name).render(
            base=base, path=request.url.path.removeprefix(base), visit=visit, said=visit.hear(), error=error, **values
        )
        return HTMLResponse(html, status or (status_code(error) if error is not None else 200), HEADERS)

    def go(self, request: Request, path: str) -> Response:
        """On to another page of the panel, after a form."""
        return RedirectResponse(f"/panel/{self.visit(request).room}{path}", 303, HEADERS)


def marked(old: str, new: str) -> list[tuple[str, str]]:
    """What became of a text: pieces that are ``same``, ``gone`` or ``new``, in order, or ``cut`` where much that stayed
    is left out."""
    found: list[tuple[str, str]] = []
    at = 0
    for start, end, text in reversed(pieces(old, new)):
        found += [("same", old[at:start]), ("gone", old[start:end]), ("new", text)]
        at = end
    found.append(("same", old[at:]))
    kept = [(kind, text) for kind, text in found if text]
    return [part for place, (kind, text) in enumerate(kept) for part in _shortened(kind, text, place, len(kept))]


def _shortened(kind: str, text: str, place: int, count: int) -> list[tuple[str, str]]:
    if kind != "same" or len(text) <= 3 * _CONTEXT or count == 1:
        return [(kind, text)]
    before = [] if place == 0 else [(kind, text[:_CONTEXT])]
    after = [] if place == count - 1 else [(kind, text[-_CONTEXT:])]
    return [*before, ("cut", " … "), *after]


def _day(at: int) -> str:
    """For a date field."""
    return f"{formats.moment(at):%Y-%m-%d}" if at else ""


def _scope(name: str) -> str:
    """Who has what is in a scope."""
    return {"device": "this device alone", "person": "your own devices"}.get(name, name.replace("team/", "team ", 1))


def _part(text: str) -> str:
    """Text as one part of an address."""
    return quote(text, safe="")


def _environment(given: Given) -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def when(at: int) -> Markup | str:
        return formats.when(at, given.now())

    for name in ("cents", "count", "exact", "share", "short", "value", "words"):
        env.filters[name] = getattr(formats, name)
    env.filters.update(
        day=_day,
        part=_part,
        scope=_scope,
        sentence=formats.prose,
        typed_fields=typed_fields,
        typed_tags=typed_tags,
        when=when,
    )
    env.globals.update(status_of=status_of, marked=marked)
    return env
