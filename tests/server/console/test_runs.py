"""The list of runs, and the story of one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from shared.errors import Unavailable
from tests.server.console.conftest import signed_in
from tests.server.console.sample_cases import ALONE, WAITING
from tests.server.console.sample_hub import SampleHub

HOSTILE = (
    '<script>window.hacked = 1</script><img src=x onerror="window.hacked=2">'
    '<div hx-get="/logout" hx-trigger="load">x</div>"\'><b data-hx-on:load="window.hacked=3">{{ 7 * 7 }} <hx-partial>'
)


def cases(html: str) -> list[str]:
    return re.findall(r'<a class="strong" href="/runs/[^"]+">([^<]+)</a>', html)


def story(hub: SampleHub, number: str) -> str:
    client = signed_in(hub)
    found = re.search(r'href="(/runs/[^"?]+)"', client.get(f"/runs?q={number}").text.split("<tbody>")[1])
    assert found is not None
    return client.get(found.group(1)).text


def test_the_newest_come_first(read_only: SampleHub) -> None:
    found = cases(signed_in(read_only).get("/runs").text)
    assert len(found) == 20 and found[-1] == "PA-2026-0131"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=waiting", 4),
        ("status=done", 13),
        ("status=denied", 1),
        ("status=referred", 1),
        ("lane=sign", 4),
        ("lane=sign&status=done", 4),
        ("q=0131", 1),
        ("q=pa-2026-014", 6),
        ("q=nothing-like-it", 0),
        ("status=nonsense&before=x", 20),
        ("device=d-none", 0),
        ("before=6", 5),
    ],
)
def test_filters_narrow_the_list(read_only: SampleHub, query: str, expected: int) -> None:
    answer = signed_in(read_only).get(f"/runs?{query}")
    assert answer.status_code == 200
    assert len(cases(answer.text)) == expected
    if expected == 0:
        assert "No run fits" in answer.text and "Clear" in answer.text


def test_a_device_has_its_own_list(read_only: SampleHub) -> None:
    office = next(device for device in read_only.devices.list() if device.name == "Back office")
    found = cases(signed_in(read_only).get(f"/runs?device={office.id}").text)
    assert found == ["PA-2026-0202", "PA-2026-0201", "PA-2026-0200"]


def test_pages_follow_each_other_without_gaps(busy: SampleHub) -> None:
    assert busy.desk is not None
    for number in range(110):
        run, action, _ = busy.desk.open(replace(ALONE[0], number=f"PB-{number:03d}"))
        busy.desk.act(run, action)
        if number % 40 == 39:
            busy.desk.sync()
    busy.desk.sync()
    client = signed_in(busy)
    path, seen, pages = "/runs?q=PB-&status=done", [], 0
    while path:
        html = client.get(path).text
        seen += cases(html)
        pages += 1
        older = re.search(r'href="(/runs\?[^"]+)">Older', html)
        path = older.group(1).replace("&amp;", "&") if older else ""
    assert seen == [f"PB-{number:03d}" for number in reversed(range(110))]
    assert pages == 3


def test_a_corrected_run_is_told_from_arrival_to_seal(read_only: SampleHub) -> None:
    html = story(read_only, "PA-2026-0128")
    titles = [re.sub("<.*", "", title).strip() for title in re.findall(r"<h2>(.*?)</h2>", html)]
    assert titles == [
        "A case arrived", "Memory was searched", "Recommendation", "The policy asks for a person", "A person is asked",
        "omar corrected it", "Judged again, with the approval", "About to act", "Done, with a receipt", "Checked",
        "Closed: done", "Sealed and countersigned", "Orders",
    ]  # fmt: skip
    for shown in (
        "applications-morning.csv row 9 opened a run of permit-triage, version 3, under release 1.",
        "only on the device", "$14,200", "71.2% confidence", "912 read, 868 of them reused; 31 written", "238 ms",
        "extract-fields@1", "New footings need drawings; decks go to plan review.", "omar gave it as clerk",
        "Below 90% confidence a person decides.", "sealed under", "Idempotency key", "R-",
    ):  # fmt: skip
        assert shown in html, shown
    assert '<span class="headline">Plan review</span>' in html
    assert "Dolores" not in html


def test_other_endings_are_told_too(read_only: SampleHub) -> None:
    denied = story(read_only, "PA-2026-0146")
    assert "The policy denies it" in denied and "A demolition below 70% confidence is never recorded." in denied
    unsure = story(read_only, "PA-2026-0145")
    assert "No recommendation" in unsure and "plan.unsure" in unsure
    declined = story(read_only, "PA-2026-0130")
    assert "omar denied it" in declined and "Closed: declined by a person" in declined
    asked = story(read_only, "PA-2026-0201")
    assert "had already done it. It was not sent twice." in asked
    waiting = story(read_only, "PA-2026-0141")
    assert "Answer the question" in waiting and "sealed under" in waiting


def test_the_raw_entry_is_at_hand(read_only: SampleHub) -> None:
    html = story(read_only, "PA-2026-0131")
    assert "&#34;type&#34;: &#34;plan.made&#34;" in html and "roof-like-for-like" in html


def test_an_erased_text_leaves_its_proof(busy: SampleHub) -> None:
    from sqlalchemy import delete

    from server.store.tables import BODIES

    with busy.store.write() as conn:
        conn.execute(delete(BODIES))
    client = signed_in(busy)
    run = busy.record.runs(limit=1)[0]
    html = client.get(f"/runs/{run.id}").text
    assert "The text of this entry was erased." in html and "the chain verifies" in html
    assert client.get("/runs").status_code == client.get("/approvals").status_code == 200


def test_a_release_that_cannot_be_opened_is_named_and_the_record_still_read(
    busy: SampleHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(number: int) -> None:
        raise Unavailable("release.none", f"there is no release {number}", advice="restore the repository")

    monkeypatch.setattr(busy.releases, "release", gone)
    html = story(busy, "PA-2026-0128")
    assert "The release behind this cannot be opened." in html and "release.none" in html
    assert "1,420,000" in html and "money in cents" in html and "ask-when-unsure" in html
    board = signed_in(busy).get("/approvals").text
    assert board.count("data-card") == 4 and "release.none" in board


def test_hostile_text_is_shown_and_never_run(busy: SampleHub) -> None:
    assert busy.desk is not None
    hostile = replace(WAITING[0], number="PX-1", description=HOSTILE, reason=HOSTILE, label=HOSTILE,
                      sources=[{"kind": "item", "id": HOSTILE[:40], "sha256": "", "text": HOSTILE}])  # fmt: skip
    _, approval, _ = busy.wait(busy.desk, hostile)
    busy.desk.sync()
    client = signed_in(busy)
    for path in ("/approvals", f"/approvals/{approval}", "/runs?q=PX-1", "/approvals/board"):
        html = client.get(path).text
        assert "<script>window" not in html and "<img" not in html.replace('<img src="/static', "")
        assert '<div hx-get="/logout"' not in html and "<hx-partial" not in html and "<b data-hx-on" not in html
    html = story(busy, "PX-1")
    assert "&lt;script&gt;window.hacked" in html and "{{ 7 * 7 }}" in html and "<script>window" not in html
