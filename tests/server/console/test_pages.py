"""Every page answers, carries its security headers, and says what to do next where there is nothing to show."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from server.console import attach, router
from tests.server.console.conftest import InProcess, client_of, signed_in
from tests.server.console.sample_hub import SampleHub


def paths(hub: SampleHub) -> list[str]:
    """One address of every kind of page."""
    device = hub.devices.list()[0].id
    run = hub.record.runs(limit=1)[0].id
    approval = hub.approvals.waiting()[0].id
    answered = hub.approvals.recent(1)[0].id
    return [
        "/", "/devices", f"/devices/{device}", f"/devices/{device}/revoke", "/runs", f"/runs/{run}",
        "/approvals", f"/approvals/{approval}", f"/approvals/{answered}", "/approvals/board", "/approvals/badge",
        "/safety", "/rollouts",
    ]  # fmt: skip


def test_every_page_answers_with_its_headers(read_only: SampleHub) -> None:
    client = signed_in(read_only)
    for path in paths(read_only):
        answer = client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", answer.text), path


def test_every_page_has_one_title_one_heading_and_one_main(read_only: SampleHub) -> None:
    client = signed_in(read_only)
    for path in paths(read_only)[:9]:
        html = client.get(path).text
        assert html.count("<h1") == 1 and html.count("<main") == 1 and html.count("<title>") == 1, path
        assert " · City of Example · Outrider</title>" in html


def test_an_empty_hub_says_what_to_do(hub: SampleHub) -> None:
    client = signed_in(hub)
    overview = client.get("/").text
    assert "outrider hub token --home /var/lib/outrider/hub" in overview
    assert "outrider agent join http://127.0.0.1:8400 TOKEN" in overview
    assert "No devices yet" in client.get("/devices").text
    assert "No runs yet" in client.get("/runs").text
    assert "Nothing waits for you" in client.get("/approvals").text


def test_the_overview_counts(read_only: SampleHub) -> None:
    html = signed_in(read_only).get("/").text
    numbers = re.findall(r'class="tile-number">([\d,]+)<', html)
    assert numbers == ["4", "11", "7", "1"]  # waiting, alone, asked, denied
    assert "55% of the latest 20 runs" in html
    assert "log.rollback" in html and "Field laptop 7" in html
    assert "1 of 3 online" in html


@pytest.mark.parametrize("path", ["/nowhere", "/devices/d-none", "/runs/none", "/runs/a:b", "/approvals/a-none"])
def test_what_is_not_there_has_a_friendly_page(read_only: SampleHub, path: str) -> None:
    answer = signed_in(read_only).get(path)
    assert answer.status_code == 404
    assert "Go to the overview" in answer.text and "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_wrong_method_has_a_page_too(read_only: SampleHub) -> None:
    answer = signed_in(read_only).post("/runs")
    assert answer.status_code == 405 and "console.http-405" in answer.text


def test_machines_keep_their_plain_answers(read_only: SampleHub) -> None:
    answer = client_of(read_only).get("/api/nothing")
    assert answer.status_code == 404 and answer.json() == {"detail": "Not Found"}


def test_an_unforeseen_error_says_nothing_of_itself(read_only: SampleHub) -> None:
    app = read_only.app()
    broken = APIRouter()

    async def fall_over() -> None:
        raise RuntimeError("the secret is 1234")

    broken.add_api_route("/broken", fall_over)
    broken.add_api_route("/api/broken", fall_over)
    app.include_router(broken)
    client = signed_in(read_only)
    quiet = httpx.Client(transport=InProcess(app, quiet=True), base_url="http://hub.test", cookies=dict(client.cookies))
    page, api = quiet.get("/broken"), quiet.get("/api/broken")
    assert (page.status_code, api.status_code) == (500, 500)
    assert "console.internal" in page.text and "1234" not in page.text
    assert api.json() == {"code": "hub.internal"}


def test_attach_and_router_serve_the_same_pages(read_only: SampleHub) -> None:
    alone, attached = FastAPI(), FastAPI()
    alone.include_router(router(read_only.services))
    attach(attached, read_only.services)
    for app in (alone, attached):
        client = httpx.Client(transport=InProcess(app), base_url="http://hub.test")
        assert client.get("/healthz").text == "ok\n"
        assert "Sign in to City of Example" in client.get("/login").text
