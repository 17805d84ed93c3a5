"""Who may speak: this address alone, no web page, and the token; judged before anything else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.edge_agent.api.kit import Served, serving

PATHS = [
    ("GET", "/v1/tools"), ("POST", "/v1/actions"), ("POST", "/v1/runs"), ("GET", "/v1/runs/r-1"),
    ("POST", "/v1/runs/r-1/wait"), ("POST", "/v1/runs/r-1/orders"), ("GET", "/v1/approvals"),
    ("POST", "/v1/approvals/a-1/answer"), ("POST", "/v1/events/x"), ("GET", "/metrics"), ("GET", "/nothing"),
    ("GET", "/"),
]  # fmt: skip


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


STRANGERS = [
    "evil.example", "evil.example:{port}", "127.0.0.1", "localhost", "127.0.0.1:1", "127.0.0.1.evil.example:{port}",
    "0.0.0.0:{port}", "[::1]:{port}", "127.1:{port}", "localhost.:{port}", "LOCALHOST:{port}.", "127.0.0.1:0{port}", "",
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("GET", "/v1/tools"), ("POST", "/hooks/shop")])
async def test_a_name_that_was_rebound_to_this_address_is_refused(method: str, path: str, served: Served) -> None:
    for host in STRANGERS:
        answer = await served.ask(method, path, headers={"Host": host.format(port=served.port)})
        assert (answer.status, answer.json["code"]) == (421, "api.host"), host
    assert (await served.ask(method, path, headers={"Host": None})).status == 400  # h11 refuses that itself
    assert served.desk.asked == [] and served.desk.events == {}


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}"])
async def test_this_address_is_served(host: str, served: Served) -> None:
    assert (await served.ask("GET", "/healthz", headers={"Host": host.format(port=served.port)})).body == b"ok\n"


async def test_two_hosts_are_refused(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        line = f"Host: 127.0.0.1:{served.port}\r\n"
        raw.sendall(f"GET /healthz HTTP/1.1\r\n{line}Host: evil.example\r\n\r\n".encode())
        raw.setblocking(False)
        said = await asyncio.get_running_loop().sock_recv(raw, 1000)
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))


ORIGINS = [
    "https://evil.example",
    "null",
    "http://127.0.0.1:{port}",
    "http://localhost:{port}",
    "chrome-extension://abc",
    "",
]


async def test_a_web_page_is_refused(served: Served) -> None:
    for method, path in (("GET", "/healthz"), ("GET", "/v1/tools"), ("POST", "/v1/actions"), ("POST", "/hooks/shop")):
        for origin in ORIGINS:
            answer = await served.ask(method, path, {}, headers={"Origin": origin.format(port=served.port)})
            assert (answer.status, answer.json["code"]) == (403, "api.origin"), origin
    assert served.desk.asked == [] and served.desk.events == {}


async def test_a_preflight_is_answered_with_no_permission(served: Served) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST", "Authorization": None}
    answer = await served.ask("OPTIONS", "/v1/actions", headers=headers)
    assert answer.status == 403 and not any(name.startswith("access-control") for name in answer.headers)
    own = await served.ask("OPTIONS", "/v1/actions")
    assert own.status == 405 and not any(name.startswith("access-control") for name in own.headers)


async def test_an_origin_on_the_list_may_speak(tmp_path: Path) -> None:
    friend = "chrome-extension://abcdefghijklmnop"
    async with serving(tmp_path, origins=frozenset([friend])) as served:
        assert (await served.ask("GET", "/v1/tools", headers={"Origin": friend})).status == 200
        assert (await served.ask("GET", "/v1/tools", headers={"Origin": friend + "q"})).status == 403
        assert (await served.ask("GET", "/v1/tools", headers={"Origin": friend, "Authorization": None})).status == 401


SHOWN = [
    None, "", "Bearer", "Bearer ", "Bearer wrong", "bearer {token}", "Basic {token}", "{token}", "Bearer {token}x",
    "Bearer  {token}", "Bearer \xff",
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nothing_is_told_without_the_token(method: str, path: str, served: Served) -> None:
    for shown in SHOWN:
        sent = shown if shown is None else shown.format(token=served.token)
        answer = await served.ask(method, path, {} if method == "POST" else None, headers={"Authorization": sent})
        assert (answer.status, answer.json["code"]) == (401, "api.token"), shown
        assert served.token not in answer.body.decode()
    assert served.desk.asked == []


async def test_liveness_needs_no_token_and_metrics_need_one_unless_they_are_open(
    tmp_path: Path, served: Served
) -> None:
    nobody: dict[str, str | None] = {"Authorization": None}
    assert (await served.ask("GET", "/healthz", headers=nobody)).status == 200
    assert (await served.ask("GET", "/metrics", headers=nobody)).status == 401
    told = await served.ask("GET", "/metrics")
    assert told.body == b"# TYPE runs counter\nruns 3\n"
    assert told.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    (tmp_path / "other").mkdir()
    async with serving(tmp_path / "other", open_metrics=True) as other:
        assert (await other.ask("GET", "/metrics", headers=nobody)).status == 200
        assert (await other.ask("GET", "/v1/tools", headers=nobody)).status == 401


async def test_no_answer_is_kept_by_a_browser_or_taken_for_a_page(served: Served) -> None:
    for method, path in (*PATHS, ("GET", "/healthz")):
        body = {"timeout_s": 0} if path.endswith("/wait") else {}
        answer = await served.ask(method, path, body if method == "POST" else None)
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers and "text/html" not in answer.headers["content-type"]


async def test_where_no_panel_is_served_its_addresses_need_the_token_like_all_others(served: Served) -> None:
    for path in ("/panel/", "/panel/open?code=x", "/panel/x/memory"):
        answer = await served.ask("GET", path, headers={"Authorization": None})
        assert (answer.status, answer.json["code"]) == (401, "api.token")
        assert (await served.ask("GET", path, headers={"Origin": f"http://127.0.0.1:{served.port}"})).status == 403
        assert (await served.ask("GET", path)).status == 404
