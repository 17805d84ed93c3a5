"""Forgetting with its state, tidying, what would leave, and files, by real HTTP on a real memory."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edge_agent.panel import keeping
from shared.memory import Item
from shared.memory.feed import Tombstone
from tests.edge_agent.panel.kit import DAY, NOW, Browsing, Office

SECRET = "zebracrossing"


def forget(browsing: Browsing, status: int = 303, **given: str) -> str:
    return browsing.post("/memory/forget", status, **{"reason": "asked", "sure": "yes"} | given)


def on_disk(office: Office, text: str) -> list[str]:
    return [path.name for path in office.home.glob("*.sqlite3*") if text.encode() in path.read_bytes()]


def test_an_item_of_this_device_is_forgotten_at_once(office: Office) -> None:
    id = office.remember(f"About {SECRET}.", scope="device")
    kept = office.remember("Something else.", scope="device")
    browsing = office.browse()
    page = browsing.get(f"/memory/forget?item={id}")
    assert SECRET in page and "It was never anywhere else." in page and "cannot be undone" in page
    assert "memory.forget" in forget(browsing, 400, item=id, sure="")
    assert office.memory.count() == 2
    done = forget(browsing, item=id)
    assert (
        "1 item is gone from this computer." in done and "hub" not in done.partition("</p>")[0].partition("status")[2]
    )
    assert [one.id for one in office.memory.items()] == [kept]
    browsing.get(f"/memory/items/{id}", 404)
    assert on_disk(office, SECRET) == []
    assert "memory.unknown" in forget(browsing, 404, item=id)


def test_what_is_shared_is_asked_of_the_hub_and_its_state_is_shown(office: Office) -> None:
    id = office.remember(f"About {SECRET}.")
    browsing = office.browse()
    assert "Every device confirms" in browsing.get(f"/memory/forget?item={id}")
    done = forget(browsing, item=id, reason="wrong")
    assert "The hub is asked" in done and "Asked" in done and "the hub has not answered yet" in done
    assert "It is not true" in done
    (wish,) = office.memory.wishes()
    stone = Tombstone(wish.id, "item", "person", id, "", "", "", NOW, "user:ann", "wrong")
    office.memory.wish_done(wish.id)
    office.memory.take("person", [], [stone], 1, now=NOW)
    assert "To be erased" in browsing.get("/memory/forgotten")
    office.memory.obey(stone)
    assert "the receipt is being written" in browsing.get("/memory/forgotten")
    office.memory.settle([stone.id])
    page = browsing.get("/memory/forgotten")
    assert "Confirmed" in page and "by ann" in page and "Asked" not in page


def test_all_about_a_person_is_forgotten_with_what_was_said_of_them(office: Office) -> None:
    office.remember(f"Ann likes {SECRET}.", subject="Ann Smith", scope="device")
    office.remember("Ann is tall.", subject="Ann Smith")
    office.remember("Omar is tall.", subject="Omar")
    office.sessions.open("talk", scope="device", at=NOW)
    office.sessions.add("talk", "user", f"Ann said {SECRET}", at=NOW, subject="Ann Smith")
    browsing = office.browse()
    assert "2 items on this computer are about Ann Smith" in browsing.get("/memory/forget?about=Ann+Smith")
    assert "memory.forget" in forget(browsing, 400, about="")
    assert "2 items are gone" in forget(browsing, about="Ann Smith")
    assert [one.subject for one in office.memory.items()] == ["Omar"]
    assert office.sessions.turns("talk")[0].erased and on_disk(office, SECRET) == []
    assert office.memory.wishes()[0].kind == "subject"


def test_a_scope_and_a_run_are_forgotten(office: Office) -> None:
    office.remember("One.", scope="device")
    office.remember("Two.", scope="device")
    browsing = office.browse()
    assert "All 2 items of <strong>this device alone" in browsing.get("/memory/forget?scope=device")
    assert "2 items are gone" in forget(browsing, scope="device")
    assert "memory.scope" in forget(browsing, 400, scope="team/none")
    assert "run_1" in browsing.get("/memory/forget?run=run_1")
    assert "The hub is asked" in forget(browsing, run="run_1")
    assert [(wish.kind, wish.run) for wish in office.memory.wishes()] == [("run", "run_1")]


def test_what_a_legal_hold_covers_stays_and_says_so(office: Office) -> None:
    id = office.remember("Evidence.")
    office.hold(id)
    browsing = office.browse()
    assert "On legal hold." in browsing.get(f"/memory/items/{id}")
    assert "0 items are gone" in forget(browsing, item=id)
    assert office.memory.get(id).text == "Evidence." and "Legal holds" in browsing.get("/memory/forgotten")


def test_an_empty_memory_says_what_to_do_on_each_page(office: Office) -> None:
    browsing = office.browse()
    assert "Add an item" in browsing.get("/memory/forgotten") and "Nothing is there twice" in browsing.get(
        "/memory/tidy"
    )
    assert "There is nothing to export yet" in browsing.get("/memory/files")


def test_what_is_there_twice_is_merged_only_when_told(office: Office) -> None:
    older = office.remember("The inspector is on leave every first Monday of the month.", kind="fact", tags=["leave"])
    newer = office.remember("The inspector is on leave on every first Monday of the month.", kind="fact")
    browsing = office.browse()
    page = browsing.get("/memory/tidy")
    assert "alike" in page and older in page and newer in page and office.memory.count() == 2
    named = re.search(r'name="keep" value="([^"]+)"><input type="hidden" name="drop" value="([^"]+)"', page)
    assert named is not None
    assert "memory.moved" in browsing.post("/memory/tidy", 409, keep=named[2], drop=named[1])
    done = browsing.post("/memory/tidy", keep=named[1], drop=named[2])
    assert "Merged." in done
    assert [one.id for one in office.memory.items()] == [named[1]] and office.memory.get(named[1]).tags == ["leave"]
    assert office.memory.wishes()[0].reason == "duplicate"


def test_a_large_memory_is_tidied_bit_by_bit(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_COMPARED", 4)
    monkeypatch.setattr(keeping, "_MERGES", 1)
    for number in range(3):
        for end in (".", "!"):
            office.remember(f"The inspector of house {number} is on leave every first Monday{end}", kind="fact")
    page = office.browse().get("/memory/tidy")
    assert "Among the 4 items that changed last, of 6." in page and "These are the first 1." in page
    assert page.count('name="keep"') == 1


def test_what_nobody_looked_at_for_long_is_listed(office: Office) -> None:
    office.memory.write(Item("contact", "Depot: 555-0142", "me"), at=NOW - 90 * DAY, by="ann")
    office.remember("A fresh contact.", kind="contact")
    page = office.browse().get("/memory/tidy").partition('id="due"')[2]
    assert "Depot: 555-0142" in page and "due " in page and "A fresh contact." not in page


def test_exactly_what_would_leave_is_shown(office: Office) -> None:
    id = office.remember("Mail ann@example.com.", tags=["mail"], fields={"town": "Elm"})
    secret = office.remember("A secret.", sensitivity="secret")
    browsing = office.browse()
    page = browsing.get(f"/memory/items/{id}/leaving")
    leaves, _, stays = page.partition('id="stays"')
    assert "ann@example.com" not in leaves.partition('id="goes"')[2] and "mail" in leaves
    assert "fields/town" in stays and "not on the list" in stays and "looks like email" in stays
    assert "Nothing of it may leave" in browsing.get(f"/memory/items/{secret}/leaving")


def test_items_go_out_and_come_back(office: Office) -> None:
    id = office.remember("The depot opens at seven.", tags=["depot"])
    office.remember("Prices end so.", scope="team/shop")
    browsing = office.browse()
    answer = browsing.http.get(browsing.base + "/memory/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="memory.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert {line["item"]["text"] for line in lines} == {"The depot opens at seven.", "Prices end so."}
    one = browsing.http.get(browsing.base + "/memory/export?q=depot&form=md")
    assert "The depot opens at seven." in one.text and "Prices" not in one.text
    assert one.headers["content-type"] == "text/markdown; charset=utf-8"
    given: Any = {"file": ("memory.jsonl", answer.content, "application/jsonl")}
    assert "0 items kept, 2 known already." in browsing.post("/memory/files", files=given)
    office.memory.erase([id])
    assert "1 item kept, 1 known already." in browsing.post("/memory/files", files=given)
    assert office.memory.history(id)[0].by == "ann", "with its history"
    hand = '---\nkind: "fact"\nscope: "device"\n---\n\nWritten by hand.\n'
    assert "1 item kept" in browsing.post("/memory/files", files={"file": ("notes.md", hand.encode(), "text/markdown")})
    table = "description,lane\nReroof a garage,express\n"
    csv: Any = {"file": ("past.csv", table.encode(), "text/csv")}
    assert "1 item kept" in browsing.post("/memory/files", files=csv, scope="team/permits")
    assert {kept.scope for kept in office.memory.items(kinds=["decision"])} == {"team/permits"}


def test_a_file_that_cannot_be_read_is_told_with_its_line_and_keeps_nothing(office: Office) -> None:
    browsing = office.browse()
    wrong = [
        ("x.jsonl", b'{"form":1}\n', 400, "memory.import"), ("x.md", b"before\n---\n", 400, "memory.import"),
        ("x.md", b"\xff", 400, "memory.import"), ("x.csv", b"a,b\n1,2\n", 400, "memory.import"),
        ("", b"", 400, "memory.import"),
    ]  # fmt: skip
    for name, data, status, code in wrong:
        page = browsing.post("/memory/files", status, files={"file": (name, data, "text/plain")})
        assert code in page, (name, data)
    assert "line 1" in browsing.post("/memory/files", 400, files={"file": ("x.jsonl", b"nonsense", "text/plain")})
    hostile = json.dumps({"form": 1, "id": "mem_" + "1" * 24, "item": {"kind": "note", "text": "x", "source": ""},
                          "changes": ["hW9KgwAAAAAAAAAA"]})  # fmt: skip
    page = browsing.post("/memory/files", 422, files={"file": ("x.jsonl", hostile.encode(), "text/plain")})
    assert "memory.hostile" in page and office.memory.count() == 0
