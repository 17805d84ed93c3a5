"""Memory's pages: found with why, read with all that is known, changed, restored, settled, added."""

from __future__ import annotations

import re

from edge_agent.panel.memory import edit_to
from edge_agent.panel.pages import marked
from shared.memory import Edit, Item
from shared.memory.document import Document
from shared.memory.feed import change
from shared.memory.item import applied
from shared.memory.vector import Embedding
from tests.edge_agent.panel.kit import DAY, MODEL, NOW, Office

GIVEN = {"kind": "note", "scope": "person", "sensitivity": "normal", "confidence": "100"}


def titles(page: str) -> list[str]:
    return re.findall(r'<a class="strong" href="[^"]*/memory/items/[^"]+">([^<]*)</a>', page)


def seen(page: str) -> str:
    found = re.search(r'name="seen" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def test_an_empty_memory_says_what_to_do(office: Office) -> None:
    page = office.browse().get("/memory")
    assert "Nothing is remembered yet" in page and "/memory/new" in page and "/memory/files" in page
    assert "Nothing fits" in office.browse().get("/memory?q=x")


def test_what_is_looked_for_is_found_with_why(office: Office) -> None:
    depot = office.remember("The depot opens at seven.", tags=["hours"], subject="Ann Smith")
    office.remember("Prices end with a full stop.", kind="brand-rule", scope="team/shop", pinned=True)
    office.remember("Old news of the depot.", expires_at=NOW - 1)
    office.memory.put_vectors(MODEL, [(depot, Embedding(bytes([127, 0]), 7_874_016))])
    office.vectors["when can I fetch it"] = Embedding(bytes([127, 0]), 7_874_016)
    browsing = office.browse()
    assert titles(browsing.get("/memory")) == ["Prices end with a full stop.", "The depot opens at seven."]
    words = browsing.get("/memory?q=depots+hours")
    assert titles(words) == ["The depot opens at seven."]
    assert "found by the words depots, hours, the tag hours" in words and "about Ann Smith" in words
    meaning = browsing.get("/memory?q=when+can+I+fetch+it")
    assert titles(meaning)[0] == "The depot opens at seven." and "its meaning (" in meaning
    for query, found in (
        ("scope=team/shop", 1), ("scope=device", 0), ("kind=brand-rule", 1), ("kind=fact", 0), ("tag=hours", 1),
        ("tag=nope", 0), ("about=Ann+Smith", 1), ("about=Ann", 0), ("q=depot&expired=yes", 2), ("kind=nonsense", 2),
        ("page=7", 0), ("page=-1", 2), ("page=x", 2),
    ):  # fmt: skip
        assert len(titles(browsing.get(f"/memory?{query}"))) == found, query


def test_many_items_come_in_pages(office: Office) -> None:
    office.memory.add(Item("note", f"Number {n:03}", "file x", valid_from=NOW - n) for n in range(120))
    browsing = office.browse()
    first, third = browsing.get("/memory"), browsing.get("/memory?page=2")
    assert len(titles(first)) == 50 and "120 items" in first and "/memory?page=1" in first
    assert len(titles(third)) == 20 and "/memory?page=3" not in third and "First page" in third


def test_an_item_tells_all_that_is_known_of_it(office: Office) -> None:
    office.equip()
    run = office.open_run("PA-1", "New roof")
    id = office.remember(
        "Garages need no plan.", source=f"run {run} step triage", subject="Ann Smith", confidence=955, tags=["garage"],
        fields={"town": "Elm"}, expires_at=NOW + 9 * DAY, sensitivity="internal",
    )  # fmt: skip
    office.memory.edit(id, Edit(text="Garages need a plan."), at=NOW - DAY, by="omar")
    page = office.browse().get(f"/memory/items/{id}")
    for words in ("Garages need a plan.", "Elm", "95.5%", "Ann Smith", "internal", "ann, ", "omar, ",
        "your own devices",
                  "in 9 d", f'/runs/{run}">run', "/memory?tag=garage", "2 versions"):  # fmt: skip
        assert words in page, words
    assert "<del>no</del><ins>a</ins>" in page and page.count("What it said then") == 2
    assert page.index("omar</strong>") < page.index("ann</strong>"), "the newest first"
    assert "memory.unknown" in office.browse().get("/memory/items/mem_nothing", 404)


def test_an_item_is_edited_and_a_version_comes_back(office: Office) -> None:
    id = office.remember("The depot opens at seven.", tags=["depot"], fields={"town": "Elm"}, expires_at=NOW + 5 * DAY)
    browsing = office.browse()
    page = browsing.get(f"/memory/items/{id}")
    given = GIVEN | {"seen": seen(page), "source": "person ann"}
    day = re.search(r'name="expires_at" type="date" value="([^"]+)"', page)
    assert day is not None
    done = browsing.post(
        f"/memory/items/{id}", **given, text="The depot opens\r\nat eight.", tags="depot, hours",
        fields="town: Ash\nbay: 4",
        subject="Ann", expires_at=day[1], pinned="yes",
    )  # fmt: skip
    assert "Saved." in done and "Pinned" in done
    item = office.memory.get(id)
    assert (item.text, item.tags, item.fields) == (
        "The depot opens\nat eight.",
        ["depot", "hours"],
        {"town": "Ash", "bay": "4"},
    )
    assert (item.subject, item.pinned, item.expires_at) == ("Ann", True, NOW + 5 * DAY), (
        "the day stays to the microsecond"
    )
    assert office.memory.history(id)[-1].by == "ann"
    first = office.memory.history(id)[0].hash
    assert "Brought back" in browsing.post(f"/memory/items/{id}", version=first)
    assert office.memory.get(id).text == "The depot opens at seven." and len(office.memory.history(id)) == 3
    assert "It says that already." in browsing.post(f"/memory/items/{id}", version=first)
    assert "memory.version" in browsing.post(f"/memory/items/{id}", 400, version="0" * 64)


def test_what_another_wrote_meanwhile_is_not_lost_and_neither_is_what_was_typed(office: Office) -> None:
    id = office.remember("The depot opens at seven.")
    browsing = office.browse()
    old = seen(browsing.get(f"/memory/items/{id}"))
    office.memory.edit(id, Edit(text="The depot opens at six."), at=NOW, by="omar")
    late = browsing.post(f"/memory/items/{id}", 409, **GIVEN, seen=old, text="The depot opens at nine.", source="me")
    assert (
        "memory.moved" in late and "The depot opens at nine.</textarea>" in late and "The depot opens at six." in late
    )
    assert office.memory.get(id).text == "The depot opens at six."
    browsing.post(f"/memory/items/{id}", **GIVEN, seen=seen(late), text="The depot opens at nine.", source="me")
    assert office.memory.get(id).text == "The depot opens at nine."
    same = browsing.post(
        f"/memory/items/{id}", **GIVEN, text="The depot opens at nine.", source="me",
        seen=seen(browsing.get(f"/memory/items/{id}")),
    )  # fmt: skip
    assert "Nothing was changed." in same


WRONG: list[tuple[dict[str, str], str]] = [
    ({"fields": "no colon"}, "memory.field"), ({"text": ""}, "memory.item"), ({"kind": "joke"}, "memory.item"),
    ({"confidence": "lots"}, "memory.item"), ({"confidence": "100.1"}, "memory.item"),
    ({"expires_at": "tomorrow"}, "memory.item"), ({"scope": "team", "team": ""}, "memory.item"),
    ({"scope": "moon"}, "memory.item"), ({"source": "x" * 1001}, "memory.item"),
]  # fmt: skip


def test_what_cannot_be_kept_is_told_and_what_was_typed_stays(office: Office) -> None:
    browsing = office.browse()
    for wrong, code in WRONG:
        given = GIVEN | {"text": "Something typed.", "tags": "a tag"} | wrong
        page = browsing.post("/memory/new", 400, **given)
        assert code in page and "a tag" in page and office.memory.count() == 0, wrong
        assert "Something typed." in page or not given["text"], wrong


def test_saving_a_form_loses_nothing_that_the_form_cannot_show(office: Office) -> None:
    odd = {"lines": "one\ntwo: three", "a:b": "x", "plain": "y", " edge ": "z", "empty": ""}
    id = office.remember("One\r\ntwo.", fields=odd, tags=["a, b", "c"], source="")
    browsing = office.browse()
    page = browsing.get(f"/memory/items/{id}")
    given = GIVEN | {"seen": seen(page), "source": "", "text": "One\r\ntwo.", "tags": "c", "fields": "plain: y\nempty:"}
    assert "empty: \nplain: y\n</textarea>" in page and 'name="tags" value="c"' in page
    assert "Nothing was changed." in browsing.post(f"/memory/items/{id}", **given)
    browsing.post(f"/memory/items/{id}", **given | {"fields": "plain: w", "tags": "d"})
    item = office.memory.get(id)
    assert (item.text, item.source, item.tags) == ("One\r\ntwo.", "", ["a, b", "d"])
    assert item.fields == {"lines": "one\ntwo: three", "a:b": "x", "plain": "w", " edge ": "z"}


def test_a_new_item(office: Office) -> None:
    browsing = office.browse("Ann B.")
    page = browsing.post(
        "/memory/new", **GIVEN | {"scope": "team", "team": "shop", "confidence": "95.5"}, text="Prices end so.",
        fields="", tags="", valid_from="2026-01-31", expires_at="2030-01-31",
    )  # fmt: skip
    assert "It is remembered." in page
    (kept,) = office.memory.items()
    item = office.memory.get(kept.id)
    assert (item.scope, item.source, item.confidence) == ("team/shop", "person Ann B.", 955)
    assert (item.valid_from, item.expires_at) == (1_769_817_600_000_000, 1_896_048_000_000_000)
    assert 'value="team/shop"' in browsing.get("/memory/new")


def test_a_conflict_is_shown_and_settled(office: Office) -> None:
    id = office.remember("The depot.", fields={"town": "Elm"})
    apart = Document.load([bytes(one) for one in office.memory.document(id).changes()], b"another-device-1")
    theirs = apart.edit(Edit(fields={"town": "Oak"}), at=NOW - DAY, by="omar")
    office.memory.edit(id, Edit(fields={"town": "Ash"}), at=NOW - DAY, by="ann")
    assert theirs is not None
    office.memory.take("person", [change(id, theirs)], [], 1, now=NOW)
    browsing = office.browse()
    page = browsing.get(f"/memory/items/{id}")
    assert "Town was written twice" in page and "Oak" in page and "by omar" in page
    assert "Settled." in browsing.post(f"/memory/items/{id}", settle="fields/town", value="Oak")
    assert office.memory.get(id).fields == {"town": "Oak"} and not office.memory.conflicts(id)
    assert "memory.field" in browsing.post(f"/memory/items/{id}", 400, settle="scope", value="device")


def test_a_reader_sees_and_cannot_change(office: Office) -> None:
    office.memory.set_feeds({"team/shop": "writer"})
    id = office.remember("Prices end so.", scope="team/shop")
    office.memory.set_feeds({"team/shop": "reader"})
    browsing = office.browse()
    page = browsing.get(f"/memory/items/{id}")
    assert "you are a reader" in page and "Edit it" not in page and "Forget…" not in page
    given = GIVEN | {"seen": office.memory.kept(id).sha256, "text": "Other.", "source": "me"}
    assert "memory.reader" in browsing.post(f"/memory/items/{id}", 403, **given)
    assert 'value="team/shop"' not in browsing.get("/memory/new")


def test_a_long_history_is_shown_in_part_or_whole(office: Office) -> None:
    id = office.remember("Number 0")
    for n in range(30):
        office.memory.edit(id, Edit(text=f"Number {n + 1}"), at=NOW + n, by="ann")
    browsing = office.browse()
    assert browsing.get(f"/memory/items/{id}").count("What it said then") == 20
    assert browsing.get(f"/memory/items/{id}?versions=all").count("What it said then") == 31


def test_differences_of_texts() -> None:
    assert marked("one two three", "one 2 three") == [
        ("same", "one "), ("gone", "two"), ("new", "2"), ("same", " three"),
    ]  # fmt: skip
    assert marked("", "new") == [("new", "new")] and marked("same", "same") == [("same", "same")]
    long = "word " * 200
    shown = marked(f"{long}one {long}", f"{long}two {long}")
    assert [kind for kind, _ in shown].count("cut") == 2 and sum(len(text) for _, text in shown) < 600
    assert marked(long, long) == [("same", long)]


def test_an_edit_leads_from_one_item_to_the_other() -> None:
    item = Item("note", "one", "me", fields={"a": "1", "b": "2"}, tags=["x", "y"], expires_at=NOW, confidence=955)
    wanted = Item("fact", "two", "you", fields={"b": "3", "c": "4"}, tags=["y", "z"], subject="Ann", pinned=True)
    assert applied(item, edit_to(item, wanted)) == wanted
    assert edit_to(item, item) == Edit()
