"""Which run moves when: urgent ones first, each in one task at a time, and again when what it waits for has come.

Interactive runs have workers of their own, so that one never waits behind a thousand of a batch. What a run waits for
(a person, a lease, a child) wakes it through ``wake``; what only time brings stands in a heap.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import secrets
import traceback
from collections.abc import Callable, Iterable

from edge_agent.journal import Journal
from edge_agent.runner.engine import Engine
from edge_agent.runner.mail import Letter
from edge_agent.runner.times import Times
from edge_agent.tools import NotSent
from shared.entries import Entry, RunClosed, RunOpened, RunOrdered, UndoBegun
from shared.errors import BadInput, OutriderError, Unavailable
from shared.keys import Envelope
from shared.release import Answer, Order
from shared.runs import Device, Run

_URGENCY = {"interactive": 0, "background": 1, "batch": 2}
_RETRY_S = 5.0
_RETRY_MOST_S = 300.0
_DUE_MOST_S = 30.0  # the clock may be set: never sleep longer towards a time that it gives
_INTERACTIVE_WORKERS = 2


class Runner:
    """Drives all open runs of one device, ``at_once`` of them at a time and interactive ones besides."""

    def __init__(
        self,
        journal: Journal,
        device: Device,
        engine: Engine,
        times: Times,
        *,
        at_once: int,
        trouble: Callable[[OutriderError], None],
    ) -> None:
        self._journal = journal
        self._device = device
        self._engine = engine
        self._times = times
        self._at_once = at_once
        self._trouble = trouble
        self._queue: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
        self._urgent: asyncio.Queue[str] = asyncio.Queue()
        self._order = itertools.count()
        self._queued: set[str] = set()
        self._busy: dict[str, asyncio.Event] = {}
        self._put_offs: dict[str, int] = {}
        self._due: list[tuple[int, str]] = []
        self._due_changed = asyncio.Event()
        self._children: dict[str, list[str]] = {}  # by parent: a look through all open runs at every end is too long
        self._parents: dict[str, str] = {}
        for run in (*device.runs.values(), *device.failed.values()):
            self._note_parent(run.id, run.opened.parent)

    # --- scheduling -----------------------------------------------------------------------------------------------

    def wake(self, run_id: str) -> None:
        """Something this run may wait for has happened."""
        nudge = self._busy.get(run_id)
        if nudge is not None:
            nudge.set()
        elif run_id not in self._queued and (run := self._device.find(run_id)) is not None:
            self._queued.add(run_id)
            urgency = self._urgency(run)
            if urgency == 0:
                self._urgent.put_nowait(run_id)
            else:
                self._queue.put_nowait((urgency, next(self._order), run_id))

    def wake_all(self, *, held: bool = False) -> None:
        """Every open run, or only those that a lease holds up."""
        for run in list(self._device.runs.values()):
            if not held or run.held:
                self.wake(run.id)

    def committed(self, entries: Iterable[Entry]) -> None:
        """What was just folded may be what another run waits for: a child that was opened or has ended."""
        for entry in entries:
            if isinstance(entry.facts, RunOpened) and entry.facts.parent:
                self._note_parent(entry.run, entry.facts.parent)
                self.wake(entry.run)
            elif isinstance(entry.facts, RunClosed | RunOrdered | UndoBegun):
                self._wake_kin(entry.run)

    def _wake_kin(self, run_id: str) -> None:
        """The run that waits for this one, and those that this one waited for."""
        if run_id in self._device.children and run_id in self._parents:
            self.wake(self._parents[run_id])
        for child in self._children.get(run_id, ()):
            self.wake(child)
        if run_id not in self._device.runs and run_id not in self._device.failed:
            for child in self._children.pop(run_id, ()):
                del self._parents[child]

    def _note_parent(self, run_id: str, parent: str) -> None:
        if parent and run_id not in self._parents:
            self._parents[run_id] = parent
            self._children.setdefault(parent, []).append(run_id)

    def event(self, ref: str) -> int:
        """An event is on the disk: wake the runs that wait for it; how many."""
        waiting = [
            run.id
            for run in self._device.runs.values()
            if any(step.status == "entered" and step.entered and step.entered.ref == ref for step in run.steps.values())
        ]
        for run_id in waiting:
            self.wake(run_id)
        return len(waiting)

    def _urgency(self, run: Run) -> int:
        try:
            return _URGENCY[self._engine.playbook(run).urgency]
        except OutriderError:
            return _URGENCY["batch"]

    @property
    def idle(self) -> bool:
        return not self._queued and not self._busy

    async def work(self) -> None:
        """Move runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._work_on(self._next))
            for _ in range(_INTERACTIVE_WORKERS):
                group.create_task(self._work_on(self._urgent.get))
            group.create_task(self._watch_the_clock())

    async def _next(self) -> str:
        return (await self._queue.get())[2]

    async def _work_on(self, following: Callable[[], object]) -> None:
        while True:
            run_id = await following()  # type: ignore[misc]  # both are coroutines of a run's name
            self._queued.discard(run_id)
            nudge = self._busy[run_id] = asyncio.Event()
            try:
                await self._engine.advance(run_id, nudge)
                self._put_offs.pop(run_id, None)
            except OutriderError as error:
                self._put_off(run_id, error)
            except Exception as error:  # noqa: BLE001 - the reason is below
                # A task root: a fault in one run must not stop the others. The run stays where its log says it is.
                traceback.print_exc()
                said = f"{type(error).__name__} in run {run_id}"
                self._put_off(run_id, Unavailable("agent.fault", said, advice="see the agent's output; report it"))
            finally:
                del self._busy[run_id]
            self._note_due(run_id)
            if nudge.is_set():
                self.wake(run_id)

    def _put_off(self, run_id: str, error: OutriderError) -> None:
        """Try again later, ever later: what cannot be sent now may need hours."""
        self._trouble(error)
        times = self._put_offs[run_id] = self._put_offs.get(run_id, 0) + 1
        most = _RETRY_MOST_S if isinstance(error, NotSent) else 12 * _RETRY_S
        wait = min(_RETRY_S * 2 ** (times - 1), most)
        asyncio.get_running_loop().call_later(wait, self.wake, run_id)

    # --- what only time brings --------------------------------------------------------------------------------------

    def _note_due(self, run_id: str) -> None:
        run = self._device.runs.get(run_id)
        if run is None:
            return
        try:
            at = self._times.due(run, self._engine.playbook(run))
        except OutriderError:
            return  # it was told when the run was moved
        if at is not None:
            heapq.heappush(self._due, (at, run_id))
            self._due_changed.set()

    async def _watch_the_clock(self) -> None:
        while True:
            self._due_changed.clear()
            now = self._journal.now()
            while self._due and self._due[0][0] <= now:
                self.wake(heapq.heappop(self._due)[1])
            wait = min((self._due[0][0] - now) / 1e6, _DUE_MOST_S) if self._due else _DUE_MOST_S
            try:
                async with asyncio.timeout(max(wait, 0.01)):
                    await self._due_changed.wait()
            except TimeoutError:
                pass

    # --- people -----------------------------------------------------------------------------------------------------

    async def answer(self, answer: Answer, envelope: Envelope | None) -> None:
        """Record a person's answer, whose signature was verified, or which was given at this computer (``envelope`` is
        ``None``); return when it is on the disk. An answer that came before changes nothing."""
        await self._deliver(answer, envelope, "hub" if envelope is not None else "local")

    async def order(self, order: Order, envelope: Envelope | None) -> None:
        """Record a person's order about a run; return when it is on the disk. Raises ``Conflict('order.unfit')``."""
        await self._deliver(order, envelope, "hub" if envelope is not None else "local")

    async def _deliver(self, message: Answer | Order, envelope: Envelope | None, place: str) -> None:
        if self._device.find(message.run) is None:
            if place == "local":
                raise BadInput(
                    "run.unknown", f"there is no open run {message.run!r}", advice="see `outrider agent runs`"
                )
            return
        letter = Letter(message, envelope, asyncio.get_running_loop().create_future(), place)
        self._engine.mail.post(letter)
        self.wake(message.run)
        await letter.done


def order_id() -> str:
    """A name for an order that was given at this computer."""
    return f"ord_{secrets.token_hex(12)}"
