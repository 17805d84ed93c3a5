"""Signing in and out, and forms that belong to nobody else."""

from __future__ import annotations

import httpx
import pytest

from tests.server.console.conftest import client_of, csrf_in, session_csrf, signed_in
from tests.server.console.sample_hub import MARIA, SampleHub


def try_password(client: httpx.Client, password: str, **more: str) -> httpx.Response:
    csrf = csrf_in(client.get("/login").text)
    return client.post("/login", data={"csrf": csrf, "name": "maria", "password": password, **more})


@pytest.mark.parametrize("path", ["/", "/devices", "/runs?status=done", "/approvals", "/approvals/x", "/runs/x"])
def test_pages_need_a_person_and_come_back_after_sign_in(hub: SampleHub, path: str) -> None:
    answer = client_of(hub).get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    if path == "/runs?status=done":
        assert answer.headers["location"] == "/login?next=/runs%3Fstatus%3Ddone"


def test_a_script_is_told_where_to_sign_in(hub: SampleHub) -> None:
    answer = client_of(hub).get("/approvals/board", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")
    assert client_of(hub).get("/events").status_code == 401


def test_sign_in_opens_a_session_that_scripts_cannot_read(hub: SampleHub) -> None:
    client = client_of(hub)
    answer = try_password(client, MARIA[1], next="/devices")
    assert (answer.status_code, answer.headers["location"]) == (303, "/devices")
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("outrider_session="))
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" not in cookie
    assert client.get("/devices").status_code == 200
    assert client.get("/login").headers["location"] == "/"


def test_over_https_the_cookie_is_secure(hub: SampleHub) -> None:
    answer = try_password(client_of(hub, "https://hub.test"), MARIA[1])
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("outrider_session="))
    assert "Secure" in cookie


def test_a_wrong_password_says_no_more_than_that(hub: SampleHub) -> None:
    client = client_of(hub)
    answer = try_password(client, "not the password")
    assert answer.status_code == 403
    assert "user.credentials" in answer.text and "not the password" not in answer.text
    assert "outrider_session" not in client.cookies


def test_too_many_tries_have_to_wait(hub: SampleHub) -> None:
    client = client_of(hub)
    for _ in range(10):
        assert try_password(client, "guess").status_code == 403
    answer = try_password(client, MARIA[1])
    assert answer.status_code == 429
    assert "Too many failed tries" in answer.text and "Wait " in answer.text
    hub.clock.step(301 * 1_000_000)
    assert try_password(client, MARIA[1]).status_code == 303


@pytest.mark.parametrize("there", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\nb"])
def test_sign_in_never_leads_to_another_host(hub: SampleHub, there: str) -> None:
    answer = try_password(client_of(hub), MARIA[1], next=there)
    assert answer.headers["location"] == "/"


def test_a_form_without_its_token_does_nothing(busy: SampleHub) -> None:
    client = signed_in(busy)
    approval = busy.approvals.waiting()[0].id
    other = session_csrf(signed_in(busy))
    for token in ("", "0" * 64, other, "ü"):
        answer = client.post(f"/approvals/{approval}/answer", data={"csrf": token, "answer": "approve"})
        assert answer.status_code == 403 and "console.csrf" in answer.text
    assert client.post("/logout", data={"csrf": ""}).status_code == 403
    assert busy.approvals.get(approval).state == "waiting"


def test_sign_in_itself_needs_the_token_of_its_page(hub: SampleHub) -> None:
    answer = client_of(hub).post("/login", data={"name": "maria", "password": MARIA[1]})
    assert answer.status_code == 403 and "console.csrf" in answer.text


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"csrf=%ff&answer", "application/x-www-form-urlencoded"),
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(300)), "application/x-www-form-urlencoded"),
        (b'{"answer": "approve"}', "application/json"),
    ],
)
def test_what_is_not_a_form_is_refused(busy: SampleHub, content: bytes, kind: str) -> None:
    answer = signed_in(busy).post("/logout", content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 403)
    assert "console.form" in answer.text or "console.csrf" in answer.text


def test_signing_out_ends_the_session_everywhere(hub: SampleHub) -> None:
    client = signed_in(hub)
    token = client.cookies["outrider_session"]
    answer = client.post("/logout", data={"csrf": session_csrf(client)})
    assert answer.headers["location"] == "/login?bye=1"
    again = client_of(hub)
    again.cookies.set("outrider_session", token)
    assert again.get("/").status_code == 303
    assert "signed out" in again.get("/login?bye=1").text
