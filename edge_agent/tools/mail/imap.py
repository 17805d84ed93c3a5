"""A mailbox by IMAP: the few commands the tools need, their failures told as what is known.

A message is named ``VALIDITY.UID``: the server may renumber a folder, and says so by another UIDVALIDITY; a name from
before then fits nothing any more, rather than another message. Nothing here deletes.
"""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import imapclient
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError

from edge_agent.tools import NotSent
from edge_agent.tools.mail.lines import Line
from edge_agent.tools.mail.servers import Login, Server, context, unreachable, untrusted
from shared.errors import BadInput, OutriderError, Refused, Unavailable

FOLDER_CHARS = 200
FLAGS = {"seen": rb"\Seen", "flagged": rb"\Flagged", "answered": rb"\Answered"}
SENT, DRAFTS, TRASH = rb"\Sent", rb"\Drafts", rb"\Trash"  # RFC 6154

_REF = re.compile(r"([1-9][0-9]{0,9})\.([1-9][0-9]{0,9})")
_BUSY = ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]")  # RFC 5530: it may work later
# What the client library raises on an answer that no server should give.
_GARBLED = (LookupError, ValueError, TypeError, AttributeError, RecursionError)


class Mailbox:
    """An open connection, logged in. ``select`` first, then the commands on messages."""

    def __init__(self, client: Any, server: Server, line: Line) -> None:
        self._client = client
        self._server = server
        self._line = line
        self._validity = 0

    # --- folders ------------------------------------------------------------------------------------------------

    def special(self, flag: bytes, named: str) -> str:
        """The folder the settings name, or else the one the server marks so. Raises ``Refused('mail.folder')``."""
        if named:
            return named
        with self._talking():
            found = self._client.find_special_folder(flag)
        if not found:
            what = flag.decode().strip("\\")
            raise Refused(
                "mail.folder", f"{self._server.name} marks no folder as {what}",
                advice=f"name it in tools.toml: {what.lower()}_folder", where=self._server.table,
            )  # fmt: skip
        return str(found)

    def select(self, folder: str, *, readonly: bool = True) -> None:
        """Raises ``Refused('mail.folder')``."""
        with self._talking(folder=folder):
            self._validity = int(self._client.select_folder(folder, readonly=readonly)[b"UIDVALIDITY"])

    def next_uid(self, folder: str) -> int:
        """The least number that a message arriving in ``folder`` can get."""
        with self._talking(folder=folder):
            return int(self._client.folder_status(folder, [b"UIDNEXT"])[b"UIDNEXT"])

    # --- messages of the selected folder ------------------------------------------------------------------------

    def ref(self, uid: int) -> str:
        return f"{self._validity}.{uid}"

    def uid(self, ref: str) -> int:
        """Raises ``BadInput('mail.message')``, and ``Refused('mail.gone')`` when the folder was renumbered."""
        found = _REF.fullmatch(ref)
        if not found:
            raise BadInput(
                "mail.message", f"{ref[:50]!r} names no message", advice="use what search gives as 'message'"
            )
        if int(found[1]) != self._validity:
            raise gone(ref)
        return int(found[2])

    def search(self, criteria: Sequence[Any]) -> list[int]:
        """Numbers of the messages that fit, ascending; the criteria are quoted by the library."""
        charset = None if all(not isinstance(item, str) or item.isascii() for item in criteria) else "UTF-8"
        with self._talking():
            return sorted(self._client.search(list(criteria), charset))

    def with_id(self, message_id: str) -> list[int]:
        return self.search(["HEADER", "MESSAGE-ID", message_id])

    def fetch(self, uids: Sequence[int], items: Sequence[str]) -> dict[int, dict[bytes, Any]]:
        """What is still there of ``uids``, with exactly the parts asked for among others."""
        with self._talking():
            return dict(self._client.fetch(list(uids), list(items))) if uids else {}

    # --- changes ------------------------------------------------------------------------------------------------

    def append(self, folder: str, raw: bytes, flags: Sequence[bytes]) -> None:
        with self._talking(changing=True, folder=folder):
            self._client.append(folder, raw, flags)

    def set_flag(self, uid: int, flag: bytes, on: bool) -> None:
        with self._talking(changing=True):
            (self._client.add_flags if on else self._client.remove_flags)([uid], [flag], silent=True)

    def move(self, uid: int, folder: str) -> None:
        with self._talking():
            able = self._client.has_capability("MOVE")
        if not able:
            said = f"{self._server.name} cannot move a message in one step (RFC 6851)"
            raise Refused("mail.server", said, advice="move it by hand", where=self._server.table)
        with self._talking(changing=True, folder=folder):
            self._client.move([uid], folder)

    @contextmanager
    def _talking(self, *, changing: bool = False, folder: str = "") -> Iterator[None]:
        """Before a change nothing has happened; while one is made, only the server's answer tells."""
        if not changing:
            self._line.check()
        try:
            yield
        except (IMAPClientAbortError, OSError) as error:
            if changing:
                raise _unknown(self._server, error) from error
            raise unreachable(self._server, error) from error
        except IMAPClientError as error:
            raise _said_no(self._server, str(error), folder) from error
        except _GARBLED as error:
            if changing:
                raise _unknown(self._server, error) from error
            raise _garbled(self._server, error) from error


@contextmanager
def mailbox(server: Server, login: Login, line: Line) -> Iterator[Mailbox]:
    """Connect and log in; log out at the end."""
    client = _connected(server)
    try:
        line.hold(client.socket())
        _log_in(client, server, login, line)
        yield Mailbox(client, server, line)
        with contextlib.suppress(IMAPClientError, OSError, *_GARBLED):
            client.logout()
    finally:
        with contextlib.suppress(IMAPClientError, OSError):
            client.shutdown()


def _connected(server: Server) -> Any:
    logging.getLogger("imapclient").setLevel(logging.WARNING)  # it would write every line of mail to a debug log
    try:
        return imapclient.IMAPClient(
            server.host, server.port, ssl=server.security == "tls", timeout=server.timeout_s,
            ssl_context=context(server) if server.security == "tls" else None,
        )  # fmt: skip
    except ssl.SSLCertVerificationError as error:
        raise untrusted(server, error.verify_message) from error
    except (IMAPClientError, OSError, UnicodeError) as error:
        raise unreachable(server, error) from error


def _log_in(client: Any, server: Server, login: Login, line: Line) -> None:
    try:
        if server.security == "starttls":
            if not client.has_capability("STARTTLS"):
                raise untrusted(server, "it offers no STARTTLS")
            client.starttls(context(server))
            line.hold(client.socket())
        if client.has_capability("AUTH=PLAIN"):
            client.sasl_login("PLAIN", lambda _: login.plain)
        else:  # ASCII only
            client.login(login.user, login.password)
        client.normalise_times = False
    except ssl.SSLCertVerificationError as error:
        raise untrusted(server, error.verify_message) from error
    except LoginError as error:
        if isinstance(error.__context__, IMAPClientAbortError):  # the library calls a broken connection that too
            raise unreachable(server, error) from error
        if any(code in str(error).upper() for code in _BUSY):
            raise _later(server, str(error)) from error
        raise _unauthorised(server, str(error)) from error
    except (IMAPClientError, OSError) as error:
        raise unreachable(server, error) from error
    except UnicodeError as error:
        raise _unauthorised(server, "a name or the password has characters that cannot be sent") from error
    except _GARBLED as error:
        raise _garbled(server, error) from error


def _unauthorised(server: Server, said: str) -> OutriderError:
    return Refused(
        "mail.auth", f"{server.name} does not let us in: {_words(said)}",
        advice=f"check user and secret of [{server.table}]", where=server.table,
    )  # fmt: skip


def folder_name(value: Any, default: str = "") -> str:
    """A folder as an argument gives it. Raises ``BadInput('mail.folder')``."""
    name = default if value is None else str(value)
    if not name or len(name) > FOLDER_CHARS or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise BadInput("mail.folder", f"{name[:50]!r} cannot name a folder", advice="use its name in the mailbox")
    return name


def section(found: dict[bytes, Any]) -> bytes:
    """The one ``BODY[...]`` among what was fetched of a message; empty when there is none."""
    texts = (value for name, value in found.items() if name.startswith(b"BODY[") and isinstance(value, bytes))
    return next(texts, b"")


def flags(found: dict[bytes, Any]) -> dict[str, bool]:
    """The flags in ``FLAGS``, from what was fetched of a message."""
    standing = {flag.lower() for flag in found.get(b"FLAGS", ()) if isinstance(flag, bytes)}
    return {name: flag.lower() in standing for name, flag in FLAGS.items()}


def gone(ref: str) -> OutriderError:
    return Refused(
        "mail.gone", f"message {ref} is not in that folder any more", advice="search again; it was moved or deleted"
    )


def _said_no(server: Server, said: str, folder: str) -> OutriderError:
    if any(code in said.upper() for code in _BUSY):
        return _later(server, said)
    if folder and any(sign in said.lower() for sign in ("nonexistent", "trycreate", "exist", "no such")):
        return Refused(
            "mail.folder", f"{server.name} has no folder {folder!r}: {_words(said)}", advice="create it, or correct it",
            where=server.table,
        )  # fmt: skip
    return Refused(
        "mail.server", f"{server.name} refused: {_words(said)}", advice="read what it said; nothing was changed",
        where=server.table,
    )  # fmt: skip


def _later(server: Server, said: str) -> OutriderError:
    return NotSent(
        "mail.later", f"{server.name} cannot now: {_words(said)}", advice="try again later", where=server.table
    )


def _garbled(server: Server, error: Exception) -> OutriderError:
    said = f"{server.name} gave an answer that cannot be read: {type(error).__name__}"
    return Refused("mail.server", said, advice="look at the message with another program", where=server.table)


def _unknown(server: Server, error: Exception) -> OutriderError:
    said = f"the connection to {server.name} broke before it answered ({type(error).__name__})"
    return Unavailable(
        "mail.unknown", f"{said}: nobody knows whether it was changed", advice="look into the folder",
        where=server.table,
    )  # fmt: skip


def _words(said: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in said).split())[:200]
