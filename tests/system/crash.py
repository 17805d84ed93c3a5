"""Kill the agent again and again, and count what it did.

    python tests/system/crash.py --kills 10000 [--seed 7] [--bug effect-before-intent]

Each life of the agent is a forked process that works on one folder until it is killed with SIGKILL: at some crossing
of a chosen place (before a commit, after one, before, inside and after a tool's call, inside a compensation, inside the
replay of the log), or at a random moment. The next life goes on from what is on the disk. A world has a few dozen runs
of every kind; when none of them can move any more it is audited and a new one begins.

What must hold, whatever the kills were: every acknowledged entry is in the log; the whole log verifies; receivers that
are idempotent or can be asked have done each thing exactly once, and nothing that no run asked for; a receiver that is
neither has done nothing twice, and each of its intents without a result waits for a person.

``--bug`` plants a fault in the engine. The harness must then fail: it is how we know that it can.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_agent.audit import verify_file
from edge_agent.journal import Journal
from edge_agent.runner.turn import Turn
from edge_agent.tools import Argument, Backoff, Effect, Receipt, Tool, check_arguments
from shared.actions import Action
from shared.entries import Draft, Entry, IntentRecorded, ResultRecorded
from shared.errors import OutriderError
from shared.release import Answer, Release
from shared.runs import Device
from tests.edge_agent.rig import Rig, make_release
from tests.edge_agent.test_steps import HEAD, SCHEMA

PLACES = (
    "commit:before",
    "commit:after",
    "effect:before",
    "effect:inside",
    "effect:after",
    "undo:inside",
    "replay:inside",
    "random",
)
POLICY = """
@id("may") permit(principal, action, resource);
@id("ask") @local("yes") forbid(principal, action == Action::"execute_unattended", resource)
  when { context.value_cents > 100 };
@id("never") forbid(principal, action, resource == Tool::"bench.never");
"""
PLAYBOOKS = {
    "line": """
- {id: a, tool: bench.idem, with: {what: "${inputs.sku} a"}}
- {id: b, tool: bench.askable, with: {what: "${inputs.sku} b"}}
- {id: c, tool: bench.idem, with: {what: "${inputs.sku} c ${steps.b.result.did}"}}
""",
    "wide": """
- id: both
  together:
  - [{id: a, tool: bench.askable, with: {what: "${inputs.sku} a"}}]
  - - {id: b, tool: bench.idem, with: {what: "${inputs.sku} b"}}
    - {id: b2, tool: bench.askable, with: {what: "${inputs.sku} b2"}}
- id: each
  for_each: "[1, 2, 3]"
  steps: [{id: one, tool: bench.askable, with: {what: "${inputs.sku} ${string(item)}"}}]
""",
    "back": """
- {id: a, tool: bench.askable, with: {what: "${inputs.sku} a"}}
- {id: b, tool: bench.idem, with: {what: "${inputs.sku} b"}}
- {id: c, tool: bench.never, with: {what: "${inputs.sku} c"}}
""",
    "asked": """
- {id: a, tool: bench.askable, with: {what: "${inputs.sku} a"}, value: "500"}
- {id: b, tool: bench.idem, with: {what: "${inputs.sku} b"}}
""",
    "bare": """
- {id: a, tool: bench.bare, with: {what: "${inputs.sku} a"}}
""",
}
EFFECTS = {"line": 3, "wide": 6, "back": 2, "asked": 2, "bare": 1}  # of each run, undoings not counted
RUNS_OF_EACH = 3


class Death:
    """When this life ends: at crossing ``nth`` of ``place``."""

    def __init__(self, place: str, nth: int) -> None:
        self._place = place
        self._left = nth

    def at(self, place: str) -> None:
        if place == self._place:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Bench(Tool):
    """A receiver in another file: what it did survives the agent's death, whatever the agent knows of it."""

    def __init__(self, name: str, receiver: Path, death: Death, *, idempotent: bool, askable: bool) -> None:
        self.name = f"bench.{name}"
        self.about = "Do something that is counted."
        self.effect: Effect = "compensatable"
        self.idempotent = idempotent
        self.askable = askable
        self.arguments = {"what": Argument()}
        self.backoff = Backoff(attempts=2, first_s=0.001, most_s=0.002)
        self._receiver = receiver
        self._death = death

    def _open(self) -> closing[sqlite3.Connection]:
        db = sqlite3.connect(self._receiver, isolation_level=None, timeout=10)
        db.execute("PRAGMA synchronous=OFF")  # the machine does not fail here, only the agent
        return closing(db)

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        self._death.at("effect:before")
        with self._open() as db:
            known = db.execute("SELECT 1 FROM done WHERE key = ?", (key,)).fetchone()
            if known is None or not self.idempotent:
                db.execute("INSERT INTO done VALUES (?, ?, ?)", (key, self.name, str(action.arguments["what"])))
        self._death.at("undo:inside" if self.name == "bench.undo" else "effect:inside")
        await asyncio.sleep(0)
        self._death.at("effect:after")
        return Receipt({"did": str(action.arguments["what"])})

    async def ask(self, key: str, action: Action) -> Receipt | None:
        with self._open() as db:
            known = db.execute("SELECT what FROM done WHERE key = ?", (key,)).fetchone()
        return Receipt({"did": known[0]}) if known else None

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action:
        return Action("bench.undo", {"what": f"undo {action.arguments['what']}"}, action.subject)


def tools(world: Path, death: Death) -> list[Tool]:
    receiver = world / "receiver.sqlite3"
    return [
        Bench("idem", receiver, death, idempotent=True, askable=False),
        Bench("askable", receiver, death, idempotent=False, askable=True),
        Bench("undo", receiver, death, idempotent=True, askable=True),
        Bench("bare", receiver, death, idempotent=False, askable=False),
        Bench("never", receiver, death, idempotent=True, askable=True),
    ]


def release() -> Release:
    books = {name: HEAD.format(name=name) + f"steps:{steps}" for name, steps in PLAYBOOKS.items()}
    return make_release(policy=POLICY, schema=SCHEMA, **books)


class Clock:
    def __call__(self) -> int:
        return time.time_ns() // 1000


# --- one life -----------------------------------------------------------------------------------------------------


def live(world: Path, death: Death, bug: str, policy: Release) -> None:
    """Work on a world until nothing moves any more, or death comes."""
    acks = os.open(world / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    append = Journal.append

    async def acknowledged(self: Journal, *drafts: Draft) -> list[Entry]:
        entries = await append(self, *drafts)
        os.write(acks, b"%d\n" % entries[-1].seq)
        death.at("commit:after")
        return entries

    Journal.append = acknowledged  # type: ignore[method-assign]  # this process is the test's own
    fold = Device.fold

    def replayed(self: Device, entry: Entry) -> Any:
        death.at("replay:inside")
        return fold(self, entry)

    Device.fold = replayed  # type: ignore[method-assign]
    made = tools(world, death)
    if bug == "effect-before-intent":
        _plant(made)
    rig = Rig(world, clock=Clock(), tools=made, releases={1: policy}, at_once=8)  # type: ignore[arg-type]
    rig.journal._store._db.set_trace_callback(
        lambda sql: death.at("commit:before") if sql.startswith("INSERT INTO entry") else None
    )
    asyncio.run(_within(120, _work(rig)))
    rig.close()


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(seconds):
        await work


async def _work(rig: Rig) -> None:
    rig.journal.attach(asyncio.get_running_loop())
    if rig.device.release is None:
        await rig.install()
    if rig.device.lease is None:
        await rig.lend(hours=24, actions=10**6, cents=10**12)
    work = asyncio.create_task(rig.runner.work())
    for name in PLAYBOOKS:
        for number in range(RUNS_OF_EACH):
            if not rig.journal.has_run(_run_of(rig, name, number)):
                await rig.start(name, sku=f"{name}{number}")
    rig.runner.wake_all()
    while not rig.runner.idle or not all(run.in_doubt for run in rig.device.runs.values()):
        await asyncio.sleep(0.002)
        for run in list(rig.device.runs.values()):
            for step in run.waits:
                assert step.approval is not None
                await rig.runner.answer(_yes(run.id, step.approval.approval, step.action), None)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def _run_of(rig: Rig, name: str, number: int) -> str:
    from edge_agent.sense.opening import run_id

    return run_id(name, f"{name}{number}")


def _yes(run: str, approval: str, action: str) -> Answer:
    return Answer(approval, "dev", run, action, "approve", "mara", "owner", 0, "fine", "", None)


def _plant(made: list[Tool]) -> None:
    """The fault: an effect starts before its intent is on the disk."""
    commit, early = Turn.commit, {}
    by_name = {tool.name: tool for tool in made}

    async def too_late(self: Turn) -> None:
        for draft in list(self._drafts):
            if isinstance(draft.facts, IntentRecorded):
                step = self.run.steps[draft.facts.step]
                body = self.body(step.plan_seq) or {}
                action = Action(**body["action"])
                early[draft.facts.key] = await by_name[action.tool].send(action, draft.facts.key)
        await commit(self)

    Turn.commit = too_late  # type: ignore[method-assign]
    for tool in made:
        send = tool.send

        async def once(action: Action, key: str, send: Callable[..., Any] = send) -> Receipt:
            return early.pop(key) if key in early else await send(action, key)

        tool.send = once  # type: ignore[method-assign]
    # ``too_late`` must reach the receiver itself, not ``once``.
    for tool in made:
        by_name[tool.name] = type("Direct", (), {"send": staticmethod(tool.send.__defaults__[0])})()  # type: ignore[attr-defined]


# --- many lives ---------------------------------------------------------------------------------------------------


@dataclass
class Score:
    kills: int = 0
    lives: int = 0
    worlds: int = 0
    entries: int = 0
    doubts: int = 0
    asked: int = 0
    at: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def run_life(world: Path, place: str, chance: random.Random, bug: str, policy: Release) -> bool:
    """One life in a forked process; whether it was killed. Raises ``RuntimeError`` where it failed by itself."""
    nth = chance.randint(1, 60) if place == "replay:inside" else chance.randint(1, 12)
    child = os.fork()
    if child == 0:
        try:
            live(world, Death(place, nth), bug, policy)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - the child must never come back into its parent's code
            print(f"a life failed by itself: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    if place == "random":
        time.sleep(chance.random() * 0.3)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError("a life ended by itself; see above")
    return os.WIFSIGNALED(status)


def check(world: Path, score: Score, *, over: bool) -> None:
    """What must hold after any kill, and of a world that is over."""
    report = verify_file(world / "log.sqlite3") if (world / "log.sqlite3").exists() else None
    if report is not None and report["entries"] and report["error"]:
        score.faults.append(f"the log does not verify: {report['error']}")
        return
    size = report["entries"] if report else 0
    acked = [int(line) for line in (world / "acknowledged").read_bytes().split()] if size else []
    if acked and max(acked) >= size:
        score.faults.append(f"entry {max(acked)} was acknowledged, the log has {size}")
    with closing(sqlite3.connect(world / "receiver.sqlite3")) as db:
        done = Counter(key for (key,) in db.execute("SELECT key FROM done"))
        total = Counter(name for (name,) in db.execute("SELECT tool FROM done"))
    for key, times in done.items():
        if times > 1:
            score.faults.append(f"{key[:12]} was done {times} times")
    if over and not score.faults:
        _check_end(world, total, score)
        score.entries += size


def _check_end(world: Path, total: Counter[str], score: Score) -> None:
    device = Device(closed={})
    journal = Journal.__mro__[1](world / "log.sqlite3")
    for entry in journal.entries():
        device.fold(entry)
        score.asked += isinstance(entry.facts, ResultRecorded) and entry.facts.how == "asked"
    journal.close()
    left = [step for run in device.runs.values() for step in run.in_doubt]
    score.doubts += len(left)
    if any(step.plan is None or step.plan.tool != "bench.bare" for step in left):
        score.faults.append("a doubt that could have been settled by asking was left to a person")
    wanted = RUNS_OF_EACH * sum(count for name, count in EFFECTS.items() if name != "bare")
    did = total["bench.idem"] + total["bench.askable"]
    if did != wanted or total["bench.undo"] != RUNS_OF_EACH * EFFECTS["back"] or total["bench.never"]:
        score.faults.append(
            f"{did} of {wanted} effects, {total['bench.undo']} undone, {total['bench.never']} forbidden"
        )
    if total["bench.bare"] < RUNS_OF_EACH - len(left):
        score.faults.append("a run of the bare tool is closed and its effect is missing")
    ended = Counter((device.closed or {}).values())
    if ended["denied"] != RUNS_OF_EACH or sum(ended.values()) + len(device.runs) != RUNS_OF_EACH * len(PLAYBOOKS):
        score.faults.append(f"runs ended as {dict(ended)}, {len(device.runs)} are open")


def new_world(folder: Path, number: int) -> Path:
    world = folder / f"world{number}"
    world.mkdir()
    with closing(sqlite3.connect(world / "receiver.sqlite3")) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE done (key TEXT NOT NULL, tool TEXT NOT NULL, what TEXT NOT NULL)")
    return world


def crash(kills: int, seed: int, *, bug: str = "", say: Callable[[str], None] = print) -> Score:
    """Kill ``kills`` times; the score. Stops at the first fault."""
    chance, score, policy = random.Random(seed), Score(), release()
    shm = Path("/dev/shm")  # where there is one: who is killed takes no page with it that was written, synced or not
    folder = Path(tempfile.mkdtemp(prefix="outrider-crash-", dir=shm if shm.is_dir() else None))
    began = said = time.monotonic()
    try:
        while score.kills < kills and not score.faults:
            world = new_world(folder, score.worlds)
            over = False
            while not over and not score.faults:
                # A world must end: when enough was killed, and now and then, a life is left to come to its end.
                last = score.kills >= kills or chance.random() < 0.02
                place = "none" if last else chance.choice(PLACES)
                killed = run_life(world, place, chance, bug, policy)
                score.lives += 1
                score.kills += killed
                score.at[place] += killed
                over = not killed
                check(world, score, over=over)
                if time.monotonic() - said > 10:
                    said = time.monotonic()
                    say(f"{score.kills} kills in {said - began:.0f} s, {score.worlds} worlds, no fault")
            score.worlds += 1
            if not score.faults:
                shutil.rmtree(world)
    finally:
        if score.faults:
            say(f"the folder is kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return score


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--bug", default="", choices=["", "effect-before-intent"])
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    try:
        score = crash(given.kills, given.seed, bug=given.bug)
    except (RuntimeError, OutriderError) as error:
        print(f"fault: {error}")
        return 1
    where = ", ".join(f"{place} {count}" for place, count in sorted(score.at.items()) if count)
    print(f"{score.kills} kills ({where}) in {score.lives} lives of {score.worlds} worlds; {score.entries} entries")
    print(
        f"{score.asked} effects settled by asking, {score.doubts} doubts left to a person, {len(score.faults)} faults"
    )
    for fault in score.faults:
        print(f"fault: {fault}")
    return 1 if score.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
