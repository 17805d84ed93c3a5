"""What syncing decides: what to tell the hub next, and what its answers mean for this device's memory.

Spec page: ``shared/spec/link.md``. No sockets here: ``next`` gives the one message to send, ``answer`` takes what came
back, and both read and write the memory's database, where alone the state lives. So a cut, a kill or a restart at any
moment costs at most a message sent twice. The order is: what was taken in before (erasures, their receipts), then what
the hub has for us, then what is to be forgotten, then what was written here; a tombstone is obeyed before anything is
sent.

What comes from the hub is hostile until it was screened, though the hub screens too. A record that cannot be taken is
noted with its code, and the feed goes on: one bad item keeps no other away. A change that the hub refuses for good is
set aside with all that was built on it, so that this device shows what all others show.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from edge_agent.memory.store import Memory
from shared import limits
from shared.entries import Draft, MemoryErased, MemoryRefused
from shared.errors import BadInput, OutriderError, Unavailable
from shared.keys import PublicKey
from shared.memory import feed
from shared.memory.chunks import DEFLATED, read_change
from shared.memory.feed import Change, Record, Tombstone, change_hash, chunk_of, open_tombstone
from shared.memory.verdict import Task, Verdict
from shared.protocol import Forget, Forgotten, Message, Recall, Recalled, Refusal, Remember, Remembered, error_of

_REPORTED = 256  # refused changes in one commit of the log
_STONES = 128  # tombstones in one receipt


class Screener(Protocol):
    """Judges changes where a hostile one can do no harm: ``Bench``."""

    def batch(self, tasks: Sequence[Task], /) -> Sequence[Verdict]: ...


@dataclass(frozen=True)
class Report:
    """What is to be written into the log, and is then struck off: tombstones by id, and so many notes of
    refused changes."""

    drafts: list[Draft]
    stones: list[str] = field(default_factory=list)
    notes: int = 0


class Replica:
    """One device's side of memory's conversation. One at a time may use it; it is locked against a straggler.

    ``outside`` erases what a tombstone names outside of the memory's database (sessions, a run's bodies), ``dropped``
    what there is of a scope that was taken away. Both may be called again for the same one."""

    def __init__(
        self,
        memory: Memory,
        screener: Screener,
        hub: PublicKey,
        *,
        now: Callable[[], int],
        outside: Callable[[Tombstone], None],
        dropped: Callable[[str], object] = lambda scope: None,
    ) -> None:
        self._memory = memory
        self._screener = screener
        self._hub = hub
        self._now = now
        self._outside = outside
        self._dropped = dropped
        self._notes: list[MemoryRefused] = []
        self._leaving: list[str] = []  # scopes that go once the log has been told of what was unsent in them
        self._lock = threading.Lock()
        self._asked: Recall | Remember | Forget | None = None
        self._behind = True  # the hub may have something for us
        self._put_off: set[str] = set()  # scopes whose outbox waits, and ids of wishes that do

    # --- the conversation -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new connection: nothing is on its way, and everything may be news."""
        with self._lock:
            self._asked, self._behind = None, True
            self._put_off.clear()

    def news(self) -> None:
        """The hub says there is something new. Sets a flag, and may be called at any time."""
        self._behind = True

    @property
    def waiting(self) -> bool:
        """Whether something was put off."""
        return bool(self._put_off)

    def retry(self) -> None:
        """Try again what was put off; the roles may have changed, so ask for them first."""
        with self._lock:
            self._put_off.clear()
            self._behind = True

    def next(self) -> Message | None:
        """The next message to send, or ``None`` when there is nothing to say. Its answer goes to ``answer``."""
        with self._lock:
            self._asked = self._recall() or self._forget() or self._remember()
            return self._asked

    def answer(self, said: Message) -> list[OutriderError]:
        """Take in the answer to the last message; return what a person should hear of. When it returns, its effect is
        on the disk. Raises ``BadInput('link.order')`` where it answers something else."""
        with self._lock:
            asked, self._asked = self._asked, None
            match asked, said:
                case Recall(), Recalled():
                    return self._recalled(asked, said)
                case Remember(), Remembered() if asked.scope == said.scope:
                    return self._remembered(asked, said)
                case Forget(), Forgotten() if asked.id == said.id:
                    self._memory.wish_done(asked.id)
                    self._behind = True
                    return []
                case ((Recall() | Remember() | Forget()), Refusal()):
                    return self._refused(asked, said)
                case _:
                    raise _order("the hub answers what was not asked")

    # --- what is written into the log -------------------------------------------------------------------------------

    def report(self) -> Report | None:
        """Do what tombstones ask for, and say what the log must be told; ``None`` when there is nothing.

        Erased first, then the write-ahead log is cut, then the receipt: an erasure that was cut off is done again from
        its beginning. Call ``reported`` when the entries are on the disk."""
        with self._lock:
            obeyed, items = self._obey(self._memory.pending())
            drafts = [Draft(MemoryErased(tombstones=obeyed, items=items))] if obeyed else []
            drafts += [Draft(note) for note in self._notes[:_REPORTED]]
            return Report(drafts, obeyed, len(drafts) - bool(obeyed)) if drafts else None

    def _obey(self, stones: Sequence[Tombstone]) -> tuple[list[str], int]:
        """Ids of the tombstones that were obeyed, and how many items went; what a hold covers stays."""
        obeyed, items = [], 0
        for stone in stones[:_STONES]:
            gone = self._memory.obey(stone)
            if gone is not None:
                self._outside(stone)
                obeyed.append(stone.id)
                items += gone
        self._memory.truncate()  # also what an erasure without a tombstone left, when it was killed
        return obeyed, items

    def reported(self, report: Report) -> None:
        """The log has it."""
        with self._lock:
            del self._notes[: report.notes]
            if report.stones:
                self._memory.settle(report.stones)
            while self._leaving and not self._notes:
                self._drop(self._leaving[0])
                del self._leaving[0]

    def _note(self, scope: str, refused: Iterable[tuple[str, str, str]]) -> None:
        self._notes += [MemoryRefused(scope=scope, item=item, hash=name, code=code) for item, name, code in refused]

    # --- asking ---------------------------------------------------------------------------------------------------

    def _recall(self) -> Recall | None:
        if not self._behind:
            return None
        self._behind = False
        return Recall({scope: held.cursor for scope, held in self._memory.feeds().items()})

    def _forget(self) -> Forget | None:
        for wish in self._memory.wishes():
            if wish.id not in self._put_off:
                return Forget(wish.id, wish.kind, wish.scope, wish.item, wish.subject, wish.salt, wish.run, wish.reason)
        return None

    def _remember(self) -> Remember | None:
        for scope, held in self._memory.feeds().items():
            if scope in self._put_off or not feed.may(held.role, feed.WRITER):
                continue
            changes = self._memory.outbox(scope, limits.MEMORY_BATCH, limits.MEMORY_BATCH_BYTES)
            if changes:
                return Remember(scope, changes)
        return None

    # --- what the answers mean ------------------------------------------------------------------------------------

    def _refused(self, asked: Recall | Remember | Forget, said: Refusal) -> list[OutriderError]:
        """The whole message was refused. A wish that may not be is struck off; all else is tried again later."""
        error = error_of(said)
        match asked:
            case Forget() if not isinstance(error, Unavailable):
                self._memory.wish_done(asked.id)
            case Forget():
                self._put_off.add(asked.id)
            case Remember():
                self._put_off.add(asked.scope)
            case Recall():
                self._put_off.add("")
        return [error]

    def _remembered(self, asked: Remember, said: Remembered) -> list[OutriderError]:
        """What is stored leaves the outbox, what is refused for good leaves the items, the rest waits."""
        items = {change_hash(chunk_of(change)): change.item for change in asked.changes}
        stored = [name for name in said.stored if name in items]
        refused = [one for one in said.refused if items.get(one.hash) == one.item]
        never = [one for one in refused if one.code not in feed.LATER]
        self._memory.mark_sent(stored)
        if never:
            left = self._memory.set_aside({one.hash: one.code for one in never}, now=self._now())
            self._note(asked.scope, [(one.item, one.hash, one.code) for one in left])
        if not (stored or never):  # while something moves, what has to wait keeps nothing else away
            self._put_off.add(asked.scope)
        return []

    def _recalled(self, asked: Recall, said: Recalled) -> list[OutriderError]:
        """Scopes taken away go first; then the records and the cursor, together."""
        known = self._memory.feeds()
        self._leave(self._memory.set_feeds(said.scopes))
        self._behind = self._behind or said.more or not said.scopes.keys() <= known.keys()
        if not said.scope:
            return []
        since = asked.cursors.get(said.scope)
        if since is None or said.scope not in said.scopes or known[said.scope].cursor != since:
            raise _order("the hub tells of a scope that was not asked about")
        if not _in_order(since, said):
            raise _order("the hub's records are out of order")
        changes, stones = self._sorted(said.scope, said.records)
        taken = self._memory.take(said.scope, changes, stones, said.cursor, now=self._now())
        self._note(said.scope, [(one.item, one.hash, one.code) for one in taken.refused])
        return []

    def _leave(self, gone: list[str]) -> None:
        """Scopes were taken away: everything of them goes; where something was never sent, once the log says so."""
        unsent = self._memory.unsent()
        before, self._leaving = self._leaving, [scope for scope in gone if unsent.get(scope)]
        for scope in gone:
            if scope not in self._leaving:
                self._drop(scope)
            elif scope not in before:
                self._note(scope, [("", "", "memory.scope")])

    def _drop(self, scope: str) -> None:
        self._dropped(scope)  # first: as long as memory knows the scope, it is dropped again
        self._memory.drop_scope(scope)

    def _sorted(self, scope: str, records: Iterable[Record]) -> tuple[list[Change], list[Tombstone]]:
        """Records as they may be applied: changes that passed, and tombstones that the hub signed."""
        stones: list[Tombstone] = []
        arrived: dict[str, dict[str, bytes]] = {}
        for record in records:
            try:
                if record.tombstone is not None:
                    stones.append(self._stone(scope, record))
                else:
                    chunk = _plain(chunk_of(Change(record.item, record.data)))
                    arrived.setdefault(record.item, {})[change_hash(chunk)] = chunk
            except OutriderError as error:
                self._note(scope, [(record.item, "", error.code)])
        return self._passed(scope, arrived), stones

    def _stone(self, scope: str, record: Record) -> Tombstone:
        assert record.tombstone is not None
        stone = open_tombstone(record.tombstone, self._hub)
        if stone.scope not in ("", scope):
            raise BadInput("memory.tombstone", "a tombstone of another scope", advice="check the hub")
        return stone

    def _passed(self, scope: str, arrived: dict[str, dict[str, bytes]]) -> list[Change]:
        """What of the new changes can be applied, by item; our own that come back need no judging."""
        tasks: list[Task] = []
        passed: list[Change] = []
        for item, new in arrived.items():
            at, base = self._memory.chunks(item) or (scope, [])
            if at != scope:
                self._note(scope, [(item, name, "memory.other-scope") for name in new])
                continue
            known = set(map(change_hash, base))
            passed += [feed.change(item, chunk) for name, chunk in new.items() if name in known]
            fresh = [chunk for name, chunk in new.items() if name not in known]
            if fresh:
                tasks.append(Task(item, b"".join(base), fresh))
        verdicts = self._screener.batch(tasks) if tasks else []
        for task, verdict in zip(tasks, verdicts, strict=True):
            passed += self._judged(scope, task, verdict)
        return passed

    def _judged(self, scope: str, task: Task, verdict: Verdict) -> list[Change]:
        if verdict.probe is not None and verdict.probe.item.scope != scope:
            self._note(scope, [(task.item, name, "memory.other-scope") for name in verdict.taken])
            return []
        self._note(scope, [(task.item, change_hash(task.chunks[one.place]), one.code) for one in verdict.refused])
        taken = set(verdict.taken)
        return [feed.change(task.item, chunk) for chunk in task.chunks if change_hash(chunk) in taken]


def _plain(chunk: bytes) -> bytes:
    """A change as it is stored: not deflated. All else about it is judged by the worker."""
    return read_change(chunk).raw if chunk[8:9] == bytes([DEFLATED]) else chunk


def _in_order(since: int, said: Recalled) -> bool:
    """Whether records and cursor go on from ``since`` and never back."""
    places = [since, *(record.seq for record in said.records)]
    return all(a < b for a, b in pairwise(places)) and places[-1] <= said.cursor


def _order(said: str) -> BadInput:
    return BadInput("link.order", said, advice="check the hub's version")
