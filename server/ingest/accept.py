"""Batches of entries: judged, kept, countersigned. All of it or nothing.

A batch is (1) read and checked in itself, (2) compared with what is held already, (3) hung onto the held tree, whose
new root must be the one its device signed, (4) folded, so that its runs obey the order of the engine, and (5) written
in one transaction with the rows that follow and the hub's cosignature. Sending a batch again is harmless. What is
refused is recorded in the hub's log and shown on the device; a fork or a rollback stands until a person acts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, insert, select, update

from server.bus import Bus
from server.ingest.folding import Change, Folds, write_runs
from server.ingest.judge import Held, Kept, check_times, read_batch
from server.ingest.models import write_models
from server.ingest.people import write_people
from server.ingest.receipts import not_erased, write_receipts
from server.ingest.scores import write_scores
from server.store import HubLog
from server.store.tables import BODIES, CHECKPOINTS, DEVICES, ENTRIES
from shared.entries import BatchRefused, Draft, Entry, Written
from shared.errors import OutriderError, Refused, Tampered, Unavailable
from shared.keys import PublicKey, cosign_note, split_note
from shared.protocol import Accepted, Batch
from shared.runs import Run
from shared.tlog import Checkpoint, Frontier, leaf_hash, parse_checkpoint, verify_batch

# Evidence of a rewritten log. Nothing more is taken from such a device: it is revoked, and joins again with a new log.
STANDING = frozenset({"log.fork", "log.rollback"})
_ADVICE = "keep both copies of the log as evidence; revoke the device and join it again"
_RUNS_TOLD = 32

Taken = Callable[[str, list[tuple[Entry, Run]]], None]


class Ingest:
    """The way of the devices' entries into the store."""

    def __init__(self, hublog: HubLog, bus: Bus, taken: Taken | None = None) -> None:
        """``taken`` is told of the entries of runs that were kept, each with the run after it."""
        self._log = hublog
        self._taken = taken
        self._store = hublog.store
        self._bus = bus
        self._folds = Folds(hublog.store)
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}

    def frontier(self, device: str) -> Frontier:
        """The edge of the tree that the hub holds and has countersigned."""
        return self._held(device).frontier

    def greet(self, device: str, size: int, root: str) -> int:
        """A device says at the handshake that its log has ``size`` entries and ``root`` (hex). How many are held.

        Raises ``Tampered('log.rollback')`` when it has fewer than it once sent, ``Tampered('log.fork')`` when it has as
        many and others.
        """
        with self._lock_of(device):
            held = self._held(device)
            self._admit(held)
            error: OutriderError | None = None
            if size < held.size:
                error = Tampered(
                    "log.rollback", f"the device has {size} entries, but sent {held.size} before", advice=_ADVICE
                )
            elif size == held.size and held.size and root != held.frontier.root().hex():
                error = Tampered("log.fork", f"the device's first {size} entries are not those it sent", advice=_ADVICE)
            if error is not None:
                self._refuse(held, error, size, size)
                raise error
            return held.size

    def accept(self, device: str, batch: Batch) -> Accepted:
        """Keep a batch and countersign its checkpoint, or raise why not."""
        with self._lock_of(device):
            held = self._held(device)
            self._admit(held)
            try:
                return self._accept(held, batch)
            except Unavailable:  # ours, not the device's: nothing is held against it
                raise
            except OutriderError as error:
                if error.code != "device.revoked":
                    self._refuse(held, error, batch.start, batch.start + len(batch.entries))
                raise

    def _accept(self, held: Held, batch: Batch) -> Accepted:
        checkpoint, sent = read_batch(held, batch)
        known = max(0, min(held.size, checkpoint.size) - batch.start)
        if known:
            self._compare(held, batch.start, sent[:known])
        if checkpoint.size <= held.size:
            self._same_root(held, checkpoint)
            if held.problem:
                self._clear(held)
            return Accepted(size=held.size, checkpoint=held.note)
        fresh = sent[known:]
        grown = verify_batch(held.frontier, batch.start + known, [kept.leaf for kept in fresh], checkpoint)
        check_times(held, fresh)
        change = self._folds.change(held.device, held.size, fresh)
        note = self._commit(held, grown, fresh, change, batch.checkpoint)
        self._folds.keep(change)
        self._tell(held.device, change)
        if self._taken is not None:
            self._taken(held.device, change.moved)
        return Accepted(size=grown.size, checkpoint=note)

    # --- against what is held ---------------------------------------------------------------------------------

    def _held(self, device: str) -> Held:
        with self._store.read() as conn:
            row = conn.execute(select(DEVICES).where(DEVICES.c.id == device)).first()
        if row is None:
            raise Refused("device.unknown", "this hub knows no such device", advice="join the hub again")
        peaks = [row.peaks[i : i + 32] for i in range(0, len(row.peaks), 32)]
        return Held(
            device=device,
            state=row.state,
            origin=row.origin,
            log_key=PublicKey.from_text(row.log_key),
            frontier=Frontier(row.held, peaks),
            newest_at=row.newest_at,
            note=row.note,
            log_size=row.log_size,
            problem=row.problem_code,
        )

    def _admit(self, held: Held) -> None:
        if held.state != "active":
            raise Refused("device.revoked", "this device was revoked", advice="ask the hub's operator; then join again")
        if held.problem in STANDING:
            raise Tampered(held.problem, "the device's log was rewritten or cut short before", advice=_ADVICE)

    def _compare(self, held: Held, start: int, again: list[Kept]) -> None:
        """Entries that are held already must be the same bytes."""
        span = select(ENTRIES.c.data).where(
            ENTRIES.c.device == held.device, ENTRIES.c.seq >= start, ENTRIES.c.seq < start + len(again)
        )
        with self._store.read() as conn:
            stored = [bytes(data) for data in conn.execute(span.order_by(ENTRIES.c.seq)).scalars()]
        if stored != [kept.data for kept in again]:
            raise _fork(start + len(again))

    def _same_root(self, held: Held, checkpoint: Checkpoint) -> None:
        """A checkpoint of fewer entries than are held must have the root that those had."""
        root = held.frontier.root() if checkpoint.size == held.size else self._root_at(held.device, checkpoint.size)
        if root != checkpoint.root:
            raise _fork(checkpoint.size)

    def _root_at(self, device: str, size: int) -> bytes:
        """From a stored checkpoint; else from the leaves, which only a batch cut at another place needs."""
        at = (CHECKPOINTS.c.device == device, CHECKPOINTS.c.size == size)
        with self._store.read() as conn:
            note = conn.execute(select(CHECKPOINTS.c.note).where(*at)).scalar()
            if note is not None:
                return parse_checkpoint(split_note(note.encode())[0]).root
            below = select(ENTRIES.c.data).where(ENTRIES.c.device == device, ENTRIES.c.seq < size)
            frontier = Frontier()
            for data in conn.execute(below.order_by(ENTRIES.c.seq)).scalars():
                frontier.extend([leaf_hash(data)])
        return frontier.root()

    # --- writing ----------------------------------------------------------------------------------------------

    def _commit(self, held: Held, grown: Frontier, fresh: list[Kept], change: Change, note: str) -> str:
        now = self._log.clock()
        cosigned = cosign_note(note.encode(), self._log.hub, self._log.key, now // 1_000_000).decode()
        values = {
            "held": grown.size,
            "peaks": b"".join(grown.peaks),
            "newest_at": fresh[-1].entry.at,
            "note": cosigned,
            "cosigned_at": now,
            "log_size": max(held.log_size, grown.size),
        }
        entries = [_entry_row(held.device, kept) for kept in fresh]
        bodies = [
            {"device": held.device, "seq": kept.entry.seq, "salt": kept.body.salt, "data": kept.body.data}
            for kept in fresh
            if kept.body is not None
        ]
        with self._store.write() as conn:
            bodies = not_erased(conn, fresh, bodies)
            mine = update(DEVICES).where(
                DEVICES.c.id == held.device, DEVICES.c.held == held.size, DEVICES.c.state == "active"
            )
            if conn.execute(mine.values(values | _NO_PROBLEM)).rowcount != 1:  # revoked meanwhile
                self._admit(self._held(held.device))
                raise Unavailable("store.moved", "the log grew meanwhile", advice="send the batch again")
            conn.execute(insert(ENTRIES), entries)
            if bodies:
                conn.execute(insert(BODIES), bodies)
            row = {"device": held.device, "size": grown.size, "note": cosigned, "cosigned_at": now}
            conn.execute(insert(CHECKPOINTS), [row])
            write_runs(conn, change)
            write_people(conn, change)
            write_receipts(conn, held.device, [kept.entry for kept in fresh])
            write_scores(conn, held.device, [kept.entry for kept in fresh])
            write_models(conn, held.device, [kept.entry for kept in fresh])
        return cosigned

    def _clear(self, held: Held) -> None:
        with self._store.write() as conn:
            conn.execute(update(DEVICES).where(DEVICES.c.id == held.device).values(_NO_PROBLEM))
        self._bus.publish("devices", {"device": held.device})

    def _refuse(self, held: Held, error: OutriderError, start: int, claimed: int) -> None:
        """Show the problem on the device, and record it when it is not the one that is shown already: a device that
        tries again and again must not fill the hub's log."""
        problem = {
            "problem_code": error.code,
            "problem_message": error.message if not error.where else f"{error.where}: {error.message}",
            "problem_advice": error.advice,
            "problem_at": self._log.clock(),
        }
        show = update(DEVICES).where(DEVICES.c.id == held.device).values(problem)
        if error.code == held.problem:
            with self._store.write() as conn:
                conn.execute(show)
        else:

            def rows(conn: Connection, written: Sequence[Written]) -> None:
                conn.execute(show)

            facts = BatchRefused(held.device, error.code, held.size, start, claimed)
            self._log.append([Draft(facts)], rows)
        self._bus.publish("devices", {"device": held.device})

    def _tell(self, device: str, change: Change) -> None:
        self._bus.publish("devices", {"device": device})
        if change.runs:
            told = [f"{device}:{run}" for run in list(change.runs)[:_RUNS_TOLD]]
            self._bus.publish("runs", {"device": device, "runs": told})
        if change.people:
            self._bus.publish("approvals", {"device": device})

    def _lock_of(self, device: str) -> threading.Lock:
        with self._lock:
            return self._busy.setdefault(device, threading.Lock())


_NO_PROBLEM = {"problem_code": "", "problem_message": "", "problem_advice": "", "problem_at": 0}


def _fork(size: int) -> Tampered:
    return Tampered("log.fork", f"the first {size} entries are not those that were sent before", advice=_ADVICE)


def _entry_row(device: str, kept: Kept) -> dict[str, object]:
    entry = kept.entry
    return {
        "device": device,
        "seq": entry.seq,
        "at": entry.at,
        "type": entry.type,
        "run": entry.run,
        "data": kept.data,
    }
