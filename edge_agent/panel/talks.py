"""Conversations that programs keep with the agent: what was said, what stands for it, and forgetting it."""

from __future__ import annotations

import json

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from edge_agent.panel.forms import Form
from edge_agent.panel.pages import Pages
from edge_agent.panel.work import Table
from shared.errors import BadInput, OutriderError

_SHOWN = 100
_TURNS = 200


class TalkPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._sessions = pages.given.sessions

    def table(self) -> Table:
        return [
            ("GET", "/memory/sessions", self.index),
            ("GET", "/memory/session", self.show),
            ("POST", "/memory/session", self.forget),
        ]

    def index(self, request: Request) -> Response:
        return self._pages.page(request, "sessions.html", found=self._sessions.newest(_SHOWN))

    def show(self, request: Request) -> Response:
        return self._show(request, request.query_params.get("id", ""))

    def _show(self, request: Request, id: str, error: OutriderError | None = None) -> Response:
        session, turns = self._sessions.session(id), self._sessions.turns(id)
        given = json.loads(session.told) if session.told else None
        return self._pages.page(
            request, "session.html", session=session, turns=turns[-_TURNS:], count=len(turns), given=given,
            summary=self._sessions.summary(id), error=error,
        )  # fmt: skip

    async def forget(self, request: Request) -> Response:
        form: Form = await self._pages.form(request)
        id = form.get("id")
        try:
            if form.get("sure") != "yes":
                raise BadInput("memory.forget", "you have not said that you are sure", advice="tick the box first")
            await run_in_threadpool(self._pages.given.forget_sessions, [id])
        except OutriderError as error:
            return await run_in_threadpool(self._show, request, id, error)
        self._pages.visit(request).say(f"What was said in {id} is gone from this computer.")
        return self._pages.go(request, "/memory/sessions")
