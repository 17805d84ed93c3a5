"""The mailbox by IMAP, against a real Dovecot: searched and read without a trace, changed so that it can be undone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import NotSent, Receipt, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import RECEIPT_BYTES, ToolContract
from edge_agent.tools.mail import make
from edge_agent.tools.mail.imap import Mailbox as Imap
from edge_agent.tools.mail.records import Records
from shared.actions import Action, Value
from shared.codec import canonical
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from tests.listening import listening
from tests.mailserver import PASSWORD, MailServers, Person, mail_servers

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def servers() -> Iterator[MailServers]:
    with mail_servers() as running:
        yield running


@pytest.fixture
def ada(servers: MailServers) -> Iterator[Person]:
    yield Person(servers)
    servers.running()


def tools(person: Person, state: Path, **settings: Any) -> dict[str, Tool]:
    place = Place("post", state, lambda name: PASSWORD, lambda: time.time_ns() // 1000)
    return {tool.name: tool for tool in make(place, person.settings(smtp=None, **settings))}


async def done(all_tools: dict[str, Tool], verb: str, **arguments: Value) -> dict[str, Any]:
    action = Action(f"post.{verb}", arguments, "PA-1")
    return (await all_tools[action.tool].send(action, action.key)).details


async def failed(all_tools: dict[str, Tool], verb: str, **arguments: Value) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        await done(all_tools, verb, **arguments)
    return caught.value


def written(n: int, *, head: str = "", body: str = "Good day.") -> bytes:
    return (
        f"From: Bo <bo@example.org>\r\nTo: ada@example.org\r\nSubject: Case {n}\r\n"
        f"Date: Sat, 22 Nov 2025 11:0{n}:00 +0100\r\nMessage-ID: <case.{n}@example.org>\r\n{head}\r\n{body}\r\n"
    ).encode()


def deliver(person: Person, *raws: bytes) -> list[str]:
    """Into the inbox; the names of all that lie there, in order of arrival."""
    for raw in raws:
        person.servers.deliver(person.address, raw)
        person.box.look("INBOX")  # Dovecot numbers them as it sees them
    return [ref for _, _, ref in person.box.look("INBOX")]


async def settled(tool: Tool, action: Action) -> Receipt:
    """As the engine does it: what was surely not done is tried again."""
    for _ in range(300):
        try:
            return await tool.send(action, action.key)
        except NotSent:
            await asyncio.sleep(0.1)
    return await tool.send(action, action.key)


# --- what they promise --------------------------------------------------------------------------------------------


class MailboxContract(ToolContract):
    """Five mails in the inbox of an account of its own."""

    secrets = (PASSWORD,)
    verb = ""
    watched: tuple[str, ...] = ("INBOX", "Archive", "Drafts", "Sent")

    @pytest.fixture(autouse=True)
    def world(self, ada: Person, tmp_path: Path) -> None:
        self.ada = ada
        self.path = tmp_path
        self.refs = deliver(ada, *(written(n) for n in range(5)))

    def make_tool(self) -> Tool:
        return self.tool_named(f"post.{self.verb}")

    def tool_named(self, name: str) -> Tool:
        return tools(self.ada, self.path / "state")[name]

    def action(self, n: int, **arguments: Value) -> Action:
        return Action(f"post.{self.verb}", arguments, f"PA-{n}")

    async def state(self) -> Any:
        return {folder: sorted(look[:2] for look in self.ada.box.look(folder)) for folder in self.watched}

    async def break_receiver(self) -> None:
        self.ada.servers.stop("imap", kill=True)

    async def mend_receiver(self) -> None:
        self.ada.servers.running()


class TestSearch(MailboxContract):
    verb = "search"

    def good_action(self, n: int) -> Action:
        return self.action(n, subject=f"Case {n}")


class TestRead(MailboxContract):
    verb = "read"

    def good_action(self, n: int) -> Action:
        return self.action(n, message=self.refs[n])


class TestDraft(MailboxContract):
    """Its undo leaves the draft in the trash, where people's mail programs put what they delete."""

    verb = "draft"

    def good_action(self, n: int) -> Action:
        return self.action(n, to=["bo@example.org"], subject=f"Case {n}", text="Good day.")

    async def effects(self, action: Action | None) -> int:
        ids = [*self.ada.box.ids("Drafts"), *self.ada.box.ids("Trash")]
        return len(ids) if action is None else sum(action.key in message_id for message_id in ids)

    async def spoil(self, action: Action) -> None:
        self.ada.box.remove("Drafts", f"<outrider.{action.key}@example.org>")


class TestFlag(MailboxContract):
    verb = "flag"

    def good_action(self, n: int) -> Action:
        return self.action(n, message=self.refs[n], flag="flagged", on=True)

    async def effects(self, action: Action | None) -> int:
        flagged = [ref for _, flags, ref in self.ada.box.look("INBOX") if r"\Flagged" in flags]
        return len(flagged) if action is None else flagged.count(str(action.arguments["message"]))

    async def spoil(self, action: Action) -> None:
        self.ada.box.flag("INBOX", str(action.arguments["message"]), r"\Flagged", False)


class TestMove(MailboxContract):
    verb = "move"

    def good_action(self, n: int) -> Action:
        return self.action(n, message=self.refs[n], to="Archive")

    async def effects(self, action: Action | None) -> int:
        ids = self.ada.box.ids("Archive")
        return len(ids) if action is None else ids.count(self.message_id(action))

    async def spoil(self, action: Action) -> None:
        self.ada.box.remove("Archive", self.message_id(action))

    def message_id(self, action: Action) -> str:
        return f"<case.{action.subject.removeprefix('PA-')}@example.org>"


# --- search -------------------------------------------------------------------------------------------------------


async def test_search_finds_what_fits_and_the_newest_first(ada: Person, tmp_path: Path) -> None:
    refs = deliver(ada, *(written(n) for n in range(4)), written(4, body="Der Zaun ist grün."))
    ada.box.flag("INBOX", refs[1], r"\Seen", True)
    post = tools(ada, tmp_path)

    async def cases(**wanted: Value) -> list[str]:
        return [one["subject"] for one in (await done(post, "search", **wanted))["messages"]]

    assert await cases() == [f"Case {n}" for n in (4, 3, 2, 1, 0)]
    assert await cases(subject="case 2") == ["Case 2"]
    assert await cases(text="grün") == ["Case 4"]
    assert await cases(unseen=True) == [f"Case {n}" for n in (4, 3, 2, 0)]
    assert await cases(message_id="<case.3@example.org>") == ["Case 3"]
    assert await cases(**{"from": "bo@", "to": "ada@"}, limit=2) == ["Case 4", "Case 3"]
    assert await cases(**{"from": "nobody"}) == []
    today = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 2 * 86400))
    assert len(await cases(since=today)) == 5 and await cases(before=today) == []
    assert await cases(subject='") NOT (SEEN "') == [], "what is searched for stays inside its quotes"
    listed = await done(post, "search", limit=4)
    assert listed["more"] is True and listed["messages"][3] | {"bytes": 0} == {
        "message": refs[1], "from": "Bo <bo@example.org>", "from_address": "bo@example.org", "to": "ada@example.org",
        "cc": "", "subject": "Case 1", "date": "2025-11-22T11:01:00+01:00", "message_id": "<case.1@example.org>",
        "in_reply_to": "", "seen": True, "flagged": False, "answered": False, "bytes": 0,
    }  # fmt: skip
    assert (await done(post, "search", folder="Archive"))["messages"] == []


async def test_a_list_fits_into_a_receipt_whatever_lies_in_the_mailbox(ada: Person, tmp_path: Path) -> None:
    wide = "\U0001f3e0" * 900
    for n in range(50):
        ada.servers.deliver(
            ada.address, f"From: {wide}\r\nTo: {wide}\r\nCc: {wide}\r\nSubject: {n} {wide}\r\n\r\n".encode()
        )
    told = await done(tools(ada, tmp_path), "search", limit=50)
    assert told["more"] is True and 10 < len(told["messages"]) < 50
    assert len(canonical(told)) < RECEIPT_BYTES


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"since": "yesterday"}, "mail.date"),
        ({"limit": 0}, "tool.arguments"),
        ({"limit": 51}, "tool.arguments"),
        ({"text": "a\r\nLOGOUT"}, "mail.characters"),
        ({"text": ""}, "mail.characters"),
        ({"folder": "IN\r\nBOX"}, "mail.folder"),
        ({"folder": ""}, "mail.folder"),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(
    ada: Person, tmp_path: Path, arguments: dict[str, Value], code: str
) -> None:
    error = await failed(tools(ada, tmp_path), "search", **arguments)
    assert isinstance(error, BadInput) and error.code == code


# --- read ---------------------------------------------------------------------------------------------------------

BOTH = (
    "--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>In <b>HTML</b></p>\r\n"
    "--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    "Gr=FC=DFe\r\n--b--\r\n"
)
NESTED = (
    '--m\r\nContent-Type: multipart/alternative; boundary="b"\r\n\r\n' + BOTH + "\r\n--m\r\n"
    'Content-Type: application/pdf; name="=?utf-8?q?Pl=C3=A4ne.pdf?="\r\nContent-Disposition: attachment\r\n'
    "Content-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n--m\r\n"
    'Content-Type: text/plain\r\nContent-Disposition: attachment; filename="notes.txt"\r\n\r\nprivate\r\n--m\r\n'
    "Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
    "Subject: inner\r\n\r\ninner text\r\n--m--\r\n"
)


def multipart(kind: str, boundary: str) -> str:
    return f'MIME-Version: 1.0\r\nContent-Type: multipart/{kind}; boundary="{boundary}"\r\n'


def typed(kind: str) -> str:
    return f"MIME-Version: 1.0\r\nContent-Type: {kind}\r\n"


@pytest.mark.parametrize(
    ("raw", "text", "from_html"),
    [
        (written(0), "Good day.", False),
        (written(0, head=multipart("alternative", "b"), body=BOTH), "Grüße", False),
        (written(0, head=multipart("mixed", "m"), body=NESTED), "Grüße", False),
        (written(0, head=typed("text/html"), body="<p>Hi<script>x()</script></p>"), "Hi", True),
        (written(0, head=typed("application/pdf"), body="JVBERi0="), "", False),
        (written(0, head=typed('text/plain; charset="no-such"'), body="as it is"), "as it is", False),
        (written(0, head=multipart("mixed", "b"), body="no boundary in sight"), "", False),
        (b"\r\n", "", False),
    ],
)
async def test_read_gives_the_text(ada: Person, tmp_path: Path, raw: bytes, text: str, from_html: bool) -> None:
    ref = deliver(ada, raw)[0]
    told = await done(tools(ada, tmp_path), "read", message=ref)
    assert (told["text"], told["from_html"], told["truncated"]) == (text, from_html, False)
    assert ada.box.look("INBOX")[0][1] == (), "reading leaves no mark"


async def test_read_names_attachments_and_fetches_none(ada: Person, tmp_path: Path) -> None:
    ref = deliver(ada, written(0, head=multipart("mixed", "m"), body=NESTED))[0]
    told = (await done(tools(ada, tmp_path), "read", message=ref))["attachments"]
    assert [(one["name"], one["type"]) for one in told] == [
        ("Pläne.pdf", "application/pdf"),
        ("notes.txt", "text/plain"),
        ("", "message/rfc822"),
    ]


async def test_read_is_bounded(ada: Person, tmp_path: Path) -> None:
    long = "\U0001f3e0 und Hof " * 20_000
    refs = deliver(ada, written(0, head=typed("text/plain; charset=utf-8"), body=long))
    told = await done(tools(ada, tmp_path / "a"), "read", message=refs[0])
    assert told["truncated"] is True and len(told["text"]) == 20_000
    assert len(canonical(told)) < RECEIPT_BYTES
    told = await done(tools(ada, tmp_path / "b", max_bytes=1000, max_text=25_000), "read", message=refs[0])
    assert told["truncated"] is True and len(told["text"]) < 1000


async def test_hundreds_of_nested_parts_are_read_or_refused(ada: Person, tmp_path: Path) -> None:
    """Whatever the server makes of them; an answer comes, and soon."""
    deep = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(600))
    ref = deliver(ada, written(0, head="MIME-Version: 1.0\r\n" + deep.split("\r\n")[0] + "\r\n", body=deep))[0]
    try:
        async with asyncio.timeout(60):
            told = await done(tools(ada, tmp_path), "read", message=ref)
        assert isinstance(told["text"], str)
    except Refused as error:
        assert error.code == "mail.server"


@pytest.mark.parametrize("ref", ["", "1", "1.0", "0.1", "1.1.1", "1:*", "1.99999999999", "1.1 (BODY[])"])
async def test_what_names_no_message_is_refused(ada: Person, tmp_path: Path, ref: str) -> None:
    deliver(ada, written(0))
    error = await failed(tools(ada, tmp_path), "read", message=ref)
    assert isinstance(error, BadInput) and error.code == "mail.message"


async def test_a_message_that_is_gone_is_refused_and_no_other_taken_for_it(ada: Person, tmp_path: Path) -> None:
    refs = deliver(ada, written(0), written(1))
    post = tools(ada, tmp_path)
    ada.box.remove("INBOX", "<case.0@example.org>")
    validity, _, uid = refs[1].partition(".")
    for ref in (refs[0], f"{int(validity) + 1}.{uid}"):
        for verb, more in (("read", {}), ("move", {"to": "Archive"}), ("flag", {"flag": "seen", "on": True})):
            error = await failed(post, verb, message=ref, **more)
            assert isinstance(error, Refused) and error.code == "mail.gone"
    assert ada.box.look("INBOX")[0][:2] == ("<case.1@example.org>", ())


# --- changes ------------------------------------------------------------------------------------------------------


async def test_a_folder_that_is_not_there_is_told_as_that(ada: Person, tmp_path: Path) -> None:
    ref = deliver(ada, written(0))[0]
    post = tools(ada, tmp_path, drafts_folder="Entwürfe")
    draft: dict[str, Value] = {"to": ["bo@example.org"], "subject": "x", "text": "y"}
    for verb, arguments in (
        ("search", {"folder": "Nirgends"}),
        ("move", {"message": ref, "to": "Nirgends/Ünten"}),
        ("draft", draft),
    ):
        error = await failed(post, verb, **arguments)
        assert isinstance(error, Refused) and error.code == "mail.folder", error
    assert len(ada.box.look("INBOX")) == 1


@pytest.mark.parametrize(
    ("verb", "arguments", "code"),
    [
        ("move", {"message": "1.1", "to": "INBOX"}, "mail.folder"),
        ("flag", {"message": "1.1", "flag": r"\Deleted", "on": True}, "mail.flag"),
        ("draft", {"to": ["bo@example.org"], "subject": "a\nb", "text": "y"}, "mail.characters"),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(
    ada: Person, tmp_path: Path, verb: str, arguments: dict[str, Value], code: str
) -> None:
    error = await failed(tools(ada, tmp_path), verb, **arguments)
    assert isinstance(error, BadInput) and error.code == code


async def test_a_flag_that_stood_as_wanted_needs_no_undo(ada: Person, tmp_path: Path) -> None:
    ref = deliver(ada, written(0))[0]
    ada.box.flag("INBOX", ref, r"\Seen", True)
    flag = tools(ada, tmp_path)["post.flag"]
    action = Action("post.flag", {"message": ref, "flag": "seen", "on": True}, "PA-1")
    receipt = (await flag.send(action, action.key)).details
    assert receipt["was"] is True and flag.undo(action, receipt) is None


async def test_an_undo_works_though_the_same_was_done_before(ada: Person, tmp_path: Path) -> None:
    """Off, on, and undone: the undo is an action with a key that was carried out once already."""
    ref = deliver(ada, written(0))[0]
    post = tools(ada, tmp_path)
    for on in (True, False, True, False):
        await done(post, "flag", message=ref, flag="seen", on=on)
        assert (ada.box.look("INBOX")[0][1] == (r"\Seen",)) is on


async def test_a_message_without_an_id_is_followed_when_it_moves(ada: Person, tmp_path: Path) -> None:
    nameless = written(0).replace(b"Message-ID: <case.0@example.org>\r\n", b"")
    ref = deliver(ada, nameless)[0]
    post = tools(ada, tmp_path)
    moved = await done(post, "move", message=ref, to="Archive")
    assert (await done(post, "read", folder="Archive", message=moved["message"]))["subject"] == "Case 0"


async def test_another_mail_that_arrives_is_not_taken_for_the_one_that_moved(
    ada: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = deliver(ada, written(0))[0]
    real = Imap.append, Imap.move

    def meanwhile(box: Imap, uid: int, folder: str) -> None:
        real[0](box, folder, written(7), [])
        real[1](box, uid, folder)

    monkeypatch.setattr(Imap, "move", meanwhile)
    post = tools(ada, tmp_path)
    moved = await done(post, "move", message=ref, to="Archive")
    assert (await done(post, "read", folder="Archive", message=moved["message"]))["subject"] == "Case 0"


# --- calls that broke off -----------------------------------------------------------------------------------------


class Cut(Exception):
    """Where a test lets the agent die."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["draft", "flag", "move"])
async def test_a_change_that_broke_off_is_led_to_its_end(
    ada: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, when: str
) -> None:
    """The agent dies at the change, before or after the server made it; sent again, it stands once, and its undo
    leads back to how it was before the first try."""
    ref = deliver(ada, written(0))[0]
    arguments: dict[str, dict[str, Value]] = {
        "draft": {"to": ["bo@example.org"], "subject": "x", "text": "y"},
        "flag": {"message": ref, "flag": "flagged", "on": True},
        "move": {"message": ref, "to": "Archive"},
    }
    name = {"draft": "append", "flag": "set_flag", "move": "move"}[verb]
    real = getattr(Imap, name)

    def dies(*given: Any) -> None:
        if when == "after":
            real(*given)
        raise Cut

    action = Action(f"post.{verb}", arguments[verb], "PA-1")
    monkeypatch.setattr(Imap, name, dies)
    with pytest.raises(Cut):
        await tools(ada, tmp_path)[action.tool].send(action, action.key)
    monkeypatch.undo()
    assert (record := Records(tmp_path).get(action.key)) and record.state == "started"
    post = tools(ada, tmp_path)
    receipt = (await post[action.tool].send(action, action.key)).details
    assert (await post[action.tool].observe(action, action.key, receipt))[0]
    stands = [len(ada.box.ids("Drafts")), len(ada.box.ids("Archive")), len(ada.box.ids("INBOX"))]
    assert stands == {"draft": [1, 0, 1], "flag": [0, 0, 1], "move": [0, 1, 0]}[verb]
    undo = post[action.tool].undo(action, receipt)
    assert isinstance(undo, Action)
    await post[undo.tool].send(undo, undo.key)
    assert (ada.box.ids("Drafts"), ada.box.ids("Archive")) == ([], [])
    assert [look[:2] for look in ada.box.look("INBOX")] == [("<case.0@example.org>", ())]


async def test_a_message_in_both_folders_is_left_to_a_person(
    ada: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = deliver(ada, written(0))[0]
    action = Action("post.move", {"message": ref, "to": "Archive"}, "PA-1")

    def half(box: Imap, uid: int, folder: str) -> None:
        box._client.copy([uid], folder)
        raise Cut

    monkeypatch.setattr(Imap, "move", half)
    with pytest.raises(Cut):
        await tools(ada, tmp_path)["post.move"].send(action, action.key)
    monkeypatch.undo()
    with pytest.raises(Unavailable) as caught:
        await tools(ada, tmp_path)["post.move"].send(action, action.key)
    assert caught.value.code == "mail.unknown" and not isinstance(caught.value, NotSent)
    assert (len(ada.box.ids("INBOX")), len(ada.box.ids("Archive"))) == (1, 1), "nothing is deleted"


@pytest.mark.parametrize("wait_s", [0.0, 0.01, 0.03, 0.06])
async def test_a_server_killed_in_the_middle_of_changes_loses_and_doubles_nothing(
    ada: Person, tmp_path: Path, wait_s: float
) -> None:
    refs = deliver(ada, *(written(n) for n in range(6)))
    post = tools(ada, tmp_path)
    actions = [Action("post.move", {"message": ref, "to": "Archive"}, ref) for ref in refs]
    actions += [
        Action("post.draft", {"to": ["bo@example.org"], "subject": f"Case {n}", "text": "y"}, "d") for n in range(6)
    ]
    calls = [asyncio.create_task(post[action.tool].send(action, action.key)) for action in actions]
    await asyncio.sleep(wait_s)
    ada.servers.stop("imap", kill=True)
    said = await asyncio.gather(*calls, return_exceptions=True)
    assert [one for one in said if not isinstance(one, Unavailable | Receipt)] == []
    ada.servers.running()
    after = tools(ada, tmp_path)
    for action in actions:
        try:
            await settled(after[action.tool], action)
        except Unavailable as error:  # killed between copying and removing: both are there, and a person is asked
            assert "lies in" in error.message, error
    assert len(ada.box.ids("Drafts")) == 6
    everywhere = {*ada.box.ids("INBOX"), *ada.box.ids("Archive")}
    assert everywhere == {f"<case.{n}@example.org>" for n in range(6)}


# --- out of reach -------------------------------------------------------------------------------------------------


async def test_a_server_that_does_not_answer_is_waited_for_only_so_long(ada: Person, tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        given = ada.settings(smtp=None)
        given["imap"] = ada.server(port, "none", timeout_s=1)
        place = Place("post", tmp_path, lambda name: PASSWORD, lambda: time.time_ns() // 1000)
        search = {tool.name: tool for tool in make(place, given)}
        error = await failed(search, "search")
        assert isinstance(error, NotSent) and error.code == "mail.unreachable"
        task = asyncio.create_task(done(search, "search"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await search["post.search"].close()


@pytest.mark.parametrize(
    "answer",
    [b"nonsense\r\n", b"* BYE full\r\n", b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n" + os.urandom(40) + b"\r\n"],
    ids=["nonsense", "bye", "garbage"],
)
async def test_a_server_that_talks_nonsense_changed_nothing(ada: Person, tmp_path: Path, answer: bytes) -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.readline()

    async with listening(odd) as port:
        given = ada.settings(smtp=None)
        given["imap"] = ada.server(port, "none", timeout_s=2)
        place = Place("post", tmp_path, lambda name: PASSWORD, lambda: time.time_ns() // 1000)
        error = await failed({tool.name: tool for tool in make(place, given)}, "search")
        assert isinstance(error, NotSent) and error.code == "mail.unreachable"
