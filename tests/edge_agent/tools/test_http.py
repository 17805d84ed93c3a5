"""HTTP calls as tools, against a real shop: the suite of promises, outcomes exactly told, receipts without surplus."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from edge_agent.tools import Manual, NotSent, Rate, Tool, check_arguments
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.http import make
from shared.actions import Action, Value
from shared.codec import canonical
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from tests.edge_agent.tools.shop import Shop, make_certificates, raw_server, read_request

SECRET = "k-1234567890-of-the-shop"

TABLE = """
base = "{base}/v1"
private = ["localhost"]
ca = "{ca}"
auth = {{type = "header", header = "X-Api-Key", secret = "shop"}}
timeout_s = 30
rate = {{calls = 100, per_s = 1}}

[calls.place-order]
method = "POST"
path = "/orders"
about = "Place an order."
effect = "compensatable"
idempotent = true
arguments = {{sku = "text", count = "integer", price = "decimal", note = {{kind = "text", required = false}}}}
body = {{sku = "{{sku}}", quantity = "{{count}}", price = "{{price:number}}", note = "{{note}}", case = "{{subject}}"}}
keep = {{order = "/id"}}
ask = {{path = "/orders", query = {{reference = "{{key}}"}}, at = "/data/0"}}
undo = {{call = "cancel-order", arguments = {{order = "{{kept.order}}"}}}}

[calls.place-order.read_back]
path = "/orders/{{kept.order}}"
expect = {{"/sku" = "{{sku}}", "/quantity" = "{{count}}", "/price" = "{{price}}", "/status" = "open"}}

[calls.cancel-order]
method = "POST"
path = "/orders/{{order}}/cancel"
effect = "irreversible"
idempotent = true
arguments = {{order = "text"}}
read_back = {{path = "/orders/{{order}}", expect = {{"/status" = "cancelled"}}}}

[calls.get-order]
method = "GET"
path = "/orders/{{order}}"
arguments = {{order = "text"}}
"""


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pems")
    make_certificates(folder)
    return folder


@pytest.fixture
def shop(pems: Path) -> Iterator[Shop]:
    made = Shop(pems / "server.pem")
    made.start()
    yield made
    made.stop()


Make = Callable[..., dict[str, Tool]]


@pytest.fixture
def tools(shop: Shop, pems: Path, place: Callable[[str], Place]) -> Make:
    """``tools(toml, **changes)``: the shop's table, or ``calls`` of another below the same head."""

    def made(calls: str = "", **changes: Any) -> dict[str, Tool]:
        text = TABLE.format(base=shop.base, ca=pems / "ca.pem")
        given = tomllib.loads(text.partition("[calls.")[0] + calls if calls else text) | changes
        if calls:
            given["base"] = shop.base
        at = replace(place("shop"), secret=lambda name: {"shop": SECRET}[name])
        return {tool.name.partition(".")[2]: tool for tool in make(at, given)}

    return made


def order(n: int = 1, **more: Value) -> Action:
    arguments: dict[str, Value] = {"sku": f"sku-{n}", "count": n + 1, "price": "12.50", **more}
    return Action("shop.place-order", arguments, f"case-{n}")


async def send(tool: Tool, **arguments: Value) -> dict[str, Any]:
    action = Action(tool.name, arguments, "case")
    return (await tool.send(action, action.key)).details


# --- the promises -------------------------------------------------------------------------------------------------


class _ShopContract(ToolContract):
    secrets = (SECRET,)
    call = ""

    @pytest.fixture(autouse=True)
    def world(self, shop: Shop, tools: Make) -> None:
        self.shop = shop
        self.tools = tools

    def make_tool(self) -> Tool:
        return self.tools()[self.call]

    def tool_named(self, name: str) -> Tool:
        return self.tools()[name.partition(".")[2]]

    async def break_receiver(self) -> None:
        await asyncio.to_thread(self.shop.stop)

    async def mend_receiver(self) -> None:
        await asyncio.to_thread(self.shop.start)


class TestPlaceOrder(_ShopContract):
    """Compensatable, idempotent, askable, reads back."""

    call = "place-order"

    def good_action(self, n: int) -> Action:
        return order(n)

    async def effects(self, action: Action | None) -> int:
        return self.shop.effects.total() if action is None else self.shop.effects[action.key]

    async def spoil(self, action: Action) -> None:
        self.shop.orders[self.shop.by_key[action.key]]["quantity"] = 99


class TestCancelOrder(_ShopContract):
    """Irreversible and idempotent; what was cancelled is seen."""

    call = "cancel-order"

    def good_action(self, n: int) -> Action:
        self.shop.place(f"key-{n}", {"sku": "x"})
        return Action("shop.cancel-order", {"order": self.shop.by_key[f"key-{n}"]}, f"case-{n}")

    async def effects(self, action: Action | None) -> int:
        done = {name: count for name, count in self.shop.effects.items() if name.startswith("cancel")}
        return sum(done.values()) if action is None else done.get(f"cancel {action.arguments['order']}", 0)

    async def spoil(self, action: Action) -> None:
        self.shop.orders[str(action.arguments["order"])]["status"] = "open"


class TestGetOrder(_ShopContract):
    """A read."""

    call = "get-order"

    @pytest.fixture(autouse=True)
    def orders(self, shop: Shop) -> None:
        for n in range(5):
            shop.place(f"key-{n}", {"sku": f"sku-{n}", "price": 12.5})

    def good_action(self, n: int) -> Action:
        return Action("shop.get-order", {"order": f"o-{n + 1}"}, f"case-{n}")

    async def state(self) -> Any:
        return dict(self.shop.orders)


# --- what is sent and kept ----------------------------------------------------------------------------------------


async def test_an_order_is_placed_kept_and_read_back(shop: Shop, tools: Make) -> None:
    tool, action = tools()["place-order"], order()
    receipt = await tool.send(action, action.key)
    assert receipt.details == {"request": f"POST {shop.base}/v1/orders", "kept": {"order": "o-1"}}
    method, path, headers, body = shop.last("/v1/orders")
    assert (method, path) == ("POST", "/v1/orders")
    assert headers["idempotency-key"] == action.key and headers["x-api-key"] == SECRET
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert body == b'{"sku":"sku-1","quantity":2,"price":12.50,"case":"case-1"}'
    matches, found = await tool.observe(action, action.key, receipt.details)
    assert matches and found["found"] == {"/sku": "sku-1", "/quantity": 2, "/price": "12.5", "/status": "open"}
    canonical(found)
    undo = tool.undo(action, receipt.details)
    assert undo == Action("shop.cancel-order", {"order": "o-1"}, "case-1")


async def test_an_order_that_is_gone_does_not_match(shop: Shop, tools: Make) -> None:
    tool, action = tools()["place-order"], order()
    receipt = await tool.send(action, action.key)
    shop.orders.clear()
    assert await tool.observe(action, action.key, receipt.details) == (False, {"status": 404})
    assert await tool.observe(action, action.key, {}) == (False, {"missing": ["kept.order"]})


def test_what_the_settings_say_is_declared(tools: Make) -> None:
    made = tools()
    place_order, cancel, get = made["place-order"], made["cancel-order"], made["get-order"]
    assert (place_order.effect, place_order.risk, place_order.idempotent, place_order.askable) == (
        "compensatable", "medium", True, True,
    )  # fmt: skip
    assert place_order.about == "Place an order." and cancel.about == "POST /orders/{order}/cancel at localhost."
    assert (get.effect, get.risk, get.idempotent, get.askable, get.reads_back) == ("read", "low", True, False, False)
    assert place_order.rate == Rate(100, 1.0) and place_order.timeout_s == 35.0
    assert not place_order.arguments["note"].required and place_order.arguments["price"].kind == "decimal"
    action = order(note="x")
    check_arguments(place_order, action)


ECHO = """
[calls.put]
method = "PUT"
path = "/echo/{id}/x"
effect = "irreversible"
arguments = {id = "text", on = "boolean", tags = "list", note = {required = false}}
query = {q = "{note}", fixed = "a b", on = "{on}", n = 3}
headers = {"X-More" = "1", Accept = "text/plain"}
body = {tags = "{tags}", key = "{key}", text = "{subject}: {{{id}}}"}
key_header = "X-Request-Id"
key_quoted = true
keep = {path = "/path", headers = "/headers", body = "/body"}

[calls.form]
method = "POST"
path = "/echo"
effect = "irreversible"
form = true
arguments = {a = "text", b = {kind = "boolean", required = false}, n = "integer"}
body = {a = "{a}", b = "{b}", n = "{n:number}"}
key_header = ""
keep = {headers = "/headers", body = "/body"}
"""


async def test_arguments_go_where_they_are_meant_to_go(tools: Make) -> None:
    put = tools(ECHO)["put"]
    action = Action("shop.put", {"id": "a/b?c", "on": True, "tags": ["x", 1]}, "case")
    kept = (await put.send(action, action.key)).details["kept"]
    assert kept["path"] == "/echo/a%2Fb%3Fc/x?fixed=a+b&on=true&n=3"
    assert json.loads(kept["body"]) == {"tags": ["x", 1], "key": action.key, "text": "case: {a/b?c}"}
    assert kept["headers"]["x-request-id"] == f'"{action.key}"' and "idempotency-key" not in kept["headers"]
    assert kept["headers"]["x-more"] == "1" and kept["headers"]["accept"] == "text/plain"
    more = await send(put, id="a", on=False, tags=[], note="&=#ü")
    assert more["kept"]["path"] == "/echo/a/x?q=%26%3D%23%C3%BC&fixed=a+b&on=false&n=3"


async def test_a_form_is_sent_as_a_form(tools: Make) -> None:
    kept = (await send(tools(ECHO)["form"], a="x&y=z", b=True, n=3))["kept"]
    assert kept["body"] == "a=x%26y%3Dz&b=true&n=3"
    assert kept["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert "idempotency-key" not in kept["headers"]
    assert (await send(tools(ECHO)["form"], a="x", n=3))["kept"]["body"] == "a=x&n=3"


@pytest.mark.parametrize("bad", ["", "..", "a/../../admin", "\ud800"])
async def test_what_would_climb_is_refused_before_anything_is_sent(bad: str, shop: Shop, tools: Make) -> None:
    for tool, name in ((tools()["get-order"], "order"), (tools()["cancel-order"], "order")):
        with pytest.raises(BadInput) as caught:
            await tool.send(Action(tool.name, {name: bad}, "case"), "k")
        assert caught.value.code == "tool.arguments"
    with pytest.raises(BadInput, match="tool.arguments"):
        await tools()["place-order"].send(order(note="\ud800"), "k")
    assert shop.requests == []


READ = """
[calls.say]
method = "GET"
path = "/raw"
arguments = {say = "text", type = "text", times = {kind = "integer", required = false}}
query = {say = "{say}", type = "{type}", times = "{times}"}
"""


@pytest.mark.parametrize(
    ("say", "kind", "answer"),
    [
        ('{"a": 1.50, "b": [1e99, -0.0]}', "application/json", {"a": "1.50", "b": ["1e99", "-0.0"]}),
        ('{"n": 9223372036854775808}', "application/json", {"n": "9223372036854775808"}),
        ("[1, true, null]", "text/plain", [1, True, None]),
        ("hello\n", "text/plain; charset=utf-8", "hello\n"),
        ("", "text/plain", None),
        ("<p>", "application/xml", {"bytes": 3, "sha256": "7cc25be9fe6c1a4ec12e2ae7fd4ca70a2a5f7b9b3f3b7e0a"}),
        ("[" * 3000, "application/json", {"bytes": 3000}),
        ('"\\ud800"', "application/json", {"bytes": 8}),
        ("NaN", "application/json", {"bytes": 3}),
    ],
)
async def test_an_answer_becomes_plain_without_floats(say: str, kind: str, answer: Any, tools: Make) -> None:
    details = await send(tools(READ)["say"], say=say, type=kind)
    found = details["answer"]
    canonical(details)
    assert found["bytes"] == answer["bytes"] if isinstance(answer, dict) and "bytes" in answer else found == answer


@pytest.mark.parametrize(("say", "times"), [("x", 70_000), ("[1]" + " " * 5_000, 14)])
async def test_a_read_that_answers_too_much_is_refused(say: str, times: int, tools: Make) -> None:
    """More than is read of any answer, and more than stands in a receipt."""
    for most in (60_000, 1_000_000):
        tool = tools(READ, most_bytes=most)["say"]
        with pytest.raises(Refused) as caught:
            await send(tool, say=say, times=times, type="text/plain")
        assert caught.value.code == "web.too-large"


async def test_a_change_that_answers_too_much_happened_and_is_kept_without(tools: Make) -> None:
    details = await send(tools(ECHO, most_bytes=20)["form"], a="x", n=1)
    assert details["kept"] == {} and details["missing"] == ["body", "headers"]


async def test_a_kept_value_has_a_bound(tools: Make) -> None:
    details = await send(tools(ECHO)["form"], a="x" * 9000, n=1)
    assert details["missing"] == ["body"] and set(details["kept"]) == {"headers"}


async def test_a_secret_that_comes_back_is_struck_out(tools: Make) -> None:
    details = await send(tools(ECHO)["form"], a="x", n=1)
    assert details["kept"]["headers"]["x-api-key"] == "[secret]" and SECRET not in json.dumps(details)


# --- what happened and what did not -------------------------------------------------------------------------------

STATUS = """
[calls.change]
method = "POST"
path = "/status/{n}"
effect = "irreversible"
arguments = {n = "integer", say = "text", header = "text"}
query = {say = "{say}", header = "{header}"}

[calls.again]
method = "POST"
path = "/status/{n}"
effect = "irreversible"
idempotent = true
arguments = {n = "integer", say = "text", header = "text"}
query = {say = "{say}", header = "{header}"}

[calls.read]
method = "GET"
path = "/status/{n}"
arguments = {n = "integer", say = "text", header = "text"}
query = {say = "{say}", header = "{header}"}
"""


async def close_all(made: dict[str, Tool]) -> None:
    for tool in made.values():
        await tool.close()


async def outcome(tool: Tool, n: int, header: str = "X=y", say: str = "{}") -> OutriderError | None:
    try:
        await send(tool, n=n, say=say, header=header)
    except OutriderError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("call", "status", "header", "kind", "code"),
    [
        ("change", 200, "", None, ""),
        ("change", 202, "", None, ""),
        ("change", 204, "", None, ""),
        ("change", 400, "", Refused, "web.refused"),
        ("change", 401, "", Refused, "web.unauthorised"),
        ("change", 404, "", Refused, "web.refused"),
        ("change", 409, "", Refused, "web.refused"),
        ("again", 409, "", Unavailable, "web.at-work"),
        ("change", 422, "", Refused, "web.refused"),
        ("change", 429, "", NotSent, "web.later"),
        ("change", 429, "Retry-After=7", NotSent, "web.later"),
        ("change", 503, "Retry-After=7", NotSent, "web.later"),
        ("change", 503, "", Unavailable, "web.failed"),
        ("change", 500, "", Unavailable, "web.failed"),
        ("change", 502, "", Unavailable, "web.failed"),
        ("change", 504, "", Unavailable, "web.failed"),
        ("change", 302, "Location=/status/200", Unavailable, "web.failed"),
        ("change", 303, "Location=/status/200", Unavailable, "web.failed"),
        ("change", 307, "Location=/status/200", Refused, "web.redirect"),
        ("read", 302, "Location=/status/200", Refused, "web.redirect"),
        ("read", 500, "", Unavailable, "web.failed"),
        ("read", 404, "", Refused, "web.refused"),
        ("change", 600, "", Unavailable, "web.failed"),
    ],
)
async def test_a_status_is_told_as_what_it_means(
    call: str, status: int, header: str, kind: type[OutriderError] | None, code: str, tools: Make, shop: Shop
) -> None:
    error = await outcome(tools(STATUS)[call], status, header or "X=y")
    assert (type(error), error.code if error else "") == (kind or type(None), code)
    assert shop.seen("/status") == 1
    if error is not None and "Retry" in header:
        assert "after 7 s" in error.message


async def test_the_services_own_words_are_told_in_short_and_without_secrets(tools: Make) -> None:
    tool = tools(STATUS)["change"]
    for say, told in (
        ({"title": "Out of stock", "detail": "No  sku-1\nleft"}, ": No sku-1 left"),
        ({"error": {"message": "bad count"}}, ": bad count"),
        ({"error": "invalid"}, ": invalid"),
        ({"detail": "x" * 190 + SECRET}, "x[secret]"),
        ({"detail": "x" * 500}, "x" * 200),
        (["no"], "422"),
    ):
        error = await outcome(tool, 422, say=json.dumps(say))
        assert error is not None and error.message.endswith(told) and "?" not in error.message
        assert SECRET[:6] not in str(error)


async def test_a_missing_secret_means_not_sent(shop: Shop, pems: Path, place: Callable[[str], Place]) -> None:
    given = tomllib.loads(TABLE.format(base=shop.base, ca=pems / "ca.pem"))
    tool = {t.name: t for t in make(place("shop"), given)}["shop.place-order"]
    with pytest.raises(NotSent) as caught:
        await tool.send(order(), "k")
    assert caught.value.code == "secret.missing" and shop.requests == []
    await tool.close()


@pytest.mark.parametrize("value", ["two\nlines", "tab\there", "ü", "  "])
async def test_a_secret_no_header_can_carry_is_refused_unshown(
    value: str, shop: Shop, pems: Path, place: Callable[[str], Place]
) -> None:
    given = tomllib.loads(TABLE.format(base=shop.base, ca=pems / "ca.pem"))
    made = make(replace(place("shop"), secret=lambda name: value), given)
    with pytest.raises(Refused) as caught:
        await made[0].send(order(), "k")
    assert caught.value.code == "web.secret" and (not value.strip() or value not in str(caught.value))
    assert shop.requests == []


async def test_an_answer_cut_after_the_request_is_a_doubt_that_asking_settles(shop: Shop, tools: Make) -> None:
    """The order is placed, the answer lost: the adapter says that it does not know, and then finds out."""
    action = order()

    def place_and_vanish(connection: Any) -> None:
        body = read_request(connection).partition(b"\r\n\r\n")[2]
        shop.place(action.key, json.loads(body))
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{")

    with raw_server(place_and_vanish, shop.pem) as port:
        with pytest.raises(Unavailable) as caught:
            await tools(base=f"https://localhost:{port}/v1")["place-order"].send(action, action.key)
        assert caught.value.code == "web.cut" and not isinstance(caught.value, NotSent)
    tool = tools()["place-order"]
    known = await tool.ask(action.key, action)
    assert known is not None and known.details["kept"] == {"order": "o-1"}
    again = await tool.send(action, action.key)
    assert again.details["kept"] == {"order": "o-1"} and shop.effects[action.key] == 1


async def test_a_slow_service_is_left_at_the_deadline(shop: Shop, tools: Make) -> None:
    shop.answers.clear()
    with pytest.raises(Unavailable, match="web.slow") as caught:
        await tools(timeout_s=1.5)["place-order"].send(order(), "k")
    assert shop.seen("/v1/orders") == 1 and not isinstance(caught.value, NotSent)


async def test_waiting_for_a_thread_counts_and_is_not_sent(shop: Shop, tools: Make) -> None:
    shop.answers.clear()
    made = tools(STATUS.replace('"/status/{n}"\n', '"/status/{n}"\ntimeout_s = 0.2\n', 1), at_once=1)
    slow = asyncio.create_task(outcome(made["again"], 200))
    while not shop.seen("/status"):
        await asyncio.sleep(0.01)
    late = asyncio.create_task(outcome(made["change"], 200))
    await asyncio.sleep(0.3)
    shop.answers.set()
    assert isinstance(await late, NotSent) and await slow is None
    assert shop.seen("/status") == 1
    await close_all(made)


async def test_closing_cuts_off_what_is_under_way(shop: Shop, tools: Make) -> None:
    """The agent's end waits for no service; whether it acted is not known, and found out after the next start."""
    shop.answers.clear()
    tool, action = tools()["place-order"], order()
    under_way = asyncio.create_task(tool.send(action, action.key))
    while not shop.seen("/v1/orders"):
        await asyncio.sleep(0.01)
    await tool.close()
    with pytest.raises(Unavailable, match="web.cut") as caught:
        await under_way
    assert not isinstance(caught.value, NotSent)
    shop.answers.set()
    assert (await tools()["place-order"].send(action, action.key)).details["kept"] == {"order": "o-1"}


async def test_asking_is_unavailable_when_it_cannot_be_asked(shop: Shop, tools: Make) -> None:
    tool, action = tools()["place-order"], order()
    receipt = await tool.send(action, action.key)
    shop.tokens_needed = True  # the key in the header is no token: 401
    for work in (tool.ask(action.key, action), tool.observe(action, action.key, receipt.details)):
        with pytest.raises(Unavailable) as caught:
            await work
        assert caught.value.code == "web.unauthorised" and SECRET not in str(caught.value)


# --- redirects ----------------------------------------------------------------------------------------------------


async def test_a_read_follows_as_many_redirects_as_it_may(shop: Shop, tools: Make) -> None:
    header = f"Location=/echo/{quote('a b')}"
    details = await send(tools(STATUS, redirects=1)["read"], n=302, say="{}", header=header)
    assert details["answer"]["path"] == "/echo/a%20b" and details["answer"]["headers"]["x-api-key"] == "[secret]"
    loop = "Location=/status/302?header=Location%3D/status/302"
    error = await outcome(tools(STATUS, redirects=2)["read"], 302, loop)
    assert isinstance(error, Refused) and error.code == "web.redirect" and shop.seen("/status") == 4


@pytest.mark.parametrize(
    ("there", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/", "web.egress"),
        ("https://169.254.169.254/", "web.address"),
        ("https://metadata.google.internal/", "web.address"),
        ("https://evil.example/", "web.egress"),
        ("https://user:pw@localhost/", "web.redirect"),
        ("file:///etc/passwd", "web.redirect"),
        ("gopher://localhost:1/", "web.redirect"),
        ("//evil.example/", "web.egress"),
    ],
)
async def test_a_redirect_is_judged_like_a_request(
    there: str, code: str, shop: Shop, pems: Path, place: Callable[[str], Place]
) -> None:
    """Even where somebody put the address of the metadata on the list: it is no public one."""
    given = tomllib.loads(TABLE.format(base=shop.base, ca=pems / "ca.pem").partition("[calls.")[0] + STATUS)
    given |= {"base": shop.base, "redirects": 3, "allow": ["169.254.169.254", "metadata.google.internal"]}
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if host == "localhost" else ["169.254.169.254"]

    made = make(replace(place("shop"), secret=lambda name: SECRET), given, resolve=resolve)
    error = await outcome(next(tool for tool in made if tool.name == "shop.read"), 302, f"Location={there}")
    assert isinstance(error, Refused) and error.code == code
    assert "evil.example" not in asked
    await made[0].close()


async def test_another_origin_sees_no_credentials_and_neither_does_the_way_back(
    shop: Shop, pems: Path, tools: Make
) -> None:
    other = Shop(pems / "server.pem")
    other.start()
    try:
        back = quote(f"Location={shop.base}/echo/back")
        header = f"Location={other.base}/status/302?header={back}"
        made = tools(STATUS, redirects=2, allow=[other.base])
        details = await send(made["read"], n=302, say="{}", header=header)
    finally:
        other.stop()
    assert details["answer"]["path"] == "/echo/back"
    for _, _, headers, _ in (other.last("/status"), shop.last("/echo")):
        assert "x-api-key" not in headers and SECRET not in str(headers)


# --- undo ---------------------------------------------------------------------------------------------------------

UNDO = """
[calls.make]
method = "POST"
path = "/echo"
effect = "compensatable"
arguments = {n = "integer", tag = {required = false}}
body = {n = "{n}"}
keep = {n = "/body", id = "/id"}
undo = {call = "unmake", arguments = {id = "{kept.id}", n = "{n}", tag = "{tag}", why = "of {subject}"}}

[calls.unmake]
method = "DELETE"
path = "/echo/{id}"
effect = "irreversible"
arguments = {id = "integer", n = "text", tag = {required = false}, why = "text"}
"""


def test_an_undo_has_the_kinds_that_its_call_takes(tools: Make) -> None:
    made = tools(UNDO)
    action = Action("shop.make", {"n": 3}, "case")
    for kept in (41, "41"):
        undo = made["make"].undo(action, {"kept": {"id": kept}})
        assert undo == Action("shop.unmake", {"id": 41, "n": "3", "why": "of case"}, "case")
        assert isinstance(undo, Action)
        check_arguments(made["unmake"], undo)
    tagged = made["make"].undo(Action("shop.make", {"n": 3, "tag": "x"}, "case"), {"kept": {"id": 41}})
    assert isinstance(tagged, Action) and tagged.arguments["tag"] == "x"


@pytest.mark.parametrize("kept", [{}, {"id": "x"}, {"id": True}, {"id": [1]}])
def test_an_undo_without_a_fitting_value_is_for_a_person(kept: dict[str, Any], tools: Make) -> None:
    undo = tools(UNDO)["make"].undo(Action("shop.make", {"n": 3}, "case"), {"kept": kept})
    assert isinstance(undo, Manual) and "unmake" in undo.steps[0] and "id" in undo.steps[0]


# --- settings -----------------------------------------------------------------------------------------------------

GOOD = {
    "method": "POST",
    "path": "/x/{a}",
    "effect": "irreversible",
    "arguments": {"a": "text", "o": {"required": False}},
}


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"method": "TRACE"},
        {"path": "x"},
        {"path": "/x y"},
        {"path": "/x?a=b"},
        {"path": "/x#a"},
        {"path": "/../x"},
        {"path": "/{b}"},
        {"path": "/{o}"},
        {"path": "/{kept.a}"},
        {"path": "/{a"},
        {"arguments": {"a": "list"}},
        {"arguments": {"a": "float"}},
        {"arguments": {"a": "text", "key": "text"}},
        {"arguments": {"A": "text"}},
        {"query": {"q": "{b}"}},
        {"arguments": {"a": "text", "l": "list"}, "query": {"q": "{l}"}},
        {"arguments": {"a": "text", "l": "list"}, "body": {"q": "x {l}"}},
        {"body": {"q": "{b}"}},
        {"body": {"q": "{a:number}"}},
        {"body": ["x"], "form": True},
        {"body": {"x": {"y": 1}}, "form": True},
        {"body": {"x": 1.5}, "form": True},
        {"arguments": {"a": "text", "l": "list"}, "body": {"x": "{l}"}, "form": True},
        {"headers": {"X-A": "a\n"}},
        {"method": "GET", "effect": "read", "body": {}},
        {"effect": None},
        {"effect": "reversible"},
        {"effect": "compensatable"},
        {"effect": "deadly"},
        {"undo": {"call": "other"}},
        {"effect": "compensatable", "undo": {"call": "none"}},
        {"effect": "compensatable", "undo": {"call": "look"}},
        {"effect": "compensatable", "undo": {"call": "other", "arguments": {"b": "{a}"}}},
        {"effect": "compensatable", "undo": {"call": "other", "arguments": {"b": "{a}", "c": "{o}"}}},
        {"effect": "compensatable", "undo": {"call": "other", "arguments": {"b": "{a}", "c": "{a}", "d": "{a}"}}},
        {"effect": "compensatable", "undo": {"call": "other", "arguments": {"b": "{kept.x}", "c": "{a}"}}},
        {"effect": "read", "ask": {"path": "/y"}},
        {"ask": {"path": "/{o}"}},
        {"ask": {"path": "/y", "at": "data"}},
        {"read_back": {"path": "/{kept.x}"}},
        {"read_back": {"path": "/y", "expect": {"/z": "{b}"}}},
        {"read_back": {"path": "/y", "expect": {"z": "1"}}},
        {"keep": {"x": "id"}},
        {"headers": {"Host": "evil.example"}},
        {"headers": {"content-length": "7"}},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"X-A": "a\r\nX-B: b"}},
        {"headers": {"X A": "a"}},
        {"key_header": "Host"},
        {"timeout_s": 0},
        {"rate": {"calls": 0, "per_s": 1}},
    ],
)
def test_settings_that_do_not_fit_are_named(change: dict[str, Any], place: Callable[[str], Place]) -> None:
    other = {"method": "POST", "path": "/y", "effect": "irreversible", "arguments": {"b": "text", "c": "text"}}
    look = {"method": "GET", "path": "/y"}
    call = {name: value for name, value in (GOOD | change).items() if value is not None}
    given = {"base": "https://api.shop.example", "calls": {"it": GOOD, "other": other, "look": look}}
    make(place("shop"), given)
    given["calls"] = {"it": call, "other": other, "look": look}
    with pytest.raises(BadInput) as caught:
        make(place("shop"), given)
    assert caught.value.code == "tools.setting" and "[shop]" in caught.value.where


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"base": "http://api.shop.example"}, "web.plain"),
        ({"base": "api.shop.example"}, "web.url"),
        ({"base": "https://u:p@api.shop.example"}, "web.url"),
        ({"base": "https://api.shop.example/?a=b"}, "tools.setting"),
        ({"allow": ["https://"]}, "web.url"),
        ({"private": ["a b"]}, "web.url"),
        ({"auth": {"type": "magic"}}, "tools.setting"),
        ({"auth": {"type": "bearer"}}, "tools.setting"),
        ({"auth": {"type": "header", "header": "Host", "secret": "s"}}, "tools.setting"),
        (
            {"auth": {"type": "oauth2", "token_url": "https://id.example/t", "client_id": "c", "secret": "s"}},
            "web.egress",
        ),
        ({"redirects": 50}, "tools.setting"),
        ({"calls": {"Bad Name": GOOD}}, "tools.setting"),
        ({"ca": "/no/such/file.pem"}, "web.ca"),
    ],
)
def test_tables_that_do_not_fit_are_told(change: dict[str, Any], code: str, place: Callable[[str], Place]) -> None:
    with pytest.raises(BadInput) as caught:
        make(place("shop"), {"base": "https://api.shop.example", "calls": {"it": GOOD}} | change)
    assert caught.value.code == code


def test_the_example_of_the_settings_page_is_a_table(place: Callable[[str], Place]) -> None:
    import edge_agent.tools.http.table as page

    text = (page.__doc__ or "").partition("[shop]")[2].partition("Reference:")[0]
    lines = "\n".join(line[4:] for line in text.splitlines())
    given = tomllib.loads(f"[shop]\n{lines}")["shop"]
    given["calls"]["cancel-order"] = GOOD | {"path": "/orders/{order}", "arguments": {"order": "text"}}
    assert given.pop("kind") == "http"
    assert [tool.name for tool in make(place("shop"), given)] == ["shop.place-order", "shop.cancel-order"]
