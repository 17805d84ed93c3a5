"""The device's log on disk: one writer, group commit, a signed checkpoint with every commit.

Format: ``shared/spec/log.md``.

An ``append`` that returned is on the disk: SQLite in WAL mode with ``synchronous=FULL``. Calls that arrive while a
commit is under way share the next one, and the one signature and fsync it costs. A failed commit changes nothing and
fails only its own callers; the log goes on from where it was.

Only the writer thread writes. Readers use a connection of their own and may be in any process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from edge_agent.database import connect, unreadable, unwritable
from shared import limits
from shared.entries import Body, ClockStepped, Draft, Entry, LogOpened, Written, read, write
from shared.errors import BadInput, Conflict, OutriderError, Tampered, Unavailable
from shared.keys import PublicKey, SigningKey
from shared.protocol import Sent
from shared.tlog import Checkpoint, Frontier, leaf_hash, open_checkpoint

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, type TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS entry_run ON entry (run, seq) WHERE run <> '';
CREATE INDEX IF NOT EXISTS entry_type ON entry (type, seq) WHERE run = '';
CREATE TABLE IF NOT EXISTS body (
    seq INTEGER NOT NULL, name TEXT NOT NULL, salt TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (seq, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node (
    level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, idx)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint (size INTEGER PRIMARY KEY, note BLOB NOT NULL, cosigned BLOB);
"""

Listener = Callable[[list[Entry]], None]


class LogReader:
    """Read a log, from any process. Rows are judged as they are read: unknown or malformed entries raise."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise Unavailable(
                "log.missing", f"there is no log at {path}", advice="join a hub first: outrider agent join"
            )
        try:
            self._db = connect(path, writable=False)
            self._db.execute("SELECT 1 FROM entry LIMIT 1")
        except sqlite3.Error as error:
            raise unreadable(path, error) from error
        self._path = path

    def close(self) -> None:
        self._db.close()

    def _rows(self, sql: str, *values: Any) -> Iterator[Any]:
        try:
            yield from self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error

    def _one(self, sql: str, *values: Any) -> Any:
        return next(self._rows(sql, *values), None)

    @property
    def size(self) -> int:
        return int(self._one("SELECT COALESCE(MAX(seq) + 1, 0) FROM entry")[0])

    def entries(self, start: int = 0) -> Iterator[Entry]:
        for (data,) in self._rows("SELECT data FROM entry WHERE seq >= ? ORDER BY seq", start):
            yield read(data)

    def of_types(self, *types: str) -> Iterator[Entry]:
        """Entries about the device itself (of no run) of some types, oldest first."""
        marks = ",".join("?" * len(types))
        # Only question marks are put in.
        sql = f"SELECT data FROM entry WHERE type IN ({marks}) AND run = '' ORDER BY seq"  # noqa: S608
        for (data,) in self._rows(sql, *types):
            yield read(data)

    def raw(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Positions and exact bytes, unjudged."""
        yield from self._rows("SELECT seq, data FROM entry WHERE seq >= ? ORDER BY seq", start)

    def run_entries(self, run: str) -> list[Entry]:
        return [read(data) for (data,) in self._rows("SELECT data FROM entry WHERE run = ? ORDER BY seq", run)]

    def has_run(self, run: str) -> Entry | None:
        """The entry that opened a run, if it was ever opened here."""
        row = self._one("SELECT data FROM entry WHERE run = ? ORDER BY seq LIMIT 1", run)
        return read(row[0]) if row else None

    def body(self, seq: int, name: str = "shared") -> dict[str, Any] | None:
        """A body's JSON, or ``None`` when it was erased or never written."""
        found = self.raw_body(seq, name)
        if found is None:
            return None
        value = json.loads(found.data)
        return value if isinstance(value, dict) else None

    def raw_body(self, seq: int, name: str) -> Body | None:
        row = self._one("SELECT salt, data FROM body WHERE seq = ? AND name = ?", seq, name)
        return Body(*row) if row else None

    def checkpoints(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """(size, signed note, the same with the hub's cosignature or ``None``), oldest first."""
        yield from self._rows("SELECT size, note, cosigned FROM checkpoint ORDER BY size")

    def cosigned_size(self) -> int:
        """How many entries the hub has countersigned."""
        row = self._one("SELECT COALESCE(MAX(size), 0) FROM checkpoint WHERE cosigned IS NOT NULL")
        return int(row[0])

    def node(self, level: int, index: int) -> bytes:
        row = self._one("SELECT hash FROM node WHERE level = ? AND idx = ?", level, index)
        if row is None:
            raise Tampered("log.corrupt", f"tree node {level}/{index} is missing", advice="restore the log from a copy")
        return bytes(row[0])

    def batch(self, start: int) -> tuple[list[Sent], bytes] | None:
        """Entries from ``start`` to a later checkpoint, and that checkpoint; ``None`` when there is nothing newer.

        A batch ends where a commit ended, because only there is a signature. It holds at most ``BATCH_ENTRIES`` entries
        and about ``BATCH_BYTES`` bytes, and at least one whole commit.
        """
        best: tuple[int, bytes] | None = None
        weight = 0
        for size, note in self._rows("SELECT size, note FROM checkpoint WHERE size > ? ORDER BY size LIMIT 512", start):
            weight += self._bytes(best[0] if best else start, size)
            if best is not None and (size - start > limits.BATCH_ENTRIES or weight > limits.BATCH_BYTES):
                break
            best = (size, note)
        if best is None:
            return None
        rows = self._rows(
            "SELECT e.data, b.salt, b.data FROM entry e LEFT JOIN body b ON b.seq = e.seq AND b.name = 'shared'"
            " WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq",
            start,
            best[0],
        )
        return [Sent(data.decode(), Body(salt, body) if salt else None) for data, salt, body in rows], best[1]

    def _bytes(self, start: int, end: int) -> int:
        row = self._one(
            "SELECT COALESCE(SUM(LENGTH(e.data) + COALESCE(LENGTH(CAST(b.data AS BLOB)), 0)), 0) FROM entry e"
            " LEFT JOIN body b ON b.seq = e.seq AND b.name = 'shared' WHERE e.seq >= ? AND e.seq < ?",
            start,
            end,
        )
        return int(row[0])


class Journal(LogReader):
    """The log, with its one writer. Hold the agent's lock before opening it."""

    def __init__(self, path: Path, origin: str, key: SigningKey, *, now: Callable[[], int], software: str) -> None:
        """``now`` returns microseconds since 1970 UTC. Opens or creates the log; verifies its newest checkpoint."""
        self.origin = origin
        self._key = key
        self._now = now
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._gate = threading.Lock()  # nothing is queued behind the end
        self._closed = False
        try:
            self._writer = connect(path, writable=True)
            self._writer.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise unwritable(path, error) from error
        super().__init__(path)
        self._frontier, self._last_at = self._resume()
        self._stepped = False
        self._thread = threading.Thread(target=self._write_forever, name="journal", daemon=True)
        self._thread.start()
        if self._frontier.size == 0:
            self.append_blocking([Draft(LogOpened(origin=origin, key=key.public.text, software=software))])

    def _resume(self) -> tuple[Frontier, int]:
        """The tree's right edge and the newest entry's time; ``Tampered`` if the newest checkpoint misfits."""
        size = self.size
        row = self._one("SELECT size, CAST(note AS BLOB) FROM checkpoint ORDER BY size DESC LIMIT 1")
        if size == 0 and row is None:
            return Frontier(), 0
        advice = "do not delete it: copy the folder, run `outrider audit verify --device`, restore from a backup"
        if row is None or row[0] != size:
            raise Tampered("log.corrupt", "the newest entries have no checkpoint", advice=advice)
        last = self._one("SELECT CAST(data AS BLOB) FROM entry WHERE seq = ?", size - 1)[0]
        try:
            frontier = Frontier.load(size, self.node)
            checkpoint = open_checkpoint(row[1], self.origin, self._key.public)
            newest = read(last)
        except OutriderError as error:
            raise Tampered("log.corrupt", f"the log's end does not hold: {error.message}", advice=advice) from error
        if checkpoint.root != frontier.root() or self.node(0, size - 1) != leaf_hash(last):
            raise Tampered("log.corrupt", "the newest checkpoint does not fit the entries", advice=advice)
        return frontier, newest.at

    # --- writing --------------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` in the event loop with each commit's entries, in order, before their writers resume."""
        self._listeners.append(listener)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver commits in ``loop`` from now on."""
        self._loop = loop

    async def append(self, *drafts: Draft) -> list[Entry]:
        """Commit drafts together, in order; return once on the disk. Raises ``Unavailable('log.disk-full')``."""
        self._loop = self._loop or asyncio.get_running_loop()
        return await asyncio.wrap_future(self._submit(list(drafts)))

    def append_blocking(self, drafts: list[Draft]) -> list[Entry]:
        """The same from a thread without an event loop."""
        return self._submit(drafts).result()

    def _submit(self, drafts: list[Draft]) -> Future[list[Entry]]:
        if len(drafts) > limits.COMMIT_ENTRIES:
            raise BadInput("log.too-many", f"{len(drafts)} entries in one commit", advice="append fewer at once")
        return self._put(_Job(drafts))

    def _put(self, job: _Job) -> Future[list[Entry]]:
        with self._gate:
            if self._closed:
                raise Unavailable("log.closed", "the log is closed", advice="start the agent again")
            self._queue.put(job)
        return job.done

    async def cosign(self, size: int, note: bytes) -> None:
        """Keep the hub's cosignature beside a checkpoint that was sent to it."""
        await asyncio.wrap_future(self._put(_Job([], cosigned=(size, note))))

    def close(self) -> None:
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()
        super().close()  # the writer last: it then folds the write-ahead log into the file
        self._writer.close()

    @property
    def public(self) -> PublicKey:
        """The key that checkpoints of this log are signed with."""
        return self._key.public

    @property
    def root(self) -> bytes:
        return self._frontier.root()

    @property
    def committed(self) -> int:
        """Entries committed so far."""
        return self._frontier.size

    def now(self) -> int:
        """The time an entry written now would bear: the clock's, or the newest entry's where the clock is behind it."""
        return max(self._now(), self._last_at)

    @property
    def behind_us(self) -> int:
        """How far the machine's clock stands before the newest entry; 0 when it does not."""
        return max(0, self._last_at - self._now())

    def _write_forever(self) -> None:
        held: _Job | None = None
        while True:
            job = held or self._queue.get()
            held = None
            if job is None:
                return
            jobs, count = [job], len(job.drafts)
            while True:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None or count + len(following.drafts) > limits.COMMIT_ENTRIES:
                    held = following
                    if following is None:
                        self._queue.put(None)
                    break
                jobs.append(following)
                count += len(following.drafts)
            self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            written = self._store(jobs)
        except OutriderError as error:
            self._roll_back()
            if len(jobs) > 1:  # one bad draft must not fail its neighbours
                for job in jobs:
                    self._commit([job])
            else:
                jobs[0].done.set_exception(error)
            return
        except sqlite3.Error as error:
            self._roll_back()
            for job in jobs:
                job.done.set_exception(unwritable(self._path, error))
            return
        except Exception as error:  # noqa: BLE001 - the root of the writer thread: were it to end, every caller would hang
            self._roll_back()
            said = f"{type(error).__name__}: {error}"
            for job in jobs:
                job.done.set_exception(Unavailable("log.fault", said, advice="report it; nothing was lost"))
            return
        self._deliver(jobs, written)

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _store(self, jobs: list[_Job]) -> list[Entry]:
        frontier, now, last = self._frontier.copy(), self._now(), self._last_at
        drafts = [draft for job in jobs for draft in job.drafts]
        stepped = last - now > limits.CLOCK_SKEW_SECONDS * 1_000_000
        if stepped and not self._stepped and drafts:
            drafts.insert(0, Draft(ClockStepped(behind_us=last - now)))
        at = max(now, last) if drafts else last
        rows: list[Written] = []
        nodes: list[tuple[int, int, bytes]] = []
        for draft in drafts:
            row = write(draft, frontier.size, at, secrets.token_bytes)
            nodes += frontier.append(leaf_hash(row.data))
            rows.append(row)
        weight = sum(len(row.data) + sum(len(body.data.encode()) for body in row.bodies.values()) for row in rows)
        if weight > limits.BATCH_BYTES:  # a commit travels whole; several jobs are tried again one by one
            raise BadInput("log.too-large", f"{weight} bytes in one commit", advice="append fewer at once")
        self._insert(rows, nodes, frontier, [job.cosigned for job in jobs if job.cosigned])
        self._frontier, self._last_at, self._stepped = frontier, at, stepped
        return [row.entry for row in rows]

    def _insert(
        self,
        rows: list[Written],
        nodes: list[tuple[int, int, bytes]],
        frontier: Frontier,
        cosigned: Iterable[tuple[int, bytes]],
    ) -> None:
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        if rows:
            db.executemany(
                "INSERT INTO entry VALUES (?, ?, ?, ?)",
                [(w.entry.seq, w.entry.run, w.entry.type, w.data) for w in rows],
            )
            db.executemany(
                "INSERT INTO body VALUES (?, ?, ?, ?)",
                [(w.entry.seq, name, body.salt, body.data) for w in rows for name, body in w.bodies.items()],
            )
            db.executemany("INSERT INTO node VALUES (?, ?, ?)", nodes)
            note = Checkpoint(self.origin, frontier.size, frontier.root()).sign(self._key)
            db.execute("INSERT INTO checkpoint VALUES (?, ?, NULL)", (frontier.size, note))
        for size, note in cosigned:
            if db.execute("UPDATE checkpoint SET cosigned = ? WHERE size = ?", (note, size)).rowcount != 1:
                raise Conflict("log.no-checkpoint", f"there is no checkpoint of {size} entries", advice="sync again")
        db.execute("COMMIT")

    def _deliver(self, jobs: list[_Job], entries: list[Entry]) -> None:
        def deliver() -> None:
            fault: OutriderError | None = None
            try:
                for listener in self._listeners if entries else ():
                    listener(entries)
            except OutriderError as error:  # it is on the disk, but this process no longer understands its own log
                fault = error
            end = len(entries) - sum(len(job.drafts) for job in jobs)  # before them, the journal's own
            for job in jobs:
                begin, end = end, end + len(job.drafts)
                if fault is None:
                    job.done.set_result(entries[begin:end])
                else:
                    job.done.set_exception(fault)

        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(deliver)
                return
        except RuntimeError:  # that loop is closed
            pass
        deliver()


class _Job:
    """Drafts that must be committed together, and who waits for them."""

    def __init__(self, drafts: list[Draft], cosigned: tuple[int, bytes] | None = None) -> None:
        self.drafts = drafts
        self.cosigned = cosigned
        self.done: Future[list[Entry]] = Future()
        self.done.set_running_or_notify_cancel()  # a waiter that gives up does not undo the commit
