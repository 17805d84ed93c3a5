"""A release tried on this device's own past: runs that people answered are planned once more; only the score is told.

The hub asks (``shared.release.Replay``) before a release is rolled out, or the device asks itself from time to time of
the release in force (*drift*: models, memory and cases move, and a planner that was right last month may not be now).
Nothing is judged by the guard, asked of people or done, and nothing of a run is written: the entry holds counts.

What people accepted is the action they approved, or the one they put in its place; that the reason reads otherwise does
not count. A run is planned as if memory held no decision on the very same words, because it may well hold its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.journal import Journal, LogReader
from edge_agent.models.engine import Models
from edge_agent.models.fit import fitting
from edge_agent.models.messages import BATCH
from edge_agent.plan.planner import Planned, Planner
from edge_agent.plan.triage import PERSON_RULE
from edge_agent.releases import Releases
from edge_agent.tools import Tool
from shared import limits
from shared.actions import Action, Arguments
from shared.codec import parse
from shared.entries import Draft, DriftSampled, ReplayScored
from shared.errors import OutriderError
from shared.playbook import PlaybookStep
from shared.release import Answer, ModelRef, Release, Replay
from shared.replay.golden import Came, GoldenCase, cases_of, inputs_of, read_cases, step_of, tell
from shared.runs import Run, Step, fold

_DAY_US = 86_400 * 1_000_000
_LOOK_S = 60.0
_THOUGHT = ("rules", "memory")  # the planners of triage steps; the others do as the playbook says
_UNSAID = "reason"  # an argument that words the decision, and is not it


class Accepted(msgspec.Struct, frozen=True):
    """One step of a past run, and what people accepted of it: the arguments in the end, and those planned first."""

    playbook: str
    step: str
    inputs: dict[str, Any]
    subject: str
    planned: Arguments
    accepted: Arguments


class Score(msgspec.Struct):
    """Counts; see ``shared.facts.replay.Scored``."""

    sampled: int = 0
    before: int = 0
    now: int = 0
    abstained: int = 0
    unplanned: int = 0


PlannerOf = Callable[[Release], AbstractAsyncContextManager[Planner]]


class Replays:
    """Tries releases for one device, one at a time, behind all other work. ``planner_of`` lends a planner with the
    models of a release; ``in_force`` is the release that drift is sampled of, every ``drift_days`` (0: never)."""

    def __init__(
        self,
        journal: Journal,
        log: Path,
        releases: Releases,
        *,
        planner_of: PlannerOf,
        tools: Callable[[str], Tool | None],
        in_force: Callable[[], Release | None],
        drift_days: int,
        trouble: Callable[[OutriderError], None],
    ) -> None:
        self._journal = journal
        self._log = log
        self._releases = releases
        self._planner_of = planner_of
        self._tools = tools
        self._in_force = in_force
        self._drift_us = drift_days * _DAY_US
        self._trouble = trouble
        self._asked: asyncio.Queue[Replay] = asyncio.Queue(limits.REPLAYS_WAITING)
        self._taken: set[str] = set()
        self._sampled_at = 0

    def ask(self, wanted: Replay) -> None:
        """Try a release when there is time. What was asked before, is no longer waited for or does not fit is passed
        over: the hub asks again until it has an answer, also after this agent was stopped at work on it."""
        if wanted.id in self._taken or self._journal.now() > wanted.expires_at or self._asked.full():
            return
        self._taken.add(wanted.id)
        self._asked.put_nowait(wanted)

    async def run(self) -> None:
        """Until cancelled."""
        answered, self._sampled_at = await asyncio.to_thread(_so_far, self._log)
        self._taken |= answered
        while True:
            wanted: Replay | None = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    wanted = await self._asked.get()
            try:
                if wanted is not None and wanted.id in answered:
                    continue  # it came before the log was read
                if wanted is not None:
                    await self._journal.append(Draft(await self.score(wanted)))
                elif self._drift_us and self._journal.now() >= self._sampled_at + self._drift_us:
                    await self.sample()
            except OutriderError as error:
                self._trouble(error)

    async def sample(self) -> None:
        """Try the release in force, and write down what came of it where there was anything to try it on."""
        release = self._in_force()
        if release is None:
            return
        found = await self._try(release, limits.DRIFT_SAMPLE)
        self._sampled_at = self._journal.now()
        if found.sampled:
            await self._journal.append(Draft(DriftSampled(release=release.number, **msgspec.structs.asdict(found))))

    async def score(self, wanted: Replay) -> ReplayScored:
        """What comes of a release on this device's own runs, and of its golden cases."""
        try:
            release = await self._releases.fetch(wanted.release)
            found = await self._try(release, min(wanted.sample, limits.REPLAY_SAMPLE))
            golden, wrong = await self._golden(release)
        except OutriderError as error:
            return ReplayScored(wanted.release, 0, 0, 0, 0, 0, wanted.id, 0, 0, error.code)
        counts = msgspec.structs.asdict(found)
        return ReplayScored(release=wanted.release, id=wanted.id, golden=golden, golden_wrong=wrong, code="", **counts)

    async def _try(self, release: Release, sample: int) -> Score:
        past = await asyncio.to_thread(accepted, self._log, sample)
        score = Score(sampled=len(past))
        if not past:
            return score
        async with self._planner_of(release) as planner:
            for one in past:
                score.before += _same(one.planned, one.accepted)
                planned = await self._plan(planner, release, one.playbook, one.step, one.inputs, one.subject)
                if planned is None:
                    score.unplanned += 1
                elif planned.action is None or planned.made.abstained:
                    score.abstained += 1
                else:
                    score.now += _same(planned.action.arguments, one.accepted)
        return score

    async def _plan(
        self, planner: Planner, release: Release, playbook: str, name: str, inputs: Mapping[str, Any], subject: str
    ) -> Planned | None:
        """Plan a step as the release has it; ``None`` where the release or this device does not have it."""
        book = release.playbooks.get(playbook)
        steps: dict[str, PlaybookStep] = {step.id: step for step in book.all_steps} if book else {}
        step, setup = steps.get(name), release.setups.get((playbook, name))
        tool = self._tools(step.tools[0]) if step is not None and step.tools else None
        if book is None or setup is None or tool is None:
            return None
        return await planner.plan(
            book, name, setup, inputs, subject, tool.name, tool.arguments, urgency=BATCH, held_out=True
        )

    # --- golden cases -------------------------------------------------------------------------------------------------

    async def _golden(self, release: Release) -> tuple[int, int]:
        """How many golden cases there are, and how many of them fail with this device's memory and models."""
        wrong = 0
        cases = list(_cases(release))
        async with self._planner_of(release) as planner:
            for playbook, case, where in cases:
                book = release.playbooks[playbook]
                step, _ = step_of(release, book, case, where)
                planned = await self._plan(planner, release, playbook, step.id, inputs_of(book, case), "")
                wrong += planned is None or bool(tell(release, book, step, case, _came(planned)).wrong)
        return len(cases), wrong


def _came(planned: Planned) -> Came:
    made = planned.made
    return Came(
        lane="" if made.abstained else made.label,
        confidence=made.confidence,
        person=made.abstained == PERSON_RULE,
        values=planned.body["fields"],
        planner=made.planner,
        final=True,
    )


def _cases(release: Release) -> list[tuple[str, GoldenCase, str]]:
    return [
        (playbook, case, path)
        for playbook, path in cases_of(release.beside).items()
        if playbook in release.playbooks
        for case in read_cases(release.beside[path].decode(), path)
    ]


def _same(one: Arguments, other: Arguments) -> bool:
    return {k: v for k, v in one.items() if k != _UNSAID} == {k: v for k, v in other.items() if k != _UNSAID}


class Lender:
    """Lends planners. The one in use where it runs the release's models; else one with models of its own, in a process
    of their own, that ends with the loan. ``obtain`` has a model in this home's store, or raises why it cannot."""

    def __init__(
        self,
        planner: Planner,
        in_force: Callable[[], Release | None],
        *,
        models: Callable[[], Models],
        obtain: Callable[[ModelRef], object],
    ) -> None:
        self._planner = planner
        self._in_force = in_force
        self._models = models
        self._obtain = obtain

    @asynccontextmanager
    async def of(self, release: Release) -> AsyncIterator[Planner]:
        """Raises what ``obtain`` raises: without its models a release would be tried as what it is not."""
        used = self._in_force()
        wanted = _fitting(release)
        if used is not None and [one and one.sha256 for one in wanted] == [
            one and one.sha256 for one in _fitting(used)
        ]:
            yield self._planner
            return
        for model in wanted:
            if model is not None:
                await asyncio.to_thread(self._obtain, model)
        models, (language, embedder) = self._models(), [one.sha256 if one is not None else "" for one in wanted]
        try:
            await models.use(language=language, embedder=embedder)
            yield self._planner.other(models, embedder)
        finally:
            await models.close()


def _fitting(release: Release) -> list[ModelRef | None]:
    return [fitting(release.manifest.models, "language"), fitting(release.manifest.models, "embedder")]


# --- what people accepted, from the log -------------------------------------------------------------------------------


def _so_far(log: Path) -> tuple[set[str], int]:
    """The requests that were answered, and when drift was sampled last; the log's beginning where it never was."""
    reader = LogReader(log)
    try:
        found = list(reader.of_types("log.opened", "replay.scored", "drift.sampled"))
    finally:
        reader.close()
    answered = {entry.facts.id for entry in found if isinstance(entry.facts, ReplayScored)}
    times = [entry.at for entry in found if not isinstance(entry.facts, ReplayScored)]
    return answered, max(times, default=0)


def accepted(log: Path, sample: int) -> list[Accepted]:
    """The newest steps of closed runs that a planner thought about and people answered, at most ``sample``. Blocking.
    What was erased since is not there any more."""
    reader = LogReader(log)
    try:
        found: list[Accepted] = []
        for name in reader.answered(4 * sample):  # some were denied, erased, or not thought about
            if len(found) >= sample:
                break
            run: Run | None = None
            for entry in reader.run_entries(name):
                run = fold(run, entry)
            if run is not None and run.closed is not None and not run.opened.dry_run:
                event = reader.body(run.seq)
                found += [] if event is None else _of_run(reader, run, event)
        return found[:sample]
    finally:
        reader.close()


def _of_run(reader: LogReader, run: Run, event: dict[str, Any]) -> list[Accepted]:
    found = []
    for step in run.steps.values():
        plan, answer = step.plan, step.answer
        if (
            plan is None
            or plan.planner not in _THOUGHT
            or answer is None
            or answer.answer not in ("approve", "correct")
        ):
            continue
        body = reader.body(step.plan_seq)
        planned = msgspec.convert(body["action"], Action).arguments if body and body.get("action") else None
        final = planned if answer.answer == "approve" else _corrected(reader, step)
        if planned is not None and final is not None:
            name = step.id.partition("#")[0]
            inputs, subject = event.get("inputs", {}), str(event.get("subject", ""))
            found.append(Accepted(run.opened.playbook, name, inputs, subject, planned, final))
    return found


def _corrected(reader: LogReader, step: Step) -> Arguments | None:
    body = reader.body(step.corrected_seq) if step.corrected_seq != -1 else None
    envelope = (body or {}).get("envelope")
    if not isinstance(envelope, dict):
        return None
    return parse(envelope["payload"], Answer, code="run.answer", what="the recorded answer").arguments
