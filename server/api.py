"""The hub's HTTP for machines: enrolment, the release repository, and its own operator's commands.

POST /api/join             a device with a one-time token (shared.protocol.Join); answers a sealed Envelope
POST /api/peers            a device that wants a model (shared.peering.Wanted); who near it has it
GET  /tuf/metadata/NAME    the signed repository, as static files that may be fetched in ranges
GET  /tuf/targets/PATH
POST /api/admin/...        what ``outrider hub`` does while the hub runs; bearer is HOME/admin.token
GET  /healthz
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from server import web
from server.authoring import Authoring
from server.bus import Bus
from server.devices import Devices
from server.doors import DoorOrder, Doors
from server.doors import carry_out as carry_out_door
from server.memory import Memory, MemoryOrder, carry_out
from server.models import ModelOrder, Models
from server.models import carry_out as carry_out_model
from server.peers import Peers
from server.releases import Releases
from server.releases.orders import TrustOrder
from server.releases.orders import carry_out as carry_out_trust
from server.replay import Reconcile, ReplayOrder, Replays
from server.replay import carry_out as carry_out_replay
from server.rollouts import RolloutOrder, Rollouts
from server.rollouts import carry_out as carry_out_rollout
from server.switches import Switches, SwitchOrder
from server.users import Users
from shared.codec import parse
from shared.errors import BadInput, Refused
from shared.peering import Wanted
from shared.protocol import Join

_BODY_BYTES = 16 * 1024
_ORDER_BYTES = 1024 * 1024  # of an order that carries smoke cases
T = TypeVar("T")


class TokenWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ttl_s: int


class PublishWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    staged: bool = False


class UserWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str
    roles: list[str]


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: str


@dataclass(frozen=True)
class Api:
    """``admin_token`` is the secret of this hub's own commands; they act as the user ``operator``."""

    devices: Devices
    releases: Releases
    users: Users
    bus: Bus
    admin_token: str
    memory: Memory
    doors: Doors
    rollouts: Rollouts
    models: Models
    authoring: Authoring
    switches: Switches
    replays: Replays
    reconcile: Reconcile
    peers: Peers
    operator: str = "operator"

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/api/join", self.join, methods=["POST"])
        router.add_api_route("/api/peers", self.find_peers, methods=["POST"])
        router.add_api_route("/api/admin/token", self.token, methods=["POST"])
        router.add_api_route("/api/admin/publish", self.publish, methods=["POST"])
        router.add_api_route("/api/admin/users", self.add_user, methods=["POST"])
        router.add_api_route("/api/admin/revoke", self.revoke, methods=["POST"])
        router.add_api_route("/api/admin/devices", self.list_devices, methods=["GET"])
        router.add_api_route("/api/admin/memory", self.order_memory, methods=["POST"])
        router.add_api_route("/api/admin/model", self.order_model, methods=["POST"])
        router.add_api_route("/api/admin/door", self.order_door, methods=["POST"])
        router.add_api_route("/api/admin/stop", self.order_stop, methods=["POST"])
        router.add_api_route("/api/admin/rollout", self.order_rollout, methods=["POST"])
        router.add_api_route("/api/admin/replay", self.order_replay, methods=["POST"])
        router.add_api_route("/api/admin/trust", self.order_trust, methods=["POST"])
        router.add_api_route("/healthz", self.health, methods=["GET"])
        return router

    async def health(self) -> Response:
        return PlainTextResponse("ok\n")

    async def join(self, request: Request) -> Response:
        asked = await _read(request, Join)
        envelope = await asyncio.to_thread(self.devices.join, asked, _source(request))
        return Response(msgspec.json.encode(envelope), media_type="application/json")

    async def find_peers(self, request: Request) -> Response:
        asked = await _read(request, Wanted)
        found = await asyncio.to_thread(self.peers.find, asked, _source(request))
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def token(self, request: Request) -> Response:
        self._check(request)
        asked = await _read(request, TokenWanted)
        token = await asyncio.to_thread(self.devices.issue_token, self.operator, asked.ttl_s)
        return JSONResponse({"token": token, "expires_in_s": asked.ttl_s})

    async def publish(self, request: Request) -> Response:
        self._check(request)
        asked = await _read(request, PublishWanted)
        done = await asyncio.to_thread(lambda: self.authoring.publish_folder(self.operator, staged=asked.staged))
        return JSONResponse({"release": done.release, "proposal": done.proposal})

    async def add_user(self, request: Request) -> Response:
        self._check(request)
        asked = await _read(request, UserWanted)
        await asyncio.to_thread(self.users.add, asked.name, asked.password, asked.roles)
        return JSONResponse({"user": asked.name, "roles": asked.roles})

    async def revoke(self, request: Request) -> Response:
        self._check(request)
        asked = await _read(request, Revoke)
        await asyncio.to_thread(self.devices.revoke, asked.device, self.operator)
        return JSONResponse({"device": asked.device, "state": "revoked"})

    async def list_devices(self, request: Request) -> Response:
        self._check(request)
        found = await asyncio.to_thread(self.devices.list)
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def order_memory(self, request: Request) -> Response:
        self._check(request)
        order = await _read(request, MemoryOrder)
        return JSONResponse(await asyncio.to_thread(carry_out, self.memory, order, self.operator))

    async def order_model(self, request: Request) -> Response:
        self._check(request)
        order = await _read(request, ModelOrder, _ORDER_BYTES)
        return JSONResponse(await asyncio.to_thread(carry_out_model, self.models, order, self.operator))

    async def order_door(self, request: Request) -> Response:
        self._check(request)
        order = await _read(request, DoorOrder)
        return JSONResponse(await asyncio.to_thread(carry_out_door, self.doors, order, self.operator))

    async def order_stop(self, request: Request) -> Response:
        self._check(request)
        order = await _read(request, SwitchOrder)
        return JSONResponse(await asyncio.to_thread(self.switches.carry_out, order, self.operator))

    async def order_rollout(self, request: Request) -> Response:
        self._check(request)
        order = await _read(request, RolloutOrder)
        return JSONResponse(await asyncio.to_thread(carry_out_rollout, self.rollouts, order, self.operator, ("admin",)))

    async def order_replay(self, request: Request) -> Response:
        self._check(request)
        order = await _read(request, ReplayOrder)
        done = await asyncio.to_thread(carry_out_replay, self.replays, self.reconcile, order, self.operator, ("admin",))
        return JSONResponse(done)

    async def order_trust(self, request: Request) -> Response:
        self._check(request)
        order = await _read(request, TrustOrder)
        done = await asyncio.to_thread(carry_out_trust, self.releases, order, self.operator)
        if done.get("state") == "completed":
            self.bus.publish("releases", {done["kind"]: done["number"]})
        return JSONResponse(done)

    def _check(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.admin_token}".encode()):
            raise Refused("admin.token", "that is not this hub's admin token", advice="run the command as its owner")


def _source(request: Request) -> str:
    return request.client.host if request.client else ""


async def _read(request: Request, kind: type[T], most: int = _BODY_BYTES) -> T:
    """The body as ``kind``, read no further than it may be long: ``most`` bytes."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise BadInput("http.too-large", "the request is too large", advice=f"send at most {most} bytes")
    return parse(body, kind, code="http.body", what="the request")


class _Files(StaticFiles):
    """Static files whose absence is told in JSON, as the rest of this interface tells it."""

    async def check_config(self) -> None:
        """Starlette fails where the directory is missing; before the first release there are no targets."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code not in (404, 405):
                raise
            advice = "the repository does not list it; refresh the metadata"
            return web.answer(BadInput("http.not-found", "there is no such file", advice=advice))


def mount_repository(app: FastAPI, repository: Path) -> None:
    """Serve ``repository/{metadata,targets}`` and nothing beside them."""
    for name in ("metadata", "targets"):
        app.mount(f"/tuf/{name}", _Files(directory=repository / name, check_dir=False), name=f"tuf-{name}")
