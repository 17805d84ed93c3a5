"""The agent's end of the link: one WebSocket to the hub, kept alive, resumable at any byte.

Protocol: ``shared/spec/link.md``.

Up go batches of the log, each under one checkpoint, one in flight at a time: what the hub has accepted is exact, so a
cut at any moment costs at most a batch sent twice. Down come notices, which carry nothing but the hint to pull, and on
a pull the hub's signed messages. Every message is judged before it is used; one that cannot be ends the connection, not
the agent. Memory shares the connection (``remembering``): it waits while the log is behind, though not for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.link.backoff import Backoff
from edge_agent.link.remembering import Remembering
from shared import limits
from shared.codec import unb64
from shared.entries import Draft, Entry, HubPinned, ReleaseInstalled, SwitchesTaken
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered, Unavailable
from shared.keys import Envelope, SigningKey, verify_cosignature
from shared.protocol import (
    PROTOCOL_VERSION,
    Accepted,
    Batch,
    Challenge,
    Forgotten,
    Hello,
    Message,
    Notice,
    Pull,
    Pulled,
    Recalled,
    Refusal,
    Remembered,
    Status,
    Urgent,
    Welcome,
    decode,
    encode,
    error_of,
    hello_bytes,
    welcome_bytes,
)
from shared.runs import Device
from shared.tlog import open_checkpoint, verify_consistency

M = TypeVar("M", bound=Message)
_US = 1_000_000
# Refusals that say the log or the device itself is in question. The agent must not act on such a log.
FOR_A_PERSON = frozenset({"device.revoked", "device.unknown", "log.rollback", "log.fork"})
_AGAIN_S = 0.5  # before a refused batch is sent again from where the hub stands
_TURN_S = 1.0  # memory waits at most this long for the log to move
_MEMORY = "memory"


class Receiver(Protocol):
    """Who uses what the link brings: the application."""

    async def receive(self, envelope: Envelope) -> None:
        """Act on one signed message; return when its effect is on the disk."""
        ...

    def status(self) -> Status: ...

    def synced(self, size: int) -> None:
        """The hub has countersigned ``size`` entries."""
        ...

    def trouble(self, error: OutriderError) -> None: ...

    def linked(self, up: bool) -> None: ...


class Link:
    """Runs until cancelled."""

    def __init__(
        self,
        identity: Identity,
        key: SigningKey,
        journal: Journal,
        device: Device,
        receiver: Receiver,
        *,
        now: Callable[[], int],
        software: str,
        memory: Remembering | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.identity = identity
        self._key = key
        self.journal = journal
        self.device = device
        self.receiver = receiver
        self.now = now
        self._software = software
        self.memory = memory
        self._sleep = sleep
        self.chance = random.Random()  # noqa: S311 - jitter, not a secret
        self._backoff = Backoff(self.chance)
        self.grown = asyncio.Event()
        self.pull = asyncio.Event()
        self.news = asyncio.Event()  # the hub is to be told of now, and not with the next heartbeat
        self.up = False
        journal.listen(self._grew)

    def _grew(self, entries: list[Entry]) -> None:
        self.grown.set()
        if any(isinstance(entry.facts, ReleaseInstalled | SwitchesTaken) for entry in entries):
            self.news.set()

    async def run(self) -> None:
        if self.memory is not None:
            await self.memory.start()
        while True:
            try:
                await self._connect()
            except (OSError, WebSocketException, TimeoutError) as error:
                self.receiver.trouble(_unreachable(self.identity.hub_url, error))
            except OutriderError as error:
                self.receiver.trouble(error)
                if error.code in FOR_A_PERSON:
                    self._backoff.wait_long()  # only a person can mend these; the hub is asked now and then
            finally:
                self._set_up(False)
            await self._sleep(self._backoff.next())

    def _set_up(self, up: bool) -> None:
        if self.up != up:
            self.up = up
            self.receiver.linked(up)

    async def _connect(self) -> None:
        url = self.identity.hub_url.replace("http", "ws", 1).rstrip("/") + "/link"
        async with connect(
            url,
            compression=None,
            max_size=limits.MESSAGE_BYTES,
            open_timeout=limits.HANDSHAKE_SECONDS,
            ping_interval=limits.HEARTBEAT_SECONDS,
            ping_timeout=limits.HEARTBEAT_SECONDS,
            proxy=None,
        ) as socket:
            async with asyncio.timeout(limits.HANDSHAKE_SECONDS):
                held, cursor = await self._shake_hands(socket)
            self._backoff.reset()
            self._set_up(True)
            session = _Session(self, socket, held, cursor)
            await session.run()

    async def _shake_hands(self, socket: ClientConnection) -> tuple[int, int]:
        challenge = _expect(await _receive(socket), Challenge)
        if PROTOCOL_VERSION not in challenge.versions:
            raise Refused(
                "link.version",
                f"the hub speaks versions {challenge.versions}, this agent {PROTOCOL_VERSION}",
                advice="update the older of the two",
            )
        if challenge.hub != self.identity.hub:
            raise Tampered("link.hub", f"this is the hub {challenge.hub!r}, not ours", advice="check the hub's address")
        off = abs(challenge.now - self.now()) // _US
        if off > limits.CLOCK_SKEW_SECONDS:
            self.receiver.trouble(
                Conflict("clock.skew", f"this clock and the hub's are {off} s apart", advice="set the clock")
            )
        size, root = self.journal.committed, self.journal.root.hex()
        release = self.device.release.release if self.device.release else 0
        hello = Hello(
            PROTOCOL_VERSION, self.identity.device, secrets.token_hex(32), size, root, release, self._software, ""
        )
        signature = self._key.sign(hello_bytes(challenge.hub, challenge.nonce, hello)).hex()
        await socket.send(encode(msgspec.structs.replace(hello, signature=signature)))
        welcome = _expect(await _receive(socket), Welcome)
        signed = welcome_bytes(self.identity.device, hello.nonce, welcome.held, welcome.cursor)
        self.identity.hub_public.verify(
            _unhex(welcome.signature), signed, code="link.hub-signature", what="the hub's welcome"
        )
        if welcome.held > size:
            raise Tampered("log.rollback", "the hub holds more entries than this log has", advice="restore the log")
        return welcome.held, welcome.cursor


class _Session:
    """One connection: a reader, a sender of batches, memory's conversation and a heartbeat."""

    def __init__(self, link: Link, socket: ClientConnection, held: int, cursor: int) -> None:
        self._link = link
        self._socket = socket
        self._held = held
        self._cursor = cursor
        self._pause = 0.0
        self._accepted = asyncio.Event()
        self._moved = asyncio.Event()  # the hub answered a batch
        self._inbox: asyncio.Queue[Pulled] = asyncio.Queue(limits.SEND_QUEUE)

    async def run(self) -> None:
        parts = [self._read(), self._upload(), self._pulls(), self._beat()]
        if self._link.memory is not None:
            parts.append(self._link.memory.talk(self._say, self._behind_the_log))
        tasks = [asyncio.create_task(work) for work in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            message = decode(await self._socket.recv())
            match message:
                case Accepted():
                    await self._take_accepted(message)
                case Notice():
                    self._take_notice(message)
                case Urgent(message=envelope) if envelope.purpose == "stop":
                    await self._receive(envelope)
                case Pulled():
                    await self._inbox.put(message)
                case Remembered() | Recalled() | Forgotten():
                    self._hear(message)
                case Refusal(held=held) if held >= 0 and not message.fatal:
                    self._link.receiver.trouble(error_of(message))
                    self._held, self._pause = held, _AGAIN_S
                    self._accepted.set()
                    self._moved.set()
                case Refusal() if message.code.startswith("memory.") and not message.fatal:
                    self._hear(message)
                case Refusal():
                    raise error_of(message)
                case _:
                    raise BadInput(
                        "link.message", "the hub sent what only agents send", advice="check the hub's version"
                    )

    async def _take_accepted(self, message: Accepted) -> None:
        link = self._link
        note = message.checkpoint.encode()
        checkpoint = open_checkpoint(note, link.identity.origin, link.journal.public)
        verify_cosignature(note, link.identity.hub, link.identity.hub_public)
        if checkpoint.size != message.size:
            raise Tampered("link.accepted", "the hub countersigned another size", advice="check the hub")
        await link.journal.cosign(message.size, note)
        self._held = message.size
        link.receiver.synced(message.size)
        self._accepted.set()
        self._moved.set()

    def _take_notice(self, notice: Notice) -> None:
        """News of memory alone is nothing to pull. What the whole fleet is told is pulled at a moment of one's own."""
        if notice.topics != [_MEMORY]:
            if notice.spread_ms > 0:
                wait = min(notice.spread_ms, limits.SPREAD_MS_MOST) / 1000 * self._link.chance.random()
                asyncio.get_running_loop().call_later(wait, self._link.pull.set)
            else:
                self._link.pull.set()
        if self._link.memory is not None and _MEMORY in notice.topics:
            self._link.memory.notice()

    def _hear(self, message: Message) -> None:
        if self._link.memory is None:
            raise BadInput("link.order", "the hub answers what was not asked", advice="check the hub's version")
        self._link.memory.hear(message)

    async def _say(self, message: Message) -> None:
        await self._socket.send(encode(message))

    async def _behind_the_log(self) -> None:
        """Return when the log is level with the hub, or has moved by a batch: one of memory's messages for each."""
        self._moved.clear()
        if self._link.journal.committed > self._held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TURN_S):
                    await self._moved.wait()

    async def _upload(self) -> None:
        """Send what the hub lacks, one batch at a time."""
        link = self._link
        link.receiver.synced(self._held)
        while True:
            link.grown.clear()
            batch = link.journal.batch(self._held)
            if batch is None:
                await link.grown.wait()
                continue
            entries, note = batch
            self._accepted.clear()
            await self._socket.send(encode(Batch(self._held, entries, note.decode())))
            await self._accepted.wait()
            pause, self._pause = self._pause, 0.0
            await asyncio.sleep(pause)

    async def _pulls(self) -> None:
        """Pull on connection, on every notice, and before the lease runs out."""
        link = self._link
        link.pull.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_renewal()):  # wait_for can swallow a cancellation in 3.11
                    await link.pull.wait()
            link.pull.clear()
            more = True
            while more:
                await self._socket.send(encode(Pull(self._cursor, link.device.hub_size)))
                pulled = await self._inbox.get()
                more = await self._take_pulled(pulled)

    def _until_renewal(self) -> float:
        lease = self._link.device.lease
        if lease is None:
            return limits.HEARTBEAT_SECONDS
        half = (lease.issued_at + lease.expires_at) // 2
        return max(1.0, min(3600.0, (half - self._link.now()) / _US))

    async def _take_pulled(self, pulled: Pulled) -> bool:
        await self._pin(pulled)
        for envelope in pulled.messages:
            await self._receive(envelope)
        self._cursor = pulled.cursor
        return pulled.more

    async def _receive(self, envelope: Envelope) -> None:
        try:
            await self._link.receiver.receive(envelope)
        except Unavailable:
            raise
        except OutriderError as error:
            self._link.receiver.trouble(error)  # one bad message must not keep the others away

    async def _pin(self, pulled: Pulled) -> None:
        """Hold the hub to one history: its log must extend what was pinned before."""
        link = self._link
        identity, device = link.identity, link.device
        checkpoint = open_checkpoint(pulled.checkpoint.encode(), f"{identity.hub}/log", identity.hub_public)
        if pulled.since != device.hub_size or checkpoint.size < device.hub_size:
            raise Tampered(
                "hub.rollback", "the hub's log is shorter than it was", advice="keep both checkpoints; ask the owner"
            )
        if checkpoint.size == device.hub_size and checkpoint.root.hex() == device.hub_root:
            return
        proof = [unb64(node, what="the hub's proof") for node in pulled.proof]
        if device.hub_size:
            verify_consistency(device.hub_size, bytes.fromhex(device.hub_root), checkpoint.size, checkpoint.root, proof)
        facts = HubPinned(origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root.hex())
        await link.journal.append(Draft(facts, bodies={"shared": {"note": pulled.checkpoint}}))

    async def _beat(self) -> None:
        while True:
            self._link.news.clear()
            await self._socket.send(encode(self._link.receiver.status()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.HEARTBEAT_SECONDS):
                    await self._link.news.wait()


async def _receive(socket: ClientConnection) -> Message:
    message = decode(await socket.recv())
    if isinstance(message, Refusal):
        raise error_of(message)
    return message


def _expect(message: Message, kind: type[M]) -> M:
    if not isinstance(message, kind):
        raise BadInput("link.order", f"expected {kind.__name__}", advice="check the hub's version")
    return message


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadInput("link.message", "a signature is not hex", advice="check the hub's version") from error


def _unreachable(url: str, error: Exception) -> Unavailable:
    said = str(error) or type(error).__name__
    return Unavailable("hub.unreachable", f"{url}: {said}", advice="the agent works on under its lease and tries again")
