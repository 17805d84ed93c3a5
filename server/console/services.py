"""What the console is given: the hub's rooms, gathered by the composition root.

The console reads and asks; it holds no state of its own. Everything a person does here goes
through the same rooms as everything else, so nothing can be done in the console that the record would not show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.approvals import Approvals
    from server.authoring import Access, Authoring
    from server.bus import Bus
    from server.devices import Devices
    from server.doors import Doors
    from server.embedding.index import TeamIndex
    from server.ingest import Record
    from server.memory import Memory
    from server.models import Models
    from server.orders import Orders
    from server.releases import Releases
    from server.replay import Reconcile, Replays
    from server.rollouts import Rollouts
    from server.switches import Switches
    from server.users import Users


@dataclass(frozen=True)
class HubInfo:
    """``name`` is the organisation's; ``origin`` names the hub's log; ``home`` is shown in commands people can copy;
    ``address`` is the base URL agents join, without a slash at the end; ``token_seconds`` is how long a one-time token
    made here can be used."""

    name: str
    origin: str
    home: str
    address: str
    software: str
    token_seconds: int


@dataclass(frozen=True)
class Services:
    """The rooms. ``clock`` gives microseconds since 1970 UTC."""

    users: Users
    devices: Devices
    record: Record
    approvals: Approvals
    orders: Orders
    memory: Memory
    models: Models
    doors: Doors
    releases: Releases
    rollouts: Rollouts
    authoring: Authoring
    access: Access
    switches: Switches
    replays: Replays
    reconcile: Reconcile
    bus: Bus
    hub: HubInfo
    clock: Callable[[], int]
    index: TeamIndex | None = None  # finds team memory by meaning too; without it by words alone
