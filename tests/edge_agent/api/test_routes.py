"""What each route asks of the desk, and what is told of it; bodies that do not fit reach nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.api.routes import Routes
from edge_agent.api.wire import BODY_BYTES
from tests.edge_agent.api.kit import ERRORS, NOW, Served, TestDesk, hook_secret, serving

ACT: dict[str, Any] = {"tool": "shop.order", "arguments": {"n": 3, "price": 12.50}, "client": "claude", "key": "k-1"}
POSTS: dict[str, Any] = {
    "/v1/actions": ACT,
    "/v1/runs": {"playbook": "triage", "by": "mara"},
    "/v1/runs/r-1/wait": {"timeout_s": 0},
    "/v1/runs/r-1/orders": {"order": "pause", "by": "mara", "reason": "lunch"},
    "/v1/approvals/a-1/answer": {"answer": "approve", "by": "mara", "reason": "fits"},
    "/v1/events/order.paid": {"key": "e-1", "payload": {"total": 1.5}},
}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


async def test_tools_runs_and_approvals_are_told(served: Served) -> None:
    tools = await served.ask("GET", "/v1/tools")
    assert tools.json["tools"][0]["about"] == "Ä tool" and tools.headers["content-type"] == "application/json"
    assert (await served.ask("GET", "/v1/runs/r-7")).json == {"run": "r-7", "status": "open", "steps": []}
    assert (await served.ask("GET", "/v1/approvals")).json == {"approvals": [{"approval": "a-1", "run": "r-1"}]}


async def test_an_action_is_asked_for_and_a_key_sent_again_is_the_same_run(served: Served) -> None:
    for _ in range(2):
        answer = await served.ask("POST", "/v1/actions", ACT)
        assert (answer.status, answer.json) == (202, {"run": "r-1"})
    assert (await served.ask("POST", "/v1/actions", ACT | {"key": "k-2", "subject": "PA-1"})).json == {"run": "r-2"}
    assert served.desk.asked[0] == ("act", "shop.order", {"n": 3, "price": "12.5"}, "", "claude", "k-1")
    assert served.desk.asked[2][3:] == ("PA-1", "claude", "k-2")


async def test_a_playbook_is_started(served: Served) -> None:
    body = {"playbook": "triage", "inputs": {"value": 7}, "by": "mara", "dry_run": True}
    assert (await served.ask("POST", "/v1/runs", body)).json == {"run": "r-9"}
    assert served.desk.asked == [("start", "triage", {"value": 7}, "mara", True)]


async def test_orders_and_answers_are_passed_on(served: Served) -> None:
    assert (await served.ask("POST", "/v1/runs/r-1/orders", POSTS["/v1/runs/r-1/orders"])).json == {}
    step = {"order": "retry", "by": "mara", "step": "notify"}
    await served.ask("POST", "/v1/runs/r-1/orders", step)
    assert (await served.ask("POST", "/v1/approvals/a-1/answer", POSTS["/v1/approvals/a-1/answer"])).json == {}
    assert served.desk.asked == [
        ("order", "r-1", "pause", "mara", "lunch", ""),
        ("order", "r-1", "retry", "mara", "", "notify"),
        ("answer", "a-1", "approve", "mara", "fits"),
    ]


async def test_an_event_is_brought_once(served: Served) -> None:
    for runs in (1, 0):
        answer = await served.ask("POST", "/v1/events/order.paid", POSTS["/v1/events/order.paid"])
        assert answer.json == {"runs": runs}
    assert served.desk.events == {("order.paid", "e-1"): {"total": "1.5"}}


async def test_waiting_ends_when_the_run_does_or_the_time_is_over(served: Served) -> None:
    assert (await served.ask("POST", "/v1/runs/r-1/wait", {"timeout_s": 0})).json["status"] == "open"
    served.desk.waited_for.clear()
    waiting = asyncio.create_task(served.ask("POST", "/v1/runs/r-1/wait", {"timeout_s": 60}))
    await served.desk.waited_for.wait()
    assert (await served.ask("GET", "/v1/tools")).status == 200  # others are served meanwhile
    served.desk.closed.set()
    assert (await waiting).json["status"] == "closed"


@pytest.mark.parametrize(
    ("name", "status"),
    [("bad", 400), ("unknown", 404), ("refused", 403), ("tampered", 422), ("conflict", 409), ("unavailable", 503)],
)
async def test_errors_keep_their_kind_and_code(name: str, status: int, served: Served) -> None:
    for answer in (
        await served.ask("GET", f"/v1/runs/{name}"),
        await served.ask("POST", f"/v1/runs/{name}/orders", POSTS["/v1/runs/r-1/orders"]),
        await served.ask("POST", "/v1/actions", ACT | {"tool": name}),
    ):
        error = ERRORS[name]
        said = {"kind": type(error).__name__, "code": error.code, "message": error.message, "advice": error.advice}
        assert (answer.status, answer.json) == (status, said | ({"where": error.where} if error.where else {}))


async def test_a_fault_of_ours_is_told_as_that_and_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await served.ask("GET", "/v1/runs/fault")
    assert (answer.status, answer.json["code"], answer.json["kind"]) == (500, "api.fault", "Unavailable")
    assert "mistake" not in answer.body.decode() and "ZeroDivisionError" in caplog.text
    assert served.token not in caplog.text


NOWHERE = [
    "GET /",
    "GET /v1/tools/",
    "GET /v1/runs/a%2Fb",
    "GET /v1/runs/",
    "GET /docs",
    "GET /hooks",
    "POST /hooks/a/b",
]
OTHER_METHOD = [
    "GET /v1/actions", "GET /v1/runs", "GET /v1/runs/r-1/orders", "GET /v1/runs/r-1/wait", "GET /v1/events/x",
    "GET /v1/approvals/a-1/answer", "GET /hooks/shop", "PUT /v1/runs/r-1", "DELETE /v1/runs/r-1", "POST /v1/tools",
]  # fmt: skip


async def test_other_addresses_and_methods_are_told_in_json(served: Served) -> None:
    for lines, status, code in ((NOWHERE, 404, "api.not-found"), (OTHER_METHOD, 405, "api.method")):
        for line in lines:
            method, path = line.split()
            answer = await served.ask(method, path)
            assert (answer.status, answer.json["code"]) == (status, code), line
            assert "location" not in answer.headers
    assert served.desk.asked == []


def test_nothing_that_changes_anything_is_a_get() -> None:
    routes = Routes(TestDesk(), hook_secret=hook_secret, now=lambda: NOW, stopping=asyncio.Event()).table()
    changing = {"act", "start", "order", "answer", "event", "hook"}
    for route in routes:
        methods = (route.methods or set()) - {"HEAD"}
        assert methods == ({"POST"} if route.endpoint.__name__ in changing | {"wait"} else {"GET"})


# --- bodies -------------------------------------------------------------------------------------------------------


NO_BODIES = [b"", b"{", b"[]", b"null", b'"x"', b'{"a": NaN}', b"\xff", b"[" * 5000, b'{"key": "\\ud800"}']


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_that_is_no_fitting_json_is_refused(path: str, served: Served) -> None:
    for body in NO_BODIES:
        answer = await served.ask("POST", path, body)
        assert answer.status == 400 and answer.json["code"] in ("json.form", "api.body"), body
    assert served.desk.asked == [] and served.desk.events == {}


@pytest.mark.parametrize("path", [path for path in POSTS if "wait" not in path])
async def test_a_field_that_is_missing_unknown_or_of_another_kind_is_refused(path: str, served: Served) -> None:
    good = POSTS[path]
    wrong = [good | {"colour": "red"}]
    for name, value in good.items():
        if name not in ("reason", "payload"):
            wrong.append({key: item for key, item in good.items() if key != name})
        wrong += [good | {name: 7 if not isinstance(value, int) else "7"}, good | {name: None}]
        if isinstance(value, str) and name != "reason":
            wrong += [good | {name: bad} for bad in ("", "a\n", "\x00", "x" * 300)]
    for body in wrong:
        answer = await served.ask("POST", path, body)
        assert (answer.status, answer.json["code"]) == (400, "api.body"), body
    assert served.desk.asked == [] and served.desk.events == {}


@pytest.mark.parametrize("timeout", [-1, 301, 1.5, "3", True])
async def test_waiting_has_a_bound(timeout: Any, served: Served) -> None:
    assert (await served.ask("POST", "/v1/runs/r-1/wait", {"timeout_s": timeout})).json["code"] == "api.body"


@pytest.mark.parametrize("name", ["Paid", "a b", "-x", "x" * 65, "a%0Ab"])
async def test_other_names_of_events_are_refused(name: str, served: Served) -> None:
    answer = await served.ask("POST", f"/v1/events/{name.replace(' ', '%20')}", {"key": "e"})
    assert (answer.status, answer.json["code"]) == (400, "api.event")


OTHER_KINDS = [
    None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "json",
]  # fmt: skip


async def test_a_body_must_say_that_it_is_json(served: Served) -> None:
    """What a web page may send without asking first is not taken."""
    for kind in OTHER_KINDS:
        answer = await served.ask("POST", "/v1/actions", ACT, headers={"Content-Type": kind})
        assert (answer.status, answer.json["code"]) == (415, "api.media"), kind
    assert served.desk.asked == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_may_be_written_otherwise(kind: str, served: Served) -> None:
    assert (await served.ask("POST", "/v1/actions", ACT, headers={"Content-Type": kind})).status == 202


async def test_a_body_has_a_bound(served: Served) -> None:
    fitting = json.dumps(ACT | {"arguments": {"x": ""}}).encode()
    room = BODY_BYTES - len(fitting)
    for more, status in ((room, 202), (room + 1, 413)):
        answer = await served.ask("POST", "/v1/actions", ACT | {"arguments": {"x": "y" * more}})
        assert answer.status == status


async def test_an_endless_body_is_cut_off(served: Served) -> None:
    def pour() -> tuple[bytes, int]:
        head = f"POST /v1/actions HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {served.token}\r\n"
        head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as raw:
            raw.sendall(head.encode())
            sent = 0
            try:
                while sent < 50_000_000:
                    sent += raw.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            except OSError:
                return b"", sent
            return raw.recv(1000), sent

    said, sent = await asyncio.to_thread(pour)
    assert sent < 30_000_000 and (said == b"" or b" 413 " in said)
    assert (await served.ask("GET", "/healthz")).status == 200


async def test_a_body_that_never_comes_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.api.wire.BODY_SECONDS", 0.2)

    def begin() -> bytes:
        head = f"POST /v1/actions HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {served.token}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as raw:
            raw.sendall(head.encode())
            return raw.recv(1000)

    assert (await asyncio.to_thread(begin)).startswith(b"HTTP/1.1 408 ")


async def test_a_body_cut_short_is_no_fault_of_ours(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        head = f"POST /v1/actions HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {served.token}\r\n"
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        await asyncio.sleep(0.1)
        assert (await served.ask("GET", "/healthz")).status == 200
    assert caplog.text == "" and served.desk.asked == []
