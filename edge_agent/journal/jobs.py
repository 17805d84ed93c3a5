"""What waits for a commit, and how those who wait are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from shared import limits
from shared.entries import Draft, Entry
from shared.errors import OutriderError, Unavailable

Waiter = asyncio.Future[list[Entry]] | Future[list[Entry]]
Outcome = list[Entry] | OutriderError
Listener = Callable[[list[Entry]], None]


@dataclass(slots=True)
class Append:
    """Drafts that must be committed together, and who waits for them: one that gives up does not undo the commit."""

    drafts: list[Draft]
    done: Waiter


@dataclass(slots=True)
class Cosign:
    """The hub's cosignature for the checkpoint of ``size`` entries."""

    size: int
    note: bytes
    done: Waiter
    drafts: list[Draft] = field(default_factory=list)


@dataclass(slots=True)
class Chore:
    """Something to do between commits, for which nobody waits."""

    work: Callable[[], None]


Job = Append | Cosign
Commit = list[Job]


def commits(waiting: Iterable[Job | Chore]) -> Iterator[Commit | Chore]:
    """Put what waits into as few commits as their limit allows, in order. A chore stands alone."""
    jobs: Commit = []
    count = 0
    for job in waiting:
        more = 0 if isinstance(job, Chore) else len(job.drafts)
        if jobs and (isinstance(job, Chore) or count + more > limits.COMMIT_ENTRIES):
            yield jobs
            jobs, count = [], 0
        if isinstance(job, Chore):
            yield job
        else:
            jobs.append(job)
            count += more
    if jobs:
        yield jobs


def settle(
    loop: asyncio.AbstractEventLoop | None, listeners: list[Listener], jobs: list[Job], outcome: Outcome
) -> None:
    """Tell listeners and waiters, in ``loop`` where there is one that still runs, else here and now."""
    if loop is not None and not _runs_here(loop):
        with contextlib.suppress(RuntimeError):  # that loop is closed
            loop.call_soon_threadsafe(_deliver, loop, listeners, jobs, outcome)
            return
        loop = None
    _deliver(loop, listeners, jobs, outcome)


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _deliver(
    here: asyncio.AbstractEventLoop | None, listeners: list[Listener], jobs: list[Job], outcome: Outcome
) -> None:
    entries = [] if isinstance(outcome, OutriderError) else outcome
    fault = outcome if isinstance(outcome, OutriderError) else None
    try:
        for listener in listeners if entries else ():
            listener(entries)
    except OutriderError as error:  # it is on the disk, but this process no longer understands its own log
        fault = error
    except Exception as error:  # noqa: BLE001 - a callback's root: were it to end here, every waiter would hang
        said = f"{type(error).__name__}: {error}"
        fault = Unavailable("log.fault", said, advice="report it; what was written is on the disk")
    end = len(entries) - sum(len(job.drafts) for job in jobs)  # before them, the journal's own
    for job in jobs:
        begin, end = end, end + len(job.drafts)
        _tell(here, job.done, entries[begin:end] if fault is None else fault)


def _tell(here: asyncio.AbstractEventLoop | None, done: Waiter, outcome: Outcome) -> None:
    if isinstance(done, asyncio.Future) and done.get_loop() is not here:  # another loop than the journal's
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there any more
            done.get_loop().call_soon_threadsafe(_set, done, outcome)
    else:
        _set(done, outcome)


def _set(done: Waiter, outcome: Outcome) -> None:
    if done.done():  # given up
        return
    if isinstance(outcome, OutriderError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
