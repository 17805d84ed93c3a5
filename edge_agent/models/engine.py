"""The agent's face to its models: ``Models``, asyncio, with everything heavy in one worker process.

The worker starts on first use and, if told so, ends after being idle. Requests go to it one at a time: the most urgent
first, then the oldest. Batch work that is being computed is broken off when a person waits, and begun again later, a
bounded number of times; many texts are embedded in slices, between which others come in. The queue is bounded, because
a plan that waits behind twenty others is better refused; batch work has time and may wait longer. Cancelling a task
stops the native computation within milliseconds; a worker that does not answer a cancellation is killed. A crash in
native code fails one request with ``model.crashed`` and the next request starts a fresh worker; after three crashes in
a row without an answer in between, the worker rests for a while before it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from edge_agent.models.catalogue import USUAL
from edge_agent.models.messages import (
    BACKGROUND,
    BATCH,
    INTERACTIVE,
    Choice,
    ChoiceResult,
    Completion,
    CompletionResult,
    Embed,
    EmbedResult,
    Failure,
    Forget,
    Forgotten,
    Job,
    Result,
    Settings,
    Timings,
)
from edge_agent.models.process import CRASH_ADVICE, Worker
from edge_agent.models.store import ModelStore
from edge_agent.models.turns import Turn, Turns
from edge_agent.models.worker import runtime_missing
from shared.errors import BadInput, OutriderError, Unavailable

R = TypeVar("R", CompletionResult, ChoiceResult, EmbedResult, Forgotten)

_CRASHES = 3
_TEXTS = 1024
_TEXT_CHARS = 100_000
_SLICE_TEXTS = 64
_SLICE_CHARS = 4_000  # about 1,000 tokens: what an interactive request may have to wait for
_READ_CHARS = 1_100  # the model reads about so much of a text
_YIELDS = 3  # how often a batch request is broken off at most
_PATIENCE = 8  # how many times as many requests may wait before batch work is refused


class Part(msgspec.Struct, frozen=True):
    """One of the two models. ``trouble`` is empty, or an error's code, with ``advice``."""

    kind: Literal["language", "embedder"]
    model: str
    name: str
    loaded: bool
    load_us: int
    trouble: str
    advice: str


class Status(msgspec.Struct, frozen=True):
    """What ``outrider agent status`` shows. ``waiting`` counts requests in the queue or at work."""

    worker: Literal["stopped", "idle", "busy"]
    pid: int
    waiting: int
    requests: int
    crashes: int
    language: Part
    embedder: Part


class Models:
    """Both models of one agent. ``language`` and ``embedder`` are hashes that the release lists; empty means none.

    Nothing is started or read until the first request. ``idle_s`` ends an idle worker and frees its memory; None keeps
    it. ``queue`` bounds how many requests may wait that are as urgent, or more; batch requests may be eight times as
    many. ``command`` starts the worker, for frozen builds that have no
    ``-m``.
    """

    def __init__(
        self,
        home: Path,
        *,
        language: str = "",
        embedder: str = "",
        threads: int = 1,
        context: int = 2048,
        idle_s: float | None = None,
        queue: int = 16,
        grace_s: float = 5.0,
        rest_s: float = 60.0,
        command: Sequence[str] = (sys.executable, "-m", "edge_agent.models.worker"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = Settings(str(home), language, embedder, threads, context)
        self._store = ModelStore(home)
        self._idle_s, self._queue, self._grace_s, self._rest_s = idle_s, queue, grace_s, rest_s
        self._command, self._clock = tuple(command), clock
        self._turns = Turns()
        self._queued = [0, 0, 0]  # by urgency, those at work included
        self._worker: Worker | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._requests = self._crashes = self._in_a_row = 0
        self._rest_until = 0.0
        self._held_back: Mapping[str, OutriderError] = {}
        self._closed = False

    async def complete(self, request: Completion) -> CompletionResult:
        """Continue a text. Raises ``BadInput('model.too-long')``, ``BadInput('model.grammar')`` and ``Unavailable``."""
        async with self._place(request.urgency, request.deadline_s) as turn:
            return await self._take_turns(turn, request, CompletionResult)

    async def choose(self, request: Choice) -> ChoiceResult:
        async with self._place(request.urgency, request.deadline_s) as turn:
            return await self._take_turns(turn, request, ChoiceResult)

    async def embed(
        self, texts: Sequence[str], *, deadline_s: float | None = None, urgency: int = BACKGROUND
    ) -> EmbedResult:
        """One vector per text, at most 1024 texts; the model reads the first 256 tokens of each. All are by the same
        model: a release that changes it meanwhile has them made anew."""
        if len(texts) > _TEXTS:
            raise BadInput("model.too-many", f"{len(texts)} texts at once", advice=f"send at most {_TEXTS}")
        slices = _slices([text[:_TEXT_CHARS] for text in texts])
        found: list[EmbedResult] = []
        async with self._place(urgency, deadline_s) as turn:
            while len(found) < len(slices):
                part = await self._take_turns(turn, Embed(slices[len(found)]), EmbedResult)
                found = [*found, part] if not found or found[0].model == part.model else []
        return EmbedResult(tuple(one for part in found for one in part.embeddings), found[0].model, _summed(found))

    async def forget(self) -> int:
        """Erase every kept prefix, in memory and on disk; return how many files went."""
        async with self._place(INTERACTIVE, None) as turn:
            return (await self._take_turns(turn, Forget(), Forgotten)).states

    async def use(self, *, language: str, embedder: str, held_back: Mapping[str, OutriderError] | None = None) -> None:
        """Change models, as a new release says. The worker ends after the request it is at; the next one loads anew.
        ``held_back`` says by hash why a model that is wanted is not used (yet)."""
        async with self._turns.hold(self._turns.enter(INTERACTIVE)):
            self._held_back = held_back or {}
            self._settings = msgspec.structs.replace(self._settings, language=language, embedder=embedder)
            self._in_a_row, self._rest_until = 0, 0.0
            await self._stop()

    async def close(self) -> None:
        """End the worker, at work or not. Requests still waiting fail with ``model.closed``."""
        self._closed = True
        await self._stop()

    def status(self) -> Status:
        """Reads the registry file, not the models."""
        worker = self._worker
        state: Literal["stopped", "idle", "busy"] = "stopped"
        if worker is not None:
            state = "busy" if self._turns.taken else "idle"
        return Status(
            worker=state,
            pid=worker.pid if worker else 0,
            waiting=sum(self._queued),
            requests=self._requests,
            crashes=self._crashes,
            language=self._part("language", self._settings.language),
            embedder=self._part("embedder", self._settings.embedder),
        )

    def _part(self, kind: Literal["language", "embedder"], sha256: str) -> Part:
        trouble = self._trouble(kind, sha256)
        news = self._worker.loaded.get(kind) if self._worker else None
        name = ""
        with contextlib.suppress(OutriderError):
            name = self._store.by_hash(sha256).name
        return Part(
            kind=kind,
            model=sha256,
            name=name,
            loaded=news is not None,
            load_us=news.load_us if news else 0,
            trouble=trouble.code if trouble else "",
            advice=trouble.advice if trouble else "",
        )

    def _trouble(self, kind: Literal["language", "embedder"], sha256: str) -> OutriderError | None:
        """Why that model cannot work, found without starting anything."""
        if not sha256:
            return Unavailable(
                "model.not-chosen",
                f"the release names no {kind} model",
                advice="publish a release that lists one, and see 'outrider model list'",
            )
        missing = runtime_missing(self._store.format_of(sha256, USUAL[kind]))
        if missing is not None:
            return missing
        try:
            self._store.by_hash(sha256)
        except OutriderError as error:
            return error
        return self._held_back.get(sha256)

    # --- one request ---

    @contextlib.asynccontextmanager
    async def _place(self, urgency: int, deadline_s: float | None) -> AsyncIterator[Turn]:
        """A place in the queue for one request, which may take several turns."""
        ahead = sum(self._queued[: urgency + 1])
        if ahead >= self._queue * (_PATIENCE if urgency == BATCH else 1):
            raise Unavailable("model.busy", f"{ahead} requests are waiting", advice="try again in a moment")
        self._queued[urgency] += 1
        self._requests += 1
        try:
            async with asyncio.timeout(deadline_s):
                yield self._turns.enter(urgency, yields=_YIELDS)
        except TimeoutError as error:
            raise Unavailable(
                "model.deadline", f"no answer within {deadline_s} s", advice="allow more time or ask for less"
            ) from error
        finally:
            self._queued[urgency] -= 1

    async def _take_turns(self, turn: Turn, job: Job, kind: type[R]) -> R:
        """The answer to one job, which may be broken off and begun again as often as its turn can yield."""
        began = time.perf_counter_ns()
        while True:
            async with self._turns.hold(turn):
                waited = (time.perf_counter_ns() - began) // 1000
                answer = await self._work(turn, job)
            if answer is None:
                turn.yields -= 1
                continue
            result, load_us = answer
            if isinstance(result, Failure):
                raise result.error()
            assert isinstance(result, kind)
            return _timed(result, queue_us=waited, load_us=load_us)

    async def _work(self, turn: Turn, job: Job) -> tuple[Result | Failure, int] | None:
        """The worker's answer and what starting and loading took; ``None`` when it was broken off for another."""
        self._check_open()
        if not isinstance(job, Forget):
            trouble = self._trouble(*self._need(job))
            if trouble is not None:
                raise trouble
        started = time.perf_counter_ns()
        worker = await self._running()
        start_us = (time.perf_counter_ns() - started) // 1000
        if self._turns.wanted(turn):
            return None
        if not isinstance(job, Embed):  # a slice of texts ends as soon as it could be broken off
            turn.interrupt = worker.interrupt
        try:
            result, load_us = await worker.ask(job, self._grace_s)
        except BaseException:
            if worker.dead:
                await self._stop()
            raise
        finally:
            self._await_idle()
        # Nobody else cancels a job whose answer is waited for.
        if isinstance(result, Failure) and result.code == "model.cancelled":
            return None
        return result, start_us + load_us

    def _need(self, job: Job) -> tuple[Literal["language", "embedder"], str]:
        if isinstance(job, Embed):
            return "embedder", self._settings.embedder
        return "language", self._settings.language

    async def _running(self) -> Worker:
        if self._idle is not None:
            self._idle.cancel()
        if self._worker is not None and self._worker.dead:
            await self._stop()
        if self._worker is None:
            if self._clock() < self._rest_until:
                raise Unavailable(
                    "model.crashed",
                    f"the model worker crashed {_CRASHES} times in a row and rests",
                    advice=CRASH_ADVICE,
                )
            self._worker = await Worker.start(self._command, self._settings, self._crashed, self._answered)
            if self._closed:  # while it started
                await self._stop()
                self._check_open()
        return self._worker

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("model.closed", "the models are shut down", advice="start the agent again")

    def _crashed(self) -> None:
        self._crashes += 1
        self._in_a_row += 1
        if self._in_a_row >= _CRASHES:
            self._in_a_row, self._rest_until = 0, self._clock() + self._rest_s

    def _answered(self) -> None:
        self._in_a_row = 0

    async def _stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop()

    def _await_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._idle_s is not None and not self._closed:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._idle_s, lambda: loop.create_task(self._unload()))

    async def _unload(self) -> None:
        if not self._turns.taken:
            async with self._turns.hold(self._turns.enter(INTERACTIVE)):
                await self._stop()


def _slices(texts: list[str]) -> list[tuple[str, ...]]:
    """Texts in their order, as many at a time as take about as long as one answer; one empty slice for no texts."""
    slices: list[list[str]] = [[]]
    room = _SLICE_CHARS
    for text in texts:
        room -= min(len(text), _READ_CHARS)
        if slices[-1] and (room < 0 or len(slices[-1]) == _SLICE_TEXTS):
            slices.append([])
            room = _SLICE_CHARS - min(len(text), _READ_CHARS)
        slices[-1].append(text)
    return [tuple(part) for part in slices]


def _summed(parts: list[EmbedResult]) -> Timings:
    fields = Timings.__struct_fields__
    return Timings(**{field: sum(getattr(part.timings, field) for part in parts) for field in fields})


def _timed(result: R, *, queue_us: int, load_us: int) -> R:
    if isinstance(result, Forgotten):
        return result
    timings: Timings = msgspec.structs.replace(result.timings, queue_us=queue_us, load_us=load_us)
    return msgspec.structs.replace(result, timings=timings)
