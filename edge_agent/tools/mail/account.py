"""The settings of a table of kind ``mail``, and what its tools share: the servers, the records and the desk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edge_agent.tools import Manual, NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.mail import imap
from edge_agent.tools.mail.lines import Desk, Line
from edge_agent.tools.mail.message import Writer, address, sender
from edge_agent.tools.mail.records import Records
from edge_agent.tools.mail.servers import Given, Login, Server, server
from shared.errors import BadInput, OutriderError, Refused, Unavailable


class Mail(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one table."""

    from_: Annotated[
        str, Meta(min_length=1, description="The sender: an address, or `Name <address>`.")
    ] = msgspec.field(name="from")  # fmt: skip
    smtp: Annotated[Given | None, Meta(description="The server that sends; without it there is no `send`.")] = None
    imap: Annotated[Given | None, Meta(description="The server that keeps the mailbox; without it only `send`.")] = None
    allow_to: Annotated[
        list[str], Meta(description="Addresses and domains that may be written to; empty allows all.")
    ] = []
    max_recipients: Annotated[int, Meta(ge=1, le=100, description="Recipients of one mail, `to` and `cc`.")] = 20
    max_bytes: Annotated[
        int, Meta(ge=1000, le=25_000_000, description="Bytes of one mail sent, and of one text part read.")
    ] = 1_000_000
    max_text: Annotated[int, Meta(ge=100, le=25_000, description="Characters of text that `read` gives.")] = 20_000
    per_minute: Annotated[int, Meta(ge=1, le=1000, description="Mails sent in any minute.")] = 20
    sent_folder: Annotated[str, Meta(description="Where copies are kept; empty is the folder the server marks.")] = ""
    drafts_folder: Annotated[str, Meta(description="Where drafts go; empty is the folder the server marks.")] = ""
    trash_folder: Annotated[
        str, Meta(description="Where a draft goes that is taken back; empty is the folder the server marks.")
    ] = ""
    save_sent: Annotated[
        bool, Meta(description="Put a copy into the Sent folder; false where the server does that itself.")
    ] = True
    ask_folders: Annotated[
        list[str], Meta(description="Further folders where a copy of a mail whose outcome is in doubt may turn up.")
    ] = []


class Account:
    """One mail account."""

    def __init__(self, place: Place, given: Mail) -> None:
        self.name = place.name
        self.given = given
        self.now = place.now
        self._secret = place.secret
        try:
            self.smtp = server(place.name, "smtp", given.smtp) if given.smtp else None
            self.imap = server(place.name, "imap", given.imap) if given.imap else None
            allowed = frozenset(_domain(item) for item in given.allow_to)
            self.writer = Writer(sender(given.from_), allowed, given.max_recipients, given.max_bytes)
            for folder in (given.sent_folder, given.drafts_folder, given.trash_folder, *given.ask_folders):
                imap.folder_name(folder or "INBOX")
        except BadInput as error:
            where = error.where if error.where.startswith("tools.toml") else f"tools.toml [{place.name}]"
            raise BadInput("tools.setting", error.message, advice=error.advice, where=where) from error
        if self.smtp is None and self.imap is None:
            said = "neither smtp nor imap is given"
            raise BadInput("tools.setting", said, advice="give one of them", where=f"tools.toml [{place.name}]")
        self.records = Records(place.state)
        self.desk = Desk()

    def login(self, to: Server) -> Login | None:
        """Raises ``NotSent`` when the secret cannot be had: nothing was sent."""
        if not to.user:
            return None
        try:
            return Login(to.user, self._secret(to.secret))
        except Unavailable as error:
            raise NotSent(error.code, error.message, advice=error.advice, where=to.table) from error

    def mailbox(self, line: Line) -> AbstractContextManager[imap.Mailbox]:
        """Only where ``imap`` is given."""
        assert self.imap is not None
        login = self.login(self.imap)
        assert login is not None
        return imap.mailbox(self.imap, login, line)


class MailTool(Tool):
    """A tool of one account; closing any of them ends what the account still has under way."""

    verb: str

    def __init__(self, account: Account) -> None:
        self.account = account
        self.name = f"{account.name}.{self.verb}"
        servers = [one.timeout_s for one in (account.smtp, account.imap) if one]
        self.timeout_s = 4.0 * max(servers)  # connect, log in, and two answers that are slow

    async def close(self) -> None:
        await self.account.desk.close()

    def by_hand(self, what: str) -> Manual:
        """The undo of an effect whose receipt a person gave by word: it does not say where to find it."""
        return Manual([f"{what} Nobody noted where it lies: look for it in the mailbox of {self.account.given.from_}."])


def needed(receipt: dict[str, Any], *names: str) -> list[str]:
    """These texts of a receipt. Raises ``Unavailable('mail.unknown')`` when a person gave the receipt, by saying that
    an effect in doubt did happen."""
    if not all(isinstance(receipt.get(name), str) for name in names):
        raise Unavailable(
            "mail.unknown", "a person said that it happened, and nothing says where it lies", advice="look for yourself"
        )
    return [receipt[name] for name in names]


@contextmanager
def looking() -> Iterator[None]:
    """Around ``ask`` and ``observe``: whatever keeps them from looking means that nobody knows, and no more."""
    try:
        yield
    except (NotSent, Refused, BadInput) as error:
        raise _unknown(error) from error


def _unknown(error: OutriderError) -> Unavailable:
    return Unavailable(error.code, error.message, advice=error.advice, where=error.where)


def _domain(item: str) -> str:
    low = item.lower().removeprefix("@")
    return address(low if "@" in low else f"any@{low}", "allow_to").removeprefix("" if "@" in low else "any@")
