"""The panel in a real browser: accessible in light and dark and on a narrow window, usable by keyboard, quiet in the
console, closed to other pages. Needs Debian's Chromium (``apt-get install chromium``)."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.edge_agent.panel.kit import Office, opened
from tests.edge_agent.panel.sample import Furnished, furnished

expect.set_options(timeout=30_000)  # shared machines are slow
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed at /usr/bin/chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Office, Furnished]]:
    """An office with something of everything; only looked at."""
    with opened(tmp_path_factory.mktemp("office")) as office:
        yield office, furnished(office)


class Window:
    """An open panel, and what the browser's console said."""

    def __init__(self, office: Office, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(office.invite())
        self.page.wait_for_url(re.compile(r"/panel/[A-Za-z0-9_-]{22}/$"))
        self.base = self.page.url.rstrip("/")

    def go(self, path: str) -> Page:
        self.page.goto(self.base + path)
        return self.page


@contextmanager
def window(browser: Browser, office: Office, **options: Any) -> Iterator[Window]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(30_000)
    yield Window(office, context)
    context.close()


def inspect(shown: Window, path: str, found: dict[str, list[str]]) -> None:
    """What axe has against a page with everything opened, and whether it runs over its sides."""
    page = shown.go(path)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    result = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    for violation in result.response["violations"]:
        nodes = [node["html"][:160] + " " + node.get("failureSummary", "") for node in violation["nodes"][:3]]
        found.setdefault(f"{violation['id']} at {path}", []).extend(nodes)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        found[f"sideways at {path}"] = [str(overflow)]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_on_any_page(
    browser: Browser, at_work: tuple[Office, Furnished], scheme: Any, width: int
) -> None:
    office, stands = at_work
    size = {"width": width, "height": 900}
    with window(browser, office, viewport=size, color_scheme=scheme, reduced_motion="reduce") as shown:
        found: dict[str, list[str]] = {}
        for path in stands.paths():
            inspect(shown, path, found)
        shown.go("/").get_by_role("button", name="Close panel").click()
        expect(shown.page.get_by_role("heading", name="The panel is closed")).to_be_visible()
        closed = Axe().run(shown.page)
        found |= {"closed": [one["id"] for one in closed.response["violations"]]} if closed.violations_count else {}
    assert found == {}
    assert [line for line in shown.said if "404" not in line] == []  # no policy was broken


def test_an_empty_office_is_accessible_too(browser: Browser, office: Office) -> None:
    with window(browser, office) as shown:
        found: dict[str, list[str]] = {}
        for path in (
            "/",
            "/runs",
            "/approvals",
            "/memory",
            "/memory/forgotten",
            "/memory/tidy",
            "/memory/sessions",
            "/memory/files",
        ):
            inspect(shown, path, found)
    assert found == {} and shown.said == []


def test_a_morning_by_keyboard_alone(browser: Browser, office: Office) -> None:
    """Skip link, a new item, found again, edited, forgotten: no pointer."""
    with window(browser, office) as shown:
        page, keys = shown.page, shown.page.keyboard
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        shown.go("/memory")
        page.get_by_role("link", name="Add an item").first.focus()
        keys.press("Enter")
        page.get_by_label("What it says").focus()
        keys.type("The depot opens at seven.")
        page.get_by_label("Tags").focus()
        keys.type("depot, hours")
        page.get_by_role("button", name="Remember it").focus()
        keys.press("Enter")
        expect(page.get_by_role("status")).to_have_text("It is remembered.")
        shown.go("/memory")
        page.get_by_label("Words or meaning").focus()
        keys.type("depots")
        keys.press("Enter")
        expect(page.get_by_text("found by the word depots")).to_be_visible()
        page.get_by_role("link", name="The depot opens at seven.").focus()
        keys.press("Enter")
        page.get_by_text("Edit it…").focus()
        keys.press("Enter")
        text = page.get_by_role("textbox", name="What it says")
        text.focus()
        keys.press("Control+A")
        keys.type("The depot opens at eight.")
        page.get_by_role("button", name="Save").focus()
        keys.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Saved.")
        expect(page.locator("del")).to_have_text("seven")
        page.get_by_role("link", name="Forget…").focus()
        keys.press("Enter")
        page.get_by_label("It is not true").focus()
        keys.press("Space")
        page.get_by_label("I am sure").focus()
        keys.press("Space")
        page.get_by_role("button", name="Forget it").focus()
        keys.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("1 item is gone from this computer.")
    assert office.memory.count() == 0 and shown.said == []


def test_a_file_goes_in_and_out_and_a_question_is_answered(browser: Browser, office: Office, tmp_path: Path) -> None:
    office.equip()
    run = office.open_run("PA-1", "A deck behind the house")
    file = tmp_path / "hand.md"
    file.write_text('---\nkind: "fact"\n---\n\nWritten by hand: "ä", <b>.\n')
    with window(browser, office) as shown:
        page = shown.go("/memory/files")
        page.get_by_label("A file").set_input_files(file)
        page.get_by_role("button", name="Import it").click()
        expect(page.get_by_role("status")).to_have_text("1 item kept, 0 known already.")
        with page.expect_download() as download:
            page.get_by_role("link", name="Markdown").click()
        assert 'Written by hand: "ä", <b>.' in Path(download.value.path()).read_text()
        page = shown.go("/approvals")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("status")).to_have_text("Approved.")
        expect(page.get_by_role("heading", name="Nobody is asked anything")).to_be_visible()
    office.settle()
    assert office.rig.device.closed == {run: "done"} and shown.said == []


def test_another_page_of_this_computer_can_neither_use_nor_frame_the_panel_nor_get_its_cookie(
    browser: Browser, office: Office
) -> None:
    """A server at another port is the same site to a browser, and shares its cookies: the worst neighbour there is."""
    office.remember("The depot opens at seven.")
    got: list[str] = []
    with window(browser, office) as shown, neighbour(shown.base, got) as url:
        page = shown.page
        page.goto(url)
        page.wait_for_function("document.title === 'done'")
        assert page.evaluate("window.read") == "nothing"
        page.get_by_role("button", name="win").click()
        expect(page.locator("body")).to_contain_text("api.origin")
    assert office.memory.count() == 1
    assert len(got) >= 2 and not any("outrider_panel" in cookie for cookie in got)


@contextmanager
def neighbour(panel: str, got: list[str]) -> Iterator[str]:
    """A hostile server at another port that knows the whole address of an open panel (which it should not)."""
    html = f"""<!doctype html><title>x</title><body>
<form method="post" action="{panel}/memory/new"><input name="text" value="x"><button>win</button></form>
<script>
window.read = "nothing";
fetch("{panel}/memory", {{credentials: "include"}})
  .then((answer) => answer.text()).then((text) => {{ window.read = text }})
  .catch(() => {{}}).finally(() => {{ document.title = "done" }});
const frame = document.createElement("iframe"); frame.src = "{panel}/"; document.body.append(frame);
</script>"""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(self.headers.get("Cookie", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/panel/"
        finally:
            server.shutdown()
            thread.join()
