"""The admin console: pages over the hub's record, for people. Jinja2, htmx 4 and Tabler; no build step, no other host.

Each noun has a file with its pages; ``desk`` knows who is signed in and renders, ``story`` tells a run from its
entries, ``failures`` turns errors into pages. Every page works without scripts; scripts keep open pages current.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from server.console import assets
from server.console.approvals import ApprovalPages
from server.console.desk import Desk
from server.console.devices import DevicePages
from server.console.doors import DoorPages
from server.console.editor import EditorPages
from server.console.events import EventStream
from server.console.failures import handlers, route_class
from server.console.forgetting import ForgettingPages
from server.console.importing import ImportPages
from server.console.memory import MemoryPages
from server.console.models import ModelPages
from server.console.orders import OrderPages
from server.console.overview import OverviewPage
from server.console.releases import ReleasePages
from server.console.replay import ReplayPages
from server.console.rollouts import RolloutPages
from server.console.runs import RunPages
from server.console.safety import SafetyPages
from server.console.services import HubInfo, Services
from server.console.signin import SignInPages
from server.console.tokens import TokenPages
from server.console.workspace import WorkspacePages

__all__ = ["HubInfo", "Services", "attach", "router"]

# What a machine asks for is answered plainly even when it is not there.
MACHINE_PATHS = ("/api/", "/tuf/", "/link")


def router(services: Services) -> APIRouter:
    """Every page of the console. ``attach`` also puts friendly pages in place of what no route takes."""
    return _router(Desk(services))


def attach(app: FastAPI, services: Services) -> None:
    """Put the console into the hub's application, error pages included."""
    desk = Desk(services)
    app.include_router(_router(desk))
    handlers(desk, app, lambda path: not path.startswith(MACHINE_PATHS))


def _router(desk: Desk) -> APIRouter:
    pages = APIRouter(route_class=route_class(desk), include_in_schema=False)
    pages.add_api_route("/static/{name:path}", _static, methods=["GET"], response_model=None)
    pages.add_api_route("/healthz", _health, methods=["GET"], response_model=None)
    for part in (
        SignInPages,
        OverviewPage,
        DevicePages,
        RunPages,
        SafetyPages,
        OrderPages,
        ApprovalPages,
        RolloutPages,
        MemoryPages,
        ImportPages,
        DoorPages,
        ForgettingPages,
        ReplayPages,
        ModelPages,
        WorkspacePages,
        EditorPages,
        TokenPages,
        ReleasePages,
        EventStream,
    ):
        part(desk).add_to(pages)
    return pages


async def _static(request: Request, name: str) -> Response:
    found = assets.serve(request, name)
    if found is None:
        raise HTTPException(404)
    return found


async def _health() -> Response:
    return PlainTextResponse("ok\n")
