"""The pages of authoring, memory and of what waits for people are accessible: see ``test_axe``."""

from __future__ import annotations

from playwright.sync_api import Browser, FilePayload, expect

from tests.server.console.axe import Judge, judge
from tests.server.console.browser import (
    MARKS,
    Desk,
    Served,
    ServedMemory,
    afternoon_desk,
    browser,
    seated,
    served_afternoon,
    served_memory,
    served_workspace,
)
from tests.server.console.sample_memory import SHOP
from tests.server.console.test_orders import run_of
from tests.server.console.test_workspace import PAGES as OF_AUTHORING

__all__ = [
    "afternoon_desk",
    "browser",
    "judge",
    "served_afternoon",
    "served_memory",
    "served_workspace",
]  # the fixtures
pytestmark = MARKS


def test_authoring(browser: Browser, served_workspace: Served, judge: Judge) -> None:
    with seated(browser, served_workspace) as desk:
        judge.go(desk, *OF_AUTHORING)


def test_where_people_settle_things(afternoon_desk: Desk, judge: Judge) -> None:
    hub = afternoon_desk.hub
    asked = [view.id for view in hub.approvals.waiting() if view.subject in ("PL-2026-0084", "PL-2026-0086")]
    runs = [run_of(hub, f"PL-2026-00{number}") for number in (82, 83, 88, 89)]
    judge.go(afternoon_desk, "/attention", *(f"/approvals/{name}" for name in asked), *(f"/runs/{run}" for run in runs))


def test_memory(browser: Browser, served_memory: ServedMemory, judge: Judge) -> None:
    hub, url, disputed = served_memory
    with seated(browser, (hub, url)) as desk:
        page, item = desk.page, f"/memory/items/{disputed}?scope={SHOP}"
        judge.go(
            desk, "/memory", "/memory?q=nowhere", "/memory/new", "/memory/import", "/memory/scopes",
            "/memory/forgotten", "/memory/holds", item, f"/memory/forget?kind=item&scope={SHOP}&item={disputed}",
            "/memory/forget?kind=subject",
        )  # fmt: skip
        desk.sign_in("omar")
        judge.go(desk, f"/memory/items/{disputed}/doors?scope={SHOP}")
        page.get_by_label("What it is for").fill("the web page")
        page.get_by_role("button", name="Make it").click()
        expect(page.get_by_text("automerge:").first).to_be_visible()
        judge.look(page, "the new address")
        desk.go("/memory/import")
        lines = b'{"form":1,"id":"mem_%s","item":{"kind":"note","text":"x","source":"y"}}\n{}\n' % (b"0" * 24)
        page.get_by_label("A file of items").set_input_files(FilePayload(name="x.jsonl", mimeType="", buffer=lines))
        page.get_by_role("button", name="See what it would do").click()
        expect(page.get_by_role("button", name="Bring in 1 item")).to_be_visible()
        judge.look(page, "what a file would do")
