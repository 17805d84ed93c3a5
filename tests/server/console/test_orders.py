"""What needs attention, and the orders that settle it: as plain forms, for those who may, once."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.server.console.conftest import session_csrf, signed_in
from tests.server.console.sample_hub import LENA, OMAR, SampleHub


def run_of(hub: SampleHub, number: str) -> str:
    """The run of a case, as ``DEVICE:RUN``; of several the oldest."""
    return [run.id for run in hub.record.runs(limit=200) if run.subject == number][-1]


def send(client: httpx.Client, run: str, **fields: str) -> httpx.Response:
    return client.post(f"/runs/{run}/orders", data={"csrf": session_csrf(client), **fields})


def orders(hub: SampleHub, run: str) -> list[tuple[str, str, str, str]]:
    device, _, name = run.partition(":")
    return [(order.order, order.step, order.by, order.state) for order in hub.orders.given(device, name)]


def test_what_needs_attention_stands_on_one_page_with_what_to_look_for(eventful_read_only: SampleHub) -> None:
    html = signed_in(eventful_read_only).get("/attention").text
    for shown in (
        "In doubt", "mail.send", "ada@example.org", "It was sent under the key", "Keep a page, round 10",
        "Nothing is sent again, and the run goes on", "it is done twice",
        "To be taken back by hand", "Write to ada@example.org that the letter of today was sent too early.",
        "The disk of the file server is full. Free some space there.", "files.full", "It cannot be tried again",
    ):  # fmt: skip
        assert shown in html, shown
    assert re.findall(r'class="count">(\d+)<', html) == ["2", "1", "1"]
    assert [html.index(f'id="{kind}-title"') for kind in ("doubt", "operator", "failed")] == sorted(
        html.index(f'id="{kind}-title"') for kind in ("doubt", "operator", "failed")
    )


def test_where_nothing_needs_attention_the_page_says_so(read_only: SampleHub) -> None:
    client = signed_in(read_only)
    assert "Nothing needs attention" in client.get("/attention").text
    assert client.get("/attention/badge").text.strip() == ""
    assert "need attention" not in client.get("/").text


def test_the_menu_and_the_overview_count_them(eventful_read_only: SampleHub) -> None:
    client = signed_in(eventful_read_only)
    assert ">4<span" in client.get("/attention/badge").text
    overview = client.get("/").text
    assert "4 runs need attention" in overview
    assert "2 in doubt, 1 to be taken back by hand, 1 failed." in re.sub(r"\s+", " ", overview)


@pytest.mark.parametrize(
    ("number", "order", "step", "after"),
    [
        ("PL-2026-0090", "happened", "mail", "said that it happened"),
        ("PL-2026-0090", "not-happened", "mail", "said that it did not happen"),
        ("PL-2026-0088", "handled", "~mail", "said that this is done"),
        ("PL-2026-0087", "retry", "", "had this tried again"),
        ("PL-2026-0087", "dismiss", "", "laid this to rest"),
    ],
)
def test_each_is_settled_with_a_plain_form(eventful: SampleHub, number: str, order: str, step: str, after: str) -> None:
    client, run = signed_in(eventful, OMAR), run_of(eventful, number)
    answer = send(client, run, order=order, step=step, reason="Looked into it.", back="attention")
    assert (answer.status_code, answer.headers["location"]) == (303, "/attention")
    assert orders(eventful, run) == [(order, step, "omar", "coming")]
    for path in ("/attention", f"/runs/{run}"):
        html = client.get(path).text
        assert f"omar {after}" in html and "Permit office has not taken the order yet." in html
    card = client.get(f"/runs/{run}").text
    assert f'value="{order}"' not in card  # it is not offered twice


@pytest.mark.parametrize(("order", "sure"), [("pause", "begins nothing new"), ("cancel", "is taken back, the newest")])
def test_an_open_run_is_paused_and_cancelled_from_its_page(eventful: SampleHub, order: str, sure: str) -> None:
    client, run = signed_in(eventful, OMAR), run_of(eventful, "PL-2026-0084")
    assert sure in client.get(f"/runs/{run}").text
    answer = send(client, run, order=order)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run}")
    assert orders(eventful, run) == [(order, "", "omar", "coming")]
    assert f'id="{order}-' not in client.get(f"/runs/{run}").text


def test_a_run_obeys_and_its_page_tells_of_it(eventful: SampleHub) -> None:
    assert eventful.letters is not None
    run, agent = run_of(eventful, "PL-2026-0090"), eventful.letters.agent
    send(signed_in(eventful, OMAR), run, order="pause", reason="Wait for the stamp.")
    eventful.obey(agent)
    html = signed_in(eventful).get(f"/runs/{run}").text
    assert "omar paused the run" in html and "Wait for the stamp." in html and "omar gave it as clerk" in html
    assert "Resume it" in html and "Pause it" not in html
    send(signed_in(eventful, OMAR), run, order="resume")
    eventful.obey(agent)
    assert "omar resumed the run" in signed_in(eventful).get(f"/runs/{run}").text


@pytest.mark.parametrize(
    ("number", "fields", "status", "code"),
    [
        ("PL-2026-0084", {"order": "resume"}, 409, "order.unfit"),
        ("PL-2026-0084", {"order": "happened", "step": "mail"}, 409, "order.unfit"),
        ("PL-2026-0081", {"order": "cancel"}, 409, "order.unfit"),
        ("PL-2026-0089", {"order": "pause"}, 409, "order.given"),
        ("PL-2026-0084", {"order": "explode"}, 400, "order.unknown"),
        ("PL-2026-0084", {"order": "pause", "reason": "x" * 301}, 400, "order.reason"),
        ("PL-2026-0084", {}, 400, "order.unknown"),
    ],
)
def test_what_does_not_fit_is_explained_on_the_runs_page(
    eventful: SampleHub, number: str, fields: dict[str, str], status: int, code: str
) -> None:
    client, run = signed_in(eventful), run_of(eventful, number)
    before = orders(eventful, run)
    answer = send(client, run, **fields)
    assert answer.status_code == status and code in answer.text and number in answer.text
    assert orders(eventful, run) == before


def test_orders_need_a_role_and_the_sessions_own_form(eventful: SampleHub) -> None:
    client, run = signed_in(eventful, LENA), run_of(eventful, "PL-2026-0090")
    page = client.get(f"/runs/{run}").text
    assert 'name="order"' not in page and "needs a role that answers for the playbook" in page
    assert 'name="order"' not in client.get("/attention").text
    refused = send(client, run, order="happened", step="mail")
    assert refused.status_code == 403 and "order.role" in refused.text
    forged = signed_in(eventful).post(f"/runs/{run}/orders", data={"csrf": "wrong", "order": "pause"})
    assert forged.status_code == 403 and "console.csrf" in forged.text
    assert signed_in(eventful).post("/runs/none/orders", data={}).status_code in (403, 404)
    assert orders(eventful, run) == []


def test_hostile_words_of_a_device_are_shown_and_never_run(eventful: SampleHub) -> None:
    from shared import entries as e
    from tests.server.console.test_runs import HOSTILE

    assert eventful.letters is not None
    letters = eventful.letters
    run = letters.written("PX-2")
    letters.alone(run, "mail", "mail.send", HOSTILE, to=HOSTILE)
    letters.alone(run, "ledger", "sheet.append", HOSTILE, "sheet.full", row=HOSTILE)
    letters.agent.write(e.UndoBegun("failed", "sheet.full"), run)
    letters.agent.write(e.UndoLeft("mail", "undo.manual"), run, steps=[HOSTILE, 7], tool=HOSTILE, subject=HOSTILE)
    letters.in_doubt("PX-3")
    letters.agent.sync()
    client = signed_in(eventful)
    for path in ("/attention", f"/runs/{run_of(eventful, 'PX-2')}"):
        html = client.get(path).text
        assert "&lt;script&gt;window.hacked" in html
        assert "<script>window" not in html and '<div hx-get="/logout"' not in html and "<hx-partial" not in html


def test_where_the_words_were_erased_the_page_still_helps(eventful: SampleHub) -> None:
    from sqlalchemy import delete

    from server.store.tables import BODIES

    with eventful.store.write() as conn:
        conn.execute(delete(BODIES))
    client = signed_in(eventful)
    html = client.get("/attention").text
    assert "What exactly was to be done is not kept here any more" in html
    assert "What to do is not kept here any more." in html
    assert client.get(f"/runs/{eventful.record.runs(limit=1)[0].id}").status_code == 200
