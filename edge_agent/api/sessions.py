"""The routes of sessions: a program keeps its conversation here, and asks what to put before whoever answers next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.api.wire import answer, read
from edge_agent.sessions import Artefact


class Talk(Protocol):
    """``edge_agent.talk`` says what each gives and raises."""

    async def say(
        self, session: str, role: str, text: str, *, scope: str, subject: str, run: str, artefacts: Sequence[Artefact]
    ) -> dict[str, Any]: ...

    async def context(self, session: str, question: str, budget: int) -> dict[str, Any]: ...

    def show(self, session: str) -> dict[str, Any]: ...


class TurnBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/sessions/ID/turns. ``scope`` is where what becomes of the session belongs: ``device`` never leaves."""

    role: str
    text: str
    scope: Annotated[str, Meta(max_length=1000)] = "device"
    subject: Annotated[str, Meta(max_length=1000)] = ""
    run: Annotated[str, Meta(max_length=200)] = ""
    artefacts: Annotated[list[Artefact], Meta(max_length=100)] = []


class ContextBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/sessions/ID/context."""

    budget: int
    question: str = ""


def session_routes(talk: Talk) -> list[Route]:
    async def say(request: Request) -> Response:
        body = await read(request, TurnBody)
        given = {name: getattr(body, name) for name in ("scope", "subject", "run", "artefacts")}
        return answer(await talk.say(request.path_params["id"], body.role, body.text, **given), 201)

    async def context(request: Request) -> Response:
        body = await read(request, ContextBody)
        return answer(await talk.context(request.path_params["id"], body.question, body.budget))

    def show(request: Request) -> Response:  # in a thread: a session may be long
        return answer(talk.show(request.path_params["id"]))

    return [
        Route("/v1/sessions/{id}", show, methods=["GET"]),
        Route("/v1/sessions/{id}/turns", say, methods=["POST"]),
        Route("/v1/sessions/{id}/context", context, methods=["POST"]),
    ]
