"""The agent put together: the one place that knows all rooms. Everything here is wiring; judgement lives below."""

from __future__ import annotations

import asyncio
import datetime
import functools
import time
from functools import partial
from typing import Any

import msgspec

from edge_agent.act import Hands
from edge_agent.adopting import Adopting
from edge_agent.config import SOFTWARE, Config, Home, now_us, uptime_us
from edge_agent.desk import Counter
from edge_agent.guard import Guard
from edge_agent.identity import Identity, load_identity, load_key
from edge_agent.incoming import Incoming
from edge_agent.inforce import InForce
from edge_agent.journal import Journal
from edge_agent.learning import Learning
from edge_agent.life import Life
from edge_agent.link.client import FOR_A_PERSON, Link
from edge_agent.link.remembering import Remembering
from edge_agent.link.updates import Updates
from edge_agent.local_api import serve_local
from edge_agent.lock import Lock
from edge_agent.memory import Memory
from edge_agent.memory.replica import Replica
from edge_agent.models.engine import Models
from edge_agent.models.obtain import obtain
from edge_agent.models.peers import PeerFinder
from edge_agent.models.store import ModelStore
from edge_agent.panel.given import Given
from edge_agent.peering import PeerServer
from edge_agent.plan.planner import Planner
from edge_agent.releases import Releases
from edge_agent.replay import Lender, Replays
from edge_agent.runner import Engine, Runner, Times
from edge_agent.sense.inbox import Intake
from edge_agent.sense.watching import Watching
from edge_agent.sessions import Sessions
from edge_agent.snapshots import Snapshots
from edge_agent.talk import Talk
from edge_agent.telemetry import Telemetry
from edge_agent.toolbox import toolbox
from edge_agent.troubles import Troubles
from edge_agent.upkeep import Upkeep, drop_in_sessions, forget, forget_in_sessions, forget_sessions, tokens
from shared.entries import Entry
from shared.errors import OutriderError
from shared.keys import Envelope
from shared.memory.bench import Bench
from shared.memory.feed import RUN, Tombstone
from shared.protocol import Status


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


def _local(at: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at / 1e6).astimezone()


class Agent:
    """One device's agent. ``run`` returns when it is cancelled; what was under way is found again at the next start."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._home = home = Home(config.home)
        self.identity: Identity = load_identity(home)
        self._link_key = load_key(home.keys / "link.key")
        home.make()
        self._lock = Lock(home.lock)
        self._troubles = Troubles()
        self._linked = False
        self._log_in_question = False
        self._open_log()
        self._open_memory()
        self._open_models()
        self._open_runs()
        self._open_replays()
        self._open_link()
        self._open_peering()

    # --- the rooms, each on those before it ---------------------------------------------------------------------------

    def _open_log(self) -> None:
        home = self._home
        self._journal = Journal(
            home.log, self.identity.origin, load_key(home.keys / "log.key"), now=now_us, software=SOFTWARE
        )
        self._snapshots = Snapshots(self._journal)
        self._device = self._snapshots.open()
        self._journal.listen(self._committed)
        self._telemetry = Telemetry(
            self._journal,
            self._device,
            log=home.log,
            name=self.identity.device,
            endpoint=self._config.otlp_endpoint,
            every_s=self._config.otlp_seconds,
            now=now_us,
            trouble=self.trouble,
        )

    def _open_memory(self) -> None:
        self._memory = Memory(self._home.memory)
        self._bench = Bench()
        self._sessions = Sessions(self._home.sessions, count=tokens)
        replica = Replica(
            self._memory,
            self._bench,
            self.identity.hub_public,
            now=now_us,
            outside=self._forget_outside,
            dropped=lambda scope: drop_in_sessions(self._sessions, self._memory, scope),
        )
        self._remembering = Remembering(replica, self._journal, self.trouble)
        self._memory.listen(self._remembering.written)

    def _open_models(self) -> None:
        home, config = self._home, self._config
        self._updates = Updates(home.root, self.identity.hub_url)
        self._releases = Releases(self._updates, now_us)
        self._models = Models(
            home.root, threads=config.model_threads, idle_s=float(config.model_idle_s) if config.model_idle_s else None
        )
        self._planner = Planner(self._memory, now=now_us, monotonic_us=_monotonic_us, models=None, embedder="")
        self._learning = Learning(self._memory, self._models, self._planner, self._releases, self.trouble)
        self._obtain = functools.partial(
            obtain,
            home.root,
            cache=config.model_cache,
            hub=self.identity.hub_url,
            rate_kb=config.model_rate_kb,
            peers=PeerFinder(self.identity, self._link_key, lambda: self._inforce.release(), now_us),
        )
        adopting = Adopting(
            ModelStore(home.root),
            self._device,
            self._releases,
            self._models,
            self._planner,
            self._journal.append,
            obtain=self._obtain if config.fetch_models else None,
            budget=config.model_disk_mb * 1_000_000,
            idle=lambda: self._runner.idle,
            changed=self._learning.more,
            trouble=self.trouble,
            mended=lambda: self._troubles.clear("model."),
        )
        self._inforce = InForce(
            self._device,
            self._updates,
            self._releases,
            adopting,
            online=lambda: self._link.up,
            trouble=self.trouble,
            mended=lambda: self._troubles.clear("release."),
        )
        self._upkeep = Upkeep(self._memory, self._sessions, self._inforce.rules, now=now_us, trouble=self.trouble)
        self._talk = Talk(
            self._sessions,
            self._memory,
            self._models,
            embedder=lambda: self._planner.embedder,
            now=now_us,
            count=tokens,
        )

    def _open_runs(self) -> None:
        home, config = self._home, self._config
        self._guard = guard = Guard(
            self._device,
            name=self.identity.device,
            policy=self._inforce.policy,
            online=lambda: self._link.up,
            in_question=lambda: self._log_in_question,
            now=now_us,
            uptime=uptime_us,
            newest=self._journal.newest_at,
            local=_local,
        )
        self._hands = Hands(toolbox(home, self.trouble), stopped=guard.stopped, now=now_us)
        times = Times(local=_local, monotonic=time.monotonic)
        engine = Engine(
            self._journal,
            self._device,
            guard,
            self._planner,
            self._hands,
            release=self._releases.get,
            asking=self._inforce.asking,
            times=times,
            learn=self._learning.confirmed,
        )
        self._runner = Runner(
            self._journal, self._device, engine, times, at_once=config.runs_at_once, trouble=self.trouble
        )
        self._watching = Watching(
            Intake(self._journal, self._device, taken=home.taken, refused=home.refused),
            home.inboxes,
            self._inforce.release,
            self._opened,
            self.trouble,
            every_s=config.inbox_poll_s,
        )

    def _open_replays(self) -> None:
        home, config = self._home, self._config
        lender = Lender(
            self._planner,
            self._inforce.release,
            models=lambda: Models(home.root, threads=config.model_threads),
            obtain=self._obtain,
        )
        self._replays = Replays(
            self._journal,
            home.log,
            self._releases,
            planner_of=lender.of,
            tools=self._hands.find,
            in_force=self._inforce.release,
            drift_days=config.drift_days,
            trouble=self.trouble,
        )

    def _open_link(self) -> None:
        self._counter = Counter(
            self._journal,
            self._device,
            self._runner,
            self._hands,
            release=self._releases.get,
            metrics=self._telemetry.text,
            about=self._about,
        )
        self._incoming = Incoming(
            self.identity,
            self._journal,
            self._device,
            self._guard,
            self._runner,
            self._releases,
            self._inforce.use,
            self._memory.put_hold,
            self._replays.ask,
        )
        self._link = Link(
            self.identity,
            self._link_key,
            self._journal,
            self._device,
            self,
            now=now_us,
            software=SOFTWARE,
            memory=self._remembering,
        )
        self._life = Life(self._home.live, self._told, self.trouble)

    def _open_peering(self) -> None:
        self._peering = PeerServer(
            self.identity,
            self._link_key,
            ModelStore(self._home.root),
            self._config.peer_listen,
            release=self._inforce.release,
            trusted=lambda: not self._device.revoked,
            rate=self._config.peer_rate_kb * 1024,
            now=now_us,
            changed=self._reachable,
            trouble=self.trouble,
        )

    # --- its life -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._journal.attach(asyncio.get_running_loop())
        self._remembering.attach(asyncio.get_running_loop())
        try:
            await self._inforce.begin()
            self._runner.wake_all()
            async with asyncio.TaskGroup() as group:
                for work in (
                    self._runner.work(),
                    self._link.run(),
                    self._watching.run(),
                    self._learning.run(),
                    self._life.run(),
                    self._serve_api(),
                    self._telemetry.run(),
                    self._inforce.run(),
                    self._replays.run(),
                    self._upkeep.run(),
                    self._peering.run(),
                ):
                    group.create_task(work)
        finally:
            await self._close()

    async def _close(self) -> None:
        self._inforce.close()
        await self._models.close()
        await self._hands.close()
        self._life.end()
        await asyncio.to_thread(self._bench.close)
        self._sessions.close()
        self._memory.close()
        self._journal.close()
        self._lock.release()

    async def _serve_api(self) -> None:
        given = Given(
            self._counter,
            self._memory,
            rules=self._inforce.rules,
            meaning=self._talk.meaning,
            sessions=self._sessions,
            forget=partial(forget, self._memory, self._sessions),
            forget_sessions=partial(forget_sessions, self._memory, self._sessions),
            now=now_us,
        )
        await serve_local(self._home, self._config, self._counter, given, self._talk, self.trouble)

    # --- what the rooms tell each other ---------------------------------------------------------------------------

    def _committed(self, entries: list[Entry]) -> None:
        moved = [(entry, self._device.fold(entry)) for entry in entries]
        self._telemetry.committed(moved)
        self._runner.committed(entries)
        self._snapshots.committed(self._device)

    def _opened(self, runs: list[str]) -> None:
        for run in runs:
            self._runner.wake(run)
        self._runner.wake_all()

    def _reachable(self) -> None:
        """Other devices can fetch models at another address, or no longer: the hub is told at once."""
        self._troubles.clear("peer.")
        self._link.news.set()

    def _forget_outside(self, stone: Tombstone) -> None:
        """What a tombstone asks of sessions and, for a run, of the log: its bodies. In a thread, again after a kill."""
        forget_in_sessions(self._sessions, self._memory, stone)
        if stone.kind == RUN:
            self._journal.erase_blocking(stone.run)

    def _told(self) -> dict[str, Any]:
        return {
            "linked": self._linked,
            "idle": self._runner.idle,
            "problems": self._troubles.list(),
            "model": msgspec.to_builtins(self._models.status()),
            "peering": self._peering.status(),
        }

    def _about(self) -> dict[str, Any]:
        me = self.identity
        return {"device": me.device, "name": me.name, "hub": me.hub, "hub_url": me.hub_url, **self._told()}

    # --- what the link brings (Receiver) --------------------------------------------------------------------------

    async def receive(self, envelope: Envelope) -> None:
        await self._incoming.take(envelope)

    def status(self) -> Status:
        runs = self._device.runs.values()
        return Status(
            release=self._device.release.release if self._device.release else 0,
            size=self._journal.committed,
            open_runs=len(runs),
            waiting=sum(run.status == "waiting" for run in runs),
            lease_expires_at=self._device.lease.expires_at if self._device.lease else 0,
            stops=self._device.stops.version if self._device.stops else 0,
            peer=self._peering.address,
        )

    def synced(self, size: int) -> None:
        self._device.synced(size)
        self._runner.wake_all(held=True)

    def trouble(self, error: OutriderError) -> None:
        self._troubles.add(error)
        if error.code in FOR_A_PERSON:
            self._log_in_question = True

    def linked(self, up: bool) -> None:
        self._linked = up
        if up:
            self._log_in_question = False
            self._troubles.clear("hub.", "link.", "device.", "log.", "memory.")
