"""Which changes of a push are taken. Values in, values out: what is stored is handed in, and so is the worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.memory.rows import derived
from shared import limits
from shared.errors import BadInput, OutriderError
from shared.memory.chunks import DEFLATED, Header, read_change, read_header
from shared.memory.feed import SCOPE, Change, Rejected, Tombstone, change_hash, chunk_of, subject_digest
from shared.memory.stamp import written
from shared.memory.verdict import Probe, Task, Verdict

ERASED = "memory.erased"
OTHER_SCOPE = "memory.other-scope"
ITEM_FULL = "memory.item-full"
FORKED = "memory.forked"


class Screener(Protocol):
    """The worker process that looks at hostile bytes, a verdict for each item: ``shared.memory.bench.Bench``."""

    def batch(self, tasks: Sequence[Task], /) -> list[Verdict]: ...


@dataclass(frozen=True)
class Known:
    """What is stored of an item. ``have`` are hashes of the push that it has; ``base`` is its saved document, or its
    changes where that is not at hand."""

    base: bytes = b""
    have: frozenset[str] = frozenset()
    changes: int = 0
    size: int = 0
    first_at: int = 0
    conflicts: int = 0
    erased: bool = False


@dataclass
class Draft:
    """What a push does to one item: records to add in order, and its derived row."""

    item: str
    known: Known
    records: list[tuple[str, bytes]] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(len(data) for _, data in self.records)


@dataclass
class Outcome:
    """What is said of a push, and what is to be stored of it."""

    stored: list[str] = field(default_factory=list)
    refused: list[Rejected] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)

    def refuse(self, item: str, hashes: Iterable[str], code: str) -> None:
        self.refused.extend(Rejected(item, one, code) for one in hashes)


Incoming = dict[str, dict[str, bytes]]  # by item, by hash, in the order they came


def read_changes(changes: Sequence[Change]) -> tuple[Incoming, list[Rejected]]:
    """The chunks of a push, each once, and those that are none. Raises ``BadInput('memory.batch')``."""
    size = sum(len(change.data) for change in changes)
    if not 1 <= len(changes) <= limits.MEMORY_BATCH or (len(changes) > 1 and size > limits.MEMORY_BATCH_BYTES):
        raise BadInput(
            "memory.batch",
            f"{len(changes)} changes of {size} bytes are no push",
            advice=f"send 1 to {limits.MEMORY_BATCH}, of at most {limits.MEMORY_BATCH_BYTES} bytes together",
        )
    found: Incoming = {}
    refused = []
    for change in changes:
        try:
            chunk = chunk_of(change)
            name = read_change(chunk).hash if chunk[8:9] == bytes([DEFLATED]) else change_hash(chunk)
        except OutriderError as error:
            refused.append(Rejected(change.item, "", error.code))
        else:
            found.setdefault(change.item, {})[name] = chunk
    return found, refused


def decide(
    scope: str, incoming: Incoming, known: Mapping[str, Known], stones: Sequence[Tombstone], screener: Screener
) -> Outcome:
    """Judge a push against what is stored. ``scope`` is as devices name it; ``stones`` are the tombstones of its
    subjects and of itself."""
    outcome = Outcome()
    work: list[tuple[str, Known, dict[str, bytes]]] = []
    for item, chunks in incoming.items():
        at = known.get(item, Known())
        if at.erased:
            outcome.refuse(item, chunks, ERASED)
            continue
        outcome.stored.extend(name for name in chunks if name in at.have)
        fresh = {name: chunk for name, chunk in chunks.items() if name not in at.have}
        full = _full(at, fresh)
        if full:
            outcome.refuse(item, fresh, full)
        elif fresh:
            work.append((item, at, fresh))
    tasks = [Task(item, at.base, list(fresh.values())) for item, at, fresh in work]
    verdicts = screener.batch(tasks) if tasks else []
    for (item, at, fresh), verdict in zip(work, verdicts, strict=True):
        _settle(outcome, scope, Draft(item, at), fresh, verdict, stones)
    return outcome


def _full(known: Known, fresh: Mapping[str, bytes]) -> str:
    size = known.size + sum(map(len, fresh.values()))
    many = known.changes + len(fresh) > limits.MEMORY_ITEM_CHANGES
    return ITEM_FULL if many or size > limits.MEMORY_ITEM_BYTES else ""


def _settle(
    outcome: Outcome,
    scope: str,
    draft: Draft,
    fresh: dict[str, bytes],
    verdict: Verdict,
    stones: Sequence[Tombstone],
) -> None:
    """What the worker said of an item's changes, and then what only the hub can say."""
    names, got = list(fresh), set(verdict.taken)
    for one in verdict.refused:
        outcome.refuse(draft.item, [names[one.place]], one.code)
    if verdict.probe is None:
        return
    taken = {name: _plain(fresh[name]) for name in names if name in got}
    headers = [read_header(chunk) for chunk in taken.values()]
    first_at = draft.known.first_at if draft.known.changes else min(_begun(headers), default=0)
    code = _unwelcome(scope, verdict.probe, first_at, stones)
    if code:
        outcome.refuse(draft.item, taken, code)
        return
    draft.records = list(taken.items())
    draft.row = _row(draft, verdict.probe, headers, first_at)
    outcome.stored.extend(taken)
    outcome.drafts.append(draft)


def _plain(chunk: bytes) -> bytes:
    """A change that was let through, not deflated: its hash is over that."""
    return read_change(chunk).raw if chunk[8] == DEFLATED else chunk


def _begun(headers: Iterable[Header]) -> list[int]:
    """When the changes that are built on nothing say that they were made."""
    return [written(one.time, one.message)[0] for one in headers if not one.deps]


def _unwelcome(scope: str, probe: Probe, first_at: int, stones: Sequence[Tombstone]) -> str:
    if probe.item.scope != scope:
        return OTHER_SCOPE
    if len(probe.heads) > limits.MEMORY_ITEM_HEADS:
        return FORKED
    return ERASED if any(covers(stone, probe.item.subject, first_at) for stone in stones) else ""


def covers(stone: Tombstone, subject: str, first_at: int) -> bool:
    """Whether the tombstone of a scope or subject is also that of an item in its scope: of its subject, and not younger
    than it."""
    if first_at > stone.at:
        return False
    return stone.kind == SCOPE or (bool(subject) and subject_digest(subject, stone.salt) == stone.subject)


def _row(draft: Draft, probe: Probe, headers: Sequence[Header], first_at: int) -> dict[str, Any]:
    changed_at, by = written(headers[-1].time, headers[-1].message)
    return derived(probe.item) | {
        "changes": draft.known.changes + len(draft.records),
        "size": draft.known.size + draft.size,
        "first_at": first_at,
        "changed_at": changed_at,
        "changed_by": by,
        "conflicts": _conflicts(draft, probe, headers),
        "base": probe.saved,
    }


def _conflicts(draft: Draft, probe: Probe, headers: Sequence[Header]) -> int:
    """How many fields have several values. Only where changes were made apart is it worth looking."""
    if len(probe.heads) == 1 and not draft.known.conflicts and all(len(one.deps) < 2 for one in headers):
        return 0
    from shared.memory.document import Document

    return len(Document.load([probe.saved]).conflicts())
