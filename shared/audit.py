"""Verifying a whole log offline: from exact bytes to one report, naming the first entry that is wrong.

    1. every entry parses, is canonical, of a known type, in its place, and not before the one ahead of it
    2. the tree over the exact bytes has the root that every checkpoint claims, and the log's own key signed each
    3. what the hub countersigned is a checkpoint of this very tree, signed by the hub's key
    4. every body is the one its entry committed to, or is gone
    5. every run folds: nothing acted without a verdict, nothing went on after its end

A log's first entry names its key. Whoever audits must know that key, or the hub's, from elsewhere: a log that was made
up whole is consistent with itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.entries import Body, Entry, LogOpened, check_body, read
from shared.errors import BadInput, OutriderError, Tampered
from shared.keys import PublicKey, verify_cosignature
from shared.runs import Device
from shared.tlog import Frontier, leaf_hash, open_checkpoint


@dataclass(frozen=True)
class Row:
    """One entry as stored: its exact bytes and the bodies still beside it. ``leaf`` is its hash as the writer kept it,
    if it did: nothing is proved by it, but where a commit does not hold it tells which of its entries was changed."""

    data: bytes
    bodies: dict[str, Body] = field(default_factory=dict)
    leaf: bytes = b""


@dataclass(frozen=True)
class Mark:
    """One checkpoint as stored; ``cosigned`` is the same note with the hub's cosignature, or ``None``."""

    size: int
    note: bytes
    cosigned: bytes | None = None


@dataclass
class Report:
    """``error`` is ``None`` when everything holds; ``bad_entry`` is the first entry that does not, or -1."""

    origin: str = ""
    key: str = ""
    entries: int = 0
    checkpoints: int = 0
    cosigned: int = 0
    cosigned_size: int = 0
    bodies: int = 0
    bodies_gone: int = 0
    runs_closed: int = 0
    runs_open: int = 0
    root: str = ""
    bad_entry: int = -1
    error: OutriderError | None = None


def verify(rows: Iterable[Row], marks: Iterable[Mark], *, hub: str = "", hub_key: PublicKey | None = None) -> Report:
    """Verify a log. ``marks`` come by size; one that is out of order fits no tree. ``hub`` and ``hub_key`` are the
    expected countersigner; without them step 3 is left out."""
    report = Report()
    auditor = _Auditor(report, hub, hub_key)
    waiting = iter(marks)
    mark = next(waiting, None)
    try:
        for row in rows:
            report.bad_entry = report.entries
            auditor.take(row)
            while mark is not None and mark.size == report.entries:
                auditor.check(mark)
                mark = next(waiting, None)
        auditor.finish(mark)
        report.bad_entry = -1
    except OutriderError as error:
        report.error = error
        if auditor.changed >= 0:
            report.bad_entry = auditor.changed
    return report


class _Auditor:
    def __init__(self, report: Report, hub: str, hub_key: PublicKey | None) -> None:
        self._report = report
        self._hub = hub
        self._hub_key = hub_key
        self._tree = Frontier()
        self._device = Device(closed={})
        self._last: Entry | None = None
        self._key: PublicKey | None = None
        self._signed = 0
        self.changed = -1  # the first entry since the newest checkpoint that is not what was hashed then

    def take(self, row: Row) -> None:
        report = self._report
        leaf = leaf_hash(row.data)
        if row.leaf and row.leaf != leaf and self.changed < 0:
            self.changed = report.entries
        entry = read(row.data)
        if entry.seq != report.entries:
            raise Tampered("log.gap", f"entry {entry.seq} stands at {report.entries}", advice="entries are missing")
        if self._last is not None and entry.at < self._last.at:
            raise Tampered("log.time", f"entry {entry.seq} is older than the one before", advice="keep it as evidence")
        if self._last is None:
            self._open(entry)
        elif isinstance(entry.facts, LogOpened):
            raise Tampered("log.opened-again", f"entry {entry.seq} opens the log again", advice="keep it as evidence")
        for name, body in row.bodies.items():
            check_body(entry, name, body)
        report.bodies += len(row.bodies)
        report.bodies_gone += len(entry.bodies) - len(row.bodies)
        self._device.fold(entry)
        self._tree.extend([leaf])
        self._last = entry
        report.entries += 1

    def _open(self, entry: Entry) -> None:
        if not isinstance(entry.facts, LogOpened):
            raise Tampered("log.unopened", "a log begins with log.opened", advice="the first entries are missing")
        self._key = PublicKey.from_text(entry.facts.key)
        self._report.origin, self._report.key = entry.facts.origin, entry.facts.key

    def check(self, mark: Mark) -> None:
        """A checkpoint at the size reached. Its entries came with it, so the newest of them is named when it fails."""
        assert self._key is not None
        self._report.bad_entry = self._signed
        self._compare(mark.note)
        self._report.checkpoints += 1
        if mark.cosigned is not None:
            self._compare(mark.cosigned)
            if self._hub_key is not None:
                verify_cosignature(mark.cosigned, self._hub, self._hub_key)
                self._report.cosigned += 1
                self._report.cosigned_size = mark.size
        self._signed = mark.size
        self.changed = -1

    def _compare(self, note: bytes) -> None:
        assert self._key is not None
        checkpoint = open_checkpoint(note, self._report.origin, self._key)
        if checkpoint.size != self._tree.size or checkpoint.root != self._tree.root():
            raise Tampered(
                "log.root",
                f"entries {self._signed} to {self._tree.size - 1} do not have the root that was signed",
                advice="one of them was changed after it was written; compare with the hub's copy",
            )

    def finish(self, left: Mark | None) -> None:
        report = self._report
        report.bad_entry = report.entries
        if left is not None:
            raise Tampered(
                "log.cut", f"a checkpoint of {left.size} entries is here", advice="newer entries were removed"
            )
        if report.entries == 0:
            raise BadInput("log.empty", "there are no entries", advice="name a log")
        if self._signed != report.entries:
            report.bad_entry = self._signed
            raise Tampered("log.unsigned", "the newest entries have no checkpoint", advice="they were added by hand")
        report.root = self._tree.root().hex()
        report.runs_closed, report.runs_open = len(self._device.closed or ()), len(self._device.runs)
