"""A sample hub behind its console, signed-in clients, and, for the browser tests, a server on a port of its own."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.server.console.sample_agent import SampleClock
from tests.server.console.sample_hub import MARIA, SampleHub
from tests.server.console.sample_letters import an_afternoon

START = 1_790_000_000_000_000  # a Monday afternoon in 2026


class InProcess(httpx.BaseTransport):
    """Calls an application without a socket, each request in an event loop of its own."""

    def __init__(self, app: FastAPI, *, quiet: bool = False) -> None:
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=not quiet)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._send(request))

    async def _send(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        sent = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        answer = await self._asgi.handle_async_request(sent)
        content = b"".join([chunk async for chunk in answer.stream])  # type: ignore[union-attr]  # it is the async kind
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)


@contextmanager
def opened(hub: SampleHub) -> Iterator[SampleHub]:
    try:
        yield hub
    finally:
        hub.close()


@contextmanager
def made(home: Path, *, worked: bool) -> Iterator[SampleHub]:
    """A hub made once; its store is closed again so that its home can be copied."""
    hub = SampleHub(home, SampleClock(START))
    if worked:
        hub.a_morning()
    hub.close()
    yield hub


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleHub]:
    with made(tmp_path_factory.mktemp("blank") / "hub", worked=False) as hub:
        yield hub


@pytest.fixture(scope="session")
def morning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleHub]:
    with made(tmp_path_factory.mktemp("morning") / "hub", worked=True) as hub:
        yield hub


def copied(hub: SampleHub, folder: Path) -> SampleHub:
    shutil.copytree(hub.store.home, folder / "copy")
    return hub.reopen(folder / "copy")


@pytest.fixture
def hub(blank: SampleHub, tmp_path: Path) -> Iterator[SampleHub]:
    """A hub that nobody has joined yet."""
    with opened(copied(blank, tmp_path)) as sample:
        yield sample


@pytest.fixture
def busy(morning: SampleHub, tmp_path: Path) -> Iterator[SampleHub]:
    """A hub after a morning's work."""
    with opened(copied(morning, tmp_path)) as sample:
        yield sample


@pytest.fixture(scope="session")
def afternoon(morning: SampleHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleHub]:
    """After the morning, runs of many steps in every state that a person may have to look at."""
    hub = copied(morning, tmp_path_factory.mktemp("afternoon"))
    an_afternoon(hub)
    hub.close()
    yield hub


@pytest.fixture
def eventful(afternoon: SampleHub, tmp_path: Path) -> Iterator[SampleHub]:
    with opened(copied(afternoon, tmp_path)) as sample:
        yield sample


@pytest.fixture(scope="module")
def eventful_read_only(afternoon: SampleHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleHub]:
    """The same, for tests that only look."""
    with opened(copied(afternoon, tmp_path_factory.mktemp("eventful"))) as sample:
        yield sample


@pytest.fixture(scope="module")
def read_only(morning: SampleHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleHub]:
    """The same, for tests that only look."""
    with opened(copied(morning, tmp_path_factory.mktemp("sample"))) as sample:
        yield sample


def client_of(hub: SampleHub, base_url: str = "http://hub.test") -> httpx.Client:
    return httpx.Client(transport=InProcess(hub.app()), base_url=base_url)


def csrf_in(html: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', html)
    assert found is not None, "the page has no form"
    return found.group(1)


def signed_in(hub: SampleHub, user: tuple[str, str] = MARIA) -> httpx.Client:
    """A client with a session, made without the sign-in page so that argon2 is paid for once."""
    client = client_of(hub)
    person = next(known for known in hub.users.list() if known.name == user[0])
    token, _ = hub.users.create_session(person)
    client.cookies.set("outrider_session", token)
    return client


def session_csrf(client: httpx.Client) -> str:
    """The token that this session's forms carry."""
    return csrf_in(client.get("/runs").text)


@contextmanager
def serving(hub: SampleHub) -> Iterator[str]:
    """The console on a real socket; the base URL."""
    config = uvicorn.Config(hub.app(), port=0, log_level="warning", timeout_graceful_shutdown=2, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    assert httpx.get(f"{url}/healthz", timeout=60).text == "ok\n"
    try:
        yield url
    finally:
        hub.bus.close()
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
