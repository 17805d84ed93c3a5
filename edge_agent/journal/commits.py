"""Making a commit: drafts get their places and bytes, the tree grows, its root is signed, and all of it is stored."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.journal.files import Head, Watched
from edge_agent.journal.jobs import Append, Cosign, Job
from edge_agent.journal.schema import Row
from edge_agent.journal.store import Store
from shared import limits
from shared.entries import Body, ClockStepped, Draft, Entry, Written, write
from shared.errors import BadInput, Unavailable
from shared.tlog import Frontier, Signer, leaf_hash

_LOOK_S = 0.25


class Commits:
    """The log's end, and the one who moves it. Used by one thread at a time."""

    def __init__(
        self,
        path: Path,
        store: Store,
        head: Head,
        signer: Signer,
        end: tuple[Frontier, int],
        now: Callable[[], int],
    ) -> None:
        """``end`` is the tree's right edge and the newest entry's time; ``now`` gives microseconds since 1970 UTC."""
        self.frontier, self.last_at = end
        self._path = path
        self._store = store
        self._head = head
        self._signer = signer
        self._now = now
        self._stepped = False
        self._note = b""
        self._watched = Watched(path)
        self._looked = 0.0
        self._gone: list[str] = []  # files that were removed; nothing is written after that

    def make(self, jobs: list[Job]) -> tuple[list[Entry], float]:
        """One commit of all the jobs, or an exception and nothing. Returns its entries, before those of the jobs the
        journal's own, and the seconds that the disk took."""
        if self._gone:
            raise _removed(self._gone)
        now, last = self._now(), self.last_at
        drafts = [draft for job in jobs if isinstance(job, Append) for draft in job.drafts]
        stepped = last - now > limits.CLOCK_SKEW_SECONDS * 1_000_000
        if stepped and not self._stepped and drafts:
            drafts.insert(0, Draft(ClockStepped(behind_us=last - now)))
        at = max(now, last) if drafts else last
        frontier, opened, note = self.frontier.copy(), dict[str, int](), self._note
        rows: list[Row] = []
        entries: list[Entry] = []
        most = 0
        for draft in drafts:
            written = write(draft, frontier.size, at, secrets.token_bytes)
            most += len(written.data) + sum(4 * len(body.data) for body in written.bodies.values())
            rows.append(self._row(written, frontier, opened))
            entries.append(written.entry)
        if most > limits.BATCH_BYTES:  # perhaps, if its letters have four bytes each
            _weigh(rows)
        if rows:
            note = self._signer.sign(frontier.size, frontier.root())
            rows[-1] = (*rows[-1][:6], note, *rows[-1][7:])
        began = time.perf_counter()
        self._store.insert(rows, opened, [(job.size, job.note) for job in jobs if isinstance(job, Cosign)])
        took = time.perf_counter() - began
        self.frontier, self.last_at, self._stepped, self._note = frontier, at, stepped, note
        return entries, took

    def _row(self, written: Written, frontier: Frontier, opened: dict[str, int]) -> Row:
        entry, data, bodies = written.entry, written.data, written.bodies
        nodes = frontier.grow(leaf_hash(data))
        tree = nodes[0] if len(nodes) == 1 else b"".join(nodes)
        first = self._first(entry, opened) if entry.run else None
        if not bodies:
            return (entry.seq, entry.run, first, entry.type, data, tree, None, None, None, None, None)
        shared, private = _beside(bodies.get("shared")), _beside(bodies.get("private"))
        return (entry.seq, entry.run, first, entry.type, data, tree, None, *shared, *private)

    def _first(self, entry: Entry, opened: dict[str, int]) -> int:
        """Where the entry's run began; here, if it did not."""
        first = opened.get(entry.run)
        if first is None:
            first = self._store.opened(entry.run)
        if first is None:
            first = opened[entry.run] = entry.seq
        return first

    @property
    def unattended(self) -> bool:
        """Whether it is time for ``look_after``."""
        return time.monotonic() - self._looked >= _LOOK_S

    def look_after(self) -> None:
        """From time to time, after commits: keep a copy of the newest checkpoint, and see whether the log's files are
        still where the next start will look for them."""
        self._looked = time.monotonic()
        self._gone = self._gone or self._watched.gone()
        if self._gone and str(self._path) not in self._gone:
            self._store.fold()  # the file takes what the removed write-ahead log holds
        if self._note and not self._gone:
            self._head.write(self._note)


def _beside(body: Body | None) -> tuple[str | None, str | None]:
    return (body.salt, body.data) if body else (None, None)


def _weigh(rows: list[Row]) -> None:
    """A commit travels whole. Where it is too large for that, several jobs are tried again one by one."""
    weight = sum(len(row[4]) + len((row[8] or "").encode()) + len((row[10] or "").encode()) for row in rows)
    if weight > limits.BATCH_BYTES:
        raise BadInput("log.too-large", f"{weight} bytes in one commit", advice="append fewer at once")


def _removed(names: list[str]) -> Unavailable:
    return Unavailable(
        "log.removed",
        f"{' and '.join(names)} was removed or replaced while the agent works",
        advice="stop the agent; keep programs that clean up or synchronise out of its folder; then start it again",
    )
