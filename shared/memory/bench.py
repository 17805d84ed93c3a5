"""Where changes from elsewhere are judged before a database takes them: a worker process that may die of them.

Both the agent and the hub need it and neither may import the other, so it lives here. What is I/O in it is a pair of
pipes to a child, and the child is started by a callable that is handed in: ``launch`` starts this interpreter again, a
frozen build hands in its own. Nothing is started before it is needed, and an idle worker ends.

The worker judges one item after the other. Where it dies, hangs, or takes more memory or time than it may, the verdicts
that came stand. The item at fault is tried again by itself in a new worker, then change by change, and what kills that
too is refused with ``memory.hostile.limits``. The other items of the batch are judged as if it had not been there.

For threads: a call blocks until the verdicts are there, and calls wait for each other. Under asyncio use
``asyncio.to_thread``. Memory and processor time are limited on Linux. macOS keeps no limit on memory and Windows none
at all; there the clock of this side still ends what hangs.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from shared import limits
from shared.errors import Unavailable
from shared.memory.verdict import VERDICT, Refusal, Task, Verdict, pack, unpack

COMMAND = (sys.executable, "-P", "-m", "shared.memory.worker")  # -P: not from whatever folder this is
_DEATHS = 3  # of one item, before the rest of its changes are refused with it

Start = Callable[[], "subprocess.Popen[bytes]"]


def launch(command: Sequence[str] = COMMAND) -> subprocess.Popen[bytes]:
    """Start the worker: its standard input and output are pipes, and what it says of its end is nobody's business."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)  # noqa: S603 -- our own module


class Bench:
    """Judges changes in a worker process. ``idle_s`` ends it when it is not used; ``item_s`` is how long one item may
    take by the clock. Call ``close`` at the end."""

    def __init__(
        self, start: Start = launch, *, idle_s: float = 30.0, item_s: float = limits.MEMORY_SCRATCH_SECONDS
    ) -> None:
        self._start, self._idle_s, self._item_s = start, idle_s, item_s
        self._alone = threading.Lock()
        self._worker: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None

    def screened(self, item_id: str, base: bytes, chunks: Sequence[bytes]) -> Verdict:
        """Judge the changes of one item, in any order, upon its document (``Task`` says what ``base`` may be).

        Raises ``Unavailable('memory.scratch')`` where no worker starts.
        """
        return self.batch([Task(item_id, base, list(chunks))])[0]

    def batch(self, tasks: Sequence[Task]) -> list[Verdict]:
        """Judge many items in few round trips: one verdict for each, in their order. Raises as ``screened``."""
        verdicts: list[Verdict] = []
        with self._alone, self._busy():
            for part in _parts(tasks):
                done = 0
                while done < len(part):
                    came = self._round(part[done:])
                    verdicts += came
                    done += len(came)
                    if done < len(part):
                        verdicts.append(self._again(part[done]))
                        done += 1
        return verdicts

    def close(self) -> None:
        """End the worker. A later call starts another."""
        with self._alone:
            self._rest()
            self._end()

    def _again(self, task: Task) -> Verdict:
        """Judge one item by itself, and where that kills the worker too, each of its changes."""
        came = self._round([task])
        if came:
            return came[0]
        deaths = 0
        base, probe = task.base, None
        taken: tuple[str, ...] = ()
        refused: tuple[Refusal, ...] = ()
        for place, chunk in enumerate(task.chunks):
            one = self._round([Task(task.item, base, [chunk])]) if deaths < _DEATHS and len(task.chunks) > 1 else []
            if not one:
                deaths += 1
                refused += (_fatal(place),)
                continue
            taken += one[0].taken
            refused += tuple(Refusal(place, why.hash, why.code, why.message) for why in one[0].refused)
            probe = one[0].probe or probe
            base = probe.saved if probe else base
        return Verdict(task.item, probe, taken, refused)

    def _round(self, tasks: Sequence[Task]) -> list[Verdict]:
        """One batch, to a worker that may die over it: the verdicts that came."""
        worker = self._ready()
        assert worker.stdin is not None and worker.stdout is not None
        came: list[Verdict] = []
        with _Watch(worker, self._item_s) as watch, contextlib.suppress(OSError):
            worker.stdin.write(pack(tasks))
            worker.stdin.flush()
            while len(came) < len(tasks) and (data := unpack(worker.stdout)) is not None:
                came.append(VERDICT.decode(data))
                watch.wind()
        if len(came) < len(tasks):
            self._end()
        return came

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._worker is not None and self._worker.poll() is None:
            return self._worker
        self._end()
        try:
            self._worker = worker = self._start()
        except OSError as error:
            raise _missing(str(error)) from error
        assert worker.stdout is not None
        with _Watch(worker, self._item_s):
            if unpack(worker.stdout) is None:
                self._end()
                raise _missing("it ended at once")
        return worker

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        with contextlib.suppress(OSError):  # what was being written to it has no reader
            worker.communicate()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._rest()
        try:
            yield
        finally:
            if self._worker is not None:
                self._idle = threading.Timer(self._idle_s, self.close)
                self._idle.daemon = True
                self._idle.start()

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class _Watch:
    """Kills a worker that gives no verdict for some seconds. ``wind`` begins them anew."""

    def __init__(self, worker: subprocess.Popen[bytes], seconds: float) -> None:
        self._worker, self._seconds = worker, seconds
        self._over = threading.Event()
        self._until = 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self.wind()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wind(self) -> None:
        self._until = time.monotonic() + self._seconds

    def _look(self) -> None:
        while not self._over.wait(max(0.0, self._until - time.monotonic())):
            if time.monotonic() >= self._until:
                self._worker.kill()
                return


def _parts(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Batches within their bounds; an item larger than one is one by itself."""
    part: list[Task] = []
    size = 0
    for task in tasks:
        more = len(task.base) + sum(map(len, task.chunks))
        if part and (len(part) == limits.MEMORY_SCRATCH_BATCH or size + more > limits.MEMORY_SCRATCH_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(task)
        size += more
    if part:
        yield part


def _fatal(place: int) -> Refusal:
    said = "a change took more memory or time than it may, or crashed what read it"
    return Refusal(place, hash="", code="memory.hostile.limits", message=said)


def _missing(said: str) -> Unavailable:
    return Unavailable(
        "memory.scratch", f"the process that judges changes does not start: {said}", advice="reinstall Outrider"
    )
