"""The SMTP server of ``tests.mailserver``, a process of its own so that it can be killed: aiosmtpd, faults on order.

Run as ``python -m tests.smtpserver FOLDER PORT,PORT,PORT``: in clear, with STARTTLS, and with TLS from the first byte;
``FOLDER/listens`` is there as soon as it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.mailserver import ANOTHER, PASSWORD, deliver


class Faults:
    """What is to go wrong now: see ``MailServers.faults``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "faults.json"

    def __call__(self, name: str) -> Any:
        return json.loads(self._file.read_text()).get(name)

    def reply(self, name: str, address: str) -> str:
        return str((self(name) or {}).get(address, "250 OK"))

    async def strike(self, server: Any, at: str) -> None:
        if self("at") != at:
            return
        match self("how"):
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                told = [at, server.envelope.mail_from]
                (self._folder / "waiting.new").write_text(json.dumps(told))
                (self._folder / "waiting.new").rename(self._folder / "waiting.json")
                while (self("at"), self("how")) == (at, "hang"):
                    await asyncio.sleep(0.02)
            case "cut":
                server.transport.abort()
                await asyncio.sleep(3600)  # until aiosmtpd notices and ends this


class Handler:
    """Takes mail, unless told otherwise. The names are aiosmtpd's."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        self._folder = folder
        self._faults = faults

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802 - its name
        envelope.mail_from = address
        return self._faults.reply("mail", address)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802 - its name
        reply = self._faults.reply("rcpt", address)
        if reply.startswith("25"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        await self._faults.strike(server, "before")
        if reply := self._faults("data"):
            return str(reply)
        self._take(envelope)
        await self._faults.strike(server, "after")
        return "250 2.0.0 taken"

    def _take(self, envelope: Envelope) -> None:
        raw = envelope.original_content or b""
        ids = [line[11:].strip().decode() for line in raw.split(b"\r\n") if line.lower().startswith(b"message-id:")]
        told = {"message_id": ids[0], "sender": envelope.mail_from, "recipients": envelope.rcpt_tos}
        with (self._folder / "taken.jsonl").open("a") as file:
            file.write(json.dumps({**told, "raw": raw.decode("ascii")}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        for recipient in envelope.rcpt_tos:
            deliver(self._folder, recipient, raw)


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    told = isinstance(data, LoginPassword) and data.password.decode() in (PASSWORD, ANOTHER)
    return AuthResult(success=told, handled=False)


async def serve(folder: Path, ports: list[int]) -> None:
    """Until it is killed."""
    faults = Faults(folder)

    class Faulty(SMTP):
        async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - its name
            await faults.strike(self, "command")
            if reply := faults("command"):
                await self.push(reply)
            else:
                await super().smtp_DATA(arg)

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.pem", folder / "server.key.pem")
    kinds: dict[str, tuple[dict[str, Any], ssl.SSLContext | None]] = {
        "smtp_none": ({"auth_require_tls": False}, None),
        "smtp_starttls": ({"tls_context": tls, "require_starttls": True, "auth_required": True}, None),
        "smtp_tls": ({"auth_require_tls": False, "auth_required": True}, tls),
    }

    def made(options: dict[str, Any]) -> SMTP:
        return Faulty(Handler(folder, faults), authenticator=_authenticate, hostname="mx.example.org", **options)

    servers = []
    loop = asyncio.get_running_loop()
    for (options, context), port in zip(kinds.values(), ports, strict=True):
        server = await loop.create_server(lambda options=options: made(options), "127.0.0.1", port, ssl=context)
        servers.append(server)
    (folder / "listens").touch()
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns about what it does itself
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(sys.argv[1]), [int(port) for port in sys.argv[2].split(",")]))
