"""Mail: send by SMTP; search, read, draft, flag and move by IMAP. Reference: ``docs/reference/tools.md``.

    [post]
    kind = "mail"
    from = "City desk <desk@city.example>"
    allow_to = ["city.example"]
    smtp = { host = "smtp.city.example", user = "desk", secret = "desk-mail" }
    imap = { host = "imap.city.example", user = "desk", secret = "desk-mail" }

gives ``post.send``, ``post.draft``, ``post.search``, ``post.read``, ``post.flag`` and ``post.move``. SMTP and TLS are
the standard library's, IMAP is IMAPClient's on top of it (pure Python, BSD): both block, so conversations are led in a
few threads (``lines``). What is true of a mail after a crash stands in ``sending``.
"""

from __future__ import annotations

from typing import Any

from edge_agent.tools import Tool
from edge_agent.tools.build import Place, settings
from edge_agent.tools.mail.account import Account, Mail
from edge_agent.tools.mail.filing import Draft, Flag, Move
from edge_agent.tools.mail.reading import Read, Search
from edge_agent.tools.mail.sending import Send, SendKept


def make(place: Place, given: dict[str, Any]) -> list[Tool]:
    """The tools of one table: ``send`` where ``smtp`` is given, the others where ``imap`` is. Raises
    ``BadInput('tools.setting')``. Connects to nothing."""
    account = Account(place, settings(Mail, place, given))
    tools: list[Tool] = []
    if account.smtp is not None:
        tools.append(SendKept(account) if account.imap is not None else Send(account))
    if account.imap is not None:
        tools += [kind(account) for kind in (Draft, Search, Read, Flag, Move)]
    return tools
