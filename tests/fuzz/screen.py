"""Looks for a change that breaks what screening promises.

    python -m tests.fuzz.screen --seconds 60
    python -m tests.fuzz.screen --inputs 1000000 --seed 7

For every input: the screen gives an error of ours or lets it pass, within a second; the worker judges what passed
without dying; and a document that took it loads, merges with what honest devices wrote meanwhile, can be edited again,
and loads after that. An input that breaks this is printed as hex, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from shared.errors import OutriderError
from shared.memory.bench import Bench
from shared.memory.document import Document, Edit
from shared.memory.item import Item
from shared.memory.screen import screen
from shared.memory.verdict import Task, Verdict
from tests.fuzz.changes import Mutator
from tests.shared.memory.hostile import ACTOR, OTHER

AT = 1_700_000_000_000_000
THIRD = b"\x77" * 16
_BATCH = 128
_SLOW_SECONDS = 1.0  # of the processor: the machine may be busy
_MEMORY = 1024**3

Judge = Callable[[list[Task]], list[Verdict]]


class Seeds:
    """An item's history: each change with the document that it was made upon, and what was written beside it."""

    def __init__(self) -> None:
        item = Item(kind="note", text="Grüße, the desk opens at 9", source="s", fields={"lane": "x"}, tags=["a", "b"])
        first = Document.create(item, ACTOR, at=AT, by="user:ada")
        base = first.save()
        other, third = Document.load([base], OTHER), Document.load([base], THIRD)
        edits = [
            _made(other.edit(Edit(text="the desk opens at ten 😀", kind="fact"), at=AT + 1, by="run 1")),
            _made(other.edit(Edit(fields={"lane": "y", "new": "z"}, add_tags=["c"], remove_tags=["a"]), at=AT, by="")),
            _made(other.edit(Edit(text="t", pinned=True, confidence=5), at=AT + 3, by="run 1")),
        ]
        self.beside = [_made(third.edit(Edit(kind="decision", text="the desk", subject="q"), at=AT + 2, by="user:eve"))]
        merged = Document.load([base, *edits, *self.beside], ACTOR)
        settled = _made(merged.edit(Edit(kind="summary", text="all of it"), at=AT + 5, by="user:ada"))
        self.chunks = [first.changes()[0], *edits, settled]
        self.bases = [b"", *(base + b"".join(edits[:n]) for n in range(3)), base + b"".join([*edits, *self.beside])]


class Found(Exception):
    """An input that breaks the promise."""

    def __init__(self, what: str, chunk: bytes) -> None:
        super().__init__(f"{what}: {chunk.hex() if len(chunk) < 4_000 else f'{len(chunk)} bytes'}")


class Tally(msgspec.Struct):
    """What a run did: inputs, those the screen let pass, those a document took, seconds, and refusals by code."""

    inputs: int
    passed: int
    taken: int
    seconds: float
    codes: Counter[str]


def fuzz(judge: Judge, *, seed: int, seconds: float = 1e9, inputs: int = 10**12) -> Tally:
    """Look until the time is over or so many inputs were tried. Raises ``Found``."""
    seeds = Seeds()
    mutator = Mutator(seeds.chunks, seed)
    tally = Tally(0, 0, 0, 0.0, Counter())
    began = time.monotonic()
    waiting: list[Task] = []
    while tally.inputs < inputs and time.monotonic() - began < seconds:
        which, chunk = mutator.next()
        tally.inputs += 1
        if _screened(chunk, tally):
            waiting.append(Task(str(which), seeds.bases[which], [chunk]))
        if len(waiting) == _BATCH:
            _judged(judge, waiting, seeds, tally)
            waiting = []
    _judged(judge, waiting, seeds, tally)
    tally.seconds = time.monotonic() - began
    return tally


def _screened(chunk: bytes, tally: Tally) -> bool:
    began = time.process_time()
    try:
        screen(chunk)
        passed = True
    except OutriderError as error:
        passed = False
        tally.codes[error.code] += 1
        if not error.code.startswith("memory.hostile."):
            raise Found(f"an odd code {error.code}", chunk) from error
    # Whatever is not an error of ours is what is looked for.
    except (Exception, MemoryError) as error:
        raise Found(f"the screen fails with {error!r}", chunk) from error
    if time.process_time() - began > _SLOW_SECONDS:
        raise Found("the screen is slow", chunk)
    tally.passed += passed
    return passed


def _judged(judge: Judge, tasks: list[Task], seeds: Seeds, tally: Tally) -> None:
    for task, verdict in zip(tasks, judge(tasks), strict=True):
        for why in verdict.refused:
            tally.codes[why.code] += 1
            if why.code == "memory.hostile.limits":
                raise Found("the worker died", task.chunks[0])
        if verdict.probe is not None:
            tally.taken += 1
            _usable(verdict.probe.saved, seeds.beside if task.base else [], task.chunks[0])


def _usable(saved: bytes, beside: list[bytes], chunk: bytes) -> None:
    """What an honest device does with it next."""
    began = time.process_time()
    try:
        document = Document.load([saved, *beside], b"\x55" * 16)
        document.edit(Edit(kind="contact", text="edited again", add_tags=["again"]), at=AT + 9, by="user:ada")
        again = Document.load([document.save()])
        if (again.item().kind, again.item().text, again.heads()) != ("contact", "edited again", document.heads()):
            raise Found("a document does not keep an edit", chunk)
    except OutriderError as error:
        raise Found(f"a document cannot be used: {error}", chunk) from error
    if time.process_time() - began > _SLOW_SECONDS:
        raise Found("a document is slow", chunk)


def _made(chunk: bytes | None) -> bytes:
    assert chunk is not None
    return chunk


def main() -> int:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=1e9)
    options.add_argument("--inputs", type=int, default=10**12)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    confine()
    bench = Bench()
    try:
        tally = fuzz(bench.batch, seed=given.seed, seconds=given.seconds, inputs=given.inputs)
    except Found as found:
        print(f"FOUND {found}")
        return 1
    finally:
        bench.close()
    print(f"{tally.inputs} inputs in {tally.seconds:.0f} s: {tally.passed} passed the screen, {tally.taken} were taken")
    for code, times in tally.codes.most_common():
        print(f"  {times:9} {code}")
    return 0


def confine() -> None:
    """So much memory and no more: what takes more has been found."""
    if sys.platform == "linux":
        import resource  # not on every system

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    sys.exit(main())
