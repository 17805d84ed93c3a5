"""What is remembered, as the people who share it see and change it; and forgetting, asked for and confirmed."""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import urlencode

import httpx
import pytest

from server.console.importing import Waiting
from server.embedding.index import TeamIndex
from shared.errors import Conflict
from shared.memory import Edit
from shared.memory.exchange import from_lines, from_markdown
from tests.server.console.conftest import session_csrf, signed_in
from tests.server.console.sample_hub import LENA, OMAR, SampleHub
from tests.server.console.sample_memory import SHOP, dispute, note, share


@pytest.fixture
def shop(hub: SampleHub) -> SampleHub:
    share(hub)
    return hub


def send(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    return client.post(path, data={"csrf": session_csrf(client), **fields})


def edit(client: httpx.Client, shop: SampleHub, item: str, **fields: str) -> httpx.Response:
    """Send the form of an item as it stands now."""
    seen = shop.memory.items.get(SHOP, item).sha256
    return send(client, f"/memory/items/{item}", scope=SHOP, seen=seen, **fields)


def page(client: httpx.Client, item: str, scope: str = SHOP) -> httpx.Response:
    return client.get(f"/memory/items/{item}?{urlencode({'scope': scope})}")


# --- finding ------------------------------------------------------------------------------------------------------


def test_an_empty_memory_says_what_to_do(hub: SampleHub) -> None:
    html = signed_in(hub, OMAR).get("/memory").text
    assert "Nothing is remembered yet" in html and "outrider memory add" in html


def test_items_are_found_by_words_kind_and_tag(shop: SampleHub) -> None:
    note(shop, "Prices end with a full stop.", tags=["style"], pinned=True)
    note(shop, "The depot opens at seven.", kind="fact")
    client = signed_in(shop, OMAR)
    everything = client.get("/memory").text
    assert "Prices end" in everything and "depot opens" in everything and "2 items" in everything
    for query, found in (
        ({"q": "depot"}, "depot opens"),
        ({"kind": "note"}, "Prices end"),
        ({"tag": "style"}, "Prices end"),
    ):
        html = client.get("/memory", params=query).text
        assert found in html and "1 item" in html
    assert "Nothing fits" in client.get("/memory?q=nowhere").text
    assert "Nothing fits" in client.get("/memory?contested=yes").text
    assert client.get("/memory?page=-3&kind=rumour&scope=team/none").status_code == 200


def test_what_the_index_finds_comes_first_and_says_why(shop: SampleHub) -> None:
    note(shop, "The depot is far away, and the depot is closed.")
    best = note(shop, "Depots open at seven.")
    note(shop, "The opening hours are on the door.")
    index = TeamIndex(shop.store, None, clock=shop.clock)
    shop.memory.watch(index.wake)
    shop.index = index
    client = signed_in(shop, OMAR)

    async def indexed() -> None:
        while await index.step():
            pass

    asyncio.run(indexed())
    html = client.get("/memory?q=depot+open").text
    assert html.index("Depots open at seven.") < html.index("The depot is far away")
    assert "found by depot, open" in html and "on the door" not in html
    assert best in html
    note(shop, "A depot that nobody has indexed yet.")
    assert "nobody has indexed yet" in client.get("/memory?q=depot").text


def test_long_lists_have_pages(shop: SampleHub) -> None:
    for number in range(52):
        note(shop, f"Note number {number}.")
    client = signed_in(shop, OMAR)
    first = client.get("/memory").text
    (more,) = re.findall(r'href="(/memory\?page=1)"', first)
    assert first.count("Note number") == 50 and client.get(more).text.count("Note number") == 2


def test_who_is_no_member_sees_nothing_of_it(shop: SampleHub) -> None:
    id = note(shop, "The code of the safe is 4711.")
    mine = note(shop, "Omar's own.", scope="person/omar")
    lena, maria = signed_in(shop, LENA), signed_in(shop)
    for path in (
        "/memory",
        f"/memory?scope={SHOP}",
        "/memory/export",
        f"/memory/export?scope={SHOP}",
        "/memory/scopes",
    ):
        assert "4711" not in lena.get(path).text
    assert page(lena, id).status_code == 403 and "4711" not in page(lena, id).text
    assert page(maria, mine, "person/omar").status_code == 403, (
        "an administrator is no member of what is somebody's own"
    )
    assert "person/omar" not in lena.get("/memory/scopes").text and "omar’s own" in maria.get("/memory/scopes").text
    assert page(signed_in(shop, OMAR), f"mem_{'0' * 24}").status_code == 404


# --- one item -----------------------------------------------------------------------------------------------------


def test_a_page_tells_why_something_is_known(shop: SampleHub) -> None:
    id = note(
        shop, "Ann prefers mail.", subject="Ann Smith", source=f"run run_{'a' * 24} step 2", fields={"by": "mail"}
    )
    html = page(signed_in(shop, OMAR), id).text
    for shown in (
        "Why do you know this?",
        "Ann prefers mail.",
        "Ann Smith",
        "step 2",
        "by",
        "1 version",
        "from this console",
    ):
        assert shown in html, shown
    assert f"/runs?q=run_{'a' * 24}" in html


def test_editing_makes_a_version_and_any_can_be_brought_back(shop: SampleHub) -> None:
    id = note(shop, "Prices end with a full stop.", tags=["style", "old"], fields={"a": "1", "b": "2"})
    client = signed_in(shop)
    done = edit(
        client, shop, id, text="Prices end without.\r\nAlways.", kind="brand-rule",
        source="the guide", subject="", sensitivity="normal", tags="style, new", fields="b: 3\nc: 4: 5", pinned="yes",
    )  # fmt: skip
    assert done.status_code == 303
    item = shop.memory.items.document(SHOP, id).item()
    assert (item.text, item.kind, item.tags, item.pinned) == (
        "Prices end without.\nAlways.",
        "brand-rule",
        ["new", "style"],
        True,
    )
    assert item.fields == {"b": "3", "c": "4: 5"}
    first, last = shop.memory.items.history(SHOP, id)
    assert (first.by, last.by) == ("user:omar", "user:maria")
    assert send(client, f"/memory/items/{id}", scope=SHOP, version=first.hash).status_code == 303
    again = shop.memory.items.document(SHOP, id).item()
    assert (again.text, again.fields) == ("Prices end with a full stop.", {"a": "1", "b": "2"})
    assert len(shop.memory.items.history(SHOP, id)) == 3


def test_saving_loses_nothing_that_a_form_cannot_show(shop: SampleHub) -> None:
    odd = {"lines": "one\ntwo: three", "plain": "y"}
    id = note(shop, "x", tags=["a, b", "c"], fields=odd)
    client = signed_in(shop)
    html = page(client, id).text
    assert "plain: y\n</textarea>" in html and 'name="tags" value="c"' in html
    given = {"text": "x", "kind": "note", "source": "", "subject": "", "sensitivity": "normal"}
    edit(client, shop, id, **given, tags="d", fields="plain: z")
    item = shop.memory.items.document(SHOP, id).item()
    assert (item.tags, item.fields) == (["a, b", "d"], odd | {"plain": "z"})


def test_a_bad_edit_is_told_and_changes_nothing(shop: SampleHub) -> None:
    id = note(shop, "x")
    client = signed_in(shop)
    answer = edit(client, shop, id, text="y", kind="note", fields="no colon here")
    assert answer.status_code == 400 and "memory.field" in answer.text
    assert "no colon here" in answer.text, "what was typed is kept"
    assert edit(client, shop, id, text="", kind="note").status_code == 400
    assert len(shop.memory.items.history(SHOP, id)) == 1


def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(shop: SampleHub) -> None:
    id = note(shop, "Open from nine.")
    client = signed_in(shop)
    seen = shop.memory.items.get(SHOP, id).sha256
    shop.memory.items.edit(SHOP, id, Edit(text="Open from eight."), "user:omar")
    mine = {"text": "Open from nine to five.", "kind": "note", "sensitivity": "normal"}
    answer = send(client, f"/memory/items/{id}", scope=SHOP, seen=seen, **mine)
    assert answer.status_code == 409 and "memory.moved" in answer.text
    assert "Open from eight." in answer.text and "Open from nine to five.</textarea>" in answer.text
    assert shop.memory.items.document(SHOP, id).item().text == "Open from eight."
    assert edit(client, shop, id, **mine).status_code == 303


def test_who_only_reads_cannot_write(shop: SampleHub) -> None:
    id = note(shop, "x")
    shop.memory.grant(SHOP, "user:lena", "reader", "omar")
    lena = signed_in(shop, LENA)
    html = page(lena, id).text
    assert "Edit it" not in html and "Forget…" not in html
    assert f'value="{SHOP}"' not in lena.get("/memory/new").text, "only her own scope is offered"
    assert send(lena, f"/memory/items/{id}", scope=SHOP, text="y", kind="note").status_code == 403
    assert send(lena, "/memory/new", scope=SHOP, text="y", kind="note").status_code == 403
    assert send(lena, "/memory/forget", kind="item", scope=SHOP, item=id, reason="wrong").status_code == 403
    assert lena.get(f"/memory/forget?kind=scope&scope={SHOP}").status_code == 403
    assert shop.memory.items.document(SHOP, id).item().text == "x"


def test_conflicts_are_shown_with_their_writers_and_settled(shop: SampleHub) -> None:
    id = note(shop, "x", fields={"town": "Elm"})
    dispute(shop, id, "town", ann="Oak", bob="Ash")
    client = signed_in(shop)
    html = page(client, id).text
    assert "was written twice" in html and "by ann" in html and "by bob" in html
    assert "1 conflict" in client.get("/memory?contested=yes").text
    shown = shop.memory.items.document(SHOP, id).item().fields["town"]
    other = "Oak" if shown == "Ash" else "Ash"
    assert send(client, f"/memory/items/{id}", scope=SHOP, settle="fields/town", value=other).status_code == 303
    assert shop.memory.items.document(SHOP, id).item().fields == {"town": other}
    assert shop.memory.items.conflicts(SHOP, id) == []


def test_a_new_item(shop: SampleHub) -> None:
    client = signed_in(shop, OMAR)
    assert 'value="team/shop"' in client.get("/memory/new").text
    answer = send(
        client, "/memory/new", scope=SHOP, text="Ship on Mondays.", kind="brand-rule", tags="ship", pinned="yes"
    )
    assert answer.status_code == 303
    assert "Ship on Mondays." in client.get(answer.headers["location"]).text
    own = send(client, "/memory/new", scope="person/omar", text="Mine.", kind="note")
    assert "omar’s own" in client.get(own.headers["location"]).text
    bad = send(client, "/memory/new", scope=SHOP, text="Kept as typed.", kind="rumour")
    assert bad.status_code == 400 and "Kept as typed." in bad.text and "memory.item" in bad.text
    assert send(client, "/memory/new", scope="team/none", text="x", kind="note").status_code == 403


@pytest.mark.parametrize("form", ["jsonl", "md"])
def test_an_export_is_what_was_looked_for(shop: SampleHub, form: str) -> None:
    id = note(shop, "Prices end with a full stop.", fields={"a": "1"})
    note(shop, "The depot opens at seven.")
    answer = signed_in(shop, OMAR).get(f"/memory/export?q=prices&form={form}")
    assert f'filename="memory.{form}"' in answer.headers["content-disposition"]
    found = from_markdown(answer.text, "x") if form == "md" else list(from_lines(answer.content.splitlines(), "x"))
    assert [(one.id, one.item.text, one.item.fields) for one in found] == [
        (id, "Prices end with a full stop.", {"a": "1"})
    ]
    assert len(found[0].chunks) == (1 if form == "jsonl" else 0)


# --- who shares it ------------------------------------------------------------------------------------------------


def test_a_steward_gives_roles_and_takes_them_away(shop: SampleHub) -> None:
    omar = signed_in(shop, OMAR)
    assert send(omar, "/memory/scopes", scope=SHOP, member="user:lena", role="reader").status_code == 303
    assert shop.memory.role(SHOP, "user:lena") == "reader"
    assert re.search(r"<strong>lena</strong>.*reader", omar.get("/memory/scopes").text)
    assert send(omar, "/memory/scopes", scope=SHOP, member="user:lena").status_code == 303
    assert shop.memory.role(SHOP, "user:lena") == ""
    assert send(omar, "/memory/scopes", scope="team/other", member="user:omar", role="steward").status_code == 403
    assert (
        send(signed_in(shop, LENA), "/memory/scopes", scope=SHOP, member="user:lena", role="reader").status_code == 403
    )
    maria = signed_in(shop)
    assert send(maria, "/memory/scopes", scope="team/other", member="user:lena", role="steward").status_code == 303
    bad = send(maria, "/memory/scopes", scope="team/other", member="user:nobody", role="reader")
    assert bad.status_code == 400 and "memory.member" in bad.text


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_an_item_is_forgotten_after_a_page_that_says_what_happens(shop: SampleHub) -> None:
    id = note(shop, "The code of the safe is 4711.")
    client = signed_in(shop)
    asked = client.get(f"/memory/forget?{urlencode({'kind': 'item', 'scope': SHOP, 'item': id})}").text
    assert "cannot be undone" in asked and "4711" in asked
    without = send(client, "/memory/forget", kind="item", scope=SHOP, item=id)
    assert without.status_code == 400 and "console.reason" in without.text
    assert send(client, "/memory/forget", kind="item", scope=SHOP, item=id, reason="wrong").status_code == 303
    shown = client.get("/memory/forgotten").text
    assert "An item" in shown and "by maria" in shown and "it is wrong" in shown and "gone here" in shown
    assert page(client, id).status_code == 404
    assert not any(b"4711" in path.read_bytes() for path in shop.store.home.rglob("*") if path.is_file())


def test_the_page_shows_which_devices_have_confirmed(shop: SampleHub) -> None:
    desk = shop.agent("Counter 2")
    desk.connect()
    shop.memory.grant(SHOP, f"device:{desk.device}", "writer", "maria")
    id = note(shop, "x")
    send(signed_in(shop), "/memory/forget", kind="item", scope=SHOP, item=id, reason="purpose")
    html = signed_in(shop).get("/memory/forgotten").text
    assert "0 of 1 device confirmed" in html and "not yet" in html and "Counter 2" in html
    assert "connected now" in html and "offline" not in html
    desk.disconnect()
    assert "offline, last seen" in signed_in(shop).get("/memory/forgotten").text
    shop.memory.revoke(SHOP, f"device:{desk.device}", "maria")
    left = signed_in(shop).get("/memory/forgotten").text
    assert "out of the scope" in left and "it was told to drop all of it" in left and "not yet" not in left


def test_a_person_is_forgotten_by_a_name_that_is_not_kept(shop: SampleHub) -> None:
    kept, gone = note(shop, "likes tea", subject="Bob"), note(shop, "likes tea", subject="Ann Smith")
    omar = signed_in(shop, OMAR)
    assert omar.get("/memory/forget?kind=subject").status_code == 403, "everywhere is for administrators"
    assert send(omar, "/memory/forget", kind="subject", scope=SHOP, name="", reason="request").status_code == 400
    assert (
        send(omar, "/memory/forget", kind="subject", scope=SHOP, name="ann smith", reason="request").status_code == 303
    )
    assert [view.item for view in shop.memory.items.list()] == [kept] and gone != kept
    assert "All about a person" in omar.get("/memory/forgotten").text
    assert not any(b"nn smith" in path.read_bytes().lower() for path in shop.store.home.rglob("*") if path.is_file())


def test_a_scope_is_forgotten_only_when_its_name_is_repeated(shop: SampleHub) -> None:
    note(shop, "x")
    omar = signed_in(shop, OMAR)
    assert send(omar, "/memory/forget", kind="scope", scope=SHOP, name="team", reason="purpose").status_code == 400
    assert send(omar, "/memory/forget", kind="scope", scope=SHOP, name=SHOP, reason="purpose").status_code == 303
    assert shop.memory.items.count() == 0
    assert send(omar, "/memory/forget", kind="world", scope=SHOP, reason="purpose").status_code == 400


def test_a_hold_stops_forgetting_and_is_seen(shop: SampleHub) -> None:
    id = note(shop, "Evidence.")
    maria, omar = signed_in(shop), signed_in(shop, OMAR)
    assert omar.get("/memory/holds").status_code == 403
    assert send(maria, "/memory/holds", scope=SHOP, item=id, reason="dispute").status_code == 303
    assert send(maria, "/memory/holds", scope=SHOP, item=id, reason="Ann said so").status_code == 400
    assert "There is a dispute about it" in maria.get("/memory/holds").text
    html = page(omar, id).text
    assert "On legal hold." in html and "There is a dispute about it" in html
    refused = send(omar, "/memory/forget", kind="item", scope=SHOP, item=id, reason="wrong")
    assert refused.status_code == 403 and "memory.held" in refused.text
    hold = shop.memory.holds.list()[0].id
    assert send(maria, "/memory/holds", lift=hold).status_code == 303
    assert send(maria, "/memory/holds", lift=hold).status_code == 409
    assert "lifted" in maria.get("/memory/holds").text
    assert send(omar, "/memory/forget", kind="item", scope=SHOP, item=id, reason="wrong").status_code == 303


def test_forms_of_another_site_do_nothing(shop: SampleHub) -> None:
    id = note(shop, "x")
    client = signed_in(shop)
    for path in (f"/memory/items/{id}", "/memory/new", "/memory/scopes", "/memory/forget", "/memory/holds"):
        assert client.post(path, data={"csrf": "guess", "scope": SHOP}).status_code == 403, path
    assert json.dumps([view.text for view in shop.memory.items.list()]) == '["x"]'


# --- a file -------------------------------------------------------------------------------------------------------


def choose(client: httpx.Client, data: bytes, name: str = "items.jsonl", csrf: str = "") -> httpx.Response:
    given = {"csrf": csrf or session_csrf(client)}
    return client.post("/memory/import", data=given, files={"file": (name, data)})


def ticket_of(answer: httpx.Response) -> str:
    return "".join(re.findall(r'name="ticket" value="([^"]+)"', answer.text))


def test_a_file_is_looked_at_before_anything_is_kept(shop: SampleHub) -> None:
    id = note(shop, "Prices end with a full stop.")
    omar = signed_in(shop, OMAR)
    line = omar.get("/memory/export").content
    data = line + line.replace(id.encode(), b"mem_" + b"0" * 24).replace(b'"note"', b'"rumour"') + b"{}\n"
    shown = choose(omar, data)
    assert shown.status_code == 200 and "Nothing is kept yet" in shown.text
    assert "Here already" in shown.text and "memory.import" in shown.text and ticket_of(shown) == ""
    new = b'---\nkind: "note"\nscope: "team/shop"\nsource: "the guide"\n---\n\nShip on <b>Mondays</b>.\n'
    shown = choose(omar, new, "guide.md")
    assert "guide.md has 1 item; 1 item would be brought in" in shown.text and "&lt;b&gt;Mondays" in shown.text
    assert shop.memory.items.count() == 1
    done = send(omar, "/memory/import/now", ticket=ticket_of(shown))
    assert "1 item brought in from guide.md" in done.text and shop.memory.items.count() == 2
    (made,) = [view.item for view in shop.memory.items.list() if view.item != id]
    assert "from a file that omar brought in" in page(omar, made).text
    again = send(omar, "/memory/import/now", ticket=ticket_of(shown))
    assert again.status_code == 409 and "memory.import-gone" in again.text


def test_a_file_that_waits_is_for_who_sent_it(shop: SampleHub) -> None:
    data = b'---\nkind: "note"\nscope: "team/shop"\n---\n\nx\n'
    omar = signed_in(shop, OMAR)
    ticket = ticket_of(choose(omar, data))
    assert send(signed_in(shop), "/memory/import/now", ticket=ticket).status_code == 409
    newer = ticket_of(choose(omar, data))
    assert send(omar, "/memory/import/now", ticket=ticket).status_code == 409, "only the newest waits"
    assert send(omar, "/memory/import/now", ticket=newer).status_code == 200
    assert choose(signed_in(shop, LENA), data).text.count("memory.role") == 1, "lena is no member"
    assert shop.memory.items.count() == 1


def test_a_file_that_does_not_fit_is_told(shop: SampleHub) -> None:
    omar = signed_in(shop, OMAR)
    assert "See what it would do" in omar.get("/memory/import").text
    for data, status, said in (
        (b"x" * (8 * 1024**2 + 1), 400, "more than 8 MB"),
        (b"a letter", 400, "before the first item"),
        (b"", 400, "no item"),
    ):
        answer = choose(omar, data)
        assert answer.status_code == status and said in answer.text and "memory.import" in answer.text
    assert choose(omar, b"x", csrf="guess").status_code == 403
    assert omar.post("/memory/import/now", data={"csrf": "guess", "ticket": "x"}).status_code == 403


def test_files_wait_a_while_and_not_too_many() -> None:
    now = [0.0]
    waiting = Waiting(lambda: now[0])
    tickets = [waiting.put(f"p{n}", "x", b"x") for n in range(9)]
    with pytest.raises(Conflict, match="memory.import-gone"):
        waiting.take(tickets[0], "p0")
    assert waiting.take(tickets[1], "p1").name == "x"
    now[0] = 15 * 60.0
    with pytest.raises(Conflict, match="memory.import-gone"):
        waiting.take(tickets[2], "p2")
