"""Handing one mail over by SMTP, step by step, so that after any failure it is known what is known.

1. Connect, agree on TLS, log in, name the sender and every recipient. All recipients are taken or none: one that is
   refused ends the transaction before anything is handed over.
2. Send the text, without its end mark. A server may not act on a mail whose end it never saw (RFC 5321, 4.1.1.4).
3. Tell the caller, who writes down that the mail is about to go.
4. Send the end mark and wait for the answer: this is the one moment whose outcome a broken connection hides.

The standard library's client is used one command at a time: its own ``sendmail`` does not tell step 2 from step 4.
"""

from __future__ import annotations

import base64
import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from edge_agent.tools import NotSent
from edge_agent.tools.mail.lines import Line
from edge_agent.tools.mail.message import Mail
from edge_agent.tools.mail.servers import Login, Server, context, unreachable, untrusted
from shared.errors import Refused, Unavailable

_GREETING = "[127.0.0.1]"  # the greeting says nothing about this computer (RFC 5321, 4.1.3)
_REPLY_CHARS = 200


@dataclass(frozen=True)
class Going:
    """What is done around the end mark: ``about_to`` before it, ``not_taken`` when the server then says no."""

    about_to: Callable[[], None]
    not_taken: Callable[[], None]


def hand_over(server: Server, login: Login | None, mail: Mail, line: Line, going: Going) -> str:
    """The server's words when it has taken the mail. Raises ``Refused`` and ``NotSent`` when it surely has not, and
    ``Unavailable('mail.unknown')`` when nobody knows."""
    smtp = _connected(server, line)
    try:
        with _talking(server):
            _hold(smtp, line)
            _prepare(smtp, server, login, line)
            _envelope(smtp, mail)
            _expect(smtp.docmd("DATA"), 354, "the text")
            smtp.send(_stuffed(mail.raw))
        line.commit()
        going.about_to()
        return _end(smtp, server, going)
    finally:
        smtp.close()


def _connected(server: Server, line: Line) -> smtplib.SMTP:
    with _talking(server):
        if server.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, _GREETING, timeout=server.timeout_s, context=context(server)
            )
        else:
            smtp = smtplib.SMTP(server.host, server.port, _GREETING, timeout=server.timeout_s)
    return smtp


def _prepare(smtp: smtplib.SMTP, server: Server, login: Login | None, line: Line) -> None:
    smtp.ehlo_or_helo_if_needed()
    if server.security == "starttls":
        if not smtp.has_extn("starttls"):
            raise untrusted(server, "it offers no STARTTLS")
        _expect(smtp.starttls(context=context(server)), 220, "STARTTLS")
        _hold(smtp, line)
        smtp.ehlo_or_helo_if_needed()
    if login is not None:
        _log_in(smtp, login)
    line.check()


def _log_in(smtp: smtplib.SMTP, login: Login) -> None:
    """By PLAIN where it is offered, because the library's own way takes ASCII only."""
    if "PLAIN" in smtp.esmtp_features.get("auth", "").upper().split():
        code, said = smtp.docmd("AUTH", f"PLAIN {base64.b64encode(login.plain).decode()}")
        if code != 235:
            raise smtplib.SMTPAuthenticationError(code, said)
    else:
        smtp.login(login.user, login.password)


def _hold(smtp: smtplib.SMTP, line: Line) -> None:
    if smtp.sock is not None:
        line.hold(smtp.sock)


def _envelope(smtp: smtplib.SMTP, mail: Mail) -> None:
    """Sender and recipients: all are taken, or the transaction ends here. A lasting no outweighs a passing one."""
    size = [f"SIZE={len(mail.raw)}"] if smtp.has_extn("size") else []
    _expect(smtp.mail(mail.sender, size), 250, "the sender", mail.sender)
    refused = []
    for recipient in mail.recipients:
        code, said = smtp.rcpt(recipient)
        if code not in (250, 251):
            refused.append((code, said, recipient))
    for code, said, recipient in sorted(refused, key=lambda item: item[0], reverse=True):
        _no(code, said, "a recipient", recipient)


def _stuffed(raw: bytes) -> bytes:
    """The text as it goes over the line: dots doubled, and every line ended, so that only the end mark ends it."""
    text = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
    return (b"." if text.startswith(b".") else b"") + text.replace(b"\r\n.", b"\r\n..")


def _end(smtp: smtplib.SMTP, server: Server, going: Going) -> str:
    try:
        smtp.send(b".\r\n")
        code, said = smtp.getreply()
    except (smtplib.SMTPException, OSError) as error:
        raise unknown(f"the connection to {server.name} broke before it answered") from error
    if 400 <= code <= 599:
        going.not_taken()
        _no(code, said, "the mail")
    if code != 250:
        raise unknown(f"{server.name} answered {code} {_words(said)}")
    return _words(said)


def unknown(message: str) -> Unavailable:
    return Unavailable(
        "mail.unknown", f"{message}: nobody knows whether the mail went out",
        advice="look for it in the Sent folder and ask a recipient, then say whether it was sent",
    )  # fmt: skip


def _expect(reply: tuple[int, bytes], wanted: int, what: str, who: str = "") -> None:
    if reply[0] != wanted:
        _no(reply[0], reply[1], what, who)


def _no(code: int, said: bytes | str, what: str, who: str = "") -> NoReturn:
    about = f"{what} {who}".strip()
    told = f"the server said {code} {_words(said)} to {about}"
    if code >= 500 and what == "a recipient":
        raise Refused("mail.recipient", told, advice="correct the address; nobody was written to")
    if code >= 500:
        raise Refused("mail.refused", told, advice="read what the server said; nothing was sent")
    raise NotSent("mail.later", told, advice="try again later; nothing was sent")


def _words(said: bytes | str) -> str:
    text = said.decode("ascii", "replace") if isinstance(said, bytes) else str(said)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_REPLY_CHARS]


@contextmanager
def _talking(server: Server) -> Iterator[None]:
    """Whatever breaks in here breaks before the end mark: nothing was sent."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise untrusted(server, error.verify_message) from error
    except smtplib.SMTPAuthenticationError as error:
        _unauthorised(server, error.smtp_code, _words(error.smtp_error))
    except smtplib.SMTPResponseException as error:
        _no(error.smtp_code, error.smtp_error, "the greeting")
    except smtplib.SMTPServerDisconnected as error:
        raise unreachable(server, error) from error
    except smtplib.SMTPException as error:  # it offers no way to log in that we know
        _unauthorised(server, 535, str(error))
    except UnicodeError:
        _unauthorised(server, 535, "a name or the password has characters that cannot be sent")
    except OSError as error:
        raise unreachable(server, error) from error


def _unauthorised(server: Server, code: int, said: str) -> NoReturn:
    if code < 500:
        raise NotSent("mail.later", f"{server.name} does not let us in now: {code} {said}", advice="try again later")
    raise Refused(
        "mail.auth", f"{server.name} does not let us in: {said}", advice=f"check user and secret of [{server.table}]"
    )
