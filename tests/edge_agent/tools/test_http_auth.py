"""Signing in: secrets by name, tokens fetched once, kept until they end, renewed after a 401, and never told."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.http import make
from edge_agent.tools.http.addresses import system_resolve
from shared.actions import Action
from shared.errors import OutriderError, Refused, Unavailable
from tests.edge_agent.tools.shop import CLIENT, CLIENT_SECRET, Shop, make_certificates, raw_server, read_request

START = 1_790_000_000_000_000
_SECOND = 1_000_000


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pems")
    make_certificates(folder)
    return folder


@pytest.fixture
def shop(pems: Path) -> Iterator[Shop]:
    made = Shop(pems / "server.pem")
    made.tokens_needed = True
    made.start()
    yield made
    made.stop()


class World:
    """A clock that stands and a secret that can be replaced."""

    def __init__(self, shop: Shop, pems: Path, place: Place) -> None:
        self.shop = shop
        self.pems = pems
        self.at = START
        self.secret = CLIENT_SECRET
        self.place = replace(place, secret=lambda name: self.secret, now=lambda: self.at)

    def tool(self, auth: dict[str, Any], **more: Any) -> Tool:
        call = {"method": "POST", "path": "/echo", "effect": "irreversible", "keep": {"headers": "/headers"}}
        given = {
            "base": self.shop.base,
            "private": ["localhost"],
            "ca": str(self.pems / "ca.pem"),
            "auth": auth,
            "calls": {"do": call},
        }
        return make(self.place, given | more)[0]

    def oauth(self, **more: Any) -> Tool:
        token_url = more.pop("token_url", f"{self.shop.base}/token")
        auth = {"type": "oauth2", "token_url": token_url, "client_id": CLIENT, "secret": "shop", **more.pop("auth", {})}
        return self.tool(auth, **more)


@pytest.fixture
def world(shop: Shop, pems: Path, place: Callable[[str], Place]) -> World:
    return World(shop, pems, place("shop"))


async def do(tool: Tool) -> dict[str, Any]:
    action = Action("shop.do", {}, "case")
    return (await tool.send(action, action.key)).details


async def fails(tool: Tool) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        await do(tool)
    return caught.value


@pytest.mark.parametrize(
    ("auth", "name", "shown"),
    [
        ({"type": "none"}, "authorization", None),
        ({"type": "bearer", "secret": "shop"}, "authorization", "Bearer k3y"),
        ({"type": "header", "header": "X-Api-Key", "secret": "shop"}, "x-api-key", "k3y"),
        (
            {"type": "basic", "user": "me", "secret": "shop"},
            "authorization",
            "Basic " + base64.b64encode(b"me:k3y").decode(),
        ),
    ],
)
async def test_each_kind_shows_its_secret_and_keeps_it_out_of_the_receipt(
    auth: dict[str, Any], name: str, shown: str | None, world: World
) -> None:
    world.shop.tokens_needed = False
    world.secret = " k3y\n"
    details = await do(world.tool(auth))
    assert world.shop.last("/echo")[2].get(name) == shown
    assert "k3y" not in str(details) and (shown or "§").rpartition(" ")[2] not in str(details)


async def test_a_secret_that_was_replaced_works_at_the_next_call(world: World) -> None:
    tool = world.tool({"type": "bearer", "secret": "shop"})
    world.secret = "old"
    assert (await fails(tool)).code == "web.unauthorised"
    world.shop.live.add("new")
    world.secret = "new"
    assert (await do(tool))["kept"]["headers"]["authorization"] == "Bearer [secret]"


@pytest.mark.parametrize("send", ["basic", "body"])
async def test_a_token_is_fetched_once_and_kept_until_it_ends(send: str, world: World) -> None:
    tool = world.oauth(auth={"send": send, "scope": "orders write"})
    for _ in range(3):
        await do(tool)
    assert world.shop.issued == 1 and world.shop.last("/echo")[2]["authorization"] == "Bearer token-1"
    _, _, headers, body = world.shop.last("/token")
    assert b"grant_type=client_credentials&scope=orders+write" in body
    assert (b"client_secret" in body) == (send == "body") == ("authorization" not in headers)
    assert "idempotency-key" not in headers
    world.at += 3569 * _SECOND  # a margin of 30 s before its 3600 s are over
    await do(tool)
    assert world.shop.issued == 1
    world.at += 2 * _SECOND
    await do(tool)
    assert world.shop.issued == 2 and world.shop.last("/echo")[2]["authorization"] == "Bearer token-2"


async def test_many_calls_at_once_fetch_one_token(world: World) -> None:
    tool = world.oauth()
    world.shop.delay_s = 0.05
    await asyncio.gather(*(do(tool) for _ in range(8)))
    assert world.shop.issued == 1


async def test_a_token_that_was_withdrawn_is_renewed_once(world: World) -> None:
    tool = world.oauth()
    await do(tool)
    world.shop.live.clear()
    details = await do(tool)
    assert details["kept"]["headers"]["authorization"] == "Bearer [secret]"
    assert world.shop.issued == 2 and world.shop.seen("/echo") == 3


async def test_a_service_that_takes_no_token_is_asked_twice_and_told_without_it(world: World) -> None:
    """The shop says the token back in its refusal."""
    tool = world.oauth()
    world.shop.live = set()
    world.shop.token_answer = {"access_token": "never-live", "token_type": "bearer"}
    error = await fails(tool)
    assert isinstance(error, Refused) and error.code == "web.unauthorised"
    assert world.shop.seen("/echo") == 2 and world.shop.seen("/token") == 2
    assert "not good: Bearer [secret]" in error.message and "never-live" not in str(error)


@pytest.mark.parametrize(
    ("status", "answer", "kind", "code"),
    [
        (401, {"error": "invalid_client"}, Refused, "web.token"),
        (400, {"error": "<script>" * 50}, Refused, "web.token"),
        (200, {}, Refused, "web.token"),
        (200, {"access_token": "x y", "token_type": "bearer"}, Refused, "web.token"),
        (200, {"access_token": "x\r\nX-A: b", "token_type": "bearer"}, Refused, "web.token"),
        (200, {"access_token": 7, "token_type": "bearer"}, Refused, "web.token"),
        (200, {"access_token": "x", "token_type": "mac"}, Refused, "web.token"),
        (200, {"access_token": "x"}, Refused, "web.token"),
        (302, {}, Refused, "web.token"),
        (429, {}, NotSent, "web.token-later"),
        (500, {}, NotSent, "web.token-later"),
        (503, {}, NotSent, "web.token-later"),
    ],
)
async def test_no_token_means_that_nothing_was_sent(
    status: int, answer: dict[str, Any], kind: type[OutriderError], code: str, world: World
) -> None:
    world.shop.token_status, world.shop.token_answer = status, answer
    error = await fails(world.oauth())
    assert (type(error), error.code) == (kind, code)
    assert world.shop.seen("/echo") == 0 and CLIENT_SECRET not in str(error) and "<script>" not in str(error)


async def test_a_wrong_client_secret_is_told_without_it(world: World) -> None:
    world.secret = "wrong-s3cret"
    error = await fails(world.oauth())
    assert isinstance(error, Refused) and "invalid_client" in error.message and "wrong-s3cret" not in str(error)


@pytest.mark.parametrize("life", ["60", "60.0", 60.5, 60, "soon", None, -5, 0])
async def test_any_life_of_a_token_is_understood(life: Any, world: World) -> None:
    world.shop.expires_in = life
    tool = world.oauth()
    await do(tool)
    await do(tool)
    assert world.shop.issued == (2 if life in (-5, 0) else 1)


async def test_a_token_service_that_vanishes_means_not_sent(world: World) -> None:
    """Even where it may have made a token: the call itself was not sent."""
    with raw_server(lambda connection: (read_request(connection), None)[1], world.shop.pem) as port:
        there = f"https://localhost:{port}"
        error = await fails(world.oauth(token_url=f"{there}/token", allow=[there]))
    assert isinstance(error, NotSent) and error.code == "web.cut"
    error = await fails(world.oauth(token_url=f"{there}/token", allow=[there]))
    assert isinstance(error, NotSent) and error.code == "web.connect"
    assert world.shop.seen("/echo") == 0


async def test_a_token_is_fetched_only_from_where_it_may_be(world: World) -> None:
    """On the list, and at the metadata service of a cloud: refused, and the secret is shown to nobody."""
    auth = {"type": "oauth2", "token_url": "https://id.example/t", "client_id": CLIENT, "secret": "shop"}
    call = {"method": "POST", "path": "/echo", "effect": "irreversible"}
    given = {"base": world.shop.base, "private": ["localhost"], "auth": auth, "allow": ["https://id.example"]}

    def resolve(host: str, port: int) -> list[str]:
        return ["169.254.169.254"] if host == "id.example" else system_resolve(host, port)

    tool = make(world.place, given | {"calls": {"do": call}}, resolve=resolve)[0]
    error = await fails(tool)
    assert isinstance(error, Refused) and error.code == "web.address" and world.shop.requests == []


async def test_a_secret_others_can_read_is_refused_and_a_missing_one_is_not_sent(world: World) -> None:
    def exposed(name: str) -> str:
        raise Refused("secret.exposed", f"others can read {name}", advice="close it")

    def missing(name: str) -> str:
        raise Unavailable("secret.missing", f"there is no secret {name}", advice="set it")

    for secret, kind in ((exposed, Refused), (missing, NotSent)):
        world.place = replace(world.place, secret=secret)
        for tool in (world.oauth(), world.tool({"type": "bearer", "secret": "shop"})):
            error = await fails(tool)
            assert type(error) is kind and error.code == f"secret.{secret.__name__}"
    assert world.shop.requests == []
