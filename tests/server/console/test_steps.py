"""A run as a tree of steps: where each stands, what is not shown, and what is taken back."""

from __future__ import annotations

import re

import pytest

from server.console import formats
from server.console.steps import ROUNDS, Node, is_plain, tree
from shared import entries as e
from shared.playbook import load
from tests.server.console.conftest import signed_in
from tests.server.console.sample_hub import PLAYBOOK, SampleHub
from tests.server.console.sample_letters import BOOKS
from tests.server.console.test_orders import run_of


def nodes(hub: SampleHub, number: str, *, lost: bool = False) -> dict[str, Node]:
    """Every node of a run's tree by its title."""
    run = hub.record.run(run_of(hub, number)).run
    found: dict[str, Node] = {}
    left = tree(run, None if lost else BOOKS[run.opened.playbook], formats.step)
    while left:
        node = left.pop(0)
        found[node.title] = node
        left += node.inner + ([node.undo] if node.undo else [])
    return found


def states(found: dict[str, Node]) -> dict[str, str]:
    return {title: node.words for title, node in found.items() if node.words}


def test_a_run_on_its_way_back(eventful_read_only: SampleHub) -> None:
    found = nodes(eventful_read_only, "PL-2026-0088")
    assert states(found) == {
        "Write the letter": "Done",
        "Ready": "Done",
        "Tell": "Failed",
        "Copies": "Not begun",
        "Objections": "Not begun",
        "Archive": "Not begun",
        "Mail the applicant": "Done",
        "Note it in the ledger": "Failed",
        "Taking back: Write the letter": "Done",
        "Taking back: Mail the applicant": "To be taken back by hand",
    }
    assert found["Note it in the ledger"].code == "sheet.full"
    assert (found["Objections"].note, found["Archive"].note) == ("waits for 14d", "runs permit-archive")


def test_of_many_rounds_only_those_that_matter_are_shown(eventful_read_only: SampleHub) -> None:
    found = nodes(eventful_read_only, "PL-2026-0083")
    assert [title for title in found if title.startswith("Round")] == ["Round 10: Keep a page"]
    copies = found["Copies"]
    assert (copies.words, copies.note, copies.hidden) == ("In doubt", "16 rounds", "Not shown: 12 done, 3 not begun.")
    assert not copies.folded and found["Tell"].folded


def test_waiting_for_another_run_and_for_people(eventful_read_only: SampleHub) -> None:
    found = nodes(eventful_read_only, "PL-2026-0082")
    assert found["Archive"].words == "Waits for its run"
    child = next(run for run in eventful_read_only.record.runs(limit=200) if run.parent)
    assert found["Archive"].child == child.run
    assert (found["Objections"].words, found["Copies"].words, found["Copies"].note) == ("Done", "Done", "0 rounds")
    asked = nodes(eventful_read_only, "PL-2026-0084")
    assert asked["Mail the applicant"].words == asked["Tell"].words == "Waiting for a person"
    assert eventful_read_only.approvals.get(asked["Mail the applicant"].approval).needed == 2


def test_a_dry_run_was_rehearsed(eventful_read_only: SampleHub) -> None:
    found = nodes(eventful_read_only, "PL-2026-0081")
    assert (found["Write the letter"].words, found["Mail the applicant"].words) == ("Rehearsed", "Skipped")


def test_without_its_playbook_the_steps_that_have_entries_are_listed(eventful_read_only: SampleHub) -> None:
    found = nodes(eventful_read_only, "PL-2026-0088", lost=True)
    assert list(found)[:5] == ["Letter", "Ready", "Tell", "Mail", "Ledger"]
    assert found["Taking back: Mail"].words == "To be taken back by hand"


def test_a_waiting_step_says_until_when(eventful: SampleHub) -> None:
    assert eventful.letters is not None
    letters = eventful.letters
    run = letters.written("PL-T")
    for step in ("mail", "ledger"):
        letters.alone(run, step, "sheet.append")
    letters.entered(run, "copies", "each", count=ROUNDS)
    for n in range(ROUNDS):
        letters.alone(run, f"copy#{n}", "files.write", path=str(n))
    letters.entered(run, "objections", "time", until=letters.agent.now() + 3600_000_000)
    letters.agent.sync()
    found = nodes(eventful, "PL-T")
    assert found["Objections"].words == "Waits" and found["Objections"].at > letters.agent.now()
    assert (found["Copies"].words, found["Copies"].hidden, len(found["Copies"].inner)) == ("Done", "", ROUNDS)
    html = signed_in(eventful).get(f"/runs/{run_of(eventful, 'PL-T')}").text
    assert re.search(r"Waits <time", html)
    letters.agent.write(e.RunOrdered("cancel", "o-1", "", "ann", "local"), run)
    letters.agent.sync()
    assert nodes(eventful, "PL-T")["Objections"].words == "Not gone on with"


def test_rounds_of_several_steps_and_rounds_within_rounds(eventful: SampleHub) -> None:
    book = load(
        """
playbook: permit-letters
version: 9
owner: a@example.org
trigger: {manual: true}
inputs: {id: {required: true}}
business_key: [id]
steps:
  - id: outer
    for_each: "[1, 2]"
    steps:
      - {id: first, tool: a.b}
      - {id: inner, for_each: "[1, 2]", steps: [{id: last, tool: a.b}]}
approvals: {roles: [clerk]}
""",
        "nested.yaml",
    )
    assert eventful.letters is not None
    letters = eventful.letters
    run = letters.open("PL-N")
    letters.entered(run, "outer", "each", count=2)
    letters.alone(run, "first#0", "sheet.append")
    letters.entered(run, "inner#0", "each", count=2)
    letters.alone(run, "last#0.1", "sheet.append", "", "doubt")
    letters.agent.sync()
    folded = eventful.record.run(run_of(eventful, "PL-N")).run
    (outer,) = tree(folded, book, formats.step)
    assert [node.title for node in outer.inner] == ["Round 1", "Round 2"]
    first, inner = outer.inner[0].inner
    assert (first.words, inner.words, outer.words) == ("Done", "In doubt", "In doubt")
    assert [(node.title, node.words) for node in inner.inner] == [
        ("Round 1: Last", "Not begun"),
        ("Round 2: Last", "In doubt"),
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_of_one_step_needs_no_tree(read_only: SampleHub, lost: bool) -> None:
    run = read_only.record.run(read_only.record.runs(limit=1)[0].id).run
    assert is_plain(None if lost else load(PLAYBOOK, "p.yaml"), run)


def test_the_page_shows_the_tree_its_marks_and_its_relatives(eventful_read_only: SampleHub) -> None:
    client = signed_in(eventful_read_only)
    dry = client.get(f"/runs/{run_of(eventful_read_only, 'PL-2026-0081')}").text
    assert "Dry run" in dry and "Nothing is done, and nobody is asked." in dry
    assert "In a dry run nothing is done." in dry and "maria asked for it." in dry
    parent = run_of(eventful_read_only, "PL-2026-0082")
    html = client.get(f"/runs/{parent}").text
    child = re.search(r'href="/runs/([^"]+)">its run', html)
    assert child is not None and "Its runs" in html
    below = client.get(f"/runs/{child.group(1)}").text
    assert "part of" in below and parent.replace(":", "%3A") in below
    back = client.get(f"/runs/{run_of(eventful_read_only, 'PL-2026-0088')}").text
    assert "This run takes back what it did." in back and "The way back begins" in back


def test_a_long_story_is_read_in_parts(eventful: SampleHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.ingest import record

    monkeypatch.setattr(record, "_STORY", 25)
    client, path = signed_in(eventful), f"/runs/{run_of(eventful, 'PL-2026-0083')}"
    html = client.get(path).text
    assert "entries before these are left out" in html and "Sealed and countersigned" in html
    earlier = re.search(r'href="(/runs/[^"]+\?before=\d+)"', html)
    assert earlier is not None
    before = client.get(earlier.group(1)).text
    assert "Back to the newest" in before and "Sealed and countersigned" not in before
    assert html.count('class="chapter ') == 26 and before.count('class="chapter ') == 25
