"""The agent put together: the one place that knows all rooms. Everything here is wiring; judgement lives below."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.act import Hands
from edge_agent.config import SOFTWARE, Config, Home, now_us
from edge_agent.desk import Counter
from edge_agent.guard import Guard
from edge_agent.identity import Identity, load_identity, load_key
from edge_agent.incoming import Incoming
from edge_agent.journal import Journal
from edge_agent.link.client import FOR_A_PERSON, Link
from edge_agent.link.remembering import Remembering
from edge_agent.link.updates import Updates
from edge_agent.lock import Lock
from edge_agent.memory import Memory
from edge_agent.memory.replica import Replica
from edge_agent.models.engine import Models
from edge_agent.models.messages import BATCH
from edge_agent.models.obtain import obtain
from edge_agent.plan.planner import Planner
from edge_agent.releases import Releases
from edge_agent.runner import Engine, Runner, Times
from edge_agent.secrets import Secrets
from edge_agent.sense.inbox import Inbox, Intake
from edge_agent.sessions import Sessions
from edge_agent.snapshots import Snapshots
from edge_agent.talk import Talk
from edge_agent.telemetry import Telemetry
from edge_agent.tools import Tool
from edge_agent.tools.build import build
from edge_agent.tools.person import Confirm
from edge_agent.tools.register import Register, Withdraw
from edge_agent.troubles import Troubles
from edge_agent.upkeep import Upkeep, drop_in_sessions, forget_in_sessions, tokens
from shared.actions import Action
from shared.entries import Entry
from shared.errors import OutriderError, Unavailable
from shared.keys import Envelope
from shared.memory.bench import Bench
from shared.memory.feed import RUN, Tombstone
from shared.memory.rules import MemoryRules
from shared.policy import Asking, Policy
from shared.protocol import Status
from shared.release import Release
from shared.runs import Run, Step

_BATCH_TEXTS = 64
_LIVE_S = 1.0
_DUE_S = 30.0
_CONFIRM_S = 24 * 3600


def _local(at: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at / 1e6).astimezone()


class Agent:
    """One device's agent. ``run`` returns when it is cancelled; what was under way is found again at the next start."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._home = home = Home(config.home)
        self.identity: Identity = load_identity(home)
        home.make()
        self._lock = Lock(home.lock)
        self._journal = Journal(
            home.log, self.identity.origin, load_key(home.keys / "log.key"), now=now_us, software=SOFTWARE
        )
        self._snapshots = Snapshots(self._journal)
        self._device = self._snapshots.open()
        self._journal.listen(self._committed)
        self._memory = Memory(home.memory)
        self._bench = Bench()
        self._sessions = Sessions(home.sessions, count=tokens)
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
        self._upkeep = Upkeep(self._memory, self._sessions, self._rules, now=now_us, trouble=self.trouble)
        self._updates = Updates(home.root, self.identity.hub_url)
        self._releases = Releases(self._updates, now_us)
        self._troubles = Troubles()
        self._models = Models(
            home.root, threads=config.model_threads, idle_s=float(config.model_idle_s) if config.model_idle_s else None
        )
        self._planner = Planner(
            self._memory, now=now_us, monotonic_us=lambda: time.monotonic_ns() // 1000, models=None, embedder=""
        )
        self._talk = Talk(
            self._sessions,
            self._memory,
            self._models,
            embedder=lambda: self._planner.embedder,
            now=now_us,
            count=tokens,
        )
        self._guard = Guard(
            self._device,
            name=self.identity.device,
            policy=self._policy,
            online=lambda: self._link.up,
            in_question=lambda: self._log_in_question,
            now=now_us,
            local=_local,
        )
        self._hands = Hands(self._tools(), now=now_us)
        times = Times(local=_local, monotonic=time.monotonic)
        self._runner = Runner(
            self._journal,
            self._device,
            Engine(
                self._journal,
                self._device,
                self._guard,
                self._planner,
                self._hands,
                release=self._releases.get,
                asking=self._asking,
                times=times,
                learn=self._learn,
            ),
            times,
            at_once=config.runs_at_once,
            trouble=self.trouble,
        )
        self._telemetry = Telemetry(
            self._journal,
            self._device,
            log=home.log,
            name=self.identity.device,
            endpoint=config.otlp_endpoint,
            every_s=config.otlp_seconds,
            now=now_us,
            trouble=self.trouble,
        )
        self._counter = Counter(
            self._journal,
            self._device,
            self._runner,
            self._hands,
            release=self._releases.get,
            metrics=self._telemetry.text,
        )
        self._intake = Intake(self._journal, self._device, taken=home.taken, refused=home.refused)
        self._incoming = Incoming(
            self.identity, self._journal, self._device, self._runner, self._releases, self._use, self._memory.put_hold
        )
        self._link = Link(
            self.identity,
            load_key(home.keys / "link.key"),
            self._journal,
            self._device,
            self,
            now=now_us,
            software=SOFTWARE,
            memory=self._remembering,
        )
        self._started = now_us()
        self._linked = False
        self._log_in_question = False
        self._remember = asyncio.Event()
        self._obtaining: asyncio.Task[None] | None = None

    # --- its life -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._journal.attach(asyncio.get_running_loop())
        self._remembering.attach(asyncio.get_running_loop())
        try:
            await self._begin()
            async with asyncio.TaskGroup() as group:
                for work in (
                    self._runner.work(),
                    self._link.run(),
                    self._watch_inboxes(),
                    self._embed_memory(),
                    self._show_life(),
                    self._serve_api(),
                    self._telemetry.run(),
                    self._look_for_due(),
                    self._upkeep.run(),
                ):
                    group.create_task(work)
        finally:
            await self._close()

    async def _begin(self) -> None:
        if self._device.release is not None:
            try:
                await self._use(self._releases.get(self._device.release.release))
            except OutriderError as error:
                self.trouble(error)
        self._runner.wake_all()

    async def _close(self) -> None:
        if self._obtaining is not None:
            self._obtaining.cancel()
        await self._models.close()
        await self._hands.close()
        with contextlib.suppress(OSError):
            self._home.live.unlink(missing_ok=True)
        await asyncio.to_thread(self._bench.close)
        self._sessions.close()
        self._memory.close()
        self._journal.close()
        self._lock.release()

    def _committed(self, entries: list[Entry]) -> None:
        moved = [(entry, self._device.fold(entry)) for entry in entries]
        self._telemetry.committed(moved)
        self._runner.committed(entries)
        self._snapshots.committed(self._device)

    def _tools(self) -> dict[str, Tool]:
        """The tools of ``tools.toml``, and those every agent has."""
        secrets = Secrets(self._home.secrets)
        try:
            found, troubles = build(self._home.tools, self._home.tool_state, secret=secrets.get, now=now_us)
        except OutriderError as error:
            found, troubles = {}, [error]
        for trouble in troubles:
            self.trouble(trouble)
        own: list[Tool] = [Register(self._home.register), Withdraw(self._home.register), Confirm()]
        return {tool.name: tool for tool in own} | found

    # --- what the rooms ask ---------------------------------------------------------------------------------------

    def _policy(self) -> tuple[Policy, int] | None:
        if self._device.release is None:
            return None
        try:
            release = self._releases.get(self._device.release.release)
        except OutriderError as error:
            self.trouble(error)
            return None
        return release.policy, release.number

    def _rules(self) -> MemoryRules:
        """The rules of memory in force; before the first release, those of an empty file."""
        installed = self._device.release
        return self._releases.get(installed.release).memory if installed is not None else MemoryRules()

    def _asking(self, rules: list[str]) -> Asking:
        """How the installed policy wants people to be asked."""
        installed = self._policy()
        return installed[0].asking(rules) if installed is not None else Asking(people=1, similar_s=0, local=False)

    def _learn(self, run: Run, step: Step, action: Action, event: dict[str, Any]) -> None:
        """Remember what a person confirmed: the next case like it is nearer to a precedent."""
        from shared.memory import Item

        release = self._releases.get(run.opened.release)
        context = release.playbooks[run.opened.playbook].context
        setup = release.setups.get((run.opened.playbook, step.id.partition("#")[0]))
        if setup is None:
            return
        text = event["inputs"].get(setup.text)
        lane = action.arguments.get("lane")
        if context is None or not isinstance(text, str) or not isinstance(lane, str) or step.answer is None:
            return
        fields = {"lane": lane, "decided_by": step.answer.by}
        item = Item(kind="decision", text=text, source=f"run {run.id}", scope=context.memory.scope, fields=fields)
        self._memory.add([item])
        self._remember.set()

    def _forget_outside(self, stone: Tombstone) -> None:
        """What a tombstone asks of sessions and, for a run, of the log: its bodies. In a thread, again after a kill."""
        forget_in_sessions(self._sessions, self._memory, stone)
        if stone.kind == RUN:
            self._journal.erase_blocking(stone.run)

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

    # --- models ---------------------------------------------------------------------------------------------------

    async def _use(self, release: Release) -> None:
        """Put a verified release into force: its models are the only ones that may run."""
        language, embedder = release.model("language"), release.model("embedder")
        await self._models.use(
            language=language.sha256 if language else "", embedder=embedder.sha256 if embedder else ""
        )
        self._planner.models = self._models
        self._planner.embedder = embedder.sha256 if embedder else ""
        self._remember.set()
        if self._config.fetch_models:
            if self._obtaining is not None:
                self._obtaining.cancel()
            self._obtaining = asyncio.create_task(self._obtain(release))

    async def _obtain(self, release: Release) -> None:
        """Fetch the release's models that are not here yet. Planning goes on without them meanwhile."""
        for model in release.manifest.models:
            try:
                cache, hub = self._config.model_cache, self.identity.hub_url
                await asyncio.to_thread(obtain, self._home.root, model, cache, hub=hub)
            except OutriderError as error:
                self.trouble(error)
        self._remember.set()

    async def _embed_memory(self) -> None:
        """Give every item a vector of the release's embedder, in the background."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DUE_S):
                    await self._remember.wait()
            self._remember.clear()
            try:
                await self._embed_missing()
            except OutriderError as error:
                self.trouble(error)

    async def _embed_missing(self) -> None:
        model = self._planner.embedder
        while model and model == self._planner.embedder and not self._models.status().embedder.trouble:
            missing = self._memory.without_vector(model, _BATCH_TEXTS)
            if not missing:
                return
            result = await self._models.embed([text for _, text in missing], urgency=BATCH)
            names = [name for name, _ in missing]
            self._memory.put_vectors(result.model, zip(names, result.embeddings, strict=True))

    # --- the local API --------------------------------------------------------------------------------------------

    async def _serve_api(self) -> None:
        """For programs at this computer. An agent whose port is taken works on without it."""
        from edge_agent.api.server import serve  # some megabytes, and some time that the log need not wait for

        secrets = Secrets(self._home.secrets)
        while True:
            try:
                await serve(
                    self._counter,
                    self._home.root,
                    port=self._config.api_port,
                    hook_secret=secrets.get,
                    now=now_us,
                    open_metrics=self._config.open_metrics,
                    talk=self._talk,
                )
            except OutriderError as error:
                self.trouble(error)
            await asyncio.sleep(_DUE_S)

    # --- watching -------------------------------------------------------------------------------------------------

    async def _watch_inboxes(self) -> None:
        inboxes: dict[str, Inbox] = {}
        while True:
            try:
                await self._look_into(inboxes)
            except OutriderError as error:
                self.trouble(error)
            await asyncio.sleep(self._config.inbox_poll_s)

    async def _look_into(self, inboxes: dict[str, Inbox]) -> None:
        installed = self._device.release
        if installed is None:
            return
        for playbook in self._releases.get(installed.release).playbooks.values():
            folder = playbook.trigger.folder
            if folder is None:
                continue
            inbox = inboxes.setdefault(folder, Inbox(self._home.inboxes / folder))
            for path in inbox.ready():
                for run in await self._intake.take(path, playbook, installed.release):
                    self._runner.wake(run)
                self._runner.wake_all()

    async def _look_for_due(self) -> None:
        """The daily word from the hub that the release still stands."""
        while True:
            await asyncio.sleep(_DUE_S)
            try:
                await self._confirm_release()
            except OutriderError as error:
                self.trouble(error)

    async def _confirm_release(self) -> None:
        """Fetch the metadata of the installed release again: its proof may be only so old when the agent is offline."""
        installed = self._device.release
        if installed is None or not self._link.up:
            return
        if now_us() - await asyncio.to_thread(self._updates.confirmed_at) > _CONFIRM_S * 1_000_000:
            await self._releases.fetch(installed.release)

    async def _show_life(self) -> None:
        """``live.json``: what only the running process knows, for ``agent status``."""
        while True:
            live = {
                "pid": os.getpid(),
                "started_at": self._started,
                "at": now_us(),
                "linked": self._linked,
                "idle": self._runner.idle,
                "problems": self._troubles.list(),
                "model": msgspec.to_builtins(self._models.status()),
                "rss_bytes": _rss(),
            }
            temporary = self._home.live.with_suffix(".new")
            try:
                temporary.write_bytes(msgspec.json.encode(live))
                temporary.replace(self._home.live)
            except OSError as error:
                said = error.strerror or str(error)
                self.trouble(Unavailable("disk.write", f"{self._home.live}: {said}", advice="free some space"))
            await asyncio.sleep(_LIVE_S)


def _rss() -> int:
    """Resident bytes of this process, 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
