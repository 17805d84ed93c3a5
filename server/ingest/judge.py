"""The judgement on a batch that needs no database: are these entries what they claim, and may a device write them?

Everything here takes bytes and values and raises one of our errors. What the hub already holds comes in as a ``Held``.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

from shared import entries as e
from shared import limits
from shared.codec import parse
from shared.errors import BadInput, Refused, Tampered
from shared.keys import PublicKey
from shared.protocol import Batch
from shared.runs.fold import OF_RUNS
from shared.tlog import Checkpoint, Frontier, leaf_hash, open_checkpoint

# Only the hub's own log may hold these.
# What a device may write beside what is of a run. A list of what it may not would forget the next type.
_DEVICES_OWN = (
    e.LogOpened,
    e.ClockStepped,
    e.DeviceJoined,
    e.ReleaseInstalled,
    e.ReleaseRefused,
    e.LeaseTaken,
    e.SourceRead,
    e.SourceRefused,
    e.EventReceived,
    e.HubPinned,
    e.MemoryErased,
    e.MemoryRefused,
    e.ModelTaken,
    e.ModelRefused,
    e.SwitchesTaken,
    e.ReplayScored,
    e.DriftSampled,
)
_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Held:
    """What the hub holds of one device's log. ``problem`` is the code that stands against it, if any."""

    device: str
    state: str
    origin: str
    log_key: PublicKey
    frontier: Frontier
    newest_at: int
    note: str
    log_size: int
    problem: str

    @property
    def size(self) -> int:
        return self.frontier.size


@dataclass(frozen=True)
class Kept:
    """An entry read from a batch, with the exact bytes to keep and the body that came with it."""

    entry: e.Entry
    data: bytes
    body: e.Body | None

    @property
    def leaf(self) -> bytes:
        return leaf_hash(self.data)


def read_batch(held: Held, batch: Batch) -> tuple[Checkpoint, list[Kept]]:
    """The checkpoint and entries of a batch, each well-formed in itself and signed for by its device.

    Raises ``BadInput('batch.size' | 'batch.checkpoint' | 'entry.*' | 'body.*')``, ``Tampered('note.*' | 'body.hash')``.
    """
    weight = sum(len(sent.data) + (len(sent.body.data) if sent.body else 0) for sent in batch.entries)
    if not 1 <= len(batch.entries) <= limits.BATCH_ENTRIES or weight > limits.BATCH_BYTES or batch.start < 0:
        raise BadInput(
            "batch.size",
            f"the batch has {len(batch.entries)} entries of {weight} bytes",
            advice=f"send 1 to {limits.BATCH_ENTRIES} entries at once",
        )
    checkpoint = open_checkpoint(batch.checkpoint.encode(), held.origin, held.log_key)
    end = batch.start + len(batch.entries)
    if checkpoint.size != end:
        raise BadInput(
            "batch.checkpoint",
            f"the entries end at {end}, their checkpoint at {checkpoint.size}",
            advice="send entries up to exactly one checkpoint",
        )
    return checkpoint, [_read(held, seq, sent.data, sent.body) for seq, sent in enumerate(batch.entries, batch.start)]


def _read(held: Held, seq: int, text: str, body: e.Body | None) -> Kept:
    data = text.encode("utf-8", "surrogatepass")
    where = f"entry {seq}"
    if len(data) > limits.ENTRY_BYTES:
        raise BadInput(
            "entry.too-large", f"{len(data)} bytes", advice="an agent never writes one so large", where=where
        )
    entry = e.read(data)
    if entry.seq != seq:
        raise BadInput(
            "entry.seq", f"it calls itself {entry.seq}", advice="the log was not written by an agent", where=where
        )
    if not isinstance(entry.facts, (*OF_RUNS, *_DEVICES_OWN)):
        raise Refused(
            "entry.foreign", f"a device may not write {entry.type}", advice="this device misbehaves", where=where
        )
    _check_place(held, entry, where)
    _check_bodies(entry, body, where)
    return Kept(entry, data, body)


def _check_place(held: Held, entry: e.Entry, where: str) -> None:
    """The first entry, and only it, opens the log; entries of runs name one, others none."""
    facts = entry.facts
    if isinstance(facts, e.LogOpened) != (entry.seq == 0):
        raise BadInput("log.opening", "a log opens with log.opened, once", advice="start the log anew", where=where)
    if isinstance(facts, e.LogOpened) and (facts.origin != held.origin or facts.key != held.log_key.text):
        raise Tampered(
            "log.opening",
            "the log names another origin or key",
            advice="join the hub again with a new log",
            where=where,
        )
    # What is not of a run is about the device itself. The order within a run is judged by the fold.
    if isinstance(facts, OF_RUNS) != (entry.run != "") or (entry.run and not _RUN_ID.fullmatch(entry.run)):
        raise BadInput(
            "entry.run", f"{entry.type} names run {entry.run[:80]!r}", advice="this device misbehaves", where=where
        )


def _check_bodies(entry: e.Entry, body: e.Body | None, where: str) -> None:
    for name, value in entry.bodies.items():
        if name not in e.BODY_NAMES or not _HASH.fullmatch(value):
            raise BadInput("entry.body", f"{name[:80]!r} is no body", advice="this device misbehaves", where=where)
    if body is None:
        return
    if len(body.data.encode("utf-8", "surrogatepass")) > limits.BODY_BYTES:
        raise BadInput(
            "body.too-large", "the body is too large", advice="an agent never writes one so large", where=where
        )
    if _is_private(entry, body):
        raise Refused(
            "body.private",
            "a private body was sent",
            advice="private bodies stay on the device; update it",
            where=where,
        )
    e.check_body(entry, "shared", body)
    parse(body.data, dict[str, Any], code="body.form", what=f"the body of {where}")


def _is_private(entry: e.Entry, body: e.Body) -> bool:
    """Whether this is the entry's private body under another name."""
    private = entry.bodies.get("private")
    if private is None or private == entry.bodies.get("shared"):
        return False
    try:
        e.check_body(entry, "private", body)
    except Tampered:
        return False
    return True


def check_times(held: Held, fresh: list[Kept]) -> None:
    """Time never runs back within a log; a device whose clock was set back writes ``clock.stepped`` and waits."""
    times = [held.newest_at, *(kept.entry.at for kept in fresh)]
    for number, (earlier, later) in enumerate(itertools.pairwise(times)):
        if later < earlier:
            raise BadInput(
                "entry.time",
                "it is older than the one before it",
                advice="the log was not written by an agent",
                where=f"entry {held.size + number}",
            )
