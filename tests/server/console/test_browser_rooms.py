"""Authoring, models, memory and reconciliation in a real browser: by keyboard, and nothing that was typed is lost."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.server.console.browser import (
    MARKS,
    Desk,
    Served,
    ServedMemory,
    browser,
    desk,
    served,
    served_memory,
    served_workspace,
    window,
)
from tests.server.console.sample_memory import SHOP
from tests.server.console.sample_replay import a_day_offline, taken_back

__all__ = ["browser", "desk", "served", "served_memory", "served_workspace"]  # the fixtures
pytestmark = MARKS


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


def test_a_model_is_added_by_a_person_with_a_file(browser: Browser, served: Served, tmp_path: Path) -> None:
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


def test_a_file_is_edited_by_keyboard_with_what_is_found_at_its_lines(
    browser: Browser, served_workspace: Served
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


def test_what_was_typed_is_there_again_after_the_session_ended(browser: Browser, served_workspace: Served) -> None:
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
    browser: Browser, served_memory: ServedMemory
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
