"""Mail without a server: settings, what a mail is made of, and the threads that conversations are led in."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.tools import Manual, NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.mail import make
from edge_agent.tools.mail.lines import Desk, Line
from edge_agent.tools.mail.message import Writer, sender
from edge_agent.tools.mail.records import Records
from shared.actions import Action, Value
from shared.errors import BadInput, OutriderError, Refused, Unavailable

SMTP = {"host": "smtp.city.example"}
IMAP = {"host": "imap.city.example", "user": "desk", "secret": "mail"}
AT = 1_763_805_600_000_000


def no_secret(name: str) -> str:
    raise Unavailable("secret.missing", f"there is no secret {name!r}", advice="store it")


def tools(tmp_path: Path, **settings: Any) -> dict[str, Tool]:
    place = Place("post", tmp_path / "state", no_secret, lambda: AT)
    return {tool.name: tool for tool in make(place, {"from": "desk@city.example", **settings})}


def mail(**arguments: Value) -> Action:
    return Action(
        "post.send", {"to": ["ann@city.example"], "subject": "Hello", "text": "Good day.", **arguments}, "PA-1"
    )


# --- settings -----------------------------------------------------------------------------------------------------


def test_what_is_configured_decides_which_tools_there_are(tmp_path: Path) -> None:
    assert list(tools(tmp_path, smtp=SMTP)) == ["post.send"]
    filing = ["post.draft", "post.search", "post.read", "post.flag", "post.move"]
    assert list(tools(tmp_path, imap=IMAP)) == filing
    both = tools(tmp_path, smtp=SMTP, imap=IMAP)
    assert list(both) == ["post.send", *filing]
    assert both["post.send"].reads_back and not tools(tmp_path, smtp=SMTP)["post.send"].reads_back
    assert not (tmp_path / "state").exists(), "making tools leaves nothing behind"


def test_a_mail_that_may_go_to_anybody_is_a_higher_risk(tmp_path: Path) -> None:
    assert tools(tmp_path, smtp=SMTP)["post.send"].risk == "high"
    assert tools(tmp_path, smtp=SMTP, allow_to=["city.example"])["post.send"].risk == "medium"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "neither smtp nor imap"),
        ({"smtp": {**SMTP, "security": "none"}}, "not this computer"),
        ({"smtp": {**SMTP, "security": "ssl"}}, "Invalid enum value"),
        ({"smtp": {**SMTP, "port": 70000}}, "<= 65535"),
        ({"smtp": {**SMTP, "user": "desk"}}, "go together"),
        ({"imap": {"host": "imap.city.example"}}, "go together"),
        ({"smtp": {**SMTP, "password": "x"}}, "unknown field"),
        ({"smtp": SMTP, "colour": "blue"}, "unknown field"),
        ({"smtp": SMTP, "from": "desk"}, "is no address"),
        ({"smtp": SMTP, "from": "Desk\r\nBcc: a <desk@city.example>"}, "is no sender"),
        ({"smtp": SMTP, "allow_to": ["not a domain"]}, "is no address"),
        ({"imap": IMAP, "sent_folder": "Se\nnt"}, "cannot name a folder"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)) as caught:
        tools(tmp_path, **settings)
    assert caught.value.code == "tools.setting" and "tools.toml [post" in caught.value.where


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.4.5.6", "::1"])
def test_only_this_computer_may_be_spoken_to_in_clear(tmp_path: Path, host: str) -> None:
    assert tools(tmp_path, smtp={"host": host, "security": "none"})


async def test_a_missing_secret_means_that_nothing_was_sent(tmp_path: Path) -> None:
    send = tools(tmp_path, smtp={"host": "127.0.0.1", "port": 9, "user": "desk", "secret": "mail"})["post.send"]
    with pytest.raises(NotSent) as caught:
        await send.send(mail(), mail().key)
    assert caught.value.code == "secret.missing"
    assert await send.ask(mail().key, mail()) is None


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        ("send", {"to": ["bo@city.example"], "subject": "Case 7", "text": "x"}, "Case 7"),
        ("draft", {"to": ["bo@city.example"], "subject": "Case 7", "text": "x"}, "Case 7"),
        ("flag", {"message": "1.7", "flag": "seen", "on": True}, "seen"),
        ("move", {"message": "1.7", "to": "Archive"}, "Archive"),
    ],
)
async def test_what_a_person_said_happened_is_undone_by_a_person(
    tmp_path: Path, verb: str, arguments: dict[str, Value], said: str
) -> None:
    tool = tools(tmp_path, smtp=SMTP, imap=IMAP)[f"post.{verb}"]
    action = Action(tool.name, arguments, "PA-1")
    undo = tool.undo(action, {"told_by": "bo"})
    assert isinstance(undo, Manual) and said in undo.steps[0]
    with pytest.raises(Unavailable) as caught:
        await tool.observe(action, action.key, {"told_by": "bo"})
    assert caught.value.code == "mail.unknown"


# --- what a mail is made of ---------------------------------------------------------------------------------------


def writer(**more: Any) -> Writer:
    given: dict[str, Any] = {"allow_to": frozenset(), "max_recipients": 3, "max_bytes": 5000, **more}
    return Writer(sender("Stadt Köln <desk@city.example>"), **given)


def test_a_mail_is_the_same_bytes_whenever_it_is_made() -> None:
    action = mail(subject="Ihr Bauantrag – Stand", text="Guten Tag,\r\n.\ngrün.\n", cc=["bo@city.example"])
    made = writer().write(action, action.key, AT)
    assert made == writer().write(action, action.key, AT)
    assert made.message_id == f"<outrider.{action.key}@city.example>"
    assert made.recipients == ["ann@city.example", "bo@city.example"] and made.sender == "desk@city.example"
    read = message_from_bytes(made.raw, policy=default)
    assert read["From"] == "Stadt Köln <desk@city.example>" and read["Subject"] == "Ihr Bauantrag – Stand"
    assert read["Date"].datetime.timestamp() * 1_000_000 == AT
    assert read["Auto-Submitted"] == "auto-generated" and read["Message-ID"] == made.message_id
    assert read.get_content().splitlines() == ["Guten Tag,", ".", "grün."]
    assert made.raw.isascii() and b"\n" not in made.raw.replace(b"\r\n", b"")


def test_an_answer_names_what_it_answers() -> None:
    action = mail(in_reply_to="<abc.1@city.example>")
    read = message_from_bytes(writer().write(action, action.key, AT).raw, policy=default)
    assert read["In-Reply-To"] == read["References"] == "<abc.1@city.example>"


def test_somebody_named_twice_is_written_to_once() -> None:
    action = mail(to=["ann@city.example", "Ann@City.example"], cc=["ann@city.example"])
    assert len(writer().write(action, action.key, AT).recipients) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to": []}, "mail.address"),
        ({"to": [f"p{n}@city.example" for n in range(4)]}, "mail.address"),
        ({"to": [7]}, "mail.address"),
        ({"to": ["Ann <ann@city.example>"]}, "mail.address"),
        ({"to": ["ann"]}, "mail.address"),
        ({"to": ["ann@city.example, bo@city.example"]}, "mail.address"),
        ({"to": ["ann@city.example\r\nRCPT TO:<eve@evil.example>"]}, "mail.address"),
        ({"to": ["ann@city.example>"]}, "mail.address"),
        ({"to": ["änn@city.example"]}, "mail.address"),
        ({"to": ["ann@cität.example"]}, "mail.address"),
        ({"to": ["ann@-city.example"]}, "mail.address"),
        ({"to": [f"{'a' * 65}@city.example"]}, "mail.address"),
        ({"cc": ["a..b@city.example"]}, "mail.address"),
        ({"subject": "Hello\r\nBcc: eve@evil.example"}, "mail.characters"),
        ({"subject": "Hello\nBcc: eve@evil.example"}, "mail.characters"),
        ({"subject": "Hello\u2028there"}, "mail.characters"),
        ({"subject": "Hello\x85there"}, "mail.characters"),
        ({"subject": " "}, "mail.characters"),
        ({"subject": "x" * 501}, "mail.characters"),
        ({"text": "a\x00b"}, "mail.characters"),
        ({"text": "half \ud800 a character"}, "mail.characters"),
        ({"in_reply_to": "<a@b>\r\nX: y"}, "mail.characters"),
        ({"text": "x" * 6000}, "mail.too-large"),
    ],
)
def test_what_cannot_go_out_safely_is_refused(changes: dict[str, Value], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        writer().write(mail(**changes), "k" * 64, AT)
    assert caught.value.code == code


@pytest.mark.parametrize("allowed", ["city.example", "ann@city.example", "ANN@City.Example"])
def test_only_those_allowed_are_written_to(allowed: str) -> None:
    strict = writer(allow_to=frozenset({allowed.lower()}))
    assert strict.write(mail(to=["Ann@CITY.example"]), "k" * 64, AT).recipients
    for outside in ("eve@evil.example", "eve@sub.city.example", "ann@city.example.evil.example"):
        with pytest.raises(Refused) as caught:
            strict.write(mail(cc=[outside]), "k" * 64, AT)
        assert caught.value.code == "mail.not-allowed"


@given(st.text(min_size=1, max_size=300), st.text(max_size=600))
def test_nothing_a_planner_writes_becomes_a_header(subject: str, text: str) -> None:
    action = mail(subject=subject, text=text)
    try:
        made = writer(max_bytes=100_000).write(action, "k" * 64, AT)
    except BadInput:
        return
    head, _, _ = made.raw.partition(b"\r\n\r\n")
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    assert sorted(names) == sorted(
        [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version", b"Content-Type",
         b"Content-Transfer-Encoding"]
    )  # fmt: skip
    assert (
        made.raw.isascii()
        and b"\n" not in made.raw.replace(b"\r\n", b"")
        and b"\r" not in made.raw.replace(b"\r\n", b"")
    )
    body = message_from_bytes(made.raw, policy=default).get_content()
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    assert body.replace("\r\n", "\n").rstrip("\n") == wanted.rstrip("\n")


# --- records ------------------------------------------------------------------------------------------------------


def test_a_record_tells_what_is_known(tmp_path: Path) -> None:
    records = Records(tmp_path / "post")
    assert records.get("a") is None
    records.start("a", "post.flag", 5, {"was": False})
    found = Records(tmp_path / "post").get("a")
    assert found and (found.state, found.at, found.details) == ("started", 5, {"was": False})
    records.finish("a", "post.flag", 9, {"was": True})
    found = records.get("a")
    assert found and (found.state, found.at, found.details) == ("done", 5, {"was": True})
    records.forget("a")
    assert records.get("a") is None
    records.finish("b", "post.send", 9, {})
    found = records.get("b")
    assert found and (found.state, found.at) == ("done", 9)


def test_records_that_cannot_be_kept_keep_a_mail_from_going(tmp_path: Path) -> None:
    (tmp_path / "post").write_text("a file where the folder should be")
    with pytest.raises(NotSent) as caught:
        Records(tmp_path / "post").start("a", "post.send", 5, {})
    assert caught.value.code == "mail.record"
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "mail.sqlite3").write_bytes(b"no database at all, and long enough to be noticed" * 40)
    with pytest.raises(NotSent) as caught:
        Records(tmp_path / "damaged").get("a")
    assert caught.value.code == "mail.record"


# --- lines --------------------------------------------------------------------------------------------------------


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_is_cut_off_closes_its_connection() -> None:
    near, far = socket.socketpair()
    begun, ended = threading.Event(), threading.Event()

    def work(line: Line) -> None:
        line.hold(near)
        begun.set()
        try:
            near.recv(1)
            line.check()
        finally:
            ended.set()

    desk = Desk()
    with near, far:
        task = asyncio.create_task(desk.lead("a", work))
        assert await asyncio.to_thread(begun.wait, 60)
        await cancelled(task)
        assert await asyncio.to_thread(ended.wait, 60)
        assert far.recv(1) == b""
    await desk.close()


async def test_past_the_point_of_no_return_the_next_call_of_the_key_waits() -> None:
    order: list[str] = []
    go = threading.Event()

    def first(line: Line) -> None:
        line.commit()
        order.append("begun")
        go.wait(60)
        order.append("ended")

    desk = Desk()
    task = asyncio.create_task(desk.lead("a", first))
    while not order:
        await asyncio.sleep(0.01)
    await cancelled(task)
    second = asyncio.create_task(desk.lead("a", lambda line: order.append("second")))
    await desk.lead("b", lambda line: order.append("other key"))
    go.set()
    await second
    assert order == ["begun", "other key", "ended", "second"]
    await desk.close()


async def test_what_was_cut_off_while_it_waited_never_begins() -> None:
    ran: list[str] = []
    go = threading.Event()
    desk = Desk()
    first = asyncio.create_task(desk.lead("a", lambda line: go.wait(60)))
    second = asyncio.create_task(desk.lead("a", lambda line: ran.append("second")))
    await asyncio.sleep(0.05)
    await cancelled(second)
    go.set()
    assert await first
    await desk.close()
    assert ran == []


async def test_closing_ends_even_what_is_past_its_point_of_no_return() -> None:
    near, far = socket.socketpair()
    begun = threading.Event()

    def work(line: Line) -> bytes:
        line.hold(near)
        line.commit()
        begun.set()
        return near.recv(1)

    desk = Desk()
    with near, far:
        task = asyncio.create_task(desk.lead("a", work))
        assert await asyncio.to_thread(begun.wait, 60)
        async with asyncio.timeout(60):  # nothing is ever sent to it
            await desk.close()
            assert await task == b""
    await desk.close()


def test_a_line_that_was_cut_lets_nothing_through() -> None:
    line = Line()
    line.cut()
    with pytest.raises(OutriderError) as caught:
        line.commit()
    assert isinstance(caught.value, NotSent) and caught.value.code == "mail.cut-off"
