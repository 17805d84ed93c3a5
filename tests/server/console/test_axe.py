"""Every page is accessible, wide and narrow, in light and in dark, and none runs over its sides."""

from __future__ import annotations

from playwright.sync_api import Browser

from tests.server.console.axe import Judge, judge
from tests.server.console.browser import (
    MARKS,
    Desk,
    Served,
    browser,
    desk,
    served,
    window,
)
from tests.server.console.sample_replay import a_day_offline, scored
from tests.server.console.sample_rollout import a_rollout
from tests.server.console.test_models import some_models
from tests.server.console.test_pages import paths

__all__ = ["browser", "desk", "judge", "served"]  # the fixtures
pytestmark = MARKS


def test_what_is_wrong_in_one_scheme_or_width_is_found_there(desk: Desk) -> None:
    """A check that could not fail would prove nothing."""
    page = desk.go("/devices")
    page.evaluate(
        """() => {
            const main = document.getElementById("main");
            const [dim, wide] = [document.createElement("p"), document.createElement("p")];
            dim.textContent = "readable on white";
            dim.style.color = "#444";
            wide.textContent = "wide";
            wide.style.width = "600px";
            main.append(dim, wide);
        }"""
    )
    judge = Judge()
    judge.look(page, "here")
    assert set(judge.found) == {
        "sideways at here, 390 wide",
        "color-contrast at here, 1400 wide, dark",
    }


def test_any_page(browser: Browser, served: Served, judge: Judge) -> None:
    hub, url = served
    context = window(browser)
    desk = Desk(context.new_page(), url, hub)
    judge.go(desk, "/login")
    desk.sign_in()
    hub.switches.press("fleet", by="omar", reason="drill", note="practice")
    tool = hub.switches.press("tool", "register.decide", by="maria", reason="tool")
    hub.switches.release(tool.id, by="maria", note="mended")
    whole = [path for path in paths(hub) if not path.endswith(("/board", "/badge"))]
    judge.go(desk, *whole, "/runs?q=nothing-like-it", "/nowhere")
    context.close()


def test_rollouts(desk: Desk, judge: Judge) -> None:
    judge.go(desk, "/rollouts")
    a_rollout(desk.hub)
    plans = [one.state.plan for one in desk.hub.rollouts.courses()]
    judge.go(desk, "/rollouts", *(f"/rollouts/{plan.rollout}" for plan in plans if plan is not None))


def test_replay_and_reconciliation(desk: Desk, judge: Judge) -> None:
    hub = desk.hub
    judge.go(desk, "/workspace/replay", "/reconcile")
    day = a_day_offline(hub)
    hub.reconcile.look()
    scored(day, hub.replays.ask(2, 50, by="maria", roles=["admin"]))
    hub.reconcile.excuse(hub.reconcile.open()[0].n, by="omar", roles=["clerk"], reason="In writing.")
    judge.go(desk, "/releases/2/replay", "/reconcile", "/attention")


def test_models(desk: Desk, judge: Judge) -> None:
    judge.go(desk, "/models")
    some_models(desk.hub)
    judge.go(desk, "/models")
