"""One worker process and its pipes, as the engine sees them: ask, cancel, notice a crash, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from edge_agent.models.messages import (
    FRAME_BYTES,
    HEAD,
    Ask,
    Cancel,
    Failure,
    Job,
    Loaded,
    Result,
    Settings,
    decode_up,
    frame,
)
from edge_agent.models.worker import BUILD
from shared.errors import Unavailable

CRASH_ADVICE = f"run 'outrider doctor'; where the CPU is not the one it was built for, rebuild: {BUILD}"


class Worker:
    """One worker process and its pipes."""

    def __init__(
        self, process: asyncio.subprocess.Process, crashed: Callable[[], None], answered: Callable[[], None]
    ) -> None:
        self._process, self._crashed, self._answered = process, crashed, answered
        self._number = 0
        self._said: deque[str] = deque(maxlen=20)
        self._listening = asyncio.create_task(self._listen())
        self.loaded: dict[str, Loaded] = {}
        self.dead = False
        self.pid = process.pid

    @classmethod
    async def start(
        cls, command: Sequence[str], settings: Settings, crashed: Callable[[], None], answered: Callable[[], None]
    ) -> Worker:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 20
            )
        except OSError as error:
            raise Unavailable(
                "model.start", f"the model worker does not start: {error.strerror}", advice="run 'outrider doctor'"
            ) from error
        worker = cls(process, crashed, answered)
        worker._send(frame(settings))
        return worker

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        # A broken pipe shows itself when the answer is read.
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(data)

    def interrupt(self) -> None:
        """Break off the job at work: its answer is then a ``Failure`` with ``model.cancelled``, within milliseconds, or
        what it came to just before."""
        self._send(frame(Cancel(self._number)))

    async def ask(self, job: Job, grace_s: float) -> tuple[Result | Failure, int]:
        """The answer, and what loading took of it. Cancelling waits until the worker has let go."""
        self._number += 1
        reading = asyncio.create_task(self._answer(self._number))
        self._send(frame(Ask(self._number, job)))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            self._send(frame(Cancel(self._number)))
            try:
                await asyncio.wait({reading}, timeout=grace_s)
            finally:
                if not reading.done():
                    self.dead = True
                    self._kill()
                    reading.cancel()
                elif not reading.cancelled():
                    reading.exception()  # what became of a request nobody waits for is of no interest
            raise

    async def _answer(self, number: int) -> tuple[Result | Failure, int]:
        load_us = 0
        assert self._process.stdout is not None
        while True:
            try:
                (length,) = HEAD.unpack(await self._process.stdout.readexactly(HEAD.size))
                if length > FRAME_BYTES:
                    raise asyncio.IncompleteReadError(b"", length)
                message = decode_up(await self._process.stdout.readexactly(length))
            except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError) as error:
                self.dead = True
                raise await self._crash() from error
            if isinstance(message, Loaded):
                self.loaded[message.kind] = message
                load_us += message.load_us
            elif message.number == number:
                self._answered()
                return message.result, load_us

    async def _crash(self) -> Unavailable:
        # Waited for first: a signal to a process that has just ended makes asyncio lose its exit code.
        try:
            async with asyncio.timeout(2):
                code = await self._process.wait()
        except TimeoutError:
            self._kill()
            code = await self._process.wait()
        self._crashed()
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        said = f": {self._said[-1]}" if self._said else ""
        return Unavailable("model.crashed", f"the model worker ended with {how}{said}", advice=CRASH_ADVICE)

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError, ConnectionError):  # a line beyond the limit ends the listening only
            while line := await self._process.stderr.readline():
                self._said.append(line.decode("utf-8", "replace").strip()[:300])

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """End of input asks it to leave; two seconds later it is made to."""
        self.dead = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(2):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()
        await self._listening
