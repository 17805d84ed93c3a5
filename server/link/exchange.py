"""What hub and agent say to each other once they know each other: batches up, signed messages down, memory both ways.
Blocking; the connection calls it in a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from server.devices import Devices, Pinned
from server.ingest import Ingest
from server.memory import Memory
from server.store import HubLog
from server.switches import Switches
from shared.errors import OutriderError, Refused
from shared.keys import Envelope
from shared.protocol import (
    Accepted,
    Batch,
    Forget,
    Forgotten,
    Hello,
    Pull,
    Pulled,
    Recall,
    Recalled,
    Refusal,
    Remember,
    Remembered,
    refusal,
)

# What no repetition mends: the connection ends, and the agent waits for a person.
FATAL = frozenset({"device.revoked", "device.unknown", "log.fork", "log.rollback"})


class Assigner(Protocol):
    """Who says which release a device should run; ``rollouts`` does."""

    def assignment(self, device: str, /) -> Envelope: ...


class Asking(Protocol):
    """What devices are asked until they answer; ``replay`` does."""

    def waiting(self, device: str, /) -> list[Envelope]: ...


@dataclass(frozen=True)
class Exchange:
    """The rooms behind the link."""

    hublog: HubLog
    devices: Devices
    ingest: Ingest
    rollouts: Assigner
    memory: Memory
    switches: Switches
    replays: Asking

    def greet(self, pinned: Pinned, hello: Hello) -> int:
        """How many of the device's entries are held. A revoked device is greeted too: it must hear of it, signed."""
        if pinned.state != "active":
            return self.ingest.frontier(pinned.id).size
        return self.ingest.greet(pinned.id, hello.size, hello.root)

    def accept(self, device: str, batch: Batch) -> Accepted | Refusal:
        try:
            return self.ingest.accept(device, batch)
        except OutriderError as error:
            if error.code in FATAL:
                return refusal(error, fatal=True)
            return refusal(error, held=self.ingest.frontier(device).size)

    def pull(self, device: str, asked: Pull) -> Pulled | Refusal:
        """The assignment and the lease in force, what was asked and not answered, what waits in the outbox, and how the
        hub's log grew."""
        try:
            messages = [*self._assignment(device), self.devices.lease(device), *self.replays.waiting(device)]
            waiting, cursor, more = self.devices.outbox(device, asked.cursor)
            return self._pulled(asked, [*messages, *waiting], cursor, more)
        except OutriderError as error:
            return refusal(error, fatal=error.code in FATAL)

    def of_memory(self, device: str, asked: Remember | Recall | Forget) -> Remembered | Recalled | Forgotten | Refusal:
        """What a device says or asks of memory. A refusal never ends the link, unless the device was let go."""
        try:
            if self.devices.pinned(device).state != "active":
                raise revoked()
            match asked:
                case Remember():
                    return self.memory.remember(device, asked)
                case Recall():
                    return self.memory.recall(device, asked)
                case Forget():
                    return self.memory.forget(device, asked)
        except OutriderError as error:
            return refusal(error, fatal=error.code in FATAL)

    def farewell(self, device: str, asked: Pull) -> Pulled | Refusal:
        """What a revoked device is told, instead of anything else."""
        try:
            sealed = self.devices.pinned(device).revocation
            return self._pulled(asked, [sealed] if sealed else [], asked.cursor, False)
        except OutriderError as error:
            return refusal(error, fatal=True)

    def _pulled(self, asked: Pull, messages: list[Envelope], cursor: int, more: bool) -> Pulled:
        note, proof = self.hublog.consistency(asked.pinned)
        return Pulled(cursor=cursor, more=more, messages=messages, checkpoint=note, since=asked.pinned, proof=proof)

    def _assignment(self, device: str) -> list[Envelope]:
        try:
            return [self.rollouts.assignment(device)]
        except OutriderError as error:
            if error.code == "release.none":  # nothing is published yet: the device is lent authority all the same
                return []
            raise


def revoked() -> Refused:
    return Refused("device.revoked", "this device was revoked", advice="ask the hub's operator; then join again")
