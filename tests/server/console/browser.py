"""A real browser at a served sample hub: Debian's Chromium, one of a module. The fixtures are for import.

Everything that must happen is waited for as long as a busy machine may take.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.server.console.conftest import copied, opened, serving
from tests.server.console.sample_hub import SampleHub
from tests.server.console.sample_memory import a_memory

PATIENCE_S = 60
CHROMIUM = Path("/usr/bin/chromium")
MARKS = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed at /usr/bin/chromium"),
]
expect.set_options(timeout=PATIENCE_S * 1000)

Served = tuple[SampleHub, str]
ServedMemory = tuple[SampleHub, str, str]


class Desk:
    """One browser window at a served hub."""

    def __init__(self, page: Page, url: str, hub: SampleHub) -> None:
        self.page, self.url, self.hub = page, url, hub
        self.said: list[str] = []
        self.expected = r"^$"
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def sign_in(self, name: str = "maria") -> None:
        token, _ = self.hub.users.create_session(next(u for u in self.hub.users.list() if u.name == name))
        self.page.context.add_cookies([{"name": "outrider_session", "value": token, "url": self.url}])

    def wait_live(self) -> None:
        """Until the page hears of changes."""
        self.wait_for(lambda: bool(self.hub.bus._listeners.get("approvals")))

    def wait_for(self, holds: Callable[[], object]) -> None:
        """Until something is so that no page shows."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end
            self.page.wait_for_timeout(50)

    def card(self, number: str) -> Any:
        return self.page.locator("[data-card]", has=self.page.get_by_role("heading", name=number))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
            timeout=180_000,
        )
        yield chromium
        chromium.close()


def window(browser: Browser, **options: Any) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
    context.set_default_timeout(PATIENCE_S * 1000)
    return context


@contextmanager
def seated(browser: Browser, served: Served, **options: Any) -> Iterator[Desk]:
    """Maria at her desk. In the end no script has failed, and no security policy was broken."""
    hub, url = served
    context = window(browser, **options)
    made = Desk(context.new_page(), url, hub)
    made.sign_in()
    yield made
    context.close()
    assert [line for line in made.said if not re.search(made.expected, line)] == []


@pytest.fixture
def served(morning: SampleHub, tmp_path: Path) -> Iterator[Served]:
    with opened(copied(morning, tmp_path)) as hub:
        hub.clock.run()
        with serving(hub) as url:
            yield hub, url


@pytest.fixture
def served_afternoon(afternoon: SampleHub, tmp_path: Path) -> Iterator[Served]:
    with opened(copied(afternoon, tmp_path)) as hub:
        hub.clock.run()
        with serving(hub) as url:
            yield hub, url


@pytest.fixture
def served_memory(morning: SampleHub, tmp_path: Path) -> Iterator[ServedMemory]:
    """With the item that two people wrote at once."""
    with opened(copied(morning, tmp_path)) as hub:
        hub.clock.run()
        disputed = a_memory(hub)
        with serving(hub) as url:
            yield hub, url, disputed


@pytest.fixture
def served_workspace(morning: SampleHub, tmp_path: Path) -> Iterator[Served]:
    """Omar has changed one bound since the release, and misspelt a tool."""
    with opened(copied(morning, tmp_path)) as hub:
        hub.clock.run()
        hub.authoring.begin()
        omar = replace(next(user for user in hub.users.list() if user.name == "omar"), roles=("release",))
        text = hub.authoring.drafts.files(hub.authoring.need())["policy.cedar"].decode()
        text = text.replace("< 900", "< 850").replace('Tool::"mail.send"', 'Tool::"mail.sent"')
        hub.authoring.edit("policy.cedar", text.encode(), base=1, by=omar)
        hub.authoring.comment(2, by=omar, text="Fewer questions.", path="policy.cedar", line=5)
        with serving(hub) as url:
            yield hub, url


@pytest.fixture
def desk(browser: Browser, served: Served) -> Iterator[Desk]:
    with seated(browser, served) as made:
        yield made


@pytest.fixture
def afternoon_desk(browser: Browser, served_afternoon: Served) -> Iterator[Desk]:
    with seated(browser, served_afternoon) as made:
        yield made
