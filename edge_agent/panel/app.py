"""The pages put together: which stands where, and what becomes of a failure."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.panel.given import Given
from edge_agent.panel.keeping import KeepingPages
from edge_agent.panel.memory import MemoryPages
from edge_agent.panel.pages import Pages
from edge_agent.panel.talks import TalkPages
from edge_agent.panel.work import WorkPages
from shared.errors import BadInput, OutriderError, Unavailable


def make_app(given: Given) -> Starlette:
    """What stands below ``/panel/``. Each request has its visit in its scope."""
    pages = Pages(given)
    rooms = (WorkPages(pages), MemoryPages(pages), KeepingPages(pages), TalkPages(pages))
    table = [row for room in rooms for row in room.table()]
    routes = [Route(f"/{{room}}{path}", endpoint, methods=[method]) for method, path, endpoint in table]

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, OutriderError)
        return pages.page(request, "failure.html", error=error)

    async def starlettes(request: Request, error: Exception) -> Response:
        said = BadInput("api.not-found", "there is nothing at this address", advice="start from the panel's home page")
        return pages.page(request, "failure.html", error=said)

    async def fault(request: Request, error: Exception) -> Response:
        """Our own mistake; its traceback stands in the agent's output."""
        said = Unavailable("api.fault", "a fault in the agent", advice="look at the agent's output and report it")
        return pages.page(request, "failure.html", error=said)

    handlers: Any = {OutriderError: ours, HTTPException: starlettes, Exception: fault}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app
