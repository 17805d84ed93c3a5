"""The routes of the local API: each reads its body, asks the desk, and tells what it said."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from edge_agent.api.desk import Desk
from edge_agent.api.gate import Gate
from edge_agent.api.wire import (
    ActBody,
    AnswerBody,
    EventBody,
    OrderBody,
    StartBody,
    WaitBody,
    answer,
    read,
    read_bytes,
    refusal,
    text,
)
from edge_agent.plain import plain_json
from edge_agent.webhooks import signing_keys, verify
from shared.errors import BadInput, OutriderError, Unavailable

METRICS = "text/plain; version=0.0.4; charset=utf-8"
_EVENT = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_HOOK = re.compile(r"[a-z][a-z0-9-]{0,39}")
_US = 1_000_000


class Routes:
    """``hook_secret`` reads a secret by name: the hook NAME is verified with the secret ``hook-NAME``. ``now`` is the
    clock, microseconds since 1970 UTC. ``stopping`` ends what waits."""

    def __init__(
        self, desk: Desk, *, hook_secret: Callable[[str], str], now: Callable[[], int], stopping: asyncio.Event
    ) -> None:
        self._desk = desk
        self._stopping = stopping
        self._hook_secret = hook_secret
        self._now = now

    def table(self) -> list[Route]:
        return [
            Route("/healthz", self.health, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/v1/tools", self.tools, methods=["GET"]),
            Route("/v1/actions", self.act, methods=["POST"]),
            Route("/v1/runs", self.start, methods=["POST"]),
            Route("/v1/runs/{id}", self.run, methods=["GET"]),
            Route("/v1/runs/{id}/wait", self.wait, methods=["POST"]),
            Route("/v1/runs/{id}/orders", self.order, methods=["POST"]),
            Route("/v1/approvals", self.approvals, methods=["GET"]),
            Route("/v1/approvals/{id}/answer", self.answer, methods=["POST"]),
            Route("/v1/events/{name}", self.event, methods=["POST"]),
            Route("/hooks/{name}", self.hook, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        return text("ok\n")

    async def metrics(self, request: Request) -> Response:
        return text(self._desk.metrics(), METRICS)

    async def tools(self, request: Request) -> Response:
        return answer({"tools": self._desk.tools()})

    async def act(self, request: Request) -> Response:
        body = await read(request, ActBody)
        run = await self._desk.act(body.tool, body.arguments, body.subject, client=body.client, key=body.key)
        return answer({"run": run}, 202)

    async def start(self, request: Request) -> Response:
        body = await read(request, StartBody)
        run = await self._desk.start(body.playbook, body.inputs, by=body.by, dry_run=body.dry_run)
        return answer({"run": run}, 202)

    async def run(self, request: Request) -> Response:
        return answer(self._desk.run(request.path_params["id"]))

    async def wait(self, request: Request) -> Response:
        body = await read(request, WaitBody)
        waiting = asyncio.ensure_future(self._desk.wait(request.path_params["id"], body.timeout_s))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise Unavailable("api.stopping", "the agent is stopping", advice="ask again once it runs")
            return answer(waiting.result())
        finally:
            waiting.cancel()
            stopping.cancel()

    async def order(self, request: Request) -> Response:
        body = await read(request, OrderBody)
        await self._desk.order(request.path_params["id"], body.order, by=body.by, reason=body.reason, step=body.step)
        return answer({})

    async def approvals(self, request: Request) -> Response:
        return answer({"approvals": self._desk.approvals()})

    async def answer(self, request: Request) -> Response:
        body = await read(request, AnswerBody)
        await self._desk.answer(request.path_params["id"], body.answer, by=body.by, reason=body.reason)
        return answer({})

    async def event(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not _EVENT.fullmatch(name):
            raise BadInput("api.event", f"{name[:80]!r} is no name of an event", advice="write it as order.paid")
        body = await read(request, EventBody)
        return answer({"runs": await self._desk.event(name, body.key, body.payload)})

    async def hook(self, request: Request) -> Response:
        """A signed webhook is the event of its name, under the sender's id: a message sent again is the same event."""
        name = request.path_params["name"]
        keys = self._keys(name)
        body = await read_bytes(request)
        message = verify(keys, request.headers, body, self._now() // _US)
        payload = plain_json(body)
        if not isinstance(payload, dict):
            raise BadInput("api.body", "the body is no object", advice="send a JSON object")
        return answer({"runs": await self._desk.event(name, message, payload)})

    def _keys(self, name: str) -> list[bytes]:
        """The sender may be far away: nothing of this computer is told but that there is no such hook, or not now."""
        try:
            if _HOOK.fullmatch(name):
                return signing_keys(self._hook_secret(f"hook-{name}"))
        except OutriderError as error:
            if error.code != "secret.missing":
                raise Unavailable(
                    "hook.secret", "this hook cannot be verified now", advice="mend the agent's secret for it"
                ) from error
        raise BadInput("hook.unknown", "there is no such hook", advice="set the secret hook-NAME on the agent")


def make_app(routes: list[BaseRoute], gate: dict[str, Any]) -> Starlette:
    """``gate`` are the settings of the ``Gate``."""
    handlers: Any = {OutriderError: _ours, HTTPException: _starlettes, Exception: _fault}
    app = Starlette(routes=routes, middleware=[Middleware(Gate, **gate)], exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, OutriderError)
    return refusal(error)


async def _starlettes(request: Request, error: Exception) -> Response:
    if getattr(error, "status_code", 404) == 405:
        return refusal(BadInput("api.method", "this method is not for this address", advice="see the reference"))
    return refusal(BadInput("api.not-found", "there is nothing at this address", advice="see the reference"))


async def _fault(request: Request, error: Exception) -> Response:
    """Our own mistake. It is raised again after this answer, and its traceback stands in the agent's output."""
    return refusal(Unavailable("api.fault", "a fault in the agent", advice="look at the agent's output and report it"))
