"""Whose turn it is: commits are made one at a time, by a thread of their own or by the event loop itself.

The thread keeps a slow disk from holding up anybody else. But handing a commit over to a thread and back takes about as
long as a fast disk's sync, so where commits have lately taken less than a millisecond, the loop makes them itself, once
all who are ready have handed in what they have. Everything else (what comes from other threads, chores, and whatever is
handed in while the thread is at work) goes to the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable

from edge_agent.journal.jobs import Chore, Commit, Job, commits
from shared.errors import Unavailable

_QUICK_S = 0.001
_DECAY = 0.8  # after thirty quick commits a disk counts as quick; after one slow one, it does not for a while
_MANY = 128  # entries that are too many to write while the loop waits


class Turns:
    """``commit`` makes a commit and tells its waiters; it must not raise."""

    def __init__(self, commit: Callable[[Commit], None]) -> None:
        self._commit = commit
        self._took = 1.0  # seconds: what a commit takes at the most, as lately seen
        self._queue: queue.SimpleQueue[Job | Chore | None] = queue.SimpleQueue()
        self._fresh: list[Job] = []  # handed in during this turn of the loop
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will pass ``_fresh`` on
        self._gate = threading.Lock()  # for the two above: nothing is queued behind the end
        self._turn = threading.Lock()  # held while a commit is made
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def took(self, seconds: float) -> None:
        """How long the disk took for a commit."""
        self._took = max(seconds, self._took * _DECAY)

    def put(self, job: Job | Chore, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Hand in a job; with the running ``loop`` where that is to make the commit if it can."""
        with self._gate:
            if self._closed:
                raise Unavailable("log.closed", "the log is closed", advice="start the agent again")
            if loop is None or isinstance(job, Chore):
                self._queue.put(job)
                return
            if loop is not self._loop or not self._fresh:
                self._pass_on()
                self._loop = loop
                loop.call_soon(self._flush)
            self._fresh.append(job)

    def _pass_on(self) -> None:
        for job in self._fresh:
            self._queue.put(job)
        self._fresh = []

    def _flush(self) -> None:
        """In the loop: commit what was handed in, or leave it to the thread."""
        with self._gate:
            many = sum(len(job.drafts) for job in self._fresh) > _MANY
            if self._took > _QUICK_S or many or not self._queue.empty() or not self._turn.acquire(blocking=False):
                self._pass_on()
                return
            jobs, self._fresh = self._fresh, []
        try:
            self._make(jobs)
        finally:
            self._turn.release()

    def _work(self) -> None:
        while True:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            with self._turn:
                self._make([job for job in waiting if job is not None])
            if waiting[-1] is None:  # nothing is ever queued behind it
                return

    def _make(self, waiting: list[Job] | list[Job | Chore]) -> None:
        for commit in commits(waiting):
            if isinstance(commit, Chore):
                with contextlib.suppress(Unavailable):
                    commit.work()
            else:
                self._commit(commit)

    def close(self) -> None:
        """Make what was handed in, and no more. Returns when it is done."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._pass_on()
                self._queue.put(None)
        self._thread.join()
        with self._turn:  # the loop may be in the middle of one
            return
