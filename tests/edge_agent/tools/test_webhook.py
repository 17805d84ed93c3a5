"""Events sent to a real receiver, which verifies them by the specification and drops what it had already."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from edge_agent.tools import Manual, NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.webhook import make
from edge_agent.webhooks import signing_keys, verify
from shared.actions import Action, Value
from shared.errors import BadInput, OutriderError, Refused, Unavailable

SECRET = "whsec_b3V0cmlkZXIgdGVzdHMgc2lnbiB3aXRoIHRoaXM="
NEXT = "whsec_dGhlIG5leHQgc2VjcmV0IG9mIHRoZSByZWNlaXZlcg=="


class Receiver:
    """Verifies, and acts once for an id."""

    def __init__(self) -> None:
        self.port = 0
        self.secret = SECRET
        self.now_s = 1_790_000_000
        self.status = 200
        self.headers: dict[str, str] = {}
        self.deliveries: list[tuple[str, dict[str, str], bytes]] = []
        self.acted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing on standard error."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(receiver.take(self.path, dict(self.headers.items()), body))
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        with self._lock:
            self.deliveries.append((path, headers, body))
            if self.status >= 300:
                return self.status
            try:
                message = verify(
                    signing_keys(self.secret), {k.lower(): v for k, v in headers.items()}, body, self.now_s
                )
            except OutriderError:
                return 401
            self.acted[message] = 1
            return self.status


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    yield made
    made.stop()


Make = Callable[..., Tool]


@pytest.fixture
def tool(receiver: Receiver, place: Callable[[str], Place]) -> Make:
    def made(secret: Callable[[str], str] = {"partner": SECRET}.__getitem__, **changes: Any) -> Tool:
        given = {
            "url": f"http://localhost:{receiver.port}/in/T0KEN-in-the-path?k=v",
            "private": ["localhost"],
            "secret": "partner",
            "idempotent": True,
            "timeout_s": 30,
        }
        at = replace(place("notify"), secret=secret, now=lambda: receiver.now_s * 1_000_000)
        return make(at, given | changes)[0]

    return made


def event(n: int = 1, **more: Value) -> Action:
    arguments: dict[str, Value] = {"type": "case.decided", "data": {"case": f"PA-{n}", "cents": 1250}, **more}
    return Action("notify.send", arguments, f"PA-{n}")


class TestWebhook(ToolContract):
    """Compensatable, idempotent; nobody can look."""

    secrets = (SECRET, "T0KEN-in-the-path")

    @pytest.fixture(autouse=True)
    def world(self, receiver: Receiver, tool: Make) -> None:
        self.receiver = receiver
        self.made = tool

    def make_tool(self) -> Tool:
        return self.made(undo_event="case.withdrawn")

    def good_action(self, n: int) -> Action:
        return event(n)

    async def effects(self, action: Action | None) -> int:
        return self.receiver.acted.total() if action is None else self.receiver.acted[action.key]

    async def break_receiver(self) -> None:
        self.receiver.stop()

    async def mend_receiver(self) -> None:
        self.receiver.start()


async def test_an_event_arrives_signed_whole_and_under_its_key(receiver: Receiver, tool: Make) -> None:
    action = event(timestamp="2026-01-31T09:00:00Z")
    receipt = await tool().send(action, action.key)
    path, headers, body = receiver.deliveries[0]
    assert path == "/in/T0KEN-in-the-path?k=v"
    assert headers["webhook-id"] == action.key and headers["webhook-timestamp"] == "1790000000"
    assert headers["Content-Type"] == "application/json" and headers["webhook-signature"].startswith("v1,")
    assert json.loads(body) == action.arguments
    assert receiver.acted == {action.key: 1}
    assert receipt.details == {"request": f"POST http://localhost:{receiver.port}", "id": action.key}


async def test_sent_again_later_it_is_the_same_message_signed_anew(receiver: Receiver, tool: Make) -> None:
    action, made = event(), tool()
    await made.send(action, action.key)
    receiver.now_s += 3600
    await made.send(action, action.key)
    (_, first, body), (_, second, again) = receiver.deliveries
    assert first["webhook-id"] == second["webhook-id"] and body == again
    assert first["webhook-signature"] != second["webhook-signature"]
    assert receiver.acted == {action.key: 1}


async def test_two_secrets_sign_while_one_is_replaced(receiver: Receiver, tool: Make) -> None:
    made = tool(secret=lambda name: f"{NEXT} {SECRET}")
    await made.send(event(1), "k1")
    receiver.secret = NEXT
    await made.send(event(2), "k2")
    assert receiver.acted == {"k1": 1, "k2": 1}


@pytest.mark.parametrize(
    ("status", "headers", "kind", "code"),
    [
        (400, {}, Refused, "web.refused"),
        (410, {}, Refused, "webhook.gone"),
        (429, {}, NotSent, "web.later"),
        (503, {"Retry-After": "5"}, NotSent, "web.later"),
        (500, {}, Unavailable, "web.failed"),
        (302, {"Location": "http://169.254.169.254/"}, Unavailable, "web.failed"),
        (307, {"Location": "http://169.254.169.254/"}, Refused, "web.redirect"),
    ],
)
async def test_what_the_receiver_says_is_told_without_its_path(
    status: int, headers: dict[str, str], kind: type[OutriderError], code: str, receiver: Receiver, tool: Make
) -> None:
    receiver.status, receiver.headers = status, headers
    with pytest.raises(OutriderError) as caught:
        await tool().send(event(), "k")
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert "T0KEN" not in str(caught.value) and len(receiver.deliveries) == 1


async def test_a_wrong_or_missing_secret_is_told_before_anything_is_sent(receiver: Receiver, tool: Make) -> None:
    def missing(name: str) -> str:
        raise Unavailable("secret.missing", f"there is no secret {name}", advice="set it")

    for secret, kind, code in (
        (missing, NotSent, "secret.missing"),
        (lambda name: "hunter2", Refused, "webhook.secret"),
    ):
        with pytest.raises(OutriderError) as caught:
            await tool(secret=secret).send(event(), "k")
        assert (type(caught.value), caught.value.code) == (kind, code) and "hunter2" not in str(caught.value)
    assert receiver.deliveries == []


async def test_only_events_of_the_list_are_sent(receiver: Receiver, tool: Make) -> None:
    made = tool(events=["case.decided"], undo_event="case.withdrawn")
    for kind in ("case.decided", "case.withdrawn"):
        await made.send(event(type=kind), kind[-4:])
    for kind in ("case.opened", "case decided", "", ".", "x" * 129, "case.decided\n"):
        for of in (made, tool()) if kind != "case.opened" else (made,):
            with pytest.raises(BadInput) as caught:
                await of.send(event(type=kind), "k")
            assert caught.value.code == "tool.arguments"
    with pytest.raises(BadInput, match="tool.arguments"):
        await made.send(event(data={"x": "\ud800"}), "k")
    assert len(receiver.deliveries) == 2


def test_an_event_is_taken_back_by_another_or_by_a_person(tool: Make) -> None:
    action = event()
    undo = tool(undo_event="case.withdrawn").undo(action, {})
    assert undo == Action("notify.send", {"type": "case.withdrawn", "data": action.arguments["data"]}, "PA-1")
    assert isinstance(undo, Action)
    assert isinstance(tool(undo_event="case.withdrawn").undo(undo, {}), Manual)
    plain = tool()
    by_hand = plain.undo(action, {"id": "k"})
    assert plain.effect == "irreversible" and isinstance(by_hand, Manual) and "localhost" in by_hand.steps[0]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"url": "http://hooks.example/x"}, "web.plain"),
        ({"url": "hooks.example"}, "web.url"),
        ({"events": ["case decided"]}, "tools.setting"),
        ({"undo_event": "a..b"}, "tools.setting"),
        ({"colour": "red"}, "tools.setting"),
    ],
)
def test_settings_that_do_not_fit_are_told(changes: dict[str, Any], code: str, tool: Make) -> None:
    with pytest.raises(BadInput) as caught:
        tool(**changes)
    assert caught.value.code == code


async def test_a_receiver_on_the_local_network_must_be_listed(
    receiver: Receiver, place: Callable[[str], Place]
) -> None:
    given = {"url": f"https://localhost:{receiver.port}/", "secret": "partner"}
    made = make(replace(place("notify"), secret=lambda name: SECRET), given)[0]
    with pytest.raises(Refused, match="web.address"):
        await made.send(event(), "k")
    await made.close()
