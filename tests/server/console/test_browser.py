"""The console in a real browser: live, usable by keyboard and without scripts, and deaf to hostile text. Needs Debian's
Chromium (``apt-get install chromium``)."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from playwright.sync_api import Browser, Route, expect

from tests.server.console.browser import (
    MARKS,
    Desk,
    Served,
    afternoon_desk,
    browser,
    desk,
    served,
    served_afternoon,
    window,
)
from tests.server.console.sample_cases import WAITING
from tests.server.console.sample_hub import MARIA
from tests.server.console.test_orders import run_of
from tests.server.console.test_runs import HOSTILE

__all__ = ["afternoon_desk", "browser", "desk", "served", "served_afternoon"]  # the fixtures
pytestmark = MARKS


def test_signing_in_and_out_by_hand(browser: Browser, served: Served) -> None:
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


def test_a_page_is_live_also_where_one_of_its_scripts_comes_late(desk: Desk) -> None:
    def late(route: Route) -> None:
        time.sleep(2)
        route.continue_()

    desk.page.route("**/hx-sse*", late)
    desk.go("/approvals")
    desk.wait_live()


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


def test_everything_works_without_scripts(browser: Browser, served: Served) -> None:
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


def test_the_theme_follows_the_system_until_someone_chooses(browser: Browser, served: Served) -> None:
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
    expect(time_element).to_have_text(re.compile(r"^(just now|\d+ (s|min|h) ago)$"))
    expect(time_element).to_have_attribute("title", re.compile(r"20\d\d"))
    desk.go("/runs?q=PA-2026-0131")
    page.locator(".list a.strong").click()
    expect(page.locator("[data-clock]").first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))


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
    afternoon_desk.wait_for(lambda: late)
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


def test_orders_work_without_scripts(browser: Browser, served_afternoon: Served) -> None:
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
