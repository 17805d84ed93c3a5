"""The pages of rollouts: who runs what, what the gates say, and the orders that people give there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.console.rollouts import plot
from shared import rollout as r
from tests.server.console.conftest import copied, opened, session_csrf, signed_in
from tests.server.console.sample_hub import LENA, SampleHub
from tests.server.console.sample_rollout import a_rollout


@pytest.fixture(scope="module")
def rolled(morning: SampleHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleHub]:
    """A hub with two rollouts, for tests that only look."""
    with opened(copied(morning, tmp_path_factory.mktemp("rolled"))) as hub:
        a_rollout(hub)
        yield hub


def ids(hub: SampleHub) -> list[str]:
    return [course.state.plan.rollout for course in hub.rollouts.courses() if course.state.plan is not None]


def test_a_rollout_under_way_shows_its_stage_its_devices_and_who_is_not_there_yet(rolled: SampleHub) -> None:
    html = signed_in(rolled).get(f"/rollouts/{ids(rolled)[0]}").text
    assert "Rollout of release 3" in html and "compared with release 1" in html and "Under way" in html
    assert "Stage 2 of 3" in html and 'aria-current="step"' in html
    assert "this stage lasts 240 more minutes" in html
    assert "No run of this stage is counted yet" in html and "<strong>Takes no part</strong>" in html
    assert "not there yet" in html and "when it is back" in html
    assert "the evidence allowed it" in html and "maria started it with 30% of the devices" in html


def test_a_rollout_that_was_halted_says_why_and_shows_the_evidence(rolled: SampleHub) -> None:
    html = signed_in(rolled).get(f"/rollouts/{ids(rolled)[1]}").text
    assert "Halted: failed or denied was worse than with release 1." in html
    assert "Taken back to release 1 by the hub" in html
    assert 'class="plot broken"' in html and "<polyline" in html
    assert "Take it back" not in html.partition('id="stage-title"')[2].partition("</section>")[0]


def test_all_rollouts_and_the_devices_that_are_kept_apart(rolled: SampleHub) -> None:
    html = signed_in(rolled).get("/rollouts").text
    assert html.count("against 1</span>") == 2
    assert "pinned to release 1, whatever is rolled out" in html
    assert "takes no part: follows when a rollout is finished" in html
    assert "Start with" not in html, "one is under way"


def test_who_has_no_part_in_it_sees_everything_and_no_button(rolled: SampleHub) -> None:
    client = signed_in(rolled, LENA)
    for path in ("/rollouts", f"/rollouts/{ids(rolled)[0]}"):
        html = client.get(path).text
        assert 'name="act"' not in html.partition("<main")[2], path
    answer = client.post("/rollouts", data={"csrf": session_csrf(client), "act": "pause"})
    assert "rollout.role" in answer.text
    assert rolled.rollouts.courses()[0].state.status == r.RUNNING


def test_an_empty_hub_says_what_to_do(hub: SampleHub) -> None:
    html = signed_in(hub).get("/rollouts").text
    assert "Nothing was rolled out in stages yet" in html
    assert "outrider hub release publish --staged --home /var/lib/outrider/hub" in html


def test_a_rollout_is_started_paused_resumed_advanced_and_taken_back_by_forms(hub: SampleHub) -> None:
    desk = hub.agent("Counter 9")
    policy = hub.store.home / "workspace" / "policy.cedar"
    policy.write_text(f"{policy.read_text()}// stricter\n")
    hub.releases.publish("maria", staged=True)
    client = signed_in(hub)
    html = client.get("/rollouts").text
    assert "Release 2 can be rolled out" in html and "for nobody yet" in html
    csrf = session_csrf(client)

    def send(path: str, **fields: str) -> str:
        answer = client.post(path, data={"csrf": csrf} | fields)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    page = send("/rollouts", act="start", release="2")
    assert page == f"/rollouts/{ids(hub)[0]}"
    send(page, act="advance")
    assert hub.rollouts.told().due(desk.device) == 2, "the last stage is everybody"
    assert "In the last stage nobody runs release 1 any more" in client.get(page).text
    for act, status in (("pause", "Paused"), ("resume", "Under way"), ("advance", "Finished"), ("rollback", "Taken")):
        send(page, act=act)
        assert f">{status}" in client.get(page).text
    assert hub.rollouts.told().due(desk.device) == 1
    html = client.get("/rollouts").text
    assert "Release 2 can be rolled out" in html and "It was taken back" in html
    assert send("/rollouts", act="pin", device=desk.device, release="2") == "/rollouts"
    assert hub.rollouts.told().due(desk.device) == 2
    send("/rollouts", act="pin", device=desk.device, release="0")
    assert hub.rollouts.told().due(desk.device) == 1


def test_what_cannot_be_done_says_so_on_the_page(rolled: SampleHub) -> None:
    client = signed_in(rolled)
    csrf = session_csrf(client)
    newest, halted = ids(rolled)
    for path, fields, code in (
        (f"/rollouts/{newest}", {"act": "resume"}, "rollout.order"),
        (f"/rollouts/{halted}", {"act": "dance"}, "rollout.act"),
        ("/rollouts", {"act": "pin", "device": "d-none", "release": "1"}, "device.unknown"),
        ("/rollouts", {"act": "start", "release": "one"}, "rollout.act"),
    ):
        answer = client.post(path, data={"csrf": csrf} | fields)
        assert answer.status_code == 200 and code in answer.text, path
    assert client.get("/rollouts/ro-none").status_code == 404
    assert "console.csrf" in client.post("/rollouts", data={"act": "pause"}).text


def test_a_plot_begins_where_nothing_is_known_and_shows_where_a_halt_is() -> None:
    assert plot([]).line == "0,56"
    drawn = plot([500, 2000])
    first, *_, last = drawn.line.split()
    assert first == "0,56" and last.startswith(f"{drawn.width},")
    assert int(last.split(",")[1]) < drawn.limit, "beyond what is needed is above the line"
