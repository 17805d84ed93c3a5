"""What no peer can be compared with: the price of judging and recording, an urgent run's wait behind a batch, and
whether a step costs more as the log grows. ``run_engine.py`` starts this as a process of its own and tells what it
prints.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from _outrider import Agent

from edge_agent.act import intent
from edge_agent.guard import Case
from edge_agent.journal.schema import Row
from edge_agent.journal.store import Store
from shared import limits
from shared.actions import Action
from shared.entries import Draft, Entry, PlanMade, RunOpened, write
from shared.keys import SigningKey
from shared.policy import permit
from shared.runs import fold
from shared.tlog import Frontier, Signer, leaf_hash

BATCH = 1000
URGENT = 100
AT_ONCE = 4  # what an agent is set to do when nobody says otherwise
ROUNDS = 9
RUNS = 40


# --- judging and recording ----------------------------------------------------------------------------------------


async def judging(folder: Path) -> dict[str, float]:
    """Microseconds of CPU for a step: a verdict and the right to act; its entries' bytes and places in the tree; its
    share of a run's signatures; its share of putting all that into SQLite, the system's time to sync it included."""
    agent = await opened(folder / "judging", AT_ONCE)
    work = asyncio.create_task(agent.runner.work())
    await agent.many(3, 1)
    drafts, commits = last_run(agent)
    work.cancel()
    plan = next(draft.facts for draft in drafts if isinstance(draft.facts, PlanMade))
    action = Action("register.decide", {"lane": "express", "note": "step 0 of a garage"}, "PA-2026-0000001")
    case = Case(action.digest, action.tool, "express", "compensatable", "batch", 100_000, approved=False, risk="low")
    opening = next(draft.facts for draft in drafts if isinstance(draft.facts, RunOpened))
    run = fold(None, Entry(0, 1, "run.opened", 2, "run_1", opening, {}))

    values = itertools.count(case.value_cents)

    def judge() -> None:
        """Of a value that was never asked about: an answer that is remembered would cost nothing."""
        verdict, _ = agent.guard.judge(run, plan, replace(case, value_cents=next(values)))
        intent(permit(action, verdict, judged=action.digest, step=plan.step))

    frontier, salt = Frontier(), bytes(32)

    def record() -> None:
        for seq, draft in enumerate(drafts):
            frontier.grow(leaf_hash(write(draft, seq, 1, lambda _: salt).data))

    signer, store, steps = Signer("city/bench", SigningKey(b"k" * 32)), Store(folder / "store.sqlite3"), 3
    seqs = iter(range(10**9))

    def sign() -> None:
        for _ in commits:
            signer.sign(frontier.size, frontier.root())

    def put() -> None:
        for commit in commits:
            store.insert([(next(seqs), *row[1:]) for row in commit], {}, [])

    found = {
        "judged": cpu_us(judge, 200),
        "written": cpu_us(record, 60) / steps,
        "signed": cpu_us(sign, 60) / steps,
        "stored": cpu_us(put, 60) / steps,
    }
    store.close()
    agent.close()
    return found


def last_run(agent: Agent) -> tuple[list[Draft], list[list[Row]]]:
    """The last run's drafts, and its rows by commit."""
    entry = max((entry for entry in agent.journal.entries() if entry.type == "run.closed"), key=lambda entry: entry.seq)
    entries = agent.journal.run_entries(entry.run)
    bodies = ((entry, agent.journal.body(entry.seq)) for entry in entries)
    drafts = [Draft(entry.facts, entry.run, {"shared": body} if body is not None else {}) for entry, body in bodies]
    ends = {size - 1 for size, _, _ in agent.journal.checkpoints()}
    commits: list[list[Row]] = [[]]
    for entry, draft in zip(entries, drafts, strict=True):
        made = write(draft, entry.seq, entry.at, bytes)
        shared = made.bodies.get("shared")
        beside = (shared.salt, shared.data) if shared else (None, None)
        note = bytes(240) if entry.seq in ends else None
        commits[-1].append((0, entry.run, entries[0].seq, entry.type, made.data, bytes(64), note, *beside, None, None))
        if note is not None:
            commits.append([])
    return drafts, [commit for commit in commits if commit]


def cpu_us(work: Callable[[], None], times: int) -> float:
    """Microseconds of CPU for one call: the median of fifteen rounds."""
    rounds = []
    for _ in range(15):
        began = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - began) / times * 1e6)
    return statistics.median(rounds)


# --- an urgent run behind a batch -------------------------------------------------------------------------------------


async def urgent(folder: Path) -> dict[str, Any]:
    """Milliseconds from a person's start of an interactive run until its first step's intent is on the disk and the
    tool is called: with nothing else to do, and while a batch of a thousand runs is worked on."""
    agent = await opened(folder / "urgent", AT_ONCE)
    work = asyncio.create_task(agent.runner.work())
    await agent.many(RUNS, 1)
    alone = [await first_step(agent) for _ in range(URGENT)]
    batch = [agent.drafted() for _ in range(BATCH)]
    await agent.journal.append(*batch[: BATCH // 2])
    await agent.journal.append(*batch[BATCH // 2 :])
    for draft in batch:
        agent.runner.wake(draft.run)
    beside, began = [], time.perf_counter()
    while len(agent.device.runs) > AT_ONCE and len(beside) < URGENT:
        await asyncio.sleep(0.01)
        beside.append(await first_step(agent))
    left = len(agent.device.runs)
    took = time.perf_counter() - began
    while agent.device.runs:
        await asyncio.sleep(0.01)
    work.cancel()
    agent.close()
    return {"alone": alone, "beside": beside, "left": left, "took_s": took}


async def first_step(agent: Agent) -> float:
    loop, draft = asyncio.get_running_loop(), agent.drafted("interactive")
    closed, began = loop.create_future(), loop.create_future()
    agent.closed[draft.run], agent.judged[draft.run] = closed, began
    at = time.perf_counter()
    await agent.journal.append(draft)
    agent.runner.wake(draft.run)
    await began
    took = (time.perf_counter() - at) * 1000
    await closed
    return took


# --- a log that grows -------------------------------------------------------------------------------------------


async def growth(folder: Path, sizes: list[int]) -> dict[str, dict[str, float]]:
    """For each size of the log, milliseconds of CPU and of waiting for a step; logs of all sizes asked in turn."""
    agents = {size: await opened(folder / f"log-{size}", AT_ONCE) for size in sizes}
    for size, agent in agents.items():
        await fill(agent, size)
    cpu: dict[int, list[float]] = {size: [] for size in sizes}
    wall: dict[int, list[float]] = {size: [] for size in sizes}
    for n in range(ROUNDS + 1):
        for size, agent in agents.items():
            work = asyncio.create_task(agent.runner.work())
            began, used = time.perf_counter(), time.process_time()
            await agent.many(RUNS, 1)
            if n:  # the first time round, caches fill
                cpu[size].append((time.process_time() - used) * 1000 / RUNS / 3)
                wall[size].append((time.perf_counter() - began) * 1000 / RUNS / 3)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    for agent in agents.values():
        agent.close()
    return {str(s): {"cpu": statistics.median(cpu[s]), "wall": statistics.median(wall[s])} for s in sizes}


async def fill(agent: Agent, size: int) -> None:
    """Entries of runs long over, without their bodies, which were erased."""
    if size <= agent.journal.committed:
        return
    work = asyncio.create_task(agent.runner.work())
    await agent.many(1, 1)
    work.cancel()
    facts = [draft.facts for draft in last_run(agent)[0]]
    agent.folding = False
    runs = iter(range(10**9))
    while (left := size - agent.journal.committed) > 0:
        drafts: list[Draft] = []
        while len(drafts) + len(facts) <= min(limits.COMMIT_ENTRIES, left):
            run = f"run_{next(runs):024x}"
            drafts += [Draft(one, run) for one in facts]
        if not drafts:
            break
        await agent.journal.append(*drafts)
    agent.folding = True


async def opened(folder: Path, at_once: int) -> Agent:
    folder.mkdir()
    agent = Agent(folder, at_once=at_once)
    await agent.begin()
    return agent


async def main(folder: Path, sizes: list[int]) -> None:
    told = {"judging": await judging(folder), "urgent": await urgent(folder), "growth": await growth(folder, sizes)}
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
