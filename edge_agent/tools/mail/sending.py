"""``send``: a mail goes out once, and what became of it can be asked.

What is known, and from where. Before the end mark goes over the line nothing was sent; a record is on the disk before
that mark, and a second one after the server's yes. So without a record the mail was never handed over; with both it
was; and with only the first, nobody knows, unless a copy with its Message-ID lies in the Sent folder or in one of
``ask_folders``: a copy is proof, its absence is none. ``ask`` says exactly this and no more.

Where a mailbox is configured it is searched before sending too, so that the same case, met on another device or after
the agent's folder was lost, is not written about twice. The copy for the Sent folder is put there after the server's
yes; when that fails it is not the mail's failure, and ``ask`` makes up for it.
"""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from edge_agent.tools import Argument, Backoff, Effect, Manual, Rate, Receipt, Risk, check_arguments
from edge_agent.tools.mail import imap, smtp
from edge_agent.tools.mail.account import Account, MailTool, looking, needed
from edge_agent.tools.mail.lines import Line
from edge_agent.tools.mail.message import Mail
from edge_agent.tools.mail.records import Record
from shared.actions import Action
from shared.errors import OutriderError

MAIL = {
    "to": Argument("list", about="bare addresses"),
    "cc": Argument("list", required=False, about="bare addresses"),
    "subject": Argument(about="one line"),
    "text": Argument(about="the text, plain"),
    "in_reply_to": Argument(required=False, about="the Message-ID this answers"),
}
_SEEN = rb"\Seen"


class Send(MailTool):
    """``TABLE.send`` where no mailbox is configured: nothing can be read back."""

    verb = "send"
    about = "Send a plain-text mail."
    effect: Effect = "irreversible"
    idempotent = False  # sending again does not settle a doubt
    askable = True
    arguments = MAIL
    backoff = Backoff(attempts=4, first_s=2.0, most_s=60.0)  # servers that make strangers wait mean a minute or more
    reads_back: ClassVar[bool] = False

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self.risk: Risk = "medium" if account.given.allow_to else "high"
        self.rate = Rate(account.given.per_minute, 60.0)

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        entered = self.account.now()
        mail = self.account.writer.write(action, key, entered)
        return await self.account.desk.lead(key, lambda line: self._send(line, key, mail, entered))

    def _send(self, line: Line, key: str, mail: Mail, entered: int) -> Receipt:
        record = self.account.records.get(key)
        if record and record.state == "done":
            return Receipt(record.details)
        if record and record.at >= entered:  # another call of this key broke off while this one waited for it
            raise smtp.unknown("an earlier call of the same key broke off")
        if self.account.imap is None:
            return self._hand_over(line, key, mail, entered, None)
        with self.account.mailbox(line) as box:
            found = self._kept_in(box, mail.message_id)
            if found:
                return self._done(key, {**self._told(mail.message_id, entered, ""), "copy": found})
            return self._hand_over(line, key, mail, entered, box)

    def _hand_over(self, line: Line, key: str, mail: Mail, entered: int, box: imap.Mailbox | None) -> Receipt:
        account = self.account
        assert account.smtp is not None
        going = smtp.Going(
            about_to=lambda: account.records.start(key, self.name, account.now(), {"dated": entered}),
            not_taken=lambda: account.records.forget(key),
        )
        said = smtp.hand_over(account.smtp, account.login(account.smtp), mail, line, going)
        told = self._told(mail.message_id, entered, said)
        try:
            receipt = self._done(key, told)
            if box is not None and account.given.save_sent:
                receipt = self._done(key, {**told, "copy": self._keep_copy(box, mail)})
        except OutriderError as error:  # the mail is out; the record or the copy has to wait
            return Receipt({**told, "trouble": error.code})
        return receipt

    async def ask(self, key: str, action: Action) -> Receipt | None:
        with looking():
            return await self.account.desk.lead(key, lambda line: self._ask(line, key, action))

    def _ask(self, line: Line, key: str, action: Action) -> Receipt | None:
        record = self.account.records.get(key)
        if record is None:
            return None
        if record.state == "done":
            return self._made_up_for(line, key, action, record)
        message_id = self.account.writer.message_id(key)
        if self.account.imap is not None:
            with self.account.mailbox(line) as box:
                found = self._kept_in(box, message_id)
            if found:
                return self._done(key, {**self._told(message_id, record.details["dated"], ""), "copy": found})
        raise smtp.unknown("the agent or the connection broke off while the mail was handed over")

    def _made_up_for(self, line: Line, key: str, action: Action, record: Record) -> Receipt:
        """The receipt of a mail that went out, its copy put into the Sent folder if that was left undone."""
        told = record.details
        if self.account.imap is not None and self.account.given.save_sent and not told["copy"]:
            try:
                mail = self.account.writer.write(action, key, told["dated"])
                with self.account.mailbox(line) as box:
                    return self._done(key, {**told, "copy": self._keep_copy(box, mail)})
            except OutriderError as error:
                return Receipt({**told, "trouble": error.code})
        return Receipt(told)

    def _kept_in(self, box: imap.Mailbox, message_id: str) -> str:
        """The folder with a copy of the mail, or nothing."""
        given = self.account.given
        for folder in (box.special(imap.SENT, given.sent_folder), *given.ask_folders):
            box.select(folder)
            if box.with_id(message_id):
                return folder
        return ""

    def _keep_copy(self, box: imap.Mailbox, mail: Mail) -> str:
        folder = box.special(imap.SENT, self.account.given.sent_folder)
        box.select(folder)
        if not box.with_id(mail.message_id):
            box.append(folder, mail.raw, [_SEEN])
        return folder

    def _told(self, message_id: str, dated: int, said: str) -> dict[str, Any]:
        return {"message_id": message_id, "dated": dated, "reply": said, "copy": ""}

    def _done(self, key: str, details: dict[str, Any]) -> Receipt:
        self.account.records.finish(key, self.name, self.account.now(), details)
        return Receipt(details)

    def undo(self, action: Action, receipt: dict[str, Any]) -> Manual:
        lists = (action.arguments.get("to"), action.arguments.get("cc"))
        to = ", ".join(str(one) for people in lists if isinstance(people, list) for one in people)
        what = f"the mail {str(action.arguments['subject'])!r} ({receipt.get('message_id', 'no Message-ID')})"
        return Manual([f"A mail cannot be called back. Write to {to}: say that {what} was sent in error."])


class SendKept(Send):
    """``TABLE.send`` with a mailbox: the copy is looked for, and whether the mail came back undelivered so far."""

    reads_back: ClassVar[bool] = True

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        with looking():
            return await self.account.desk.lead(key, lambda line: self._observe(line, receipt))

    def _observe(self, line: Line, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        message_id, folder = needed(receipt, "message_id", "copy")
        sent = datetime.datetime.fromtimestamp(receipt["dated"] // 1_000_000, datetime.UTC).date()
        with self.account.mailbox(line) as box:
            kept = False
            if folder:
                box.select(folder)
                kept = bool(box.with_id(message_id))
            box.select("INBOX")
            since = sent - datetime.timedelta(days=1)  # the server may count days by another clock
            report = ["SINCE", since, "HEADER", "CONTENT-TYPE", "multipart/report"]  # RFC 3462 and 3464
            bounced = bool(box.search([*report, "TEXT", "Action: failed", "TEXT", message_id]))
        return (kept or not folder) and not bounced, {"copy": folder if kept else "", "bounced": bounced}
