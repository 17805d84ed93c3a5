"""The panel among the routes: pages below ``/panel/``, and the two requests that open and close panels. The pages
themselves are ``edge_agent.panel``; the app hands them in."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from edge_agent.api.wire import Line, answer, read


class Panel(Protocol):
    """Answers what is below ``/panel/``; the gate has seen to Host and Origin, and to nothing else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def invite(self, by: str) -> str:
        """A code that opens the panel once, within a minute, for ``by``."""
        ...

    def close(self) -> int:
        """Close every open panel; how many there were."""
        ...


class PanelBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/panel. ``by`` is the person whose panel it is: what they do there is done in their name."""

    by: Line


class CloseBody(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/panel/close."""


def panel_routes(panel: Panel, port: int) -> list[BaseRoute]:
    async def invite(request: Request) -> Response:
        body = await read(request, PanelBody)
        return answer({"url": f"http://127.0.0.1:{port}/panel/open?code={panel.invite(body.by)}"}, 201)

    async def close(request: Request) -> Response:
        await read(request, CloseBody)
        return answer({"closed": panel.close()})

    return [
        Route("/v1/panel", invite, methods=["POST"]),
        Route("/v1/panel/close", close, methods=["POST"]),
        Mount("/panel", app=panel),
    ]
