"""The composition root: opens the hub's rooms, and puts them behind one application.

``open_hub`` takes the lock and opens everything that judges or stores; the commands use it alone when no hub runs.
``build`` adds the parts that face the network. Nothing else in the hub makes a room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from fastapi import FastAPI

from server import console, web
from server.api import Api, mount_repository
from server.approvals import Approvals
from server.authoring import Access, Authoring, routes
from server.bus import Bus
from server.config import ADMIN_FILE, METRICS_FILE, HubConfig
from server.devices import Devices
from server.doors import Doors
from server.embedding.index import TeamIndex
from server.ingest import Ingest, Record
from server.link import Link
from server.link.exchange import Exchange
from server.memory import Memory
from server.models import Models
from server.opendoor import OpenDoor
from server.orders import Orders
from server.peers import Peers
from server.releases import Releases
from server.replay import Reconcile, Replays
from server.rollouts import Rollouts
from server.store import HubLog, Store, load_identity, take_lock
from server.store.home import make_token
from server.switches import Switches
from server.telemetry import Telemetry
from server.users import Users
from shared import __version__

_log = logging.getLogger("outrider.hub")
_FLUSH_SECONDS = 5.0
_RENEW_SECONDS = 3600.0
_FORGET_SECONDS = 2.0  # what was forgotten leaves the files this soon; several at once cost one pass
_RECONCILE_SECONDS = 2.0  # what came in from a time offline is looked through this soon
_EXPIRE_SECONDS = 600.0  # what has expired is not used at once, and erased together with what else has
_INDEX_SECONDS = 1.0  # before the index of memory begins, and before it begins again after a failure


def now_us() -> int:
    """Microseconds since 1970 UTC, by this machine's clock."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Hub:
    """The rooms of one hub, open."""

    config: HubConfig
    store: Store
    hublog: HubLog
    bus: Bus
    users: Users
    devices: Devices
    ingest: Ingest
    record: Record
    approvals: Approvals
    orders: Orders
    releases: Releases
    rollouts: Rollouts
    telemetry: Telemetry
    memory: Memory
    models: Models
    doors: Doors
    switches: Switches
    authoring: Authoring
    access: Access
    replays: Replays
    reconcile: Reconcile


@contextlib.contextmanager
def open_hub(config: HubConfig, clock: Callable[[], int] = now_us) -> Iterator[Hub]:
    """Hold the home's lock and everything in it. Raises ``Conflict('hub.locked')`` where another process does."""
    load_identity(config.home)  # so that a missing hub is called that, and not a missing lock
    with take_lock(config.home):
        store = Store(config.home, config.database_url)
        try:
            hub = _open(config, store, clock)
            try:
                yield hub
            finally:
                hub.memory.close()
        finally:
            store.close()


def _open(config: HubConfig, store: Store, clock: Callable[[], int]) -> Hub:
    hublog = HubLog(store, clock=clock, random=secrets.token_bytes)
    bus = Bus()
    releases = Releases(config.home, hublog, clock=clock, staged=config.rollout == "staged")
    record = Record(store, clock)
    telemetry = Telemetry(store, config, origin=hublog.origin, clock=clock)
    memory = Memory(hublog, bus)
    devices = Devices(hublog, bus, config, releases)
    users = Users(hublog, session_seconds=config.session_seconds)
    rollouts = Rollouts(hublog, bus, releases, devices)
    orders = Orders(hublog, bus, record.run, releases)
    authoring = Authoring(
        hublog, bus, releases, config.home / "workspace",
        people=users.list, devices=lambda: [device.id for device in devices.list()], sign_offs=config.sign_offs,
    )  # fmt: skip
    return Hub(
        config=config,
        store=store,
        hublog=hublog,
        bus=bus,
        users=users,
        devices=devices,
        ingest=Ingest(hublog, bus, telemetry.taken),
        record=record,
        approvals=Approvals(hublog, bus, releases),
        orders=orders,
        releases=releases,
        rollouts=rollouts,
        telemetry=telemetry,
        memory=memory,
        models=Models(hublog, bus, releases, limit=config.model_bytes),
        doors=Doors(hublog, bus, memory),
        switches=Switches(hublog, bus, names=releases.names),
        authoring=authoring,
        access=Access(hublog),
        replays=Replays(hublog, bus, releases, authoring),
        reconcile=Reconcile(
            hublog, bus, record, orders,
            release_for=lambda device: rollouts.told().due(device), library=releases.release,
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Application:
    """The ASGI application, and how to end what would otherwise keep connections open for ever."""

    app: FastAPI
    stop: Callable[[], None]


def build(hub: Hub, port: int) -> Application:
    """The application of an open hub that listens on ``port``."""
    config = hub.config
    link = Link(
        Exchange(hub.hublog, hub.devices, hub.ingest, hub.rollouts, hub.memory, hub.switches, hub.replays),
        hub.bus,
        spread_s=config.notice_jitter_ms / 1000,
    )
    door = OpenDoor(hub.doors, hub.memory, hub.bus, name=hub.hublog.hub, now=hub.hublog.clock)
    index = TeamIndex(hub.store, config.embedder_path, clock=hub.hublog.clock)
    hub.memory.watch(index.wake)
    lifespan = _lifespan(hub, link, index)
    app = FastAPI(title="Outrider hub", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(_api(hub).router())
    app.include_router(door.router())
    app.include_router(routes(hub.authoring, hub.access))
    app.include_router(hub.telemetry.router(make_token(config.home / METRICS_FILE)))
    mount_repository(app, config.repository)
    web.add_error_handlers(app)
    console.attach(app, _services(hub, index, port))
    app.add_middleware(web.Gate, hosts=config.allowed_hosts(port), direct={"/link": link})

    def stop() -> None:
        link.close()
        door.close()
        hub.bus.close()

    return Application(app, stop)


def _api(hub: Hub) -> Api:
    return Api(
        hub.devices,
        hub.releases,
        hub.users,
        hub.bus,
        make_token(hub.config.home / ADMIN_FILE),
        hub.memory,
        hub.doors,
        hub.rollouts,
        models=hub.models,
        authoring=hub.authoring,
        switches=hub.switches,
        replays=hub.replays,
        reconcile=hub.reconcile,
        peers=Peers(hub.hublog, hub.devices, hub.rollouts, hub.releases),
    )


def _services(hub: Hub, index: TeamIndex, port: int) -> console.Services:
    info = console.HubInfo(
        name=hub.hublog.identity.name,
        origin=hub.hublog.origin,
        home=str(hub.config.home),
        address=hub.config.address(port),
        software=f"outrider {__version__}",
        token_seconds=hub.config.token_seconds,
    )
    return console.Services(
        users=hub.users,
        devices=hub.devices,
        record=hub.record,
        approvals=hub.approvals,
        orders=hub.orders,
        memory=hub.memory,
        models=hub.models,
        doors=hub.doors,
        releases=hub.releases,
        rollouts=hub.rollouts,
        authoring=hub.authoring,
        access=hub.access,
        switches=hub.switches,
        replays=hub.replays,
        reconcile=hub.reconcile,
        bus=hub.bus,
        hub=info,
        clock=hub.hublog.clock,
        index=index,
    )


def _lifespan(
    hub: Hub, link: Link, index: TeamIndex
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(hub.releases.recover)
        await asyncio.to_thread(hub.releases.refresh_timestamp)
        await asyncio.to_thread(hub.authoring.begin)
        await asyncio.to_thread(hub.memory.finish)  # what an earlier process left undone
        tasks = [
            asyncio.create_task(link.watch()),
            asyncio.create_task(_every(_FLUSH_SECONDS, lambda: asyncio.to_thread(hub.devices.flush))),
            asyncio.create_task(_every(_RENEW_SECONDS, lambda: asyncio.to_thread(hub.releases.refresh_timestamp))),
            asyncio.create_task(_every(hub.config.otlp_seconds, lambda: asyncio.to_thread(hub.telemetry.send))),
            asyncio.create_task(_every(_FORGET_SECONDS, lambda: asyncio.to_thread(hub.memory.finish))),
            asyncio.create_task(_every(_EXPIRE_SECONDS, lambda: asyncio.to_thread(expire, hub))),
            asyncio.create_task(_every(_INDEX_SECONDS, index.run)),
            asyncio.create_task(_every(_RECONCILE_SECONDS, lambda: asyncio.to_thread(hub.reconcile.look))),
            asyncio.create_task(_every(hub.config.rollout_seconds, lambda: asyncio.to_thread(hub.rollouts.look))),
        ]
        try:
            yield
        finally:
            hub.telemetry.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await index.close()
            await asyncio.to_thread(hub.devices.flush)

    return lifespan


def expire(hub: Hub) -> None:
    """Forget what is over by the rules of the release that devices are told to run; by none before the first."""
    number = hub.rollouts.told().base
    hub.memory.expire(hub.releases.release(number).memory if number else None)


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """A housekeeping task: a failure is logged and tried again next time, never the end of the hub."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # noqa: BLE001 - a task root
            _log.exception("housekeeping failed; it is tried again in %s s", seconds)
