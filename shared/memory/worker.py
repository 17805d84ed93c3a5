"""The process in which changes from elsewhere meet the native library: ``python -m shared.memory.worker``.

It may use so much memory and no more, so much processor time for each item, and may write no file. Where it goes over
that, or the native library crashes, it dies, and ``bench`` starts another. It reads batches from standard input and
writes one verdict after the other to standard output; it ends when its input does. It opens nothing.

It says so when it is ready. A batch is read whole before the first verdict is written, so that neither side can wait
for the other.
"""

from __future__ import annotations

import os
import signal
import sys

from shared import limits
from shared.memory.scratch import judge
from shared.memory.verdict import TASKS, pack, unpack


def main() -> None:
    """Judge until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the parent, which ends this one's input
    os.environ["RUST_BACKTRACE"] = "0"  # the native library's panics are expected here, and a trace of each takes long
    _confine()
    taken, given = sys.stdin.buffer, sys.stdout.buffer
    given.write(pack(True))
    given.flush()
    while (data := unpack(taken)) is not None:
        for task in TASKS.decode(data):
            _allow(limits.MEMORY_SCRATCH_CPU_SECONDS)
            verdict = judge(task)
            _allow(0)
            given.write(pack(verdict))
            given.flush()


def _confine() -> None:
    """Windows has no such limits; there the parent's clock alone ends a worker. macOS keeps none on memory."""
    if sys.platform == "win32":
        return
    import resource  # not on every system

    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, wherever it is
    for limit, most in (
        (resource.RLIMIT_AS, limits.MEMORY_SCRATCH_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        within = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (within, within))


def _allow(seconds: float) -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
