"""The model worker: the one process that loads a language model and an embedder, each on first use.

Run as ``python -m edge_agent.models.worker``; frames come on standard input and go out on what was standard output
(native code that prints goes to standard error instead). A reading thread takes cancellations while the main thread
computes. When the parent goes away, standard input ends and the worker leaves at once.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edge_agent.models.catalogue import Format
from edge_agent.models.messages import (
    Ask,
    Cancel,
    Cancelled,
    Choice,
    Completion,
    Embed,
    EmbedResult,
    Failure,
    Forget,
    Forgotten,
    Job,
    Loaded,
    Reply,
    Result,
    Settings,
    Timings,
    decode_down,
    frame,
    read_frame,
)
from edge_agent.models.states import StateFolder
from edge_agent.models.store import ModelStore
from shared.errors import OutriderError, Unavailable

if TYPE_CHECKING:
    from edge_agent.models.embedder import Embedder
    from edge_agent.models.language import Language
    from edge_agent.models.table import Table

# The build that runs on every CPU of its kind: a native one crashes at the first decode where the CPU has AMX.
BUILD = (
    'CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" '
    "pip install --no-cache-dir --force-reinstall llama-cpp-python==0.3.36"
)


RUNTIMES: dict[Format, str] = {"gguf": "llama_cpp", "onnx": "onnxruntime", "table": "numpy"}


def runtime_missing(form: Format) -> Unavailable | None:
    """Why models of that format cannot run in this interpreter, or None. Imports nothing."""
    if importlib.util.find_spec(RUNTIMES[form]) is not None:
        return None
    if form == "gguf":
        return Unavailable(
            "model.runtime-missing",
            "llama-cpp-python is not installed, so no language model can run",
            advice=f"with a C++ compiler on this machine, run: {BUILD}",
        )
    return Unavailable(
        "model.runtime-missing",
        f"{RUNTIMES[form]} is not installed, so texts cannot be compared by meaning",
        advice="run: pip install 'outrider[agent]'; or take the light one: outrider model add wordllama-256",
    )


def open_embedder(path: Path, *, threads: int = 1) -> Embedder | Table:
    """The embedder in a file of the store, whose name ends in its format."""
    if path.suffix == ".table":
        from edge_agent.models.table import Table

        return Table(path)
    from edge_agent.models.embedder import Embedder

    return Embedder(path, threads=threads)


class Desk:
    """Loads on first use, does one job at a time, and can be told to stop from another thread."""

    def __init__(self, settings: Settings, out: BinaryIO) -> None:
        self._settings, self._out = settings, out
        self._store = ModelStore(Path(settings.home))
        self._language: Language | None = None
        self._embedder: Embedder | Table | None = None
        self._lock = threading.Lock()
        self._number = self._finished = -1
        self._cancelled: set[int] = set()

    def cancel(self, number: int) -> None:
        with self._lock:
            if number <= self._finished:
                return  # it came too late
            self._cancelled.add(number)
            if number == self._number and self._language is not None:
                self._language.cancel()

    def _gone(self) -> bool:
        return self._number in self._cancelled

    def run(self, ask: Ask) -> None:
        """Do one job and reply. This is the task root of the worker, so it catches everything."""
        with self._lock:
            self._number = ask.number
            if self._language is not None and not self._gone():
                self._language.resume()
        try:
            result: Result | Failure = self._do(ask.job)
        except OutriderError as error:
            result = Failure.of(error)
        except Cancelled:
            result = Failure("Unavailable", "model.cancelled", "the request was cancelled", "ask again", "")
        except Exception as error:  # noqa: BLE001 -- task root: the parent gets a code, standard error the trace
            traceback.print_exc()
            result = Failure("Unavailable", "model.worker", f"{type(error).__name__}: {error}", "report this", "")
        self._out.write(frame(Reply(ask.number, result)))
        self._out.flush()
        with self._lock:
            self._finished = ask.number
            self._cancelled.discard(ask.number)

    def _do(self, job: Job) -> Result:
        if isinstance(job, Embed):
            return self._embed(job)
        if isinstance(job, Forget):
            if self._language is not None:
                return Forgotten(self._language.forget())
            return Forgotten(self._states().clear())
        return self._speak(job)

    def _embed(self, job: Embed) -> EmbedResult:
        embedder = self._embedder or self._load_embedder()
        began = time.perf_counter_ns()
        found = embedder.embed(job.texts, self._gone)
        if found is None:
            raise Cancelled
        spent = (time.perf_counter_ns() - began) // 1000
        return EmbedResult(found, self._settings.embedder, Timings(prompt_us=spent))

    def _speak(self, job: Completion | Choice) -> Result:
        language = self._language or self._load_language()
        if self._gone():
            raise Cancelled
        return language.complete(job) if isinstance(job, Completion) else language.choose(job)

    def _states(self) -> StateFolder:
        return StateFolder(self._store.states, self._settings.kept_states)

    def _load_language(self) -> Language:
        began = time.perf_counter_ns()
        path = self._ready(self._settings.language, "gguf")
        from edge_agent.models.language import Language

        settings = self._settings
        language = Language(path, settings.language, self._states(), context=settings.context, threads=settings.threads)
        with self._lock:
            self._language = language
            if self._gone():
                language.cancel()
        self._tell(Loaded("language", settings.language, (time.perf_counter_ns() - began) // 1000))
        return language

    def _load_embedder(self) -> Embedder | Table:
        began = time.perf_counter_ns()
        path = self._ready(self._settings.embedder, "onnx")
        self._embedder = open_embedder(path, threads=self._settings.threads)
        self._tell(Loaded("embedder", self._settings.embedder, (time.perf_counter_ns() - began) // 1000))
        return self._embedder

    def _ready(self, sha256: str, usual: Format) -> Path:
        missing = runtime_missing(self._store.format_of(sha256, usual))
        if missing is not None:
            raise missing
        path = self._store.path_for(sha256)
        if self._gone():
            raise Cancelled
        return path

    def _tell(self, news: Loaded) -> None:
        self._out.write(frame(news))
        self._out.flush()


def _read(source: BinaryIO, desk: Desk, asks: queue.Queue[Ask]) -> None:
    while (body := read_frame(source)) is not None:
        message = decode_down(body)
        if isinstance(message, Ask):
            asks.put(message)
        elif isinstance(message, Cancel):
            desk.cancel(message.number)
    # The parent is gone or wants no more. Native code may be computing; nothing here needs saving.
    os._exit(0)


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = sys.stdin.buffer
    first = read_frame(source)
    settings = decode_down(first) if first is not None else None
    if not isinstance(settings, Settings):
        sys.exit("edge_agent.models.worker is started by the agent, not by hand")
    desk, asks = Desk(settings, out), queue.Queue[Ask]()
    threading.Thread(target=_read, args=(source, desk, asks), name="read", daemon=True).start()
    while True:
        desk.run(asks.get())


if __name__ == "__main__":
    main()
