"""The agent's end of the link against a hub that a test can make lie. When honest, it speaks the real protocol."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.link.backoff import Backoff
from edge_agent.link.client import Link
from shared import limits
from shared.codec import b64
from shared.entries import Draft, LeaseTaken, ReleaseInstalled, SwitchesTaken, read
from shared.errors import OutriderError, Refused, Unavailable
from shared.keys import Envelope, SigningKey, cosign_note, verify_cosignature
from shared.protocol import (
    PROTOCOL_VERSION,
    Accepted,
    Batch,
    Challenge,
    Hello,
    Notice,
    Pull,
    Pulled,
    Refusal,
    Status,
    Urgent,
    Welcome,
    decode,
    encode,
    hello_bytes,
    welcome_bytes,
)
from shared.release import Lease, Stop, sign
from shared.runs import Device
from shared.tlog import Checkpoint, Frontier, consistency_proof, leaf_hash, open_checkpoint, verify_batch
from tests.edge_agent.rig import Clock

HUB = "city/hub"
ORIGIN = "city/hub/device/dev"
LOG = SigningKey(b"l" * 32)
LINK = SigningKey(b"n" * 32)


class Hub:
    """Holds one device's tree and a log of its own. Every attribute may be bent by a test."""

    def __init__(self) -> None:
        self.key = SigningKey(b"h" * 32)
        self.name = HUB
        self.held = Frontier()
        self.batches: list[tuple[int, int]] = []
        self.outbox: list[Envelope] = []
        self.own = Frontier()
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.pulls: list[int] = []
        self.seen: list[str] = []
        self.refuse: Refusal | None = None
        self.refuse_batch: list[Refusal] = []
        self.drop_after: int | None = None
        self.bend: Callable[[Any], Any] = lambda message: message
        self.connections = 0
        self.socket: ServerConnection | None = None
        self.grow(1)

    def grow(self, count: int) -> None:
        for number in range(count):
            leaf = leaf_hash(f"hub {self.own.size} {number}".encode())
            self.nodes |= {(level, index): node for level, index, node in self.own.append(leaf)}

    async def talk(self, socket: ServerConnection) -> None:
        self.connections += 1
        self.socket = socket
        await self._send(socket, Challenge([PROTOCOL_VERSION], self.name, "ab" * 32, Clock().now))
        hello = decode(await socket.recv())
        assert isinstance(hello, Hello)
        LINK.public.verify(
            bytes.fromhex(hello.signature), hello_bytes(self.name, "ab" * 32, hello), code="x", what="hello"
        )
        if self.refuse is not None:
            await self._send(socket, self.refuse)
            return
        signed = welcome_bytes(hello.device, hello.nonce, self.held.size, 0)
        await self._send(socket, Welcome(self.held.size, 0, self.key.sign(signed).hex()))
        async for frame in socket:
            await self._answer(socket, decode(frame))

    async def _send(self, socket: ServerConnection, message: Any) -> None:
        await socket.send(encode(self.bend(message)))

    async def _answer(self, socket: ServerConnection, message: Any) -> None:
        self.seen.append(type(message).__name__)
        match message:
            case Batch():
                await self._take(socket, message)
            case Pull():
                self.pulls.append(message.cursor)
                proof = (
                    consistency_proof(message.pinned, self.own.size, lambda level, index: self.nodes[level, index])
                    if message.pinned
                    else []
                )
                note = Checkpoint(f"{HUB}/log", self.own.size, self.own.root()).sign(self.key)
                beyond = self.outbox[message.cursor :][:2]
                cursor = message.cursor + len(beyond)
                more = cursor < len(self.outbox)
                made = Pulled(cursor, more, beyond, note.decode(), message.pinned, [b64(node) for node in proof])
                await self._send(socket, made)
            case Status():
                pass

    async def _take(self, socket: ServerConnection, batch: Batch) -> None:
        if self.refuse_batch:
            await self._send(socket, self.refuse_batch.pop())
            return
        claimed = open_checkpoint(batch.checkpoint.encode(), ORIGIN, LOG.public)
        leaves = [leaf_hash(sent.data.encode()) for sent in batch.entries]
        self.held = verify_batch(self.held, batch.start, leaves, claimed)
        self.batches.append((batch.start, len(leaves)))
        if self.drop_after is not None and len(self.batches) == self.drop_after:
            await socket.close()
            return
        note = cosign_note(batch.checkpoint.encode(), HUB, self.key, 1_790_000_000)
        await self._send(socket, Accepted(self.held.size, note.decode()))


class Ears:
    """The application, as far as the link knows it."""

    def __init__(self) -> None:
        self.received: list[Envelope] = []
        self.troubles: list[OutriderError] = []
        self.synced_to = 0
        self.ups: list[bool] = []
        self.fail_once: OutriderError | None = None

    async def receive(self, envelope: Envelope) -> None:
        if self.fail_once is not None:
            error, self.fail_once = self.fail_once, None
            raise error
        self.received.append(envelope)

    def status(self) -> Status:
        return Status(0, 0, 0, 0, 0)

    def synced(self, size: int) -> None:
        self.synced_to = size

    def trouble(self, error: OutriderError) -> None:
        self.troubles.append(error)

    def linked(self, up: bool) -> None:
        self.ups.append(up)


@dataclass
class Ends:
    """Both ends of one link, and what the agent's waited between its tries."""

    hub: Hub
    ears: Ears
    journal: Journal
    device: Device
    link: Link
    task: asyncio.Task[None]
    waits: list[float]

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not ready():
                await asyncio.sleep(0.01)

    def codes(self) -> list[str]:
        return [error.code for error in self.ears.troubles]

    async def write(self, count: int) -> None:
        for _ in range(count):
            await self.journal.append(Draft(LeaseTaken("l", 1, 2, 3, 4)))


@asynccontextmanager
async def linked(folder: Path, hub: Hub, *, entries: int = 0) -> AsyncIterator[Ends]:
    clock, device, ears = Clock(), Device(), Ears()
    journal = Journal(folder / "log.sqlite3", ORIGIN, LOG, now=clock, software="test")
    journal.attach(asyncio.get_running_loop())
    journal.listen(lambda new: [device.fold(entry) for entry in new] and None)

    waits: list[float] = []

    async def quickly(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.01)

    async with serve(hub.talk, "127.0.0.1", 0, max_size=limits.MESSAGE_BYTES) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        identity = Identity("dev", "desk", ORIGIN, HUB, SigningKey(b"h" * 32).public.text, f"http://127.0.0.1:{port}")
        link = Link(identity, LINK, journal, device, ears, now=clock, software="test", sleep=quickly)
        for _ in range(entries):
            await journal.append(Draft(LeaseTaken("l", 1, 2, 3, 4)))
        task = asyncio.create_task(link.run())
        try:
            yield Ends(hub, ears, journal, device, link, task, waits)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            journal.close()


def lease(number: int) -> Envelope:
    return sign(Lease(f"l{number}", "dev", 1, 2, 3, 4), SigningKey(b"h" * 32))


async def test_everything_goes_up_under_countersigned_checkpoints(tmp_path: Path) -> None:
    async with linked(tmp_path, Hub(), entries=5) as ends:
        await ends.until(lambda: ends.ears.synced_to == ends.journal.size > 6)
        *_, (size, _, cosigned) = ends.journal.checkpoints()
        assert cosigned is not None
        assert verify_cosignature(cosigned, HUB, ends.hub.key.public) == 1_790_000_000
        assert ends.ears.synced_to == size
        assert ends.ears.ups == [True]
        assert ends.codes() == []


async def test_a_cut_after_the_hub_kept_a_batch_sends_nothing_wrong_twice(tmp_path: Path) -> None:
    hub = Hub()
    hub.drop_after = 2
    async with linked(tmp_path, hub, entries=3) as ends:
        await ends.write(3)
        await ends.until(lambda: hub.connections >= 2 and ends.ears.synced_to == ends.journal.size)
        covered = sorted(hub.batches)
        assert covered[0][0] == 0
        assert all(a[0] + a[1] == b[0] for a, b in pairwise(covered)), "no gap, no overlap"
        assert True in ends.ears.ups
        assert False in ends.ears.ups


async def test_messages_are_pulled_in_order_and_each_once(tmp_path: Path) -> None:
    hub = Hub()
    hub.outbox = [lease(n) for n in range(5)]
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: len(ends.ears.received) == 5)
        hub.outbox.append(lease(5))
        assert hub.socket is not None
        await hub.socket.send(encode(Notice(["approvals"])))
        await ends.until(lambda: len(ends.ears.received) == 6)
        assert ends.ears.received == hub.outbox
        assert hub.pulls[:4] == [0, 2, 4, 5]


async def test_a_message_that_cannot_be_used_does_not_keep_the_others_away(tmp_path: Path) -> None:
    hub = Hub()
    hub.outbox = [lease(n) for n in range(3)]
    async with linked(tmp_path, hub) as ends:
        ends.ears.fail_once = Refused("lease.older", "older", advice="none")
        await ends.until(lambda: len(ends.ears.received) == 2)
        assert ends.codes() == ["lease.older"]


async def test_a_message_that_could_not_be_kept_is_pulled_again(tmp_path: Path) -> None:
    """A full disk: the cursor must not move past what is not on it."""
    hub = Hub()
    hub.outbox = [lease(0)]
    async with linked(tmp_path, hub) as ends:
        ends.ears.fail_once = Unavailable("log.disk-full", "full", advice="free some")
        await ends.until(lambda: len(ends.ears.received) == 1)
        assert "log.disk-full" in ends.codes()
        assert hub.pulls[0] == hub.pulls[1] == 0


async def test_the_hubs_own_log_is_pinned_and_held_to_one_history(tmp_path: Path) -> None:
    hub = Hub()
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: ends.device.hub_size == 1)
        hub.grow(4)
        assert hub.socket is not None
        await hub.socket.send(encode(Notice(["releases"])))
        await ends.until(lambda: ends.device.hub_size == 5)
        hub.own, hub.nodes = Frontier(), {}
        hub.grow(9)  # another history, longer than the first: nine leaves of other names
        await hub.socket.send(encode(Notice(["releases"])))
        await ends.until(lambda: "tlog.consistency" in ends.codes())
        assert ends.device.hub_size == 5


async def test_a_shorter_hub_log_is_a_rollback(tmp_path: Path) -> None:
    hub = Hub()
    hub.grow(6)
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: ends.device.hub_size == 7)
        hub.bend = lambda m: _shorter(m, hub) if isinstance(m, Pulled) else m
        assert hub.socket is not None
        await hub.socket.send(encode(Notice(["releases"])))
        await ends.until(lambda: "hub.rollback" in ends.codes())


def _shorter(message: Pulled, hub: Hub) -> Pulled:
    old = Frontier()
    old.extend([leaf_hash(b"one")])
    note = Checkpoint(f"{HUB}/log", 1, old.root()).sign(hub.key).decode()
    return Pulled(message.cursor, False, [], note, message.since, [])


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (lambda m: Challenge([99], HUB, m.nonce, m.now) if isinstance(m, Challenge) else m, "link.version"),
        (lambda m: Challenge(m.versions, "other/hub", m.nonce, m.now) if isinstance(m, Challenge) else m, "link.hub"),
        (lambda m: Welcome(m.held, 9, m.signature) if isinstance(m, Welcome) else m, "link.hub-signature"),
        (lambda m: Welcome(m.held, m.cursor, "zz") if isinstance(m, Welcome) else m, "link.message"),
        (lambda m: Accepted(m.size + 1, m.checkpoint) if isinstance(m, Accepted) else m, "link.accepted"),
        (
            lambda m: Accepted(m.size, m.checkpoint.rsplit("— ", 1)[0]) if isinstance(m, Accepted) else m,
            "note.uncosigned",
        ),
    ],
)
async def test_a_hub_that_is_not_ours_or_lies_is_not_believed(
    tmp_path: Path, bend: Callable[[Any], Any], code: str
) -> None:
    hub = Hub()
    hub.bend = bend
    async with linked(tmp_path, hub, entries=1) as ends:
        await ends.until(lambda: code in ends.codes())
        assert ends.journal.cosigned_size() == 0
        assert not ends.task.done(), "the agent goes on without it"


async def test_a_hub_that_claims_to_hold_more_is_not_followed(tmp_path: Path) -> None:
    hub = Hub()
    hub.held = Frontier()
    hub.held.extend([leaf_hash(b"x")] * 50)
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: "log.rollback" in ends.codes())
        assert ends.waits[0] >= limits.BACKOFF_MOST_SECONDS / 2


@pytest.mark.parametrize("code", ["device.revoked", "log.fork", "log.rollback"])
async def test_what_only_a_person_can_mend_is_asked_about_rarely(tmp_path: Path, code: str) -> None:
    hub = Hub()
    hub.refuse = Refusal("Refused", code, "no", "ask", fatal=True)
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: len(ends.waits) >= 2)
        assert set(ends.codes()) == {code}
        assert min(ends.waits) >= limits.BACKOFF_MOST_SECONDS / 2
        hub.refuse = None  # an operator has mended it
        await ends.until(lambda: ends.link.up)


async def test_a_refused_batch_is_sent_again_from_where_the_hub_stands(tmp_path: Path) -> None:
    hub = Hub()
    hub.refuse_batch = [Refusal("Conflict", "log.gap", "a gap", "send again", held=0)]
    async with linked(tmp_path, hub, entries=3) as ends:
        await ends.until(lambda: ends.ears.synced_to == ends.journal.size)
        assert "log.gap" in ends.codes()
        assert read(next(iter(ends.journal.raw()))[1]).type == "log.opened"


async def test_a_hub_that_is_away_is_tried_again(tmp_path: Path) -> None:
    hub = Hub()
    async with linked(tmp_path, hub) as ends:
        await ends.until(lambda: hub.connections == 1 and ends.link.up)
        assert hub.socket is not None
        await hub.socket.close()
        await ends.until(lambda: hub.connections == 2 and ends.link.up)
        assert "hub.unreachable" in ends.codes()


def test_waits_double_within_bounds_and_are_drawn_from_the_upper_half() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.next() for _ in range(12)]
    for number, wait in enumerate(waits):
        whole = min(limits.BACKOFF_MOST_SECONDS, limits.BACKOFF_FIRST_SECONDS * 2**number)
        assert whole / 2 <= wait <= whole
    backoff.reset()
    assert backoff.next() <= limits.BACKOFF_FIRST_SECONDS


# --- what does not wait -------------------------------------------------------------------------------------------


def urgent(version: int) -> Urgent:
    return Urgent(sign(Stop("dev", 1, version, []), SigningKey(b"h" * 32)))


async def say(ends: Ends, message: Notice | Urgent) -> None:
    assert ends.hub.socket is not None
    await ends.hub.socket.send(encode(message))


async def test_a_stop_does_not_wait_for_what_is_still_worked_on(tmp_path: Path) -> None:
    """A release may take minutes to fetch; the stop that comes meanwhile is taken at once."""
    async with linked(tmp_path, Hub()) as ends:
        fetching = asyncio.Event()
        took: list[str] = []

        async def receive(envelope: Envelope) -> None:
            if envelope.purpose == "lease":
                await fetching.wait()
            took.append(envelope.purpose)

        ends.ears.receive = receive  # type: ignore[method-assign]
        ends.hub.outbox.append(lease(1))
        await ends.until(lambda: ends.hub.pulls != [])
        await say(ends, urgent(3))
        await ends.until(lambda: took == ["stop"])
        fetching.set()
        await ends.until(lambda: took == ["stop", "lease"])


async def test_only_a_stop_may_come_unasked(tmp_path: Path) -> None:
    async with linked(tmp_path, Hub()) as ends:
        await ends.until(lambda: ends.hub.pulls != [])
        await say(ends, Urgent(lease(1)))
        await ends.until(lambda: "link.message" in ends.codes())
        assert ends.ears.received == []


async def test_a_refused_stop_is_told_and_the_link_goes_on(tmp_path: Path) -> None:
    async with linked(tmp_path, Hub()) as ends:
        await ends.until(lambda: ends.hub.pulls != [])
        ends.ears.fail_once = Refused("stop.older", "it is older", advice="wait")
        await say(ends, urgent(2))
        await ends.until(lambda: ends.codes() == ["stop.older"])
        await say(ends, urgent(3))
        await ends.until(lambda: [envelope.purpose for envelope in ends.ears.received] == ["stop"])
        assert ends.hub.connections == 1


async def test_a_notice_to_the_fleet_is_pulled_at_a_moment_of_ones_own(tmp_path: Path) -> None:
    async with linked(tmp_path, Hub()) as ends:
        await ends.until(lambda: len(ends.hub.pulls) == 1)
        ends.link.chance.random = lambda: 1.0  # type: ignore[method-assign]  # the latest moment there is
        began = asyncio.get_running_loop().time()
        await say(ends, Notice(["releases"], 300))
        await ends.until(lambda: len(ends.hub.pulls) == 2)
        assert asyncio.get_running_loop().time() - began >= 0.3


async def test_the_hub_hears_at_once_what_is_obeyed_and_run(tmp_path: Path) -> None:
    async with linked(tmp_path, Hub()) as ends:
        await ends.until(lambda: ends.hub.seen.count("Status") == 1)
        await ends.journal.append(Draft(SwitchesTaken(3, 1, [])))
        await ends.until(lambda: ends.hub.seen.count("Status") == 2)
        await ends.journal.append(Draft(ReleaseInstalled(2, {})))
        await ends.until(lambda: ends.hub.seen.count("Status") == 3)
