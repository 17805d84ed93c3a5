"""Who near a device has a model that it wants: other devices of this hub, with a ticket for each.

A device proves by its link key that it is the one that asks. It is told of devices that are connected now, in its own
network as the hub sees it, that use the model by their own log, and only where the release that each of the two is to
run lists the model and lets devices hand models to each other. What is proved with a ticket: ``shared.peering``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import select

from server.devices import Devices, Pinned, revoked
from server.devices.networks import network
from server.store import HubLog
from server.store.model_tables import DEVICE_MODELS
from server.store.tables import DEVICES
from shared import limits
from shared.errors import BadInput, Refused
from shared.peering import Found, Peer, Wanted, wanted_bytes
from shared.release import Release, Ticket, sign

_LOOKED_AT = 64  # of a network with more devices that hand out models
_US = 1_000_000


class Due(Protocol):
    """Says which release a device is to run, 0 for none; ``Rollouts.told()`` does."""

    def due(self, device: str, /) -> int: ...


class Rollouts(Protocol):
    def told(self) -> Due: ...


class Library(Protocol):
    """Where releases are; ``releases`` provides it."""

    def release(self, number: int, /) -> Release: ...


class Peers:
    """Safe from any thread."""

    def __init__(self, hublog: HubLog, devices: Devices, rollouts: Rollouts, releases: Library) -> None:
        self._log = hublog
        self._devices = devices
        self._rollouts = rollouts
        self._releases = releases
        self._handed: dict[int, frozenset[str]] = {}  # the models that devices may hand on, by release

    def find(self, wanted: Wanted, source: str) -> Found:
        """Some who have the model, in random order; ``source`` is the address from which the device asks.

        Raises ``Refused('device.unknown' | 'device.revoked' | 'peers.time' | 'peers.policy')``,
        ``Tampered('peers.signature')``, ``BadInput('peers.form')``.
        """
        asker = self._asker(wanted)
        if not self._may(wanted.device, wanted.sha256):
            raise Refused(
                "peers.policy",
                "the release of this device does not let devices hand this model to each other",
                advice="fetch it from the hub",
            )
        near = self._devices.near(network(source))
        near.pop(wanted.device, None)
        tried = sorted(near, key=lambda _: self._log.random(8))[:_LOOKED_AT]
        keys = self._having(wanted.sha256, tried)
        chosen = [one for one in tried if one in keys and self._may(one, wanted.sha256)][: limits.PEERS_OFFERED]
        tickets = [self._ticket(one, keys[one], near[one], asker, wanted.sha256) for one in chosen]
        return Found([Peer(ticket.device, sign(ticket, self._log.key)) for ticket in tickets])

    def _asker(self, wanted: Wanted) -> Pinned:
        asker = self._devices.pinned(wanted.device)
        if asker.state != "active":
            raise revoked()
        try:
            signature = bytes.fromhex(wanted.signature)
        except ValueError as error:
            raise BadInput("peers.form", "the signature is not hex", advice="update the device's software") from error
        signed = wanted_bytes(self._log.hub, wanted)
        asker.link_key.verify(signature, signed, code="peers.signature", what="the request for peers")
        if abs(self._log.clock() - wanted.at) > limits.CLOCK_SKEW_SECONDS * _US:
            raise Refused("peers.time", "the device's clock and the hub's are too far apart", advice="set the clock")
        return asker

    def _may(self, device: str, sha256: str) -> bool:
        number = self._rollouts.told().due(device)
        if number and number not in self._handed:
            manifest = self._releases.release(number).manifest
            self._handed[number] = frozenset(model.sha256 for model in manifest.models if manifest.peers)
        return sha256 in self._handed.get(number, ())

    def _having(self, sha256: str, devices: Sequence[str]) -> dict[str, str]:
        """The link keys of those among the devices that use the model and were not let go."""
        query = (
            select(DEVICES.c.id, DEVICES.c.link_key)
            .join(DEVICE_MODELS, DEVICE_MODELS.c.device == DEVICES.c.id)
            .where(DEVICE_MODELS.c.sha256 == sha256, DEVICES.c.state == "active", DEVICES.c.id.in_(devices))
        )
        with self._log.store.read() as conn:
            return {row.id: row.link_key for row in conn.execute(query)}

    def _ticket(self, device: str, key: str, address: str, asker: Pinned, sha256: str) -> Ticket:
        return Ticket(
            device=device,
            key=key,
            address=address,
            asker=asker.id,
            asker_key=asker.link_key.text,
            sha256=sha256,
            expires_at=self._log.clock() + limits.PEER_TICKET_SECONDS * _US,
        )
