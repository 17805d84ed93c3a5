"""``/events``: tells open pages that something changed, so that they fetch themselves anew.

An event carries its topic's name and nothing else: pages read what is true now, so a lost or doubled one does no harm.
Bursts are gathered, and the session is looked at again from time to time, so signing out ends the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from server.console.desk import Desk

TOPICS = ("approvals", "runs", "devices", "releases", "memory", "stops", "workspace", "reconcile", "models")
GATHER_SECONDS = 0.25
QUIET_SECONDS = 15.0  # between signs of life, and between looks at the session


class EventStream:
    def __init__(self, desk: Desk, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._desk = desk
        self._quiet = quiet_seconds

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route("/events", self.events, methods=["GET"], response_model=None)

    async def events(self, request: Request) -> Response:
        await self._desk.person(request)
        return StreamingResponse(
            self._stream(request), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        # A page says since when it has not listened, so what happens between its making and this stream is not missed.
        since = request.query_params.get("since", "")
        with self._desk.services.bus.subscribe(TOPICS, since=since) as subscription:
            yield ": open\n\n"
            if subscription.missed:
                subscription.missed = False
                yield _told(TOPICS)
            coming = asyncio.ensure_future(anext(subscription, None))
            try:
                while True:
                    done, _ = await asyncio.wait({coming}, timeout=self._quiet)
                    if not done:
                        if await self._desk.visitor(request) is None:
                            return
                        yield ": quiet\n\n"
                        continue
                    first = coming.result()
                    if first is None:  # the hub is stopping
                        return
                    topics = {first.topic}
                    coming = asyncio.ensure_future(anext(subscription, None))
                    await asyncio.sleep(GATHER_SECONDS)
                    while coming.done() and (more := coming.result()) is not None:
                        topics.add(more.topic)
                        coming = asyncio.ensure_future(anext(subscription, None))
                        await asyncio.sleep(0)
                    yield _told(TOPICS if subscription.missed else topics)
                    subscription.missed = False
            finally:
                coming.cancel()


def _told(topics: Iterable[str]) -> str:
    return "".join(f"event: {topic}\ndata: 1\n\n" for topic in sorted(topics))
