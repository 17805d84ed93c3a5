"""The stream that keeps open pages current."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request

from server.console.desk import Desk
from server.console.events import TOPICS, EventStream
from tests.server.console.sample_hub import SampleHub


def request_of(token: str, since: str) -> Request:
    headers = [(b"cookie", f"outrider_session={token}".encode())]
    query = f"since={since}".encode()
    return Request({"type": "http", "method": "GET", "path": "/events", "headers": headers, "query_string": query})


EVERYTHING = "".join(f"event: {topic}\ndata: 1\n\n" for topic in sorted(TOPICS))


def session(hub: SampleHub) -> str:
    return hub.users.create_session(hub.users.list()[0])[0]


async def stream(
    hub: SampleHub, token: str, quiet_seconds: float = 5.0, since: str | None = None
) -> AsyncIterator[str]:
    request = request_of(token, hub.bus.mark() if since is None else since)
    async for chunk in EventStream(Desk(hub.services), quiet_seconds)._stream(request):
        yield chunk


async def test_a_change_is_told_by_its_topic(hub: SampleHub) -> None:
    told = stream(hub, session(hub))
    assert await anext(told) == ": open\n\n"
    hub.bus.publish("approvals", {"approval": "a-1", "secret": "x"})
    assert await asyncio.wait_for(anext(told), 30) == "event: approvals\ndata: 1\n\n"
    await told.aclose()


async def test_a_burst_is_told_once(hub: SampleHub) -> None:
    told = stream(hub, session(hub))
    await anext(told)
    for _ in range(50):
        hub.bus.publish("runs", {})
        hub.bus.publish("devices", {})
    assert await asyncio.wait_for(anext(told), 30) == "event: devices\ndata: 1\n\nevent: runs\ndata: 1\n\n"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(told), 0.6)
    await told.aclose()


async def test_what_was_missed_makes_everything_look_again(hub: SampleHub) -> None:
    told = stream(hub, session(hub))
    await anext(told)
    for _ in range(1000):
        hub.bus.publish("runs", {})
    assert await asyncio.wait_for(anext(told), 30) == EVERYTHING
    await told.aclose()


async def test_what_happened_between_the_page_and_its_stream_makes_everything_look_again(hub: SampleHub) -> None:
    token, before = session(hub), hub.bus.mark()
    hub.bus.publish("runs", {})
    for since, opening in ((before, [": open\n\n", EVERYTHING]), (hub.bus.mark(), [": open\n\n"])):
        told = stream(hub, token, since=since)
        assert [await asyncio.wait_for(anext(told), 30) for _ in opening] == opening
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(told), 0.4)
        await told.aclose()


async def test_quiet_streams_show_life_and_end_with_the_session(hub: SampleHub) -> None:
    token = session(hub)
    told = stream(hub, token, 0.05)
    await anext(told)
    assert await asyncio.wait_for(anext(told), 30) == ": quiet\n\n"
    hub.users.end_session(token)
    rest = [chunk async for chunk in told]
    assert set(rest) <= {": quiet\n\n"}


async def test_the_stream_ends_when_the_hub_stops(hub: SampleHub) -> None:
    told = stream(hub, session(hub))
    await anext(told)
    hub.bus.close()
    assert [chunk async for chunk in told] == []
