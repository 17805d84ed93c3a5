"""Webhooks in: signed, fresh and once; the example of the reference page is one of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.webhooks import TOLERANCE_S, sign, signing_keys
from tests.edge_agent.api.kit import NOW, SECRETS, Answer, Served, serving

NOW_S = NOW // 1_000_000
BODY = b'{"type": "order.paid", "total": 12.50}'
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


async def send(
    served: Served, body: bytes = BODY, *, name: str = "shop", key: str = "", at: int = NOW_S, **more: Any
) -> Answer:
    headers: dict[str, str | None] = {"Authorization": None}
    headers |= sign(signing_keys(key or SECRETS["hook-shop"]), more.pop("message", "msg_1"), at, body)
    return await served.ask("POST", f"/hooks/{name}", body, headers=headers | more.pop("headers", {}))


async def test_a_signed_message_is_an_event_without_any_token(served: Served) -> None:
    answer = await send(served)
    assert (answer.status, answer.json) == (200, {"runs": 1})
    assert served.desk.events == {("shop", "msg_1"): {"type": "order.paid", "total": "12.50"}}


async def test_a_message_sent_again_is_the_same_event(served: Served) -> None:
    """Replayed as it was, or signed anew by the sender who got no answer."""
    await send(served)
    assert (await send(served)).json == {"runs": 0}
    assert (await send(served, at=NOW_S + 60)).json == {"runs": 0}
    assert (await send(served, message="msg_2")).json == {"runs": 1}
    assert list(served.desk.events) == [("shop", "msg_1"), ("shop", "msg_2")]


@pytest.mark.parametrize("at", [NOW_S - TOLERANCE_S - 1, NOW_S + TOLERANCE_S + 1, 0])
async def test_an_old_message_is_refused_though_its_signature_holds(at: int, served: Served) -> None:
    answer = await send(served, at=at)
    assert (answer.status, answer.json["code"]) == (401, "hook.stale") and served.desk.events == {}


async def test_what_is_forged_or_changed_reaches_nobody(served: Served) -> None:
    other = "whsec_" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
    signed = sign(signing_keys(SECRETS["hook-shop"]), "msg_1", NOW_S, BODY)
    forged: list[Answer] = [
        await send(served, key=other),
        await send(served, headers={"webhook-signature": "v1,AAAA"}),
        await send(served, headers={"webhook-id": "msg_2"}),
        await send(served, headers={"webhook-timestamp": str(NOW_S + 1)}),
        await served.ask("POST", "/hooks/shop", BODY + b" ", headers=dict(signed)),
        await served.ask("POST", "/hooks/shop", b"{}", headers=dict(signed)),
    ]
    assert {(answer.status, answer.json["code"]) for answer in forged} == {(401, "hook.signature")}
    assert served.desk.events == {}


async def test_the_token_is_no_signature(served: Served) -> None:
    answer = await served.ask("POST", "/hooks/shop", BODY)
    assert (answer.status, answer.json["code"]) == (400, "hook.headers") and served.desk.events == {}


async def test_one_of_several_signatures_is_enough(served: Served) -> None:
    good = sign(signing_keys(SECRETS["hook-shop"]), "msg_1", NOW_S, BODY)["webhook-signature"]
    assert (await send(served, headers={"webhook-signature": f"v1,AAAA v1a,BBBB {good}"})).status == 200


@pytest.mark.parametrize("name", ["none", "Shop", "..", "%2e%2e", "hook-shop", "shop%0a", "x" * 60])
async def test_a_hook_without_a_secret_is_not_there(name: str, served: Served) -> None:
    answer = await send(served, name=name)
    assert answer.status == 404 and answer.json["code"] in ("hook.unknown", "api.not-found")


async def test_a_secret_that_cannot_be_used_is_told_without_a_word_of_it(served: Served) -> None:
    answer = await send(served, name="broken")
    assert (answer.status, answer.json["code"]) == (503, "hook.secret")
    assert "hunter2" not in answer.body.decode() and "whsec" not in answer.body.decode()


@pytest.mark.parametrize("body", [b"[]", b"null", b"{", b"1.5", b""])
async def test_a_signed_body_that_is_no_object_is_refused(body: bytes, served: Served) -> None:
    answer = await send(served, body)
    assert answer.status == 400 and served.desk.events == {}


async def test_a_hook_must_be_json_and_has_a_bound(served: Served) -> None:
    assert (await send(served, headers={"Content-Type": "text/plain"})).status == 415
    assert (await send(served, json.dumps({"x": "y" * 300_000}).encode())).status == 413


async def test_the_example_of_the_reference_is_accepted(served: Served) -> None:
    """The page's request, byte for byte, at the page's time and with the page's secret."""
    page = (ROOT / "docs" / "reference" / "local-api.md").read_text("utf-8")
    found = re.search(r"^```http\n(POST /hooks/shop HTTP/1\.1\n.*?)\n\n(.*?)\n```", page, re.MULTILINE | re.DOTALL)
    assert found
    headers = dict(line.split(": ", 1) for line in found[1].splitlines()[1:])
    assert f"`{SECRETS['hook-shop']}`" in page and f"`{NOW_S}`" in page
    headers |= {"Host": f"127.0.0.1:{served.port}"}
    answer = await served.ask("POST", "/hooks/shop", found[2].encode(), headers={**headers, "Authorization": None})
    assert (answer.status, answer.json) == (200, {"runs": 1})
    assert served.desk.events == {("shop", headers["webhook-id"]): {"type": "order.paid", "order": "o-17"}}
