"""What the demo is made of: a screen, processes, a wire that can be cut, the case register's books.

Standard library only, and nothing of Outrider's own code: the demo stands outside and uses commands, HTTP and the case
register's file, as an operator would.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
SLICE_S = 0.005
OUTRIDER = str(Path(sys.executable).with_name("outrider"))


class Stop(Exception):
    """The demo cannot go on, or what it set out to show does not hold. ``advice`` says what to look at."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


# --- the screen ---------------------------------------------------------------------------------------------------


class Screen:
    """Plain lines; colour and a moving line only on a terminal."""

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._moving = False
        self._spoke = time.monotonic()
        self._last = ""

    def _print(self, text: str, style: str = "") -> None:
        if self._moving:
            sys.stdout.write("\r\x1b[K")
            self._moving = False
        styled = f"\x1b[{style}m{text}\x1b[0m" if style and self._tty else text
        print(styled, flush=True)
        self._spoke = time.monotonic()

    def heading(self, text: str) -> None:
        self._print(f"\n== {text}", "1;36")

    def say(self, text: str) -> None:
        self._print(f"   {text}")

    def good(self, text: str) -> None:
        self._print(f"   ok  {text}", "32")

    def bad(self, text: str) -> None:
        self._print(f"   NOT {text}", "1;31")

    def plain(self, text: str = "") -> None:
        self._print(text)

    def progress(self, text: str) -> None:
        """Where a wait stands: a line that moves, or one now and then where output is collected."""
        if self._tty:
            sys.stdout.write("\r\x1b[K" + f"   ..  {text}"[: shutil.get_terminal_size().columns - 1])
            sys.stdout.flush()
            self._moving = True
        elif time.monotonic() - self._spoke > (30 if text == self._last else 5):
            self._last = text
            self._print(f"   ..  {text}")


# --- commands and processes ---------------------------------------------------------------------------------------


def outrider(*words: str, typed: str | None = None, timeout: float = 120) -> str:
    """Run one ``outrider`` command to its end and return what it printed."""
    try:
        done = subprocess.run(
            [OUTRIDER, *words], input=typed or "", capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Stop(
            f"'outrider {words[0]} {words[1]}' took more than {timeout:.0f} s", "is the machine busy?"
        ) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-1500:]
        raise Stop(
            f"'outrider {' '.join(words[:2])}' failed with code {done.returncode}: {said}", "see the message above"
        )
    return done.stdout


class Process:
    """A long-running ``outrider`` command whose output goes to a file. It gets a session of its own, so that Ctrl-C
    reaches the demo alone, which then ends it in good order."""

    def __init__(
        self, name: str, log: Path, *words: str, env: dict[str, str] | None = None, command: str = OUTRIDER
    ) -> None:
        self.name, self.log = name, log
        self._command = [command, *words]
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self._since = 0  # where in the file the present process began

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._since = out.tell()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
        with self.log.with_name("pids").open("a", encoding="utf-8") as pids:
            pids.write(f"{self._child.pid}\n")

    def output(self) -> str:
        """What it has said since it was last started."""
        return self.log.read_bytes()[self._since :].decode("utf-8", "replace") if self.log.exists() else ""

    def check(self) -> None:
        """Raise if it ended by itself."""
        if self._child is not None and self._child.poll() is not None:
            raise Stop(
                f"the {self.name} ended by itself with code {self._child.returncode}:\n{self.tail()}",
                f"the whole output is in {self.log}",
            )

    def kill_at(self, ready: Callable[[], bool], *, patience: float) -> None:
        """kill -9 at the first look that finds it ``ready``. Between looks it runs for a few milliseconds, and while it
        is looked at it is frozen, so that a quick process is not past the moment when the kill lands."""
        deadline = time.monotonic() + patience
        while True:
            self._freeze()
            if ready():
                return self.kill()
            if time.monotonic() > deadline:
                self._signal(signal.SIGCONT)
                raise Stop(f"the {self.name} did not get there within {patience:.0f} s", self.tail())
            self._signal(signal.SIGCONT)
            time.sleep(SLICE_S)

    def _freeze(self) -> None:
        """Stop it where it stands, and wait until it does."""
        self.check()
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self.check()

    def _signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def kill(self) -> None:
        """kill -9: no farewell, nothing flushed."""
        assert self._child is not None
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()
        self._child = None

    def stop(self) -> None:
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def tail(self, lines: int = 15) -> str:
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(f"     | {line}" for line in text.splitlines()[-lines:])


def wait(
    screen: Screen,
    look: Callable[[], tuple[bool, str, T]],
    *,
    patience: float,
    advice: Callable[[], str],
    every: float = 0.4,
) -> T:
    """Look until it is done. ``look`` gives (done, a line that says where it stands, a result). ``patience`` seconds
    without any change of that line end the wait."""
    last, since = "", time.monotonic()
    while True:
        done, text, result = look()
        if done:
            return result
        if text != last:
            last, since = text, time.monotonic()
        if time.monotonic() - since > patience:
            raise Stop(f"nothing has changed for {patience:.0f} s: {text}", advice())
        screen.progress(text)
        time.sleep(every)


# --- the wire between agent and hub -------------------------------------------------------------------------------


class Wire:
    """A TCP relay on loopback. Cut, it closes its listening port and every connection, as a pulled cable or a stopped
    router would look to the agent; mended, it listens on the same port again, which is held all the while."""

    def __init__(self) -> None:
        self._target: tuple[str, int] | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._held = _bound(0)  # and never listens: whoever connects while the wire is cut is refused
        self.port: int = self._held.getsockname()[1]
        self._listener: socket.socket | None = _listen(self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lead_to(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname and parts.port
        self._target = (parts.hostname, parts.port)
        assert self._listener is not None
        self._serve(self._listener)

    def cut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        self._held.close()

    def mend(self) -> None:
        self._listener = _listen(self.port)
        self._serve(self._listener)

    def _serve(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # cut
            try:
                assert self._target is not None
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                if self._listener is not listener:  # cut while connecting
                    near.close()
                    far.close()
                    return
                self._pairs.add((near, far))
            threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        try:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    other[source].sendall(data)
        except (OSError, ValueError):
            return
        finally:
            with self._lock:
                self._pairs.discard((near, far))
            near.close()
            far.close()


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


def _listen(port: int) -> socket.socket:
    listener = _bound(port)
    listener.listen(64)
    return listener


# --- the case register's books ------------------------------------------------------------------------------------


class Books:
    """The case register read from its own file, independently of what the agent says of itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            try:
                return db.execute(sql).fetchall()
            except sqlite3.OperationalError:  # the agent has made the file and not yet its tables
                return []

    def count(self) -> int:
        rows = self._rows("SELECT COUNT(*) FROM decisions")
        return int(rows[0][0]) if rows else 0

    def decisions(self) -> dict[str, str]:
        """Application -> lane."""
        return {str(row[0]): str(row[1]) for row in self._rows("SELECT application_id, lane FROM decisions")}

    def faults(self) -> Iterator[str]:
        """Every application decided more than once, every key sent or acted on more than once."""
        applications = Counter(row[0] for row in self._rows("SELECT application_id FROM decisions"))
        keys = Counter(row[0] for row in self._rows("SELECT key FROM decisions"))
        calls = Counter(row[0] for row in self._rows("SELECT key FROM calls"))
        yield from (f"{name} was decided {times} times" for name, times in applications.items() if times > 1)
        yield from (f"the key {key[:12]} has {times} decisions" for key, times in keys.items() if times > 1)
        yield from (f"the key {key[:12]} was sent {times} times" for key, times in calls.items() if times > 1)
        yield from (f"the decision {key[:12]} was never sent" for key in keys if key not in calls)
