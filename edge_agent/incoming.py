"""What the hub sends, opened and taken in: stops, assignments, leases, answers, orders, holds, the end of it all.

Each message is signed by the hub for this device and this purpose; what it changes is an entry in the log first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge_agent.config import now_us
from edge_agent.guard import Guard
from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.releases import Releases
from edge_agent.runner import Runner
from shared.entries import DeviceRevoked, Draft, LeaseTaken, ReleaseInstalled, ReleaseRefused, SwitchesTaken
from shared.errors import BadInput, Refused, Tampered
from shared.keys import Envelope
from shared.memory.feed import Hold, open_hold
from shared.release import Answer, Assignment, Lease, Order, Release, Replay, Revocation, Stop, open_signed
from shared.runs import Device


class Incoming:
    """``use`` puts a verified release into force; ``hold`` keeps something from being forgotten, or no longer;
    ``replay`` tries a release on this device's past when there is time."""

    def __init__(
        self,
        identity: Identity,
        journal: Journal,
        device: Device,
        guard: Guard,
        runner: Runner,
        releases: Releases,
        use: Callable[[Release], Awaitable[None]],
        hold: Callable[[Hold], None],
        replay: Callable[[Replay], None],
    ) -> None:
        self._identity = identity
        self._journal = journal
        self._device = device
        self._guard = guard
        self._runner = runner
        self._releases = releases
        self._use = use
        self._hold = hold
        self._replay = replay
        self._stopping = asyncio.Lock()

    async def take(self, envelope: Envelope) -> None:
        """Open one message and do what it says. Raises what is wrong with it."""
        key, device = self._identity.hub_public, self._identity.device
        match envelope.purpose:
            case "stop":
                await self._take_stop(open_signed(envelope, Stop, key, device))
            case "assignment":
                await self._take_assignment(open_signed(envelope, Assignment, key, device))
            case "lease":
                await self._take_lease(open_signed(envelope, Lease, key, device))
            case "order":
                await self._runner.order(open_signed(envelope, Order, key, device), envelope)
            case "answer":
                await self._runner.answer(open_signed(envelope, Answer, key, device), envelope)
            case "revocation":
                said = open_signed(envelope, Revocation, key, device)
                await self._journal.append(Draft(DeviceRevoked(device=device, by=self._identity.hub, code=said.code)))
            case "replay":
                self._replay(open_signed(envelope, Replay, key, device))
            case "hold":
                await asyncio.to_thread(self._hold, open_hold(envelope, key))
            case _:
                raise BadInput("link.purpose", f"unknown message {envelope.purpose!r}", advice="update this agent")

    async def _take_stop(self, stop: Stop) -> None:
        """In force at once, then on the disk. Two that come together are written in the order of their versions."""
        taken = SwitchesTaken(version=stop.version, at=stop.at, switches=stop.switches)
        self._guard.heed(taken)
        async with self._stopping:
            held = self._device.stops.version if self._device.stops is not None else 0
            if stop.version == held:
                return
            if stop.version < held:
                raise Refused("stop.older", "this stop is older than the one held", advice="check the hub's log")
            await self._journal.append(Draft(taken))
        self._runner.wake_all()

    async def _take_assignment(self, assignment: Assignment) -> None:
        if now_us() > assignment.expires_at:
            raise Refused("assignment.expired", "the assignment has expired", advice="check the clocks")
        if self._device.release is not None and self._device.release.release == assignment.release:
            return
        try:
            release = await self._releases.fetch(assignment.release)
        except (Tampered, BadInput, Refused) as error:
            await self._journal.append(Draft(ReleaseRefused(release=assignment.release, code=error.code)))
            raise
        facts = ReleaseInstalled(release=release.number, files=dict(release.manifest.files))
        await self._journal.append(Draft(facts))
        await self._use(release)
        self._runner.wake_all()

    async def _take_lease(self, lease: Lease) -> None:
        held = self._device.lease
        if held is not None and held.lease == lease.lease:
            return
        if held is not None and lease.issued_at < held.issued_at:
            raise Refused("lease.older", "this lease is older than the one held", advice="check the hub's clock")
        facts = LeaseTaken(
            lease=lease.lease,
            issued_at=lease.issued_at,
            expires_at=lease.expires_at,
            actions=lease.actions,
            value_cents=lease.value_cents,
        )
        await self._journal.append(Draft(facts))
        self._runner.wake_all(held=True)
