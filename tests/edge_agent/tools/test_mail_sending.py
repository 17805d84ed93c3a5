"""Sending by SMTP against a real server, with a real mailbox: what is said to be known is known."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import Manual, NotSent, Receipt, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.mail import make
from shared.actions import Action, Value
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from tests.mailserver import ANOTHER, PASSWORD, MailServers, Person, mail_servers

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[3]
BO = "bo@example.org"


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
    return {tool.name: tool for tool in make(place, person.settings(**settings))}


def send_tool(person: Person, state: Path, **settings: Any) -> Tool:
    return tools(person, state, **settings)["post.send"]


def mail(*to: str, n: int = 0, **more: Value) -> Action:
    return Action("post.send", {"to": list(to), "subject": f"Hello {n}", "text": "Good day.", **more}, f"PA-{n}")


async def failed(tool: Tool, action: Action) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        await tool.send(action, action.key)
    assert PASSWORD not in str(caught.value)
    return caught.value


# --- what it promises ---------------------------------------------------------------------------------------------


class SendContract(ToolContract):
    """Against both servers. Every test writes from an address of its own."""

    secrets = (PASSWORD,)
    settings: dict[str, Any] = {}  # noqa: RUF012 - never written
    away = "smtp"

    @pytest.fixture(autouse=True)
    def world(self, ada: Person, tmp_path: Path) -> None:
        self.ada = ada
        self.path = tmp_path

    def make_tool(self) -> Tool:
        return send_tool(self.ada, self.path / "state", **self.settings)

    def good_action(self, n: int) -> Action:
        return mail(BO, n=n, text=f"grün {n}\n.\n..")

    async def effects(self, action: Action | None) -> int:
        taken = self.ada.taken()
        return len(taken) if action is None else sum(action.key in message_id for message_id in taken)

    async def spoil(self, action: Action) -> None:
        self.ada.box.remove("Sent", f"<outrider.{action.key}@example.org>")

    async def break_receiver(self) -> None:
        self.ada.servers.stop(self.away, kill=True)

    async def mend_receiver(self) -> None:
        self.ada.servers.running()


class TestSendAlone(SendContract):
    settings = {"imap": None}  # noqa: RUF012 - never written


class TestSendKept(SendContract):
    pass


class TestSendKeptWithoutMailbox(SendContract):
    """The mailbox is away, the sending server is not: a mail that could not be looked up is not sent."""

    away = "imap"


# --- a mail that goes out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
async def test_a_mail_arrives_once_and_a_copy_is_kept(ada: Person, tmp_path: Path, security: str) -> None:
    text = "Guten Tag,\n.\n..\nBauantrag: grün\n"
    action = mail(ada.address, subject="Stand – Köln", text=text, cc=[BO])
    imap = "starttls" if security == "none" else "tls"
    all_tools = tools(ada, tmp_path, smtp=security, imap=imap)
    send = all_tools["post.send"]
    receipt = await send.send(action, action.key)
    message_id = f"<outrider.{action.key}@example.org>"
    assert receipt.details["message_id"] == message_id and receipt.details["copy"] == "Sent"
    assert ada.taken() == [message_id] and ada.servers.taken()[-1]["recipients"] == [ada.address, BO]
    assert ada.box.ids("INBOX") == [message_id]
    assert ada.box.look("Sent")[0][:2] == (message_id, (r"\Seen",))
    search = Action("post.search", {"message_id": message_id}, "PA-0")
    found = (await all_tools["post.search"].send(search, search.key)).details["messages"]
    assert [(one["subject"], one["from_address"]) for one in found] == [("Stand – Köln", ada.address)]
    read = Action("post.read", {"message": found[0]["message"]}, "PA-0")
    told = (await all_tools["post.read"].send(read, read.key)).details
    assert told["text"] == text.strip() and told["from"] == f"Ada Müller <{ada.address}>"


async def test_its_undo_tells_a_person_whom_to_write_to(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path), mail(BO, cc=["ann@example.org"])
    undo = send.undo(action, (await send.send(action, action.key)).details)
    assert isinstance(undo, Manual) and f"{BO}, ann@example.org" in undo.steps[0] and "Hello 0" in undo.steps[0]


async def test_a_mail_another_device_sent_is_not_sent_again(ada: Person, tmp_path: Path) -> None:
    action = mail(BO)
    first = await send_tool(ada, tmp_path / "one").send(action, action.key)
    other = send_tool(ada, tmp_path / "two")
    second = await other.send(action, action.key)
    assert second.details["message_id"] == first.details["message_id"] and second.details["copy"] == "Sent"
    assert len(ada.taken()) == 1
    known = await other.ask(action.key, action)
    assert known is not None and known.details == second.details


async def test_a_bounce_is_seen(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path), mail(BO)
    receipt = (await send.send(action, action.key)).details
    assert await send.observe(action, action.key, receipt) == (True, {"copy": "Sent", "bounced": False})
    report = (
        f"From: mailer-daemon@example.org\r\nTo: {ada.address}\r\nMessage-ID: <b@example.org>\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nIt could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; mx.example.org\r\n\r\nFinal-Recipient: rfc822; {BO}\r\nAction: ACTION\r\n"
        "Status: 5.1.1\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        f"Message-ID: {receipt['message_id']}\r\n\r\n--b--\r\n"
    )
    ada.servers.deliver(ada.address, report.replace("ACTION", "delayed").encode())
    assert (await send.observe(action, action.key, receipt))[0], "a mail that is late has not come back"
    ada.servers.deliver(ada.address, report.replace("ACTION", "failed").encode())
    assert await send.observe(action, action.key, receipt) == (False, {"copy": "Sent", "bounced": True})


async def test_a_server_that_keeps_copies_itself_is_left_to_it(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path, save_sent=False), mail(BO)
    receipt = (await send.send(action, action.key)).details
    assert receipt["copy"] == "" and ada.box.ids("Sent") == []
    assert (await send.observe(action, action.key, receipt))[0]


async def test_a_copy_that_could_not_be_kept_is_made_up_for(ada: Person, tmp_path: Path) -> None:
    ada.servers.faults(at="before", how="hang")
    send, action = send_tool(ada, tmp_path), mail(BO)
    task = asyncio.create_task(send.send(action, action.key))
    await held(ada, "before")
    ada.servers.stop("imap", kill=True)
    ada.servers.faults()
    receipt = await task
    assert receipt.details["copy"] == "" and receipt.details["trouble"] == "mail.unreachable"
    assert len(ada.taken()) == 1
    asked = await send.ask(action.key, action)
    assert asked is not None and asked.details["trouble"] == "mail.unreachable"
    ada.servers.running()
    for _ in range(2):
        asked = await send.ask(action.key, action)
        assert asked is not None and asked.details["copy"] == "Sent" and "trouble" not in asked.details
        assert ada.box.ids("Sent") == [receipt.details["message_id"]]
    assert len(ada.taken()) == 1


# --- a mail that surely did not -----------------------------------------------------------------------------------

REFUSALS: list[tuple[dict[str, Any], type[OutriderError], str]] = [
    ({"rcpt": {BO: "550 5.1.1 no such user"}}, Refused, "mail.recipient"),
    ({"rcpt": {BO: "451 4.7.1 greylisted, come back"}}, NotSent, "mail.later"),
    ({"rcpt": {BO: "451 4.7.1 later", "ann@example.org": "550 5.1.1 never"}}, Refused, "mail.recipient"),
    ({"rcpt": {BO: "421 4.3.2 going down"}}, NotSent, "mail.later"),
    ({"mail": {"SELF": "553 5.1.8 not yours"}}, Refused, "mail.refused"),
    ({"mail": {"SELF": "452 4.3.1 disk full"}}, NotSent, "mail.later"),
    ({"command": "451 4.3.0 not now"}, NotSent, "mail.later"),
    ({"command": "554 5.5.1 never"}, Refused, "mail.refused"),
    ({"data": "451 4.3.0 scanner busy"}, NotSent, "mail.later"),
    ({"data": "421 4.3.2 going down"}, NotSent, "mail.later"),
    ({"data": "552 5.3.4 too big"}, Refused, "mail.refused"),
    ({"at": "command", "how": "cut"}, NotSent, "mail.unreachable"),
    ({"at": "command", "how": "kill"}, NotSent, "mail.unreachable"),
]


@pytest.mark.parametrize(("faults", "kind", "code"), REFUSALS, ids=[json.dumps(row[0]) for row in REFUSALS])
async def test_what_the_server_did_not_take_is_known_not_to_be_sent(
    ada: Person, tmp_path: Path, faults: dict[str, Any], kind: type[OutriderError], code: str
) -> None:
    if "mail" in faults:
        faults = {"mail": {ada.address: faults["mail"]["SELF"]}}
    send, action = send_tool(ada, tmp_path), mail("ann@example.org", BO)
    ada.servers.faults(**faults)
    error = await failed(send, action)
    assert (type(error), error.code) == (kind, code), error
    assert ada.taken() == [] and ada.box.ids("Sent") == []
    assert await send.ask(action.key, action) is None
    if faults.get("how") == "kill":
        ada.servers.stop("smtp", kill=True)
    ada.servers.running()
    await send.send(action, action.key)
    assert len(ada.taken()) == 1


async def test_one_recipient_refused_means_that_nobody_is_written_to(ada: Person, tmp_path: Path) -> None:
    ada.servers.faults(rcpt={BO: "550 5.1.1 no such user"})
    error = await failed(send_tool(ada, tmp_path), mail("ann@example.org", "cy@example.org", BO))
    assert BO in error.message and "nobody was written to" in error.advice
    assert ada.taken() == []


async def test_what_is_outside_allow_to_never_reaches_a_server(ada: Person, tmp_path: Path) -> None:
    ada.servers.stop("smtp")
    error = await failed(send_tool(ada, tmp_path, allow_to=["example.org"]), mail("eve@evil.example"))
    assert isinstance(error, Refused) and error.code == "mail.not-allowed"


async def test_a_planted_header_never_reaches_a_server(ada: Person, tmp_path: Path) -> None:
    ada.servers.stop("smtp")
    error = await failed(send_tool(ada, tmp_path), mail(BO, subject="Hello\r\nBcc: eve@evil.example"))
    assert isinstance(error, BadInput) and error.code == "mail.characters"


# --- trust --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("kind", ["smtp", "imap"])
async def test_a_server_nobody_vouches_for_is_not_spoken_to(
    ada: Person, tmp_path: Path, kind: str, security: str
) -> None:
    given = ada.settings(**{kind: security})
    for ca in (str(ada.servers.folder / "other.pem"), "", str(ada.servers.folder / "none.pem")):
        given[kind] = {**given[kind], "ca_file": ca}
        place = Place("post", tmp_path, lambda name: PASSWORD, lambda: time.time_ns() // 1000)
        send = make(place, given)[0]
        error = await failed(send, mail(BO))
        assert isinstance(error, Refused) and error.code == "mail.tls", error
    assert ada.taken() == []


async def test_a_server_without_starttls_is_told_no_password(ada: Person, tmp_path: Path) -> None:
    given = ada.settings()
    given["smtp"] = ada.server(ada.servers.ports["smtp_none"], "starttls")
    place = Place("post", tmp_path, lambda name: PASSWORD, lambda: time.time_ns() // 1000)
    error = await failed(make(place, given)[0], mail(BO))
    assert isinstance(error, Refused) and error.code == "mail.tls" and "STARTTLS" in error.message


async def test_a_password_may_have_any_characters(ada: Person, tmp_path: Path) -> None:
    place = Place("post", tmp_path, lambda name: ANOTHER, lambda: time.time_ns() // 1000)
    await make(place, ada.settings())[0].send(mail(BO), mail(BO).key)
    assert len(ada.taken()) == 1 and len(ada.box.ids("Sent")) == 1


@pytest.mark.parametrize("password", ["wrong", "falsch-ü"])
@pytest.mark.parametrize("imap", ["tls", None])
async def test_a_wrong_password_is_told_without_it(
    ada: Person, tmp_path: Path, password: str, imap: str | None
) -> None:
    place = Place("post", tmp_path, lambda name: password, lambda: time.time_ns() // 1000)
    error = await failed(make(place, ada.settings(imap=imap))[0], mail(BO))
    assert isinstance(error, Refused) and error.code == "mail.auth" and password not in str(error)
    assert ada.taken() == []


# --- a mail of which nobody knows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "kill"])
@pytest.mark.parametrize(("at", "taken"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("imap", ["tls", None])
async def test_a_server_that_dies_before_it_answers_leaves_a_doubt(
    ada: Person, tmp_path: Path, at: str, taken: int, how: str, imap: str | None
) -> None:
    send, action = send_tool(ada, tmp_path, imap=imap), mail(BO)
    ada.servers.faults(at=at, how=how)
    error = await failed(send, action)
    assert isinstance(error, Unavailable) and not isinstance(error, NotSent) and error.code == "mail.unknown"
    assert len(ada.taken()) == taken
    if how == "kill":
        ada.servers.stop("smtp", kill=True)
    ada.servers.running()
    for tool in (send, send_tool(ada, tmp_path, imap=imap)):  # and after a restart
        with pytest.raises(Unavailable) as caught:
            await tool.ask(action.key, action)
        assert caught.value.code == "mail.unknown"
    assert len(ada.taken()) == taken, "asking sends nothing"


async def test_a_doubt_is_settled_by_a_copy_where_one_may_be(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path, ask_folders=["INBOX"]), mail(BO, cc=[ada.address])
    ada.servers.faults(at="after", how="cut")
    assert (await failed(send, action)).code == "mail.unknown"
    ada.servers.running()
    found = await send.ask(action.key, action)
    assert found is not None and found.details["copy"] == "INBOX"
    assert await send.send(action, action.key) == found
    assert len(ada.taken()) == 1


async def test_a_mailbox_that_cannot_be_asked_leaves_the_doubt(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path, ask_folders=["INBOX"]), mail(ada.address)
    ada.servers.faults(at="after", how="cut")
    assert (await failed(send, action)).code == "mail.unknown"
    ada.servers.stop("imap")
    with pytest.raises(Unavailable) as caught:
        await send.ask(action.key, action)
    assert caught.value.code == "mail.unreachable" and not isinstance(caught.value, NotSent)


async def test_a_server_that_does_not_answer_leaves_a_doubt(ada: Person, tmp_path: Path) -> None:
    given = ada.settings(imap=None)
    given["smtp"]["timeout_s"] = 2
    ada.servers.faults(at="after", how="hang")
    place = Place("post", tmp_path, lambda name: PASSWORD, lambda: time.time_ns() // 1000)
    async with asyncio.timeout(60):
        assert (await failed(make(place, given)[0], mail(BO))).code == "mail.unknown"
    assert ada.servers.holding() == ["after", ada.address]


async def test_calls_of_one_key_at_once_send_one_mail(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path), mail(BO)
    receipts = await asyncio.gather(*(send.send(action, action.key) for _ in range(5)))
    assert all(receipt == receipts[0] for receipt in receipts) and len(ada.taken()) == 1


async def test_calls_of_one_key_at_once_share_a_doubt(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path), mail(BO)
    ada.servers.faults(at="after", how="cut")
    calls = [send.send(action, action.key) for _ in range(4)]
    said = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(error, "code", error) for error in said] == ["mail.unknown"] * 4
    assert len(ada.taken()) == 1


async def test_a_person_who_says_that_it_was_not_sent_is_believed(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path), mail(BO)
    ada.servers.faults(at="before", how="cut")
    assert (await failed(send, action)).code == "mail.unknown"
    ada.servers.running()
    assert ada.taken() == []
    await send.send(action, action.key)
    assert len(ada.taken()) == 1
    assert isinstance(await send.ask(action.key, action), Receipt)


# --- a call that is cut off, an agent that is killed --------------------------------------------------------------


async def held(ada: Person, at: str) -> None:
    """Until the server holds back its answer to a mail of hers."""
    async with asyncio.timeout(60):
        while ada.servers.holding() != [at, ada.address]:
            await asyncio.sleep(0.02)


async def cut_off(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_cut_off_before_the_end_mark_sent_nothing(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path, imap=None), mail(BO)
    ada.servers.faults(at="command", how="hang")
    task = asyncio.create_task(send.send(action, action.key))
    await held(ada, "command")
    await cut_off(task)
    assert await send.ask(action.key, action) is None
    ada.servers.running()
    await asyncio.sleep(0.3)  # the server answers, and nothing follows
    assert ada.taken() == []
    await send.send(action, action.key)
    assert len(ada.taken()) == 1


async def test_a_call_cut_off_after_the_end_mark_is_led_to_its_end(ada: Person, tmp_path: Path) -> None:
    send, action = send_tool(ada, tmp_path), mail(BO)
    ada.servers.faults(at="before", how="hang")
    task = asyncio.create_task(send.send(action, action.key))
    await held(ada, "before")
    await cut_off(task)
    asking = asyncio.create_task(send.ask(action.key, action))  # waits for the server's answer
    await asyncio.sleep(0.1)
    assert not asking.done()
    ada.servers.faults()
    known = await asking
    assert known is not None and known.details["copy"] == "Sent" and len(ada.taken()) == 1
    await send.close()


AGENT = """
import asyncio, json, pathlib, sys, time
from edge_agent.tools.build import Place
from edge_agent.tools.mail import make
from shared.actions import Action
state, given, arguments, password = sys.argv[1], *map(json.loads, sys.argv[2:4]), sys.argv[4]
place = Place("post", pathlib.Path(state), lambda name: password, lambda: time.time_ns() // 1000)
action = Action("post.send", arguments, "PA-0")
asyncio.run(make(place, given)[0].send(action, action.key))
"""


@pytest.mark.parametrize(
    ("at", "taken", "told"), [("command", 0, "nothing"), ("before", None, "doubt"), ("after", 1, "doubt")]
)
async def test_an_agent_that_is_killed_knows_afterwards_what_is_known(
    ada: Person, tmp_path: Path, at: str, taken: int | None, told: str
) -> None:
    """Killed while the server holds its answer back: to ``DATA``, and to the end mark before and after taking it in."""
    action = mail(BO)
    ada.servers.faults(at=at, how="hang")
    words = [str(tmp_path), json.dumps(ada.settings()), json.dumps(action.arguments), PASSWORD]
    agent = subprocess.Popen([sys.executable, "-c", AGENT, *words], cwd=ROOT)
    await held(ada, at)
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait(60)
    send = send_tool(ada, tmp_path)
    if told == "nothing":
        assert await send.ask(action.key, action) is None
    else:
        with pytest.raises(Unavailable) as caught:
            await send.ask(action.key, action)
        assert caught.value.code == "mail.unknown"
    ada.servers.faults()
    await asyncio.sleep(0.3)  # the server goes on
    assert taken is None or len(ada.taken()) == taken
