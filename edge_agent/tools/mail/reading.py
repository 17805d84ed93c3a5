"""``search`` and ``read``: what the mailbox holds, bounded, as plain text. Neither marks anything as read.

The server takes a message apart (BODYSTRUCTURE); one text part is fetched and no attachment. What comes back was
written by anybody: it is data for a planner, never an instruction, and nothing in it is followed.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, ClassVar

from edge_agent.tools import Argument, Effect, Receipt, Risk, check_arguments
from edge_agent.tools.mail import imap, plain
from edge_agent.tools.mail.account import MailTool
from edge_agent.tools.mail.lines import Line
from shared.actions import Action
from shared.codec import canonical
from shared.errors import BadInput

LIMIT = 20
MOST = 50
_LISTED_CHARS = 200  # of one header in a list
_LIST_BYTES = 100_000  # of a whole list, canonical
_ATTACHMENTS = 20
_NAME_CHARS = 100
_WANTED_CHARS = 200  # of one search word
_HEADER_BYTES = 16_384
_HEADERS = f"BODY.PEEK[HEADER.FIELDS ({' '.join(plain.HEADER_NAMES).upper()})]<0.{_HEADER_BYTES}>"
_SEARCH = {
    "folder": Argument(required=False, about="INBOX unless told"),
    "from": Argument(required=False, about="part of the sender"),
    "to": Argument(required=False, about="part of a recipient"),
    "subject": Argument(required=False, about="words in the subject"),
    "text": Argument(required=False, about="words anywhere in the mail"),
    "message_id": Argument(required=False, about="a Message-ID"),
    "since": Argument(required=False, about="first day, as 2030-12-31"),
    "before": Argument(required=False, about="the day after the last"),
    "unseen": Argument("boolean", required=False, about="only what nobody has read"),
    "limit": Argument("integer", required=False, about=f"how many: {LIMIT} unless told, at most {MOST}"),
}
_READ = {
    "folder": Argument(required=False, about="INBOX unless told"),
    "message": Argument(about="what search gave as 'message'"),
}


class Search(MailTool):
    """``TABLE.search``: the newest messages that fit."""

    verb = "search"
    about = "List mails of a folder, newest first, with sender, subject and date."
    effect: Effect = "read"
    risk: Risk = "low"
    idempotent = True
    askable = False
    reads_back: ClassVar[bool] = False
    arguments = _SEARCH

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        criteria, limit = _criteria(action), _limit(action)
        folder = imap.folder_name(action.arguments.get("folder"), "INBOX")
        return await self.account.desk.lead(key, lambda line: self._search(line, folder, criteria, limit))

    def _search(self, line: Line, folder: str, criteria: list[Any], limit: int) -> Receipt:
        with self.account.mailbox(line) as box:
            box.select(folder)
            uids = box.search(criteria)
            newest = uids[::-1][:limit]
            found = box.fetch(newest, [_HEADERS, "FLAGS", "RFC822.SIZE"])
            listed = [_listed(box.ref(uid), found[uid]) for uid in newest if uid in found]
        return Receipt(_bounded({"folder": folder, "messages": listed, "more": len(uids) > limit}))


class Read(MailTool):
    """``TABLE.read``: one message."""

    verb = "read"
    about = "Read one mail: headers, plain text, and the names of its attachments."
    effect: Effect = "read"
    risk: Risk = "low"
    idempotent = True
    askable = False
    reads_back: ClassVar[bool] = False
    arguments = _READ

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        folder = imap.folder_name(action.arguments.get("folder"), "INBOX")
        ref = str(action.arguments["message"])
        return await self.account.desk.lead(key, lambda line: self._read(line, folder, ref))

    def _read(self, line: Line, folder: str, ref: str) -> Receipt:
        most = self.account.given.max_text
        with self.account.mailbox(line) as box:
            box.select(folder)
            uid = box.uid(ref)
            found = box.fetch([uid], [_HEADERS, "BODYSTRUCTURE", "FLAGS", "RFC822.SIZE"])
            if uid not in found:
                raise imap.gone(ref)
            parts = list(_parts(found[uid][b"BODYSTRUCTURE"]))
            text, from_html, whole = self._text(box, uid, parts)
        attached = [part for part in parts if part.attached]
        told = {
            **_listed(ref, found[uid], plain.HEADER_CHARS),
            "folder": folder,
            "text": text[:most],
            "from_html": from_html,
            "truncated": not whole or len(text) > most,
            "attachments": [{"name": p.name, "type": p.type, "bytes": p.size} for p in attached[:_ATTACHMENTS]],
        }
        return Receipt(told)

    def _text(self, box: imap.Mailbox, uid: int, parts: list[_Part]) -> tuple[str, bool, bool]:
        """The text, whether it was HTML, and whether it is all of it. Plain text wins, unless it is empty."""
        most = self.account.given.max_bytes
        for kind in ("text/plain", "text/html"):
            for part in parts:
                if part.type == kind and not part.attached:
                    raw = imap.section(box.fetch([uid], [f"BODY.PEEK[{part.path}]<0.{most}>"]).get(uid, {}))
                    text = plain.text_of(raw, part.encoding, part.charset, is_html=kind == "text/html")
                    if text:
                        return text, kind == "text/html", len(raw) < most
                    break
        return "", False, True


class _Part:
    """One leaf of a message, as the server describes it."""

    def __init__(self, path: str, told: Any) -> None:
        params = _pairs(told[2])
        place = {"text": 9, "message": 11 if _lower(told[1]) == "rfc822" else 8}.get(_lower(told[0]), 8)
        disposition = told[place] if len(told) > place and isinstance(told[place], tuple) else ("", None)
        name = _pairs(disposition[1]).get("filename") or params.get("name", "")
        self.path = path
        self.type = f"{_lower(told[0])}/{_lower(told[1])}"[:_NAME_CHARS]
        self.charset = params.get("charset", "")
        self.encoding = _lower(told[5])
        self.size = told[6] if isinstance(told[6], int) else 0
        self.name = plain.header(name)[:_NAME_CHARS]
        self.attached = _lower(disposition[0]) == "attachment" or not self.type.startswith("text/")


def _parts(body: Any, path: str = "") -> Iterator[_Part]:
    """The leaves of a message in reading order; a message inside the message is a leaf."""
    if isinstance(body[0], list):
        for number, part in enumerate(body[0], 1):
            yield from _parts(part, f"{path}.{number}".strip("."))
    else:
        yield _Part(path or "1", body)


def _pairs(told: Any) -> dict[str, str]:
    if not isinstance(told, tuple):
        return {}
    texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in told]
    return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=False)}


def _lower(told: Any) -> str:
    return told.decode("ascii", "replace").lower() if isinstance(told, bytes) else ""


def _listed(ref: str, found: dict[bytes, Any], chars: int = _LISTED_CHARS) -> dict[str, Any]:
    headers = {name: value[:chars] for name, value in plain.headers(imap.section(found)).items()}
    size = found.get(b"RFC822.SIZE")
    return {"message": ref, **headers, **imap.flags(found), "bytes": size if isinstance(size, int) else 0}


def _bounded(told: dict[str, Any]) -> dict[str, Any]:
    """A list that fits into a receipt: what is too much at its end is left out, and said to be."""
    while len(canonical(told)) > _LIST_BYTES:
        told = {**told, "messages": told["messages"][: len(told["messages"]) * 3 // 4], "more": True}
    return told


def _criteria(action: Action) -> list[Any]:
    given: list[Any] = ["UNDELETED"]
    for name in ("from", "to", "subject", "text"):
        if (value := action.arguments.get(name)) is not None:
            given += [name.upper(), _wanted(name, str(value))]
    if (message_id := action.arguments.get("message_id")) is not None:
        given += ["HEADER", "MESSAGE-ID", _wanted("message_id", str(message_id))]
    for name in ("since", "before"):
        if (value := action.arguments.get(name)) is not None:
            given += [name.upper(), _day(name, str(value))]
    if action.arguments.get("unseen"):
        given.append("UNSEEN")
    return given


def _wanted(name: str, value: str) -> str:
    if not value or len(value) > _WANTED_CHARS or not value.isprintable():
        said = f"empty, longer than {_WANTED_CHARS} characters, or not printable"
        raise BadInput("mail.characters", said, advice="search for a few words", where=name)
    return value


def _day(name: str, value: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(value)
    except ValueError as error:
        raise BadInput("mail.date", f"{value[:20]!r} is no day", advice="write it as 2030-12-31", where=name) from error


def _limit(action: Action) -> int:
    given = action.arguments.get("limit")
    limit = LIMIT if given is None else int(str(given))
    if not 1 <= limit <= MOST:
        raise BadInput("tool.arguments", f"limit is {limit}", advice=f"give 1 to {MOST}", where="limit")
    return limit
