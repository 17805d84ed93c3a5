"""Writing the log: what the rooms append, committed together, each commit under a signed checkpoint.

An ``append`` that returned is on the disk: SQLite in WAL mode with ``synchronous=FULL``. Calls that arrive together, or
while a commit is under way, share one commit, and the one signature and fsync it costs. A failed commit changes nothing
and fails only its own callers; the log goes on from where it was. (Where it was the disk's sync that failed, and the
power fails too before the next commit, the failed one may be found there after all: whole, under its checkpoint.)

Commits are made by a thread of their own, so that a slow disk holds up nobody else. Where the disk has shown that a
commit takes less than a millisecond, the event loop makes it itself: handing it over and back would take as long again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from edge_agent.database import unwritable
from edge_agent.journal.commits import Commits
from edge_agent.journal.files import Head, read_head
from edge_agent.journal.jobs import Append, Chore, Cosign, Job, Listener, settle
from edge_agent.journal.reader import LogReader
from edge_agent.journal.store import Store
from edge_agent.journal.turns import Turns
from shared import limits
from shared.entries import Draft, Entry, LogOpened, read
from shared.errors import BadInput, OutriderError, Tampered, Unavailable
from shared.keys import PublicKey, SigningKey
from shared.tlog import Checkpoint, Frontier, Signer, leaf_hash, open_checkpoint

_ADVICE = "do not delete it: copy the folder, run `outrider audit verify --device`, restore from a backup"


class Journal(LogReader):
    """The log, with its one writer. Hold the agent's lock before opening it."""

    def __init__(self, path: Path, origin: str, key: SigningKey, *, now: Callable[[], int], software: str) -> None:
        """``now`` returns microseconds since 1970 UTC. Opens or creates the log; verifies its newest checkpoint."""
        self.origin = origin
        self._key = key
        self._now = now
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        with contextlib.ExitStack() as opened:
            self._store = Store(path)
            opened.callback(self._store.close)
            super().__init__(path)
            opened.callback(super().close)
            self._head = Head(path)
            opened.callback(self._head.close)
            self._end = Commits(path, self._store, self._head, Signer(origin, key), self._resume(), now)
            opened.pop_all()
        self._turns = Turns(self._commit)
        self._turns.start()
        if self.committed == 0:
            self.append_blocking([Draft(LogOpened(origin=origin, key=key.public.text, software=software))])

    # --- opening --------------------------------------------------------------------------------------------------

    def _resume(self) -> tuple[Frontier, int]:
        """The tree's right edge and the newest entry's time; ``Tampered`` if the newest checkpoint misfits."""
        size, newest = self.size, self.newest()
        if newest is None:
            self._hold_to(0)
            return Frontier(), 0
        row = self._one("SELECT CAST(data AS BLOB) FROM entry WHERE seq = ?", size - 1)
        last = row[0] if row else b""
        try:
            frontier = Frontier.load(size, self.node)
            checkpoint = open_checkpoint(newest[1], self.origin, self._key.public)
            entry = read(last)
        except OutriderError as error:
            raise Tampered("log.corrupt", f"the log's end does not hold: {error.message}", advice=_ADVICE) from error
        if checkpoint.root != frontier.root() or self.node(0, size - 1) != leaf_hash(last):
            raise Tampered("log.corrupt", "the newest checkpoint does not fit the entries", advice=_ADVICE)
        self._hold_to(size)
        return frontier, entry.at

    def _hold_to(self, size: int) -> None:
        """The log must still have what it had: by the hub's newest countersignature, and by the copy of its head."""
        cosigned = self.cosigned()
        if cosigned is not None:
            try:
                self._reaches(open_checkpoint(cosigned[1], self.origin, self._key.public), size, "were countersigned")
            except BadInput as error:
                raise Tampered("log.corrupt", f"a countersigned checkpoint: {error.message}", advice=_ADVICE) from error
        try:
            head = open_checkpoint(read_head(self._path), self.origin, self._key.public)
        except (BadInput, Tampered):
            return  # none, torn by a power cut, or another log's: it tells nothing
        self._reaches(head, size, "were here before")

    def _reaches(self, earlier: Checkpoint, size: int, said: str) -> None:
        if earlier.size > size or self.root_at(earlier.size) != earlier.root:
            raise Tampered(
                "log.rolled-back",
                f"the log has {size} entries, and not the {earlier.size} that {said}",
                advice="it was restored from an older copy, or its -wal file was deleted: put back the newest copy of"
                " all its files; if there is none, keep this one as evidence and join the hub as a new device",
            )

    # --- writing --------------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` in the event loop with each commit's entries, in order, before their writers resume."""
        self._listeners.append(listener)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver commits in ``loop`` from now on."""
        self._loop = loop

    async def append(self, *drafts: Draft) -> list[Entry]:
        """Commit drafts together, in order; return once on the disk. Raises ``Unavailable('log.disk-full')``."""
        loop = self._running()
        done: asyncio.Future[list[Entry]] = loop.create_future()
        self._turns.put(Append(_few(list(drafts)), done), loop)
        return await done

    def append_blocking(self, drafts: list[Draft]) -> list[Entry]:
        """The same from a thread without an event loop."""
        done: Future[list[Entry]] = Future()
        self._turns.put(Append(_few(drafts), done))
        return done.result()

    async def cosign(self, size: int, note: bytes) -> None:
        """Keep the hub's cosignature beside a checkpoint that was sent to it."""
        loop = self._running()
        done: asyncio.Future[list[Entry]] = loop.create_future()
        self._turns.put(Cosign(size, note, done), loop)
        await done

    def keep_snapshot(self, size: int, fold: int, data: bytes) -> None:
        """Keep a state folded from the first ``size`` entries by version ``fold`` of the fold, for ``snapshot``.

        Returns at once. It is derived and may be lost: where it cannot be kept, nothing else fails.
        """
        self._chore(lambda: self._store.keep(size, fold, data))

    async def erase(self, run: str) -> int:
        """Erase the bodies of a run's entries for good; return how many had any. May be repeated. Raises
        ``Unavailable('log.busy')`` while another program reads the log: then do it again."""
        return await asyncio.wrap_future(self._erasing(run))

    def erase_blocking(self, run: str) -> int:
        """The same from a thread without an event loop."""
        return self._erasing(run).result()

    def _erasing(self, run: str) -> Future[int]:
        done: Future[int] = Future()

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(self._store.erase(run))
            except sqlite3.Error as error:
                done.set_exception(unwritable(self._path, error))
            except OutriderError as error:
                done.set_exception(error)

        self._turns.put(Chore(work))
        return done

    def close(self) -> None:
        """Write what was handed in, and end. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._turns.close()
        self._end.look_after()
        super().close()  # the writer last: it then folds the write-ahead log into the file
        self._store.close()
        self._head.close()

    @property
    def public(self) -> PublicKey:
        """The key that checkpoints of this log are signed with."""
        return self._key.public

    @property
    def root(self) -> bytes:
        return self._end.frontier.root()

    @property
    def committed(self) -> int:
        """Entries committed so far."""
        return self._end.frontier.size

    def now(self) -> int:
        """The time an entry written now would bear: the clock's, or the newest entry's where the clock is behind it."""
        return max(self._now(), self._end.last_at)

    @property
    def newest_at(self) -> int:
        """The newest entry's time, 0 for an empty log."""
        return self._end.last_at

    @property
    def behind_us(self) -> int:
        """How far the machine's clock stands before the newest entry; 0 when it does not."""
        return max(0, self._end.last_at - self._now())

    def _running(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        return loop

    def _chore(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(Unavailable):  # it is closed
            self._turns.put(Chore(lambda: self._try(work)))

    def _try(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(sqlite3.Error, OSError, OutriderError):
            work()

    # --- committing -----------------------------------------------------------------------------------------------

    def _commit(self, jobs: list[Job]) -> None:
        try:
            entries, took = self._end.make(jobs)
        except OutriderError as error:
            if len(jobs) > 1:  # one bad draft must not fail its neighbours
                for job in jobs:
                    self._commit([job])
            else:
                settle(self._loop, self._listeners, jobs, error)
            return
        except sqlite3.Error as error:
            settle(self._loop, self._listeners, jobs, unwritable(self._path, error))
            return
        except Exception as error:  # noqa: BLE001 - the root of the writer thread: were it to end, every caller would hang
            said = f"{type(error).__name__}: {error}"
            fault = Unavailable("log.fault", said, advice="report it; nothing was lost")
            settle(self._loop, self._listeners, jobs, fault)
            return
        self._turns.took(took)
        settle(self._loop, self._listeners, jobs, entries)
        if self._end.unattended:
            self._try(self._end.look_after)
        if self._store.due():
            self._chore(self._store.tidy)


def _few(drafts: list[Draft]) -> list[Draft]:
    if len(drafts) > limits.COMMIT_ENTRIES:
        raise BadInput("log.too-many", f"{len(drafts)} entries in one commit", advice="append fewer at once")
    return drafts
