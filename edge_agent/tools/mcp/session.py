"""One tool set's worker process as the agent sees it: started at the first use, ended when idle, replaced when it died.

Everything that is not an answer is turned into one of the tool errors, by what is known: before ``Sent`` nothing
happened (``NotSent``), after it nobody knows (``Unavailable``).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from edge_agent.tools import NotSent
from edge_agent.tools.build import Place
from edge_agent.tools.mcp import messages, pins
from edge_agent.tools.mcp.messages import Call, Cancel, Changed, Done, Failed, List, Listed, Message, Open, Sent, Up
from edge_agent.tools.mcp.settings import Settings, opening, worker_environment
from shared.errors import BadInput, OutriderError, Refused, Unavailable

COMMAND = (sys.executable, "-P", "-m", "edge_agent.tools.mcp.worker")
LOG = "server.log"
LOG_BYTES = 1024 * 1024  # a longer one is begun anew at the next start
LEAVING_S = 8.0  # the worker gives its server four seconds in all before it kills it
MARGIN_S = 5.0
REST_MOST_S = 60

_KINDS: dict[str, type[OutriderError]] = {
    "BadInput": BadInput,
    "Refused": Refused,
    "NotSent": NotSent,
    "Unavailable": Unavailable,
}


@dataclass
class _Waiting:
    answer: asyncio.Future[Up]
    sent: bool = False


@dataclass
class _Rest:
    """After failed starts, how long none is tried: 0, 2, 4, 8 seconds and so on, at most ``REST_MOST_S``."""

    failures: int = 0
    until_us: int = 0

    def failed(self, now_us: int) -> None:
        self.failures += 1
        seconds = min(2 ** (self.failures - 1), REST_MOST_S) if self.failures > 1 else 0
        self.until_us = now_us + seconds * 1_000_000

    def worked(self) -> None:
        self.failures, self.until_us = 0, 0


class Session:
    """``environ`` is the agent's own environment, of which little is passed on; ``command`` starts the worker, for
    frozen builds that have no ``-m``."""

    def __init__(
        self,
        place: Place,
        settings: Settings,
        *,
        environ: Mapping[str, str] = os.environ,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._place, self._settings = place, settings
        self._environ, self._command = environ, tuple(command)
        self._lock = asyncio.Lock()
        self._worker: _Worker | None = None
        self._rest = _Rest()
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The worker's process id, ``None`` while there is none."""
        return self._worker.pid if self._worker and not self._worker.dead else None

    async def list(self) -> Listed:
        """What the server offers now. Raises ``NotSent``, ``Refused('mcp.too-many')``."""
        answer = await self._ask(List(0), self._settings.start_s)
        assert isinstance(answer, Listed)
        return answer

    async def call(self, pin: pins.Pin, arguments: dict[str, Any]) -> dict[str, Any]:
        """The receipt's details. Raises as ``Tool.send`` does."""
        wanted = self._settings.timeout_s
        answer = await self._ask(Call(0, pin.name, pin.sha256, arguments, wanted), self._settings.start_s + wanted)
        if isinstance(answer, Changed):
            raise self._changed(pin, answer.description)
        assert isinstance(answer, Done)
        return answer.details

    async def close(self) -> None:
        """End the worker and with it the server. It is started again by the next call."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        async with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop()
        for task in list(self._closing):
            await task

    def _changed(self, pin: pins.Pin, live: str) -> OutriderError:
        if not live:
            return NotSent("mcp.gone", f"the server has no tool {pin.name} any more", advice="start its server anew")
        parts = ", ".join(pins.changes(pin.description, live)[:8])
        return Refused(
            "mcp.changed",
            f"the server describes {pin.name} otherwise than was accepted: {parts}",
            advice=f"look at it: outrider agent mcp diff {self._place.name}",
        )

    async def _ask(self, question: List | Call, within_s: float) -> Up:
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            worker = await self._started()
            answer = await worker.ask(question, within_s + MARGIN_S)
            if isinstance(answer, Failed):
                raise self._failure(worker, answer)
            self._rest.worked()
            return answer
        finally:
            self._users -= 1
            if not self._users and self._worker is not None:
                self._idle = asyncio.get_running_loop().call_later(self._settings.idle_s, self._end_idle)

    def _failure(self, worker: _Worker, failed: Failed) -> OutriderError:
        if failed.over:
            worker.dead = True
        if failed.code == "mcp.start":
            self._rest.failed(self._place.now())
        else:
            self._rest.worked()
        return _KINDS.get(failed.kind, Unavailable)(
            failed.code, failed.message, advice=failed.advice, where=f"tools.toml [{self._place.name}]"
        )

    def _end_idle(self) -> None:
        task = asyncio.get_running_loop().create_task(self._close_idle())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_idle(self) -> None:
        async with self._lock:
            if self._users or self._worker is None:  # in use again
                return
            worker, self._worker = self._worker, None
        await worker.stop()

    async def _started(self) -> _Worker:
        async with self._lock:
            if self._worker is not None and self._worker.dead:
                worker, self._worker = self._worker, None
                await worker.stop()
            if self._worker is None:
                left_us = self._rest.until_us - self._place.now()
                if left_us > 0:
                    raise NotSent(
                        "mcp.resting",
                        f"the server failed to start {self._rest.failures} times; none is tried for a while",
                        advice=f"see {self._place.state / LOG}; the next try is in {left_us // 1_000_000 + 1} s",
                    )
                self._worker = await self._start()
            return self._worker

    async def _start(self) -> _Worker:
        if importlib.util.find_spec("mcp") is None:
            raise NotSent("mcp.missing", "the package mcp is not installed", advice="pip install 'outrider[tools]'")
        first = opening(self._settings, self._place, self._environ)
        env = worker_environment(self._settings, self._environ)
        try:
            self._place.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _log(self._place.state / LOG) as log:
                return await _Worker.start(self._command, env, first, log)
        except OSError as error:
            self._rest.failed(self._place.now())
            raise NotSent(
                "mcp.start", f"the worker does not start: {error.strerror}", advice="run 'outrider doctor'"
            ) from error


def _log(path: Path) -> BinaryIO:
    long = path.exists() and path.stat().st_size > LOG_BYTES
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if long else os.O_APPEND), 0o600)
    return os.fdopen(handle, "ab")


@dataclass
class _Worker:
    """The process and its pipes. ``dead``: its session is over, so it takes no more questions."""

    process: asyncio.subprocess.Process
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    dead: bool = False

    def __post_init__(self) -> None:
        self.pid = self.process.pid
        self._numbers = itertools.count(1)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, command: tuple[str, ...], env: dict[str, str], first: Open, log: BinaryIO) -> _Worker:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=log, env=env, limit=messages.LINE_BYTES, start_new_session=True
        )
        worker = cls(process)
        worker._send(first)
        return worker

    def _send(self, message: Message) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError):  # a broken pipe shows itself when the answer is read
            self.process.stdin.write(messages.line(message))

    async def ask(self, question: List | Call, within_s: float) -> Up:
        """The answer, also where it is a failure. Cancelling tells the server, and waits a moment for the worker."""
        number = next(self._numbers)
        waiting = self.waiting[number] = _Waiting(asyncio.get_running_loop().create_future())
        try:
            if self.dead:
                return _gone(number, sent=False)
            self._send(msgspec.structs.replace(question, number=number))
            async with asyncio.timeout(within_s):
                return await asyncio.shield(waiting.answer)
        except TimeoutError:  # it bounds its own calls, so it hangs
            self.kill()
            return _gone(number, sent=waiting.sent)
        except asyncio.CancelledError:
            self._send(Cancel(number))
            await asyncio.wait({waiting.answer}, timeout=2)
            if not waiting.answer.done():
                self.kill()
            raise
        finally:
            del self.waiting[number]

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        # ValueError: a line longer than any message may be.
        with contextlib.suppress(ConnectionError, ValueError, msgspec.DecodeError):
            while data := await self.process.stdout.readline():
                message = messages.read_up(data)
                waiting = self.waiting.get(message.number)
                if waiting is None:
                    continue
                if isinstance(message, Sent):
                    waiting.sent = True
                elif not waiting.answer.done():
                    waiting.answer.set_result(message)
        self.dead = True
        for number, waiting in self.waiting.items():
            if not waiting.answer.done():
                waiting.answer.set_result(_gone(number, sent=waiting.sent))

    def kill(self) -> None:
        """At once; the kernel then ends the server too (Linux), or its closed pipes do."""
        self.dead = True
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def stop(self) -> None:
        """The end of its input asks it to leave; some seconds later it is made to."""
        self.dead = True
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(LEAVING_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
        await self._listening


def _gone(number: int, *, sent: bool) -> Failed:
    if sent:
        said, advice = "the connection to the server was lost after the call was sent", "look whether it was done"
        return Failed(number, "Unavailable", "mcp.lost", said, advice, over=True)
    said, advice = "the MCP server cannot be used: its worker ended", "see its server.log"
    return Failed(number, "NotSent", "mcp.start", said, advice, over=True)
