"""One side of a comparison, as a process that is told when to work: ``run_engine.py`` starts one for each contestant.

Standard library only, for it also runs inside the peers' own environments. A process imports, opens its database and
then waits for lines on standard input: ``{"runs": 100, "at_once": 1}``. For each it does so many runs and answers with
one line, ``{"seconds": ..., "cpu_s": ..., "took_ms": [...]}``: the time of it all, the processor time of all threads of
this process, and the time of each run from its start until its end is on the disk. Whatever else it prints goes to
standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

One = Callable[[], object]
Many = Callable[[int, int], list[float]]


def timed(one: One) -> float:
    """Milliseconds of one run."""
    began = time.perf_counter()
    one()
    return (time.perf_counter() - began) * 1000


def serve(one: One | None, many: Many | None = None) -> None:
    """Answer until standard input ends. ``one`` does a run; ``many(runs, at_once)`` does runs side by side and returns
    the milliseconds of each, by default in so many threads, and where there is no ``one`` also one after another."""
    if many is None:
        assert one is not None
        many = _threads(one)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began, used = time.perf_counter(), time.process_time()
        if one is not None and asked["at_once"] == 1:
            took = [timed(one) for _ in range(asked["runs"])]
        else:
            took = many(asked["runs"], asked["at_once"])
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        print(json.dumps({"seconds": seconds, "cpu_s": cpu, "took_ms": took}), file=answers, flush=True)


def _threads(one: One) -> Many:
    def many(runs: int, at_once: int) -> list[float]:
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda _: timed(one), range(runs)))

    return many
