"""Memory on the link, against a hub that a test can make lie: it goes on from where it was cut, and the log first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.link.client import Link
from edge_agent.link.remembering import Remembering
from edge_agent.memory.replica import Replica
from edge_agent.memory.store import Memory
from shared import limits
from shared.entries import Draft, LeaseTaken, MemoryErased, MemoryRefused, read
from shared.errors import Unavailable
from shared.keys import SigningKey
from shared.memory import Item
from shared.memory.document import Document
from shared.memory.feed import Record, Tombstone, change, change_hash, chunk_of, seal_tombstone
from shared.protocol import Batch, Notice, Recall, Recalled, Remember, Remembered, encode, refusal
from shared.runs import Device
from tests.edge_agent.link.test_client import HUB, LINK, LOG, ORIGIN, Ears, Hub
from tests.edge_agent.rig import Clock
from tests.system.opened import Opened

KEY = SigningKey(b"h" * 32)
MEM = "mem_" + "a" * 24


class Remembers(Hub):
    """A hub with one person's feed."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.got: list[str] = []
        self.order: list[str] = []
        self.cut_before: set[str] = set()  # kinds of message after which the connection is cut once, unanswered
        self.busy = 0  # so many pushes are refused as a whole
        self.slow = 0.0

    def add(self, chunk: bytes, item: str = MEM) -> None:
        self.records.append(Record(len(self.records) + 1, item, change(item, chunk).data))

    async def _answer(self, socket: ServerConnection, message: Any) -> None:
        name = type(message).__name__
        self.order.append(name)
        if name in self.cut_before:
            self.cut_before.discard(name)
            await socket.close()
            return
        match message:
            case Recall():
                await self._send(socket, self._recalled(message))
            case Remember():
                await self._remember(socket, message)
            case Batch() if self.slow:
                await asyncio.sleep(self.slow)
                await super()._answer(socket, message)
            case _:
                await super()._answer(socket, message)

    def _recalled(self, asked: Recall) -> Recalled:
        since = asked.cursors.get("person")
        if since is None:
            return Recalled({"person": "steward"}, "", [], 0, False)
        some = [record for record in self.records if record.seq > since][:2]
        if not some:
            return Recalled({"person": "steward"}, "", [], 0, False)
        return Recalled({"person": "steward"}, "person", some, some[-1].seq, some[-1].seq < len(self.records))

    async def _remember(self, socket: ServerConnection, asked: Remember) -> None:
        if self.busy:
            self.busy -= 1
            await self._send(socket, refusal(Unavailable("memory.worker", "busy", advice="wait")))
            return
        names = [change_hash(chunk_of(one)) for one in asked.changes]
        for one, name in zip(asked.changes, names, strict=True):
            if name not in self.got:
                self.got.append(name)
                self.add(chunk_of(one), one.item)
        await self._send(socket, Remembered(asked.scope, names, []))


@dataclass
class Ends:
    hub: Remembers
    ears: Ears
    memory: Memory
    journal: Journal
    link: Link
    rests: list[float] = field(default_factory=list)

    async def until(self, ready: Any) -> None:
        async with asyncio.timeout(60):
            while not ready():
                await asyncio.sleep(0.01)

    def write(self, text: str) -> str:
        return self.memory.write(Item("note", text, source="me", scope="person"), at=Clock().now, by="ada")

    def facts(self, kind: type) -> list[Any]:
        return [f for _, data in self.journal.raw() if isinstance(f := read(data).facts, kind)]

    async def notice(self, *topics: str) -> None:
        assert self.hub.socket is not None
        await self.hub.socket.send(encode(Notice(list(topics))))


@asynccontextmanager
async def linked(folder: Path, hub: Remembers, *, entries: int = 0, notes: int = 0) -> AsyncIterator[Ends]:
    clock, ears = Clock(), Ears()
    journal = Journal(folder / "log.sqlite3", ORIGIN, LOG, now=clock, software="test")
    journal.attach(asyncio.get_running_loop())
    device = Device()
    journal.listen(lambda new: [device.fold(entry) for entry in new] and None)
    memory = Memory(folder / "memory.sqlite3")
    replica = Replica(memory, Opened(), KEY.public, now=clock, outside=lambda stone: None)
    rests: list[float] = []

    async def quickly(seconds: float) -> None:
        rests.append(seconds)
        await asyncio.sleep(0.01)

    remembering = Remembering(replica, journal, ears.trouble, sleep=quickly)
    remembering.attach(asyncio.get_running_loop())
    memory.listen(remembering.written)
    async with serve(hub.talk, "127.0.0.1", 0, max_size=limits.MESSAGE_BYTES) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        identity = Identity("dev", "desk", ORIGIN, HUB, KEY.public.text, f"http://127.0.0.1:{port}")
        link = Link(
            identity, LINK, journal, device, ears, now=clock, software="test", memory=remembering, sleep=quickly
        )
        ends = Ends(hub, ears, memory, journal, link, rests)
        for number in range(notes):
            ends.write(f"note {number}")
        for _ in range(entries):
            await journal.append(Draft(LeaseTaken("l", 1, 2, 3, 4)))
        task = asyncio.create_task(link.run())
        try:
            yield ends
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            journal.close()
            memory.close()


def theirs(text: str) -> bytes:
    item = Item("note", text, source="them", scope="person")
    return Document.create(item, b"t" * 16, at=1_790_000_000_000_000, by="them").changes()[0]


async def test_what_is_there_comes_and_what_was_written_goes_and_news_is_noticed(tmp_path: Path) -> None:
    hub = Remembers()
    for number in range(5):
        hub.add(theirs(f"number {number}"), f"mem_{number:024x}")
    async with linked(tmp_path, hub, notes=3) as ends:
        await ends.until(lambda: ends.memory.count() == 8 and not ends.memory.unsent())
        assert len(hub.got) == 3
        ends.write("one more")
        await ends.until(lambda: len(hub.got) == 4)
        hub.add(theirs("late"))
        await ends.notice("memory")
        await ends.until(lambda: ends.memory.count() == 10)
        pulls = len(hub.pulls)
        assert ends.ears.troubles == []
        await ends.notice("memory", "releases")
        await ends.until(lambda: len(hub.pulls) > pulls)


async def test_a_cut_at_any_message_costs_nothing(tmp_path: Path) -> None:
    hub = Remembers()
    for number in range(3):
        hub.add(theirs(f"number {number}"), f"mem_{number:024x}")
    hub.cut_before = {"Recall", "Remember"}
    async with linked(tmp_path, hub, notes=2) as ends:
        await ends.until(lambda: ends.memory.count() == 5 and not ends.memory.unsent())
        assert hub.connections == 3, ends.ears.troubles
        assert len(hub.got) == len(set(hub.got)) == 2


async def test_memory_waits_for_the_log_but_not_for_ever(tmp_path: Path) -> None:
    hub = Remembers()
    hub.slow = 0.2
    async with linked(tmp_path, hub, entries=5, notes=1) as ends:
        await ends.until(lambda: len(hub.got) == 1)
        assert hub.order.index("Batch") < hub.order.index("Recall")
        hub.slow = 3.0
        await ends.journal.append(Draft(LeaseTaken("l", 1, 2, 3, 4)))
        await ends.until(lambda: hub.order.count("Batch") >= 2)
        ends.write("while the log is slow")
        await ends.until(lambda: hub.order[-1] == "Remember" or len(hub.got) == 2)


async def test_memorys_trouble_stays_memorys(tmp_path: Path) -> None:
    """An answer that cannot be used does not end the connection, on which approvals come."""
    hub = Remembers()
    hub.bend = lambda m: Recalled(m.scopes, "team/none", [], 5, False) if isinstance(m, Recalled) and m.scope else m
    hub.add(theirs("never mind"))
    async with linked(tmp_path, hub, entries=1) as ends:
        await ends.until(lambda: any(error.code == "link.order" for error in ends.ears.troubles))
        await ends.journal.append(Draft(LeaseTaken("l", 1, 2, 3, 4)))
        await ends.until(lambda: ends.ears.synced_to == ends.journal.size)
        assert hub.connections == 1
        hub.bend = lambda m: m
        await ends.until(lambda: ends.memory.count() == 1)


async def test_what_the_hub_cannot_take_now_is_told_and_sent_when_something_moves(tmp_path: Path) -> None:
    hub = Remembers()
    hub.busy = 1
    async with linked(tmp_path, hub, notes=1) as ends:
        await ends.until(lambda: [error.code for error in ends.ears.troubles] == ["memory.worker"])
        ends.write("and this")
        await ends.until(lambda: len(hub.got) == 2)


async def test_a_tombstone_becomes_a_receipt_in_the_log(tmp_path: Path) -> None:
    hub = Remembers()
    hub.add(theirs("forget me not"))
    stone = Tombstone("tmb_" + "b" * 24, "item", "person", MEM, "", "", "", 5, "mara", "asked")
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: ends.memory.count() == 1)
        hub.records = [Record(2, MEM, tombstone=seal_tombstone(stone, KEY)), Record(3, "mem_x", "AAAA")]
        await ends.notice("memory")
        await ends.until(lambda: ends.facts(MemoryErased) and ends.facts(MemoryRefused))
        assert ends.facts(MemoryErased) == [MemoryErased(tombstones=[stone.id], items=1)]
        await ends.until(lambda: ends.memory.count() == 0 and not ends.memory.pending())
        await ends.until(lambda: ends.ears.synced_to == ends.journal.size)


async def test_an_erasure_cut_off_by_a_kill_is_finished_without_a_hub(tmp_path: Path) -> None:
    stone = Tombstone("tmb_" + "b" * 24, "item", "person", MEM, "", "", "", 5, "mara", "asked")
    memory = Memory(tmp_path / "memory.sqlite3")
    memory.set_feeds({"person": "steward"})
    memory.take("person", [change(MEM, theirs("forget me"))], [], 1, now=5)
    memory.take("person", [], [stone], 2, now=5)
    memory.close()
    hub = Remembers()
    hub.refuse = refusal(Unavailable("device.unknown", "away", advice="wait"), fatal=True)
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: ends.facts(MemoryErased))
        assert ends.memory.count() == 0 and hub.order == []
