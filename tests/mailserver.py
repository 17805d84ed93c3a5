"""Real mail servers for tests: aiosmtpd takes mail in, Debian's Dovecot keeps it, and both can be made to fail.

``MailServers`` starts both in a folder of its own, with a test authority's certificates, on ports of loopback. What
the SMTP server takes it delivers into Dovecot's Maildirs, so a mail that was sent is then found by IMAP. Every address
is an account; its password is one of two.
"""

from __future__ import annotations

import contextlib
import datetime
import grp
import imaplib
import ipaddress
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.ports import Port

PASSWORD = "plum-Tart-77"
ANOTHER = "Pflaume-ü-77"  # works as well
DOVECOT = "/usr/sbin/dovecot"  # not on everybody's PATH
_FOLDERS = {"Sent": r"\Sent", "Drafts": r"\Drafts", "Trash": r"\Trash", "Archive": r"\Archive"}
_START_S = 60.0


class MailServers:
    """Both servers. ``faults`` of the SMTP server are looked at with every command, so they can change at any time:

    - ``rcpt``, ``mail``: {address: reply}; ``data``: the reply to a whole mail; ``command``: the reply to ``DATA``
    - ``at``: ``"command"``, ``"before"`` or ``"after"`` (taking the mail in), with ``how``: ``"cut"`` closes the
      connection, ``"kill"`` kills the server, ``"hang"`` holds the answer back until the fault is taken away
    """

    def __init__(self) -> None:
        # Dovecot and its helpers drop to an ordinary user, who cannot look into pytest's own folders.
        self.folder = Path(tempfile.mkdtemp(prefix="outrider-mail-"))
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        kinds = ("smtp_none", "smtp_starttls", "smtp_tls", "imap_plain", "imap_tls")
        self._held = {name: Port() for name in kinds}
        self.ports = {name: port.number for name, port in self._held.items()}
        for made in (self.folder, self.folder / "mail", self.folder / "run"):
            made.mkdir(exist_ok=True)
            made.chmod(0o755)
            os.chown(made, self._user.pw_uid, self._user.pw_gid)
        self.ca = self.folder / "ca.pem"
        _authority(self.folder)
        for key in self.folder.glob("*.pem"):
            os.chown(key, self._user.pw_uid, self._user.pw_gid)
        self.faults()

    def start(self) -> None:
        self.start_smtp()
        self.start_imap()

    def close(self) -> None:
        for name in list(self._processes):
            self.stop(name)
        for port in self._held.values():
            port.close()
        shutil.rmtree(self.folder, ignore_errors=True)  # what was killed may still be going

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End ``smtp`` or ``imap``; ``kill`` as a crash would, with everything it started."""
        process = self._processes.pop(name)
        until = time.monotonic() + (0 if kill else 5)
        if not kill:
            process.terminate()
        # Looked at and not waited for: until the group is killed, the number must stay its own.
        while time.monotonic() < until and not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)

    # --- SMTP ---------------------------------------------------------------------------------------------------

    def start_smtp(self) -> None:
        command = [sys.executable, "-m", "tests.smtpserver", str(self.folder)]
        listens = self.folder / "listens"
        listens.unlink(missing_ok=True)
        wanted = ",".join(str(self.ports[name]) for name in ("smtp_none", "smtp_starttls", "smtp_tls"))
        root = Path(__file__).parent.parent
        self._processes["smtp"] = subprocess.Popen([*command, wanted], cwd=root, start_new_session=True)
        self._wait("smtp", listens.exists)

    def faults(self, **given: Any) -> None:
        fresh = self.folder / "faults.new"
        fresh.write_text(json.dumps(given))
        fresh.rename(self.folder / "faults.json")

    def holding(self) -> list[str]:
        """Where the SMTP server last held its answer back (``at``), and from whom the mail was."""
        waiting = self.folder / "waiting.json"
        return list(json.loads(waiting.read_text())) if waiting.exists() else []

    def taken(self) -> list[dict[str, Any]]:
        """What the SMTP server took on, in order: ``message_id``, ``sender``, ``recipients`` and ``raw``."""
        lines = self.folder / "taken.jsonl"
        return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []

    # --- IMAP ---------------------------------------------------------------------------------------------------

    def start_imap(self) -> None:
        config = self.folder / "dovecot.conf"
        config.write_text(self._dovecot())
        who: dict[str, Any] = {}
        if os.getuid() == 0:
            who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        self._processes["imap"] = subprocess.Popen(
            [DOVECOT, "-F", "-c", str(config)], cwd="/", start_new_session=True, **who
        )
        self._wait("imap", lambda: all(_open(self.ports[name]) for name in ("imap_plain", "imap_tls")))

    def _dovecot(self) -> str:
        here, user = self.folder, self._user
        group = grp.getgrgid(user.pw_gid).gr_name
        folders = "\n".join(
            f"  mailbox {name} {{\n    auto = create\n    special_use = {use}\n  }}" for name, use in _FOLDERS.items()
        )
        return f"""
base_dir = {here}/run
state_dir = {here}/run
log_path = {here}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{here}/server.pem
ssl_key = <{here}/server.key.pem
default_internal_user = {user.pw_name}
default_internal_group = {group}
default_login_user = {user.pw_name}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{here}/mail/%u
mail_max_userip_connections = 50
mail_fsync = never
auth_mechanisms = plain login
auth_cache_size = 0
auth_failure_delay = 0
passdb {{
  driver = static
  args = password={PASSWORD}
}}
passdb {{
  driver = static
  args = password={ANOTHER}
}}
userdb {{
  driver = static
  args = uid={user.pw_uid} gid={user.pw_gid} home={here}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
{folders}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {self.ports["imap_plain"]}
  }}
  inet_listener imaps {{
    port = {self.ports["imap_tls"]}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  # No growing delays for everybody here after one wrong password.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""

    def deliver(self, address: str, raw: bytes) -> None:
        """Put a mail into an inbox, as a server for incoming mail does."""
        deliver(self.folder, address, raw)

    def running(self) -> None:
        """Without faults, and what a test ended started again."""
        self.faults()
        for name, start in (("smtp", self.start_smtp), ("imap", self.start_imap)):
            if name not in self._processes:
                start()

    def _wait(self, name: str, ready: Any) -> None:
        until = time.monotonic() + _START_S
        while not ready():
            if self._processes[name].poll() is not None or time.monotonic() > until:
                log = self.folder / "dovecot.log"
                raise AssertionError(f"{name} did not start: {log.read_text() if log.exists() else 'no log'}")
            time.sleep(0.01)


@contextlib.contextmanager
def mail_servers() -> Iterator[MailServers]:
    servers = MailServers()
    try:
        servers.start()
        yield servers
    finally:
        servers.close()


class Mailbox:
    """A look into an account's mailbox, and a hand in it, by the standard library's client: not by what is tested."""

    def __init__(self, servers: MailServers, address: str) -> None:
        self.address = address
        self._servers = servers

    @contextlib.contextmanager
    def _open(self, folder: str) -> Iterator[imaplib.IMAP4]:
        client = imaplib.IMAP4("127.0.0.1", self._servers.ports["imap_plain"], timeout=60)
        try:
            client.login(self.address, PASSWORD)
            assert client.select(f'"{folder}"')[0] == "OK"
            yield client
        finally:
            client.logout()

    def look(self, folder: str) -> list[tuple[str, tuple[str, ...], str]]:
        """(Message-ID, flags, name as the tools give it) of each message, in the order of arrival."""
        with self._open(folder) as client:
            validity = client.response("UIDVALIDITY")[1][0]
            assert isinstance(validity, bytes)
            told = client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]
        found = []
        for item in told:
            if isinstance(item, tuple):
                uid = re.search(rb"UID (\d+)", item[0])
                flags = re.search(rb"FLAGS \(([^)]*)\)", item[0])
                assert uid and flags
                kept = tuple(sorted(flag for flag in flags[1].decode().split() if flag != r"\Recent"))
                found.append((item[1].decode()[12:].strip(), kept, f"{validity.decode()}.{uid[1].decode()}"))
        return found

    def ids(self, folder: str) -> list[str]:
        return [message_id for message_id, _, _ in self.look(folder)]

    def flag(self, folder: str, ref: str, flag: str, on: bool) -> None:
        with self._open(folder) as client:
            assert client.uid("STORE", ref.partition(".")[2], "+FLAGS" if on else "-FLAGS", f"({flag})")[0] == "OK"

    def remove(self, folder: str, message_id: str) -> None:
        with self._open(folder) as client:
            uids = client.uid("SEARCH", "HEADER", "MESSAGE-ID", f'"{message_id}"')[1][0].split()
            assert uids
            client.uid("STORE", b",".join(uids).decode(), "+FLAGS", r"(\Deleted)")
            client.expunge()


class Person:
    """One account on the servers: its address, its mailbox, and settings that reach both."""

    def __init__(self, servers: MailServers) -> None:
        self.servers = servers
        self.address = f"ada.{os.urandom(6).hex()}@example.org"
        self.box = Mailbox(servers, self.address)

    def settings(self, *, smtp: str | None = "starttls", imap: str | None = "tls", **more: Any) -> dict[str, Any]:
        """Of a table of kind ``mail``; ``smtp`` and ``imap`` are the security, or ``None`` to be without."""
        given: dict[str, Any] = {"from": f"Ada Müller <{self.address}>", **more}
        for kind, security in (("smtp", smtp), ("imap", imap)):
            if security is not None:
                port = self.servers.ports[f"{kind}_{'plain' if kind == 'imap' and security != 'tls' else security}"]
                given[kind] = self.server(port, security)
        return given

    def server(self, port: int, security: str, **more: Any) -> dict[str, Any]:
        who = {"user": self.address, "secret": "mail", "ca_file": str(self.servers.ca), "timeout_s": 30}
        return {"host": "localhost", "port": port, "security": security, **who, **more}

    def taken(self) -> list[str]:
        """The Message-IDs of what was sent from here, as the SMTP server took them."""
        return [mail["message_id"] for mail in self.servers.taken() if mail["sender"] == self.address]


def deliver(folder: Path, address: str, raw: bytes) -> None:
    """Into a Maildir: whole in ``tmp`` first, then renamed, owned by whoever owns the others."""
    owner = (folder / "mail").stat()
    home = folder / "mail" / address
    for made in (home, *(home / part for part in ("tmp", "new", "cur"))):
        if not made.exists():
            made.mkdir(mode=0o700)
            os.chown(made, owner.st_uid, owner.st_gid)
    name = f"{time.time_ns()}.{os.urandom(8).hex()}.test"
    (home / "tmp" / name).write_bytes(raw.replace(b"\r\n", b"\n"))
    os.chown(home / "tmp" / name, owner.st_uid, owner.st_gid)
    (home / "tmp" / name).rename(home / "new" / name)


def _open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _authority(folder: Path) -> None:
    """``ca.pem``, and ``server.pem`` with its key for localhost; ``other.pem`` is an authority that signed nothing."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def made(name: str, ca: Any = None, ca_key: Any = None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca.subject if ca else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if ca is not None:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(issuer, critical=False)
        return builder.sign(ca_key or key, hashes.SHA256()), key

    ca, ca_key = made("test authority")
    server, server_key = made("localhost", ca, ca_key)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "other.pem").write_bytes(made("another authority")[0].public_bytes(pem))
    (folder / "server.pem").write_bytes(server.public_bytes(pem))
    (folder / "server.key.pem").write_bytes(
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
