"""One plain-text mail, made of an action's arguments: checked, bounded, and the same bytes whenever it is made again.

The Message-ID comes from the idempotency key, so that whoever got the mail, and every folder that keeps a copy, can be
asked for the effect by its key. Nothing a planner writes can become a header of its own: control characters are
refused everywhere, and addresses are bare and ASCII (a domain beyond ASCII is written as ``xn--``).
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from shared.actions import Action, Value
from shared.errors import BadInput, Refused

SUBJECT_CHARS = 500
_POLICY = SMTP.clone(cte_type="7bit")  # every server takes it, and no line of it can be taken for SMTP's end mark
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*)")
_FROM = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_REFERENCE = re.compile(r"<[!-;=?-~]{1,240}@[!-;=?-~]{1,240}>")
_NEVER = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of characters, line and paragraph separators


@dataclass(frozen=True)
class Mail:
    """A mail ready to go. ``raw`` has CRLF line ends and ASCII only."""

    message_id: str
    sender: str
    recipients: list[str]
    raw: bytes


@dataclass(frozen=True)
class Writer:
    """Who writes, to whom, and how much: settings of the table."""

    sender: Address
    allow_to: frozenset[str]
    max_recipients: int
    max_bytes: int

    def message_id(self, key: str) -> str:
        return f"<outrider.{key}@{self.sender.domain.lower()}>"

    def write(self, action: Action, key: str, at: int) -> Mail:
        """The mail of an action, dated ``at`` (µs since 1970 UTC). Raises ``BadInput('mail.address')``,
        ``BadInput('mail.characters')``, ``BadInput('mail.too-large')``, ``Refused('mail.not-allowed')``."""
        a = action.arguments
        to, cc = self._list("to", a["to"]), self._list("cc", a.get("cc"))
        recipients = list({address.lower(): address for address in [*to, *cc]}.values())
        if not to or len(recipients) > self.max_recipients:
            said = f"{len(recipients)} recipients, of which {len(to)} in 'to'"
            raise BadInput("mail.address", said, advice=f"give 1 to {self.max_recipients}", where="to")
        for address in recipients:
            self._may(address)
        mail = EmailMessage(_POLICY)
        mail["From"] = self.sender
        mail["To"] = [Address(addr_spec=address) for address in to]
        if cc:
            mail["Cc"] = [Address(addr_spec=address) for address in cc]
        mail["Subject"] = _subject(str(a["subject"]))
        mail["Date"] = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
        mail["Message-ID"] = self.message_id(key)
        if a.get("in_reply_to") is not None:
            mail["In-Reply-To"] = mail["References"] = _reference(str(a["in_reply_to"]))
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no machine answers it with a holiday notice
        mail.set_content(_text(str(a["text"])), charset="utf-8")
        raw = bytes(mail)
        if len(raw) > self.max_bytes:
            said = f"the mail has {len(raw)} bytes, more than {self.max_bytes}"
            raise BadInput("mail.too-large", said, advice="shorten it, or raise max_bytes", where="text")
        return Mail(self.message_id(key), self.sender.addr_spec, recipients, raw)

    def _list(self, name: str, value: Value) -> list[str]:
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadInput("mail.address", "not a list of addresses", advice='write ["ann@example.org"]', where=name)
        return [address(item, name) for item in value]

    def _may(self, recipient: str) -> None:
        low = recipient.lower()
        if self.allow_to and not self.allow_to & {low, low.partition("@")[2]}:
            raise Refused(
                "mail.not-allowed", f"{recipient} is outside allow_to",
                advice="add the address or its domain to allow_to in tools.toml", where="to",
            )  # fmt: skip


def address(text: str, where: str) -> str:
    """A bare address as it stands. Raises ``BadInput('mail.address')``."""
    found = _ADDRESS.fullmatch(text)
    try:
        if found and len(found["local"]) <= 64 and len(text) <= 254:
            return Address(addr_spec=text).addr_spec
    except (MessageError, ValueError, IndexError):
        pass  # said below
    advice = "write a bare address such as ann@example.org; a domain beyond ASCII in its xn-- form"
    raise BadInput("mail.address", f"{text[:100]!r} is no address", advice=advice, where=where)


def sender(text: str) -> Address:
    """``from``: a bare address or ``Name <address>``. Raises ``BadInput('mail.address')``."""
    found = _FROM.fullmatch(text.strip())
    name, bare = (found["name"].strip().strip('"'), found["address"]) if found else ("", text.strip())
    if _odd(name):
        raise BadInput("mail.address", f"{text[:100]!r} is no sender", advice="Name <ann@example.org>", where="from")
    return Address(name, addr_spec=address(bare, "from"))


def _subject(text: str) -> str:
    if _odd(text) or not text.strip() or len(text) > SUBJECT_CHARS:
        said = f"the subject is empty, longer than {SUBJECT_CHARS} characters, or has control characters or line breaks"
        raise BadInput("mail.characters", said, advice="write one short line", where="subject")
    return text


def _reference(text: str) -> str:
    if not _REFERENCE.fullmatch(text):
        raise BadInput(
            "mail.characters", "in_reply_to is no Message-ID", advice="<id@host>, as mail read gives it",
            where="in_reply_to",
        )  # fmt: skip
    return text


def _text(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if _odd(lines.replace("\n", "").replace("\t", ""), {"Cc", "Cs"}):
        raise BadInput("mail.characters", "the text has control characters", advice="send plain text", where="text")
    return lines


def _odd(text: str, never: set[str] = _NEVER) -> bool:
    return any(unicodedata.category(c) in never for c in text)
