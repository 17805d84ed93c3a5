"""The embedding worker as the hub sees it: started on the first request, stopped when idle, replaced when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import msgspec

from server.embedding.messages import CHARS, FRAME_BYTES, HEAD, TEXTS, Encode, Encoded, Failed, Kind, Ready, frame
from shared import errors
from shared.errors import BadInput, OutriderError, Unavailable
from shared.memory.vector import Embedding

_CRASHES = 3  # in a row, then it rests
_REST_S = 60.0
_UP = msgspec.msgpack.Decoder(Ready | Encoded | Failed)


class Vectors(msgspec.Struct, frozen=True):
    """What came of a request: the identity of the model that made them, and one vector per text."""

    model: str
    vectors: list[Embedding]


class Encoder:
    """Texts to vectors, in a process of its own. ``path`` is a model folder or an exported artefact.

    For one event loop. ``start_s`` and ``answer_s`` bound loading (torch alone takes seconds) and one request.
    """

    def __init__(
        self,
        path: Path,
        *,
        idle_s: float = 300,
        start_s: float = 180,
        answer_s: float = 120,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.path = path
        self._idle_s, self._start_s, self._answer_s, self._clock = idle_s, start_s, answer_s, clock
        self._turn = asyncio.Lock()
        self._worker: _Worker | None = None
        self._crashes, self._rests_until = 0, 0.0
        self._leaving: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> Ready | None:
        """What the running worker said of its model; ``None`` while none runs."""
        return self._worker.ready if self._worker is not None else None

    @property
    def pid(self) -> int | None:
        return self._worker.process.pid if self._worker is not None else None

    async def start(self) -> Ready:
        """Load the model if it is not. Raises as ``embed`` does."""
        async with self._turn:
            worker = await self._running()
            self._rest_later()
            return worker.ready

    async def embed(self, texts: Sequence[str], kind: Kind = "text") -> Vectors:
        """Vectors of up to ``TEXTS`` texts, each read up to ``CHARS`` characters.

        Raises ``BadInput`` (``embedder.folder``, ``.unsafe``, ``.load``, ``.text``) or ``Unavailable``
        (``embedder.none``, ``.missing``, ``.crashed``, ``.slow``, ``.resting``). A crash costs this request only.
        """
        if len(texts) > TEXTS:
            raise BadInput("embedder.batch", f"{len(texts)} texts at once", advice=f"give at most {TEXTS}")
        async with self._turn:
            worker = await self._running()
            try:
                async with asyncio.timeout(self._answer_s):
                    answer = await worker.ask(kind, [text[:CHARS] for text in texts])
            except TimeoutError as error:
                await self._drop()
                raise Unavailable(
                    "embedder.slow", f"no answer within {self._answer_s:g} s", advice="give the hub a faster processor"
                ) from error
            except OutriderError:
                self._crashed()
                await self._drop()
                raise
            finally:
                self._rest_later()
            self._crashes = 0
        if isinstance(answer, Failed):
            raise _ours(answer)
        return Vectors(worker.ready.model, answer.vectors)

    async def close(self) -> None:
        """End the worker. A later request would start another."""
        async with self._turn:
            await self._drop()
        await asyncio.gather(*self._ending, return_exceptions=True)

    # --- within -------------------------------------------------------------------------------------------------

    async def _running(self) -> _Worker:
        if self._leaving is not None:
            self._leaving.cancel()
        if self._worker is not None and self._worker.process.returncode is None:
            return self._worker
        if self._clock() < self._rests_until:
            raise Unavailable(
                "embedder.resting",
                f"the embedding worker crashed {_CRASHES} times in a row and rests for a minute",
                advice="free some memory; see the hub's log for what it said",
            )
        await self._drop()
        worker = await _Worker.spawn(self.path)
        try:
            async with asyncio.timeout(self._start_s):
                said = await worker.answer()
        except TimeoutError as error:
            await worker.stop(0)
            raise Unavailable(
                "embedder.slow", f"the model was not loaded within {self._start_s:g} s", advice="try again"
            ) from error
        except OutriderError:
            self._crashed()
            await worker.stop(0)
            raise
        except BaseException:  # cancelled while it loads
            await worker.stop(0)
            raise
        if not isinstance(said, Ready):
            await worker.stop(2)
            assert isinstance(said, Failed)
            raise _ours(said)
        worker.ready = said
        self._worker = worker
        return worker

    def _crashed(self) -> None:
        self._crashes += 1
        if self._crashes >= _CRASHES:
            self._crashes, self._rests_until = 0, self._clock() + _REST_S

    async def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(2)

    def _rest_later(self) -> None:
        self._leaving = asyncio.get_running_loop().call_later(self._idle_s, self._leave)

    def _leave(self) -> None:
        if not self._turn.locked() and self._worker is not None:
            worker, self._worker = self._worker, None
            task = asyncio.get_running_loop().create_task(worker.stop(2))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


class _Worker:
    """One process and its pipes. What it says is read by a task of its own, so that a caller who gives up in the
    middle of an answer leaves the pipe in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ready = Ready("", 0, 0)
        self._number = 0
        self._said: deque[str] = deque(maxlen=20)
        self._answers: asyncio.Queue[Ready | Encoded | Failed | None] = asyncio.Queue()
        self._listening = [asyncio.create_task(self._listen()), asyncio.create_task(self._read())]

    @classmethod
    async def spawn(cls, path: Path) -> _Worker:
        pipe = asyncio.subprocess.PIPE
        alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server.embedding.worker", str(path)),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=os.environ | alone,
            )
        except OSError as error:
            raise Unavailable(
                "embedder.crashed", f"the embedding worker does not start: {error.strerror}", advice="free some memory"
            ) from error
        return cls(process)

    async def ask(self, kind: Kind, texts: list[str]) -> Encoded | Failed:
        assert self.process.stdin is not None
        self._number += 1
        with contextlib.suppress(ConnectionError):  # a broken pipe shows itself when the answer is read
            self.process.stdin.write(frame(Encode(self._number, kind, texts)))
            await self.process.stdin.drain()
        while True:
            answer = await self.answer()
            if not isinstance(answer, Ready) and answer.number == self._number:
                return answer

    async def answer(self) -> Ready | Encoded | Failed:
        """The next thing it says. Raises ``Unavailable('embedder.crashed')`` where it will say no more."""
        answer = await self._answers.get()
        if answer is None:
            self._answers.put_nowait(None)
            raise await self._ended()
        return answer

    async def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            while True:
                (length,) = HEAD.unpack(await self.process.stdout.readexactly(HEAD.size))
                if length > FRAME_BYTES:
                    break
                self._answers.put_nowait(_UP.decode(await self.process.stdout.readexactly(length)))
        self._answers.put_nowait(None)

    async def _ended(self) -> Unavailable:
        await self.stop(2)
        code = self.process.returncode or 0
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        said = f": {self._said[-1]}" if self._said else ""
        return Unavailable(
            "embedder.crashed", f"the embedding worker ended with {how}{said}", advice="it starts again by itself"
        )

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(ValueError, ConnectionError):  # a line beyond the limit ends the listening only
            while line := await self.process.stderr.readline():
                if text := line.decode("utf-8", "replace").strip():
                    self._said.append(text[:300])

    async def stop(self, grace_s: float) -> None:
        """End of input asks it to leave; after ``grace_s`` it is made to."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(grace_s):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await asyncio.gather(*self._listening)


def _ours(told: Failed) -> OutriderError:
    kind = getattr(errors, told.kind, Unavailable)
    made: OutriderError = kind(told.code, told.message, advice=told.advice, where=told.where)
    return made
