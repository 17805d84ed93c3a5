"""What axe, the accessibility checker, has against pages: wide and narrow, light and dark. The fixture is imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.server.console.browser import Desk

EVERYTHING = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}  # all that the other scheme can change
LAYOUT = {"rules": {"color-contrast": {"enabled": False}}}  # a narrow window shows less, and nothing in other colours
LOOKS: list[tuple[int, Literal["light", "dark"], dict[str, Any]]] = [
    (390, "dark", {"runOnly": EVERYTHING, **LAYOUT}),
    (1400, "dark", {"runOnly": COLOURS}),
    (1400, "light", {"runOnly": EVERYTHING}),
]
RUN = "options => axe.run(document, options).then((result) => result.violations)"
OPEN = """document.querySelectorAll("details").forEach((details) => {
    details.removeAttribute("name");
    details.open = true;
})"""


class Judge:
    """What axe has against pages with everything opened, by rule and place."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def go(self, desk: Desk, *places: str) -> None:
        for place in places:
            self.look(desk.go(place), place)

    def look(self, page: Page, place: str) -> None:
        """The page that is open. It is loaded once; its window and its scheme change."""
        page.evaluate(OPEN)
        page.evaluate(Axe().axe_script)
        for width, scheme, options in LOOKS:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.wait_for_function("wanted => document.documentElement.dataset.bsTheme === wanted", arg=scheme)
            for violation in page.evaluate(RUN, {"resultTypes": ["violations"], **options}):
                nodes = [node["html"][:160] + " " + node.get("failureSummary", "") for node in violation["nodes"][:3]]
                self.found.setdefault(f"{violation['id']} at {place}, {width} wide, {scheme}", []).extend(nodes)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if over > 0:
                self.found[f"sideways at {place}, {width} wide"] = [str(over)]


@pytest.fixture
def judge() -> Iterator[Judge]:
    made = Judge()
    yield made
    assert made.found == {}, made.found
