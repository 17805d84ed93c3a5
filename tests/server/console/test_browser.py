"""The console in a real browser: accessible in light and dark, live, usable by keyboard and without scripts, and deaf
to hostile text. Needs Debian's Chromium (``apt-get install chromium``)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, Route, expect, sync_playwright

from tests.server.console.conftest import copied, opened, serving
from tests.server.console.sample_cases import WAITING
from tests.server.console.sample_hub import MARIA, SampleHub
from tests.server.console.sample_memory import SHOP, a_memory
from tests.server.console.sample_replay import a_day_offline, scored, taken_back
from tests.server.console.sample_rollout import a_rollout
from tests.server.console.test_models import some_models
from tests.server.console.test_orders import run_of
from tests.server.console.test_pages import paths
from tests.server.console.test_runs import HOSTILE
from tests.server.console.test_workspace import PAGES as OF_AUTHORING

expect.set_options(timeout=15_000)  # shared machines are slow
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed at /usr/bin/chromium"),
]


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
        deadline = time.monotonic() + 10
        while not self.hub.bus._listeners.get("approvals") and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)

    def card(self, number: str) -> Any:
        return self.page.locator("[data-card]", has=self.page.get_by_role("heading", name=number))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
        )
        yield chromium
        chromium.close()


def window(browser: Browser, **options: Any) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
    context.set_default_timeout(15_000)
    return context


@pytest.fixture
def served(morning: SampleHub, tmp_path: Path) -> Iterator[tuple[SampleHub, str]]:
    with opened(copied(morning, tmp_path)) as hub:
        hub.clock.run()
        with serving(hub) as url:
            yield hub, url


@pytest.fixture
def served_afternoon(afternoon: SampleHub, tmp_path: Path) -> Iterator[tuple[SampleHub, str]]:
    with opened(copied(afternoon, tmp_path)) as hub:
        hub.clock.run()
        with serving(hub) as url:
            yield hub, url


@pytest.fixture
def served_memory(morning: SampleHub, tmp_path: Path) -> Iterator[tuple[SampleHub, str, str]]:
    with opened(copied(morning, tmp_path)) as hub:
        hub.clock.run()
        disputed = a_memory(hub)
        with serving(hub) as url:
            yield hub, url, disputed


@pytest.fixture
def afternoon_desk(browser: Browser, served_afternoon: tuple[SampleHub, str]) -> Iterator[Desk]:
    hub, url = served_afternoon
    context = window(browser)
    made = Desk(context.new_page(), url, hub)
    made.sign_in()
    yield made
    context.close()
    assert [line for line in made.said if not re.search(made.expected, line)] == []


@pytest.fixture
def desk(browser: Browser, served: tuple[SampleHub, str]) -> Iterator[Desk]:
    hub, url = served
    context = window(browser)
    made = Desk(context.new_page(), url, hub)
    made.sign_in()
    yield made
    context.close()
    # No script failed, and no security policy was broken.
    assert [line for line in made.said if not re.search(made.expected, line)] == []


def inspect(desk: Desk, path: str, found: dict[str, list[str]]) -> None:
    """What axe has against a page with everything opened, and whether it runs over its sides."""
    judge(desk.go(path), path, found)


def judge(page: Page, path: str, found: dict[str, list[str]]) -> None:
    """The same of the page that is open."""
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.removeAttribute('name') })")
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    result = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    for violation in result.response["violations"]:
        nodes = [node["html"][:160] + " " + node.get("failureSummary", "") for node in violation["nodes"][:3]]
        found.setdefault(f"{violation['id']} at {path}", []).extend(nodes)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        found[f"sideways at {path}"] = [str(overflow)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing_on_any_page(
    browser: Browser, served: tuple[SampleHub, str], scheme: Any, width: int
) -> None:
    hub, url = served
    context = window(browser, color_scheme=scheme, reduced_motion="reduce")
    desk = Desk(context.new_page(), url, hub)
    desk.page.set_viewport_size({"width": width, "height": 900})
    found: dict[str, list[str]] = {}
    inspect(desk, "/login", found)
    desk.sign_in()
    whole = [path for path in paths(hub) if not path.endswith(("/board", "/badge"))]
    hub.switches.press("fleet", by="omar", reason="drill", note="practice")
    tool = hub.switches.press("tool", "register.decide", by="maria", reason="tool")
    hub.switches.release(tool.id, by="maria", note="mended")
    for path in [*whole, "/runs?q=nothing-like-it", "/nowhere"]:
        inspect(desk, path, found)
    context.close()
    assert found == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_pages_of_memory(
    browser: Browser, served_memory: tuple[SampleHub, str, str], scheme: Any
) -> None:
    hub, url, disputed = served_memory
    context = window(browser, color_scheme=scheme, reduced_motion="reduce")
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    found: dict[str, list[str]] = {}
    for width in (1400, 390):
        desk.page.set_viewport_size({"width": width, "height": 900})
        for path in (
            "", "?q=nowhere", "/new", "/import", "/scopes", "/forgotten", "/holds", f"/items/{disputed}?scope={SHOP}",
            f"/forget?kind=item&scope={SHOP}&item={disputed}", "/forget?kind=subject",
        ):  # fmt: skip
            inspect(desk, f"/memory{path}", found)
    desk.sign_in("omar")
    doors = f"/memory/items/{disputed}/doors?scope={SHOP}"
    inspect(desk, doors, found)
    desk.page.get_by_label("What it is for").fill("the web page")
    desk.page.get_by_role("button", name="Make it").click()
    expect(desk.page.get_by_text("automerge:").first).to_be_visible()
    judge(desk.page, "the new address", found)
    desk.go("/memory/import")
    lines = b'{"form":1,"id":"mem_%s","item":{"kind":"note","text":"x","source":"y"}}\n{}\n' % (b"0" * 24)
    desk.page.get_by_label("A file of items").set_input_files(FilePayload(name="x.jsonl", mimeType="", buffer=lines))
    desk.page.get_by_role("button", name="See what it would do").click()
    expect(desk.page.get_by_role("button", name="Bring in 1 item")).to_be_visible()
    judge(desk.page, "what a file would do", found)
    context.close()
    assert found == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_pages_of_rollouts(
    browser: Browser, served: tuple[SampleHub, str], scheme: Any
) -> None:
    hub, url = served
    context = window(browser, color_scheme=scheme, reduced_motion="reduce")
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    found: dict[str, list[str]] = {}
    inspect(desk, "/rollouts", found)
    a_rollout(hub)
    rollouts = [one.state.plan.rollout for one in hub.rollouts.courses() if one.state.plan is not None]
    for width in (1400, 390):
        desk.page.set_viewport_size({"width": width, "height": 900})
        for path in ("", *(f"/{rollout}" for rollout in rollouts)):
            inspect(desk, f"/rollouts{path}", found)
    context.close()
    assert found == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_pages_of_replay_and_reconciliation(
    browser: Browser, served: tuple[SampleHub, str], scheme: Any
) -> None:
    hub, url = served
    context = window(browser, color_scheme=scheme, reduced_motion="reduce")
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    found: dict[str, list[str]] = {}
    for path in ("/workspace/replay", "/reconcile"):
        inspect(desk, path, found)
    day = a_day_offline(hub)
    hub.reconcile.look()
    scored(day, hub.replays.ask(2, 50, by="maria", roles=["admin"]))
    hub.reconcile.excuse(hub.reconcile.open()[0].n, by="omar", roles=["clerk"], reason="In writing.")
    for width in (1400, 390):
        desk.page.set_viewport_size({"width": width, "height": 900})
        for path in ("/releases/2/replay", "/reconcile", "/attention"):
            inspect(desk, path, found)
    context.close()
    assert found == {}


def test_what_was_done_offline_is_taken_back_with_one_click(desk: Desk) -> None:
    day = a_day_offline(desk.hub)
    page = desk.go("/reconcile")
    desk.wait_live()
    desk.hub.reconcile.look()
    card = page.locator("article", has=page.get_by_role("link", name="PA-2026-0300"))
    card.get_by_role("button", name="Take it back").click()
    expect(card.get_by_text("has not taken the order yet")).to_be_visible()
    taken_back(day, day.runs[0])
    desk.hub.reconcile.look()
    expect(page.get_by_text("taken back", exact=True).first).to_be_visible()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_of_models(browser: Browser, served: tuple[SampleHub, str], scheme: Any) -> None:
    hub, url = served
    context = window(browser, color_scheme=scheme, reduced_motion="reduce")
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    found: dict[str, list[str]] = {}
    inspect(desk, "/models", found)
    some_models(hub)
    for width in (1400, 390):
        desk.page.set_viewport_size({"width": width, "height": 900})
        inspect(desk, "/models", found)
    context.close()
    assert found == {}


def test_a_model_is_added_by_a_person_with_a_file(
    browser: Browser, served: tuple[SampleHub, str], tmp_path: Path
) -> None:
    hub, url = served
    context = window(browser)
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    page = desk.go("/models")
    file = tmp_path / "letters.gguf"
    file.write_bytes(b"GGUF" + bytes(500_000))
    page.get_by_label("Name").fill("letters-1")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("button", name="Use in the next release: letters-1")).to_be_visible()
    assert [model.size for model in hub.models.list()] == [500_004]
    context.close()


@pytest.fixture
def served_workspace(morning: SampleHub, tmp_path: Path) -> Iterator[tuple[SampleHub, str]]:
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


@pytest.mark.timeout(400)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_pages_of_authoring(
    browser: Browser, served_workspace: tuple[SampleHub, str], scheme: Any
) -> None:
    hub, url = served_workspace
    context = window(browser, color_scheme=scheme, reduced_motion="reduce")
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    found: dict[str, list[str]] = {}
    for width in (1400, 390):
        desk.page.set_viewport_size({"width": width, "height": 900})
        for path in OF_AUTHORING:
            inspect(desk, path, found)
    context.close()
    assert found == {}


@pytest.mark.timeout(300)
def test_a_file_is_edited_by_keyboard_with_what_is_found_at_its_lines(
    browser: Browser, served_workspace: tuple[SampleHub, str]
) -> None:
    hub, url = served_workspace
    context = window(browser)
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    page = desk.go("/workspace/files/policy.cedar")
    text = page.get_by_label("Text of policy.cedar")
    expect(page.locator("#gutter .mark-warning")).to_have_count(1)
    text.focus()
    page.keyboard.press("Control+Home")
    page.keyboard.type("permt (principal, action, resource);\n")
    expect(page.locator("#gutter .mark-error")).to_have_text("1", timeout=60_000)
    expect(text).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#found-count")).to_contain_text("1 error")
    link = page.get_by_role("button", name="Line 1")
    link.focus()
    page.keyboard.press("Enter")
    expect(text).to_be_focused()
    assert page.evaluate("text.value.slice(text.selectionStart, text.selectionEnd)").startswith("permt (principal")
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    expect(page.locator("#gutter .mark-error")).to_have_count(0, timeout=60_000)
    page.keyboard.press("Control+End")
    page.keyboard.type("// looked at")
    page.keyboard.press("Control+s")
    expect(page.get_by_text("Saved as version 3.")).to_be_visible()
    assert hub.authoring.drafts.files(hub.authoring.need())["policy.cedar"].endswith(b"// looked at")
    page.keyboard.press("Tab")  # the text field does not hold the keyboard
    context.close()
    assert desk.said == []


@pytest.mark.timeout(300)
def test_what_was_typed_is_there_again_after_the_session_ended(
    browser: Browser, served_workspace: tuple[SampleHub, str]
) -> None:
    hub, url = served_workspace
    context = window(browser)
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    page = desk.go("/workspace/files/policy.cedar")
    text = page.get_by_label("Text of policy.cedar")
    saved = text.input_value()
    text.fill(f"{saved}// half a thought")
    context.clear_cookies()
    page.get_by_role("button", name="Save a version").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    desk.sign_in()
    desk.go("/workspace/files/policy.cedar")
    expect(text).to_have_value(saved)
    page.get_by_role("button", name="Put it back").click()
    expect(text).to_have_value(f"{saved}// half a thought")
    page.get_by_role("button", name="Save a version").click()
    expect(page.get_by_text("Saved as version 3.")).to_be_visible()
    desk.go("/workspace/files/policy.cedar")
    expect(page.get_by_text("You typed something here")).to_be_hidden()
    context.close()


def test_a_conflict_is_settled_by_keyboard_and_an_open_list_hears_of_it(
    browser: Browser, served_memory: tuple[SampleHub, str, str]
) -> None:
    hub, url, disputed = served_memory
    context = window(browser)
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    page = desk.go("/memory?contested=yes")
    desk.wait_live()
    row = page.get_by_role("link", name="The depot opens at seven")
    expect(row).to_be_visible()
    other = context.new_page()
    other.goto(f"{url}/memory/items/{disputed}?scope={SHOP}")
    button = other.get_by_role("region", name="Conflict about fields/town").get_by_role("button").nth(1)
    button.focus()
    other.keyboard.press("Enter")
    expect(other.get_by_role("region", name="Conflict about fields/town")).to_have_count(0)
    expect(row).to_have_count(0)
    context.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing_where_people_settle_things(
    browser: Browser, served_afternoon: tuple[SampleHub, str], scheme: Any, width: int
) -> None:
    hub, url = served_afternoon
    context = window(browser, color_scheme=scheme, reduced_motion="reduce")
    desk = Desk(context.new_page(), url, hub)
    desk.page.set_viewport_size({"width": width, "height": 900})
    desk.sign_in()
    asked = [
        f"/approvals/{view.id}" for view in hub.approvals.waiting() if view.subject in ("PL-2026-0084", "PL-2026-0086")
    ]
    runs = [f"/runs/{run_of(hub, f'PL-2026-00{number}')}" for number in (82, 83, 88, 89)]
    pages = ["/attention", *asked, *runs]
    found: dict[str, list[str]] = {}
    for path in pages:
        inspect(desk, path, found)
    context.close()
    assert found == {}


def test_signing_in_and_out_by_hand(browser: Browser, served: tuple[SampleHub, str]) -> None:
    hub, url = served
    context = window(browser)
    page = Desk(context.new_page(), url, hub).go("/runs?status=waiting")
    page.get_by_label("Name").fill(MARIA[0])
    page.get_by_label("Password").fill(MARIA[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{url}/runs?status=waiting")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    context.close()


def test_answers_leave_and_questions_come_without_a_reload(desk: Desk) -> None:
    page, hub = desk.go("/approvals"), desk.hub
    desk.wait_live()
    expect(page.locator("[data-card]")).to_have_count(4)
    page.evaluate("window.stayed = true")
    hub.approvals.decide(
        next(view.id for view in hub.approvals.waiting() if view.subject == "PA-2026-0142"),
        by="omar", roles=["clerk"], answer="approve", reason="", corrections={},
    )  # fmt: skip
    expect(desk.card("PA-2026-0142")).to_have_count(0)
    expect(page.locator("#badge")).to_have_text("3 waiting")
    expect(page.locator("tr", has_text="PA-2026-0142")).to_contain_text("Approved")
    assert hub.desk is not None
    hub.wait(hub.desk, replace(WAITING[1], number="PA-2026-0150"))
    hub.desk.sync()
    expect(desk.card("PA-2026-0150")).to_be_visible()
    expect(page.locator("[data-card]")).to_have_count(4)
    assert page.evaluate("window.stayed")


def test_what_is_being_typed_survives_changes_elsewhere(desk: Desk) -> None:
    page, hub = desk.go("/approvals"), desk.hub
    desk.wait_live()
    card = desk.card("PA-2026-0143")
    card.get_by_text("Correct it…").click()
    card.get_by_label("Reason").first.fill("Half a thou")
    card.get_by_label("What it should be").select_option("Express")
    card.get_by_label("Reason").first.focus()
    for number in ("PA-2026-0141", "PA-2026-0142"):
        approval = next(view.id for view in hub.approvals.waiting() if view.subject == number)
        hub.approvals.decide(approval, by="omar", roles=["clerk"], answer="approve", reason="", corrections={})
        expect(desk.card(number)).to_have_count(0)
    reason = card.get_by_label("Reason").first
    expect(reason).to_have_value("Half a thou")
    expect(reason).to_be_focused()
    expect(card.get_by_label("What it should be")).to_have_value("express")
    reason.press_sequentially("ght.")
    card.get_by_role("button", name="Correct and approve").click()
    expect(page.locator("#flash")).to_contain_text("Corrected: PA-2026-0143.")
    assert hub.approvals.recent(1)[0].answer_reason == "Half a thought."


def test_a_morning_by_keyboard_alone(desk: Desk) -> None:
    page, hub = desk.go("/approvals"), desk.hub
    desk.wait_live()
    page.locator("[data-card]").first.focus()
    page.keyboard.press("j")
    expect(desk.card("PA-2026-0142")).to_be_focused()
    page.keyboard.press("d")
    page.keyboard.type("The garage is listed.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#flash")).to_contain_text("Denied: PA-2026-0142.")
    expect(desk.card("PA-2026-0143")).to_be_focused()
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    expect(page.locator("#flash")).to_contain_text("Approved: PA-2026-0143.")
    expect(desk.card("PA-2026-0144")).to_be_focused()
    page.keyboard.press("k")
    expect(desk.card("PA-2026-0141")).to_be_focused()
    page.keyboard.press("c")
    expect(desk.card("PA-2026-0141").get_by_label("What it should be")).to_be_focused()
    page.keyboard.press("Escape")
    expect(desk.card("PA-2026-0141")).to_be_focused()
    answers = {view.subject: view.answer for view in hub.approvals.recent(2)}
    assert answers == {"PA-2026-0142": "deny", "PA-2026-0143": "approve"}


def test_an_error_stands_on_its_card_and_a_late_answer_says_so(desk: Desk) -> None:
    page, hub = desk.go("/approvals"), desk.hub
    desk.expected = "ERR_FAILED|status of 4|Failed to fetch|htmx"
    card = desk.card("PA-2026-0141")
    card.get_by_text("Deny it…").click()
    card.get_by_label("Reason").last.evaluate("field => { field.required = false }")
    card.get_by_role("button", name="Deny: nothing is done").click()
    expect(card.get_by_role("alert")).to_contain_text("A denial or a correction needs a reason.")
    approval = next(view.id for view in hub.approvals.waiting() if view.subject == "PA-2026-0141")
    page.route("**/approvals/board", lambda route: route.abort())  # the news does not get here in time
    hub.approvals.decide(approval, by="omar", roles=["clerk"], answer="approve", reason="", corrections={})
    card.get_by_role("button", name="Approve: Plan review").click()
    expect(page.locator("#flash")).to_contain_text("Omar answered this already.")
    expect(card).to_have_count(0)


def test_everything_works_without_scripts(browser: Browser, served: tuple[SampleHub, str]) -> None:
    hub, url = served
    context = window(browser, java_script_enabled=False)
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    page = desk.go("/approvals")
    desk.card("PA-2026-0143").get_by_role("button", name="Approve").click()
    expect(page.locator("#flash")).to_contain_text("Approved: PA-2026-0143.")
    card = desk.card("PA-2026-0144")
    card.get_by_text("Correct it…").click()
    card.get_by_label("What it should be").select_option("Plan review")
    card.get_by_label("Reason").first.fill("Posts carry the roof.")
    card.get_by_role("button", name="Correct and approve").click()
    expect(page.locator("#flash")).to_contain_text("Corrected: PA-2026-0144.")
    page.get_by_role("link", name="See the run").click()
    expect(page.get_by_role("heading", name="A person is asked")).to_be_visible()
    context.close()
    assert {view.subject: view.answer for view in hub.approvals.recent(2)} == {
        "PA-2026-0143": "approve", "PA-2026-0144": "correct",
    }  # fmt: skip


def test_hostile_text_does_nothing(desk: Desk) -> None:
    hub = desk.hub
    assert hub.desk is not None
    hostile = replace(WAITING[0], number="PX-1", description=HOSTILE, reason=HOSTILE, label=HOSTILE)
    page = desk.go("/approvals")
    desk.wait_live()
    hub.wait(hub.desk, hostile)  # it arrives through the live board, which htmx parses
    hub.desk.sync()
    expect(desk.card("PX-1")).to_be_visible()
    desk.card("PX-1").get_by_role("link", name="PX-1").click()
    page.get_by_role("link", name="the whole run").click()
    expect(page.get_by_role("heading", name="A person is asked")).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    assert page.get_by_text("<script>window.hacked = 1</script>").first.is_visible()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_the_theme_follows_the_system_until_someone_chooses(browser: Browser, served: tuple[SampleHub, str]) -> None:
    hub, url = served
    context = window(browser, color_scheme="dark")
    page = Desk(context.new_page(), url, hub).go("/login")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    button = page.get_by_role("button", name="Dark colours")
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert page.evaluate(background) != dark
    page.reload()
    assert page.evaluate(background) != dark
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.evaluate(background) == dark
    context.close()


def test_times_stay_current_and_are_exact_on_hover(desk: Desk) -> None:
    page = desk.go("/approvals")
    time_element = desk.card("PA-2026-0144").locator("time").first
    assert re.fullmatch(r"just now|\d+ (s|min|h) ago", time_element.inner_text())
    assert re.search(r"20\d\d", time_element.get_attribute("title") or "")
    desk.go("/runs?q=PA-2026-0131")
    page.locator(".list a.strong").click()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", page.locator("[data-clock]").first.inner_text())


def test_an_open_run_grows_while_it_is_read(desk: Desk) -> None:
    hub = desk.hub
    view = next(view for view in hub.approvals.waiting() if view.subject == "PA-2026-0142")
    page = desk.go(f"/runs/{view.run_id}")
    desk.wait_live()
    expect(page.locator(".chapter")).to_have_count(6)
    page.locator(".raw summary").first.click()
    assert hub.desk is not None
    hub.approvals.decide(view.id, by="omar", roles=["clerk"], answer="deny", reason="Listed.", corrections={})
    for envelope, message in hub.outbox(hub.desk.device):
        if message.approval == view.id:
            hub.desk.take_answer(WAITING[1], view.run, None, envelope, message)  # type: ignore[arg-type]  # a denial needs no action
    hub.desk.sync()
    expect(page.get_by_role("heading", name="omar denied it")).to_be_visible()
    expect(page.get_by_role("heading", name="Closed: declined by a person")).to_be_visible()
    expect(page.locator(".raw-entry").first).to_be_visible()  # what was opened stays open


def test_a_doubt_is_settled_by_keyboard_and_leaves_the_open_page_when_the_run_obeys(afternoon_desk: Desk) -> None:
    page, hub = afternoon_desk.go("/attention"), afternoon_desk.hub
    afternoon_desk.wait_live()
    expect(page.locator("#attention-badge")).to_have_text("4 need attention")
    card = page.locator("article.need", has=page.get_by_role("link", name="PL-2026-0090"))
    card.locator("summary", has_text="It did not happen…").focus()
    page.keyboard.press("Enter")
    expect(card.get_by_text("If it did happen after all, it is done twice.")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.type("Not in the sent folder.")
    page.keyboard.press("Tab")
    late: list[Route] = []
    page.route("**/events*", lambda route: late.append(route))
    page.keyboard.press("Enter")
    expect(card.get_by_text("Permit office has not taken the order yet.")).to_be_visible()
    expect(card.get_by_role("button")).to_have_count(0)
    assert hub.letters is not None
    hub.obey(hub.letters.agent)  # before the page that shows the waiting order hears of changes
    while not late:
        page.wait_for_timeout(50)
    for stream in late:
        stream.continue_()
    expect(card).to_have_count(0)
    expect(page.locator("#attention-badge")).to_have_text("3 need attention")
    card_of_another = page.locator("article.need", has=page.get_by_role("link", name="PL-2026-0088"))
    expect(card_of_another).to_be_visible()


def test_what_is_being_typed_about_a_run_survives_changes_elsewhere(afternoon_desk: Desk) -> None:
    page, hub = afternoon_desk.go("/attention"), afternoon_desk.hub
    afternoon_desk.wait_live()
    card = page.locator("article.need", has=page.get_by_role("link", name="PL-2026-0087"))
    card.get_by_text("Lay it to rest…").click()
    reason = card.get_by_label("Why").last
    reason.fill("Half a thou")
    assert hub.letters is not None
    hub.letters.failed("PL-2026-0099")
    hub.letters.agent.sync()
    expect(page.locator("article.need", has=page.get_by_role("link", name="PL-2026-0099"))).to_be_visible()
    expect(reason).to_have_value("Half a thou")
    expect(reason).to_be_focused()
    reason.press_sequentially("ght.")
    card.get_by_role("button", name="Lay it to rest").click()
    expect(card.get_by_text("laid this to rest")).to_be_visible()


def test_a_second_approval_shows_on_an_open_board(afternoon_desk: Desk) -> None:
    page, hub = afternoon_desk.go("/approvals"), afternoon_desk.hub
    afternoon_desk.wait_live()
    assert hub.letters is not None
    approval = hub.letters.asked_two("PL-2026-0098")
    hub.letters.agent.sync()
    card = afternoon_desk.card("PL-2026-0098")
    expect(card.get_by_text("0 of 2")).to_be_visible()
    card.get_by_text("Deny it…").click()
    card.get_by_label("Reason").fill("The add")
    hub.approvals.decide(approval, by="omar", roles=["clerk"], answer="approve")
    expect(card.get_by_text("1 of 2")).to_be_visible()
    expect(card.get_by_label("Reason")).to_have_value("The add")
    page.keyboard.press("Escape")
    card.get_by_role("button", name="Approve").click()
    expect(page.locator("#flash")).to_contain_text("Permit office acts as soon as it has the answer.")
    expect(card).to_have_count(0)
    assert hub.approvals.get(approval).approvers == ["omar", "maria"]


def test_the_first_yes_of_two_leaves_the_card_with_what_is_missing(afternoon_desk: Desk) -> None:
    page, hub = afternoon_desk.go("/approvals"), afternoon_desk.hub
    afternoon_desk.wait_live()
    assert hub.letters is not None
    hub.letters.asked_two("PL-2026-0097")
    hub.letters.agent.sync()
    card = afternoon_desk.card("PL-2026-0097")
    card.get_by_role("button", name="Approve").click()
    expect(page.locator("#flash")).to_contain_text("1 more person must approve it before it is done.")
    expect(card.get_by_text("You have approved this.")).to_be_visible()
    expect(card.get_by_role("button")).to_have_count(0)


def test_orders_work_without_scripts(browser: Browser, served_afternoon: tuple[SampleHub, str]) -> None:
    hub, url = served_afternoon
    context = window(browser, java_script_enabled=False)
    desk = Desk(context.new_page(), url, hub)
    desk.sign_in()
    page = desk.go("/attention")
    card = page.locator("article.need", has=page.get_by_role("link", name="PL-2026-0088"))
    card.get_by_text("I have done it…").click()
    card.get_by_label("What did you do?").fill("Called and explained.")
    card.get_by_role("button", name="It is done").click()
    expect(card.get_by_text("maria said that this is done")).to_be_visible()
    page.goto(f"{url}/runs/{run_of(hub, 'PL-2026-0084')}")
    page.get_by_text("Pause it…").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("maria paused this")).to_be_visible()
    context.close()
    assert hub.letters is not None
    hub.obey(hub.letters.agent)
    run = hub.record.run(run_of(hub, "PL-2026-0084"))
    assert run.view.status == "paused"
