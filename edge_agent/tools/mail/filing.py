"""``draft``, ``flag`` and ``move``: changes in the mailbox that can be taken back. Nothing is ever deleted.

Each is idempotent by its record: what it was before stands on the disk before the change, so that a call that broke
off is led to its end by sending it again, and can still be undone to the state before the first try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_agent.tools import Argument, Effect, Manual, NotSent, Receipt, Risk, check_arguments
from edge_agent.tools.mail import imap, plain
from edge_agent.tools.mail.account import MailTool, looking, needed
from edge_agent.tools.mail.lines import Line
from edge_agent.tools.mail.message import Mail
from edge_agent.tools.mail.sending import MAIL
from shared.actions import Action, Value
from shared.errors import BadInput, OutriderError, Unavailable

_DRAFT = (rb"\Draft", rb"\Seen")
_ARRIVALS = 500  # messages looked at for the one that was moved
_FLAG = {
    "folder": Argument(required=False, about="INBOX unless told"),
    "message": Argument(about="what search gave as 'message'"),
    "flag": Argument(about="seen, flagged or answered"),
    "on": Argument("boolean", about="true sets it, false takes it off"),
}
_MOVE = {
    "folder": Argument(required=False, about="where it is: INBOX unless told"),
    "message": Argument(about="what search gave as 'message'"),
    "to": Argument(about="the folder it goes to, which exists"),
}


class Filing(MailTool):
    """What the three share."""

    effect: Effect = "reversible"
    risk: Risk = "low"
    idempotent = True
    askable = False

    def change(self, line: Line, key: str, before: dict[str, Any], make: Callable[[], None]) -> None:
        """Make a change, past the point of no return and with ``before`` on the disk. Where it surely was not made,
        nothing is remembered."""
        line.commit()
        self.account.records.start(key, self.name, self.account.now(), before)
        try:
            make()
        except OutriderError as error:
            if isinstance(error, NotSent) or not isinstance(error, Unavailable):
                self.account.records.forget(key)
            raise

    def done(self, key: str, details: dict[str, Any]) -> Receipt:
        self.account.records.finish(key, self.name, self.account.now(), details)
        return Receipt(details)

    async def look(self, folder: str, ref: str) -> dict[str, bool] | None:
        """The flags of a message, or ``None`` when it is not there."""

        def work(line: Line) -> dict[str, bool] | None:
            with self.account.mailbox(line) as box:
                box.select(folder)
                return _flags(box, box.uid(ref))

        with looking():
            return await self.account.desk.lead(f"look {folder} {ref}", work)


class Draft(Filing):
    """``TABLE.draft``: a mail for a person to look at and send. Its undo puts it into the trash."""

    verb = "draft"
    about = "Put a plain-text mail into the Drafts folder, for a person to send."
    arguments = MAIL

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        mail = self.account.writer.write(action, key, self.account.now())
        return await self.account.desk.lead(key, lambda line: self._draft(line, key, mail))

    def _draft(self, line: Line, key: str, mail: Mail) -> Receipt:
        record = self.account.records.get(key)
        if record and record.state == "done":
            return Receipt(record.details)
        given = self.account.given
        with self.account.mailbox(line) as box:
            trash = box.special(imap.TRASH, given.trash_folder)
            box.select(trash)  # without it there would be no undo
            folder = box.special(imap.DRAFTS, given.drafts_folder)
            box.select(folder)
            if not box.with_id(mail.message_id):
                self.change(line, key, {}, lambda: box.append(folder, mail.raw, _DRAFT))
                box.select(folder)
            found = box.with_id(mail.message_id)
            if not found:
                raise _lost("the draft is not in its folder after it was put there")
            ref = box.ref(found[0])
        return self.done(key, {"folder": folder, "message": ref, "message_id": mail.message_id, "trash": trash})

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        folder, message = needed(receipt, "folder", "message")
        there = await self.look(folder, message) is not None
        return there, {"folder": folder, "there": there}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual:
        if "trash" not in receipt:
            return self.by_hand(f"Delete the draft {str(action.arguments['subject'])!r}.")
        back: dict[str, Value] = {"folder": receipt["folder"], "message": receipt["message"], "to": receipt["trash"]}
        return Action(f"{self.account.name}.{Move.verb}", back, action.subject)


class Flag(Filing):
    """``TABLE.flag``: set or clear one of a message's flags. It is about how the message stands: a flag that stands as
    wanted is left alone, one that somebody changed since is set again."""

    verb = "flag"
    about = "Mark a mail as seen, flagged or answered, or take the mark off."
    arguments = _FLAG

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        a = action.arguments
        if a["flag"] not in imap.FLAGS:
            raise BadInput(
                "mail.flag", f"{a['flag']!r} is no flag", advice=f"use one of {', '.join(imap.FLAGS)}", where="flag"
            )
        wanted = {"folder": imap.folder_name(a.get("folder"), "INBOX"), "message": a["message"], "flag": a["flag"]}
        return await self.account.desk.lead(key, lambda line: self._flag(line, key, wanted, on=a["on"] is True))

    def _flag(self, line: Line, key: str, wanted: dict[str, Any], *, on: bool) -> Receipt:
        record = self.account.records.get(key)
        with self.account.mailbox(line) as box:
            box.select(wanted["folder"], readonly=False)
            uid = box.uid(wanted["message"])
            flags = _flags(box, uid)
            if flags is None:
                raise imap.gone(wanted["message"])
            is_on = flags[wanted["flag"]]
            before = record.details if record and is_on == on else {**wanted, "was": is_on}
            if is_on != on:
                self.change(line, key, before, lambda: box.set_flag(uid, imap.FLAGS[wanted["flag"]], on))
        return self.done(key, before)

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        folder, message, flag = needed(receipt, "folder", "message", "flag")
        flags = await self.look(folder, message)
        if flags is None:
            return False, {"there": False}
        is_on = flags[flag]
        return is_on == action.arguments["on"], {"there": True, "on": is_on}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        if "was" not in receipt:
            return self.by_hand(f"Put the mark {action.arguments['flag']!r} back to how it was.")
        if receipt["was"] == action.arguments["on"]:
            return None  # it stood as wanted before
        back: dict[str, Value] = {name: receipt[name] for name in ("folder", "message", "flag")}
        return Action(self.name, {**back, "on": receipt["was"]}, action.subject)


class Move(Filing):
    """``TABLE.move``: put a message into another folder. It gets another name there, which the receipt tells."""

    verb = "move"
    about = "Move a mail into another folder."
    arguments = _MOVE

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        folder = imap.folder_name(action.arguments.get("folder"), "INBOX")
        to = imap.folder_name(action.arguments["to"])
        if folder == to:
            raise BadInput("mail.folder", f"it is in {to!r} already", advice="name another folder", where="to")
        ref = str(action.arguments["message"])
        return await self.account.desk.lead(key, lambda line: self._move(line, key, folder, ref, to))

    def _move(self, line: Line, key: str, folder: str, ref: str, to: str) -> Receipt:
        record = self.account.records.get(key)
        start = record.details if record and record.state == "started" else None
        with self.account.mailbox(line) as box:
            box.select(folder, readonly=False)
            uid = box.uid(ref)
            looks = _looks(box, [uid]).get(uid)
            if looks is not None:
                if start is not None and _arrived(box, to, start) is not None:
                    raise _lost(f"the message lies in {folder!r} and in {to!r}: the server broke off between the two")
                start = {"next": box.next_uid(to), "looks": looks}
                box.select(folder, readonly=False)
                self.change(line, key, start, lambda: box.move(uid, to))
            elif record is None:
                raise imap.gone(ref)
            elif start is None:
                return Receipt(record.details)
            found = _arrived(box, to, start)
            if found is None:
                raise _lost(f"the message is neither in {folder!r} nor in {to!r}")
            return self.done(key, {"folder": folder, "was": ref, "to": to, "message": box.ref(found)})

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        folder, message = needed(receipt, "to", "message")
        there = await self.look(folder, message) is not None
        return there, {"folder": folder, "there": there}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual:
        if "was" not in receipt:
            return self.by_hand(f"Move the mail back from {str(action.arguments['to'])!r}.")
        back: dict[str, Value] = {"folder": receipt["to"], "message": receipt["message"], "to": receipt["folder"]}
        return Action(self.name, back, action.subject)


def _flags(box: imap.Mailbox, uid: int) -> dict[str, bool] | None:
    found = box.fetch([uid], ["FLAGS"]).get(uid)
    return None if found is None else imap.flags(found)


def _looks(box: imap.Mailbox, uids: list[int]) -> dict[int, list[Any]]:
    """What tells a message from others wherever it lies: its Message-ID and its size."""
    found = box.fetch(uids, ["BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]", "RFC822.SIZE"])
    return {
        uid: [plain.headers(imap.section(parts))["message_id"], parts[b"RFC822.SIZE"]] for uid, parts in found.items()
    }


def _arrived(box: imap.Mailbox, folder: str, start: dict[str, Any]) -> int | None:
    """The number that the moved message got in ``folder``, which is selected then; ``None`` when it is not there."""
    box.select(folder)
    since = int(start["next"])
    uids = [uid for uid in box.search(["UID", f"{since}:*"]) if uid >= since]  # the range holds at least the last one
    return next((uid for uid, looks in sorted(_looks(box, uids[:_ARRIVALS]).items()) if looks == start["looks"]), None)


def _lost(said: str) -> Unavailable:
    return Unavailable("mail.unknown", said, advice="look for it in the mailbox, and put it where it belongs")
