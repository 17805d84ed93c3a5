"""``make demo``: the whole way of a task, with a real hub and a real agent, ended by checks that can fail.

Everything happens in ``./.demo``, made anew each time. The two processes are started as an operator would start them,
with the ``outrider`` command; between them runs a wire that the demo can cut. It exits 0 only if every check at the end
holds.

    CSV=FILE    work on this file in the morning, in place of the sample
    SERVE=1     keep hub and agent up at the end, and print the console's address, user and password
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from demo_console import Console
from demo_kit import Books, Process, Screen, Stop, Wire, outrider, wait

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
SAMPLES = ROOT / "server" / "starter" / "permits" / "samples"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrider"
USER = "clerk"
KILLS = 3  # tries to interrupt a file

Json = dict[str, Any]


class Demo:
    def __init__(self, screen: Screen, morning: Path, afternoon: Path) -> None:
        self.screen = screen
        self.morning, self.afternoon = morning, afternoon
        self.hub_home, self.home = DEMO / "hub", DEMO / "agent"
        self.books = Books(self.home / "register.sqlite3")
        self.wire = Wire()
        self.password = secrets.token_urlsafe(12)
        # The hub answers only to names it was told: through the wire it is called by the wire's.
        hosts = json.dumps([f"127.0.0.1:{self.wire.port}"])
        where = ["--home", str(self.hub_home), "--host", "127.0.0.1", "--port", "0"]
        self.hub = Process("hub", DEMO / "hub.log", "hub", "run", *where, env={"OUTRIDER_HUB_HOSTS": hosts})
        cache = {"OUTRIDER_MODEL_CACHE": str(CACHE)}
        self.agent = Process("agent", DEMO / "agent.log", "agent", "run", "--home", str(self.home), env=cache)
        self.console: Console | None = None
        self.address = ""
        self.linked_offline = True

    # --- looking --------------------------------------------------------------------------------------------------

    def status(self) -> Json:
        self.hub.check()
        status: Json = self.report("agent", "status")
        return status

    def report(self, *words: str) -> Any:
        return json.loads(outrider(*words, "--home", str(self.home), "--json"))

    def until(self, what: str, ready: Callable[[Json], bool], *, patience: float = 60) -> Json:
        """Poll the agent's status until it is as wanted, showing where it stands."""

        def look() -> tuple[bool, str, Json]:
            self.agent.check()
            status = self.status()
            return ready(status), f"{what}: {_where(status)}", status

        began = time.monotonic()
        status = wait(self.screen, look, patience=patience, advice=self.tails)
        self.screen.say(f"{what}: {_where(status)} ({time.monotonic() - began:.1f} s)")
        return status

    def tails(self) -> str:
        return (
            f"{self._problems()}the agent's last words:\n{self.agent.tail()}\nthe hub's last words:\n{self.hub.tail()}"
        )

    def _problems(self) -> str:
        """What the agent itself says is in its way."""
        with contextlib.suppress(Stop):
            problems = self.status()["problems"]
            return "".join(f"[{one['code']}] {one['message']}: {one['advice']}\n     " for one in problems)
        return ""

    # --- the steps ------------------------------------------------------------------------------------------------

    def step_1(self) -> None:
        """A hub and an agent as two processes; the agent joins with a one-time token."""
        say, good = self.screen.say, self.screen.good
        self.screen.heading("1/8  A hub, an agent, and a one-time token between them")
        init = ("hub", "init", "--home", str(self.hub_home), "--starter", "permits", "--name", "City of Example")
        outrider(*init, "--user", USER, "--password-stdin", typed=self.password + "\n")
        say(f"hub made in {self.hub_home.relative_to(ROOT)}: keys, repository, database, user {USER!r}")
        self.hub.start()
        self.address = self._hub_address()
        self.wire.lead_to(self.address)
        good(f"hub runs as process {self.hub.pid}, console at {self.address}")
        token = outrider("hub", "token", "--home", str(self.hub_home)).split()[-1]
        secret, _, fingerprint = token.rpartition(".")
        say(f"one-time token: {secret[:4]}…, with the fingerprint {fingerprint} of the hub's key")
        outrider("agent", "join", self.wire.url, token, "--home", str(self.home), "--name", "permit-desk")
        good("agent joined: it made its own Ed25519 keys, the hub pinned them, it holds the hub's root of trust")
        try:
            outrider("agent", "join", self.wire.url, token, "--home", str(DEMO / "thief"), "--name", "thief")
        except Stop as refused:
            good(f"the same token a second time is refused: {_reason(refused)}")
        else:
            raise Stop("a one-time token was accepted twice", "this must never happen: see the hub's log")
        past = ("memory", "import", str(SAMPLES / "past-decisions.csv"))
        kept = outrider(*past, "--home", str(self.home)).strip()
        good(f"past decisions go into the agent's memory: {kept.splitlines()[-1]}")

    def _hub_address(self) -> str:
        return self._said(self.hub, r"^hub ready at (http://\S+)")

    def _agent_ready(self) -> None:
        took = self._said(self.agent, r"^agent ready in (\S+ s)")
        self.screen.say(f"agent runs as process {self.agent.pid}, ready in {took}")

    def _said(self, process: Process, pattern: str) -> str:
        """What a process said of itself since it was last started."""

        def look() -> tuple[bool, str, str]:
            process.check()
            said = re.search(pattern, process.output(), re.MULTILINE)
            return said is not None, f"waiting for the {process.name}", said[1] if said else ""

        return wait(self.screen, look, patience=60, advice=self.tails, every=0.05)

    def step_2(self) -> None:
        """A signed release; the agent pulls and verifies it after the hub's notice."""
        self.screen.heading("2/8  A signed release: policy, playbook, prompts, model by hash")
        self.agent.start()
        self._agent_ready()
        self.screen.say("without a release it may do nothing")
        status = self.until("linked", lambda s: bool(s["linked"]))
        if status["release"]:
            raise Stop("the agent has a release before one was published", "this demo starts from nothing")
        began = time.monotonic()
        published = json.loads(outrider("hub", "release", "publish", "--home", str(self.hub_home), "--json"))
        number = published["release"]
        self.screen.say(f"release {number} is published and signed")
        self.until("pulled and verified", lambda s: s["release"] == number)
        took = time.monotonic() - began
        self.screen.good(f"the hub sent a notice, the agent pulled release {number} and verified it ({took:.1f} s)")
        self.until("authority lent", lambda s: bool(s["lease"]) and s["lease"]["actions_left"] > 0)
        self._models()

    def _models(self) -> None:
        """The models the release lists: ready, or said to be missing. Without them the rest goes on."""

        def ready(status: Json) -> bool:
            model = status["model"]
            if model is None or any(part["trouble"] in ("model.missing", "model.untried") for part in _parts(model)):
                return False  # not said yet, or still being copied or fetched
            embedder = model["embedder"]
            return bool(embedder["trouble"] or (embedder["loaded"] and model["worker"] != "busy"))

        try:
            model = self.until("models", ready, patience=45)["model"]
        except Stop:
            model = self.status()["model"]
        for part in _parts(model):
            if part["trouble"]:
                said = f"[{part['trouble']}] {part['advice']}"
                self.screen.say(f"{part['kind']} model: {said}; until then the agent works by rules and asks")
            else:
                self.screen.good(f"{part['kind']} model: {part['name']}, sha256 {part['model'][:16]}…, as released")

    def step_3_and_4(self) -> Json:
        """The morning's file: rules, memory, model; the guard; decided alone or asked."""
        self.screen.heading("3/8  A file of permit applications arrives in the inbox")
        before = self.books.count()
        self._drop(self.morning)
        status = self._settled(self.morning)
        source = next(s for s in status["sources"] if s["file"] == _name(self.morning))
        numbers = [f"{source[name]} {name}" for name in ("rows", "opened", "duplicates", "refused")]
        self.screen.good(f"{self.morning.name}: {', '.join(numbers)}")
        planners = status["planners"]
        self.screen.say("planned by: " + ", ".join(f"{name} {count}" for name, count in sorted(planners.items())))
        self._show_examples()
        self.screen.heading("4/8  The guard's verdict on each")
        decided, waiting = self.books.count() - before, status["runs"]["waiting"]
        self.screen.good(f"{decided} decided alone and written to the case register")
        self.screen.good(f"{waiting} wait for a person, {status['denied']} denied")
        return status

    def _show_examples(self) -> None:
        """One recommendation of each planner, in its own words."""
        examples = {run["planner"]: run for run in reversed(self.report("agent", "runs")) if run["planner"]}
        for planner, run in sorted(examples.items()):
            sure = f"{run['confidence'] / 10:.0f}% sure"
            self.screen.say(f"recommended by {planner}: {run['subject']} to {run['lane']}, {sure}. {run['reason']}")

    def _drop(self, file: Path) -> None:
        """Into the inbox as another program would put it there: whole, by a rename."""
        inbox = self.home / "inbox"
        inbox.mkdir(mode=0o700, exist_ok=True)
        hidden = inbox / f".{file.name}.part"
        shutil.copyfile(file, hidden)
        hidden.replace(inbox / _name(file))
        self.screen.say(f"dropped {file.name} ({_rows(file)} rows) into {inbox.relative_to(ROOT)}")

    def _settled(self, *files: Path) -> Json:
        """Until each run of these files has ended, or waits for a person or for authority."""
        names = {_name(file) for file in files}

        def ready(status: Json) -> bool:
            there = {source["file"] for source in status["sources"]}
            return names <= there and _unsettled(status) == 0

        return self.until("working", ready, patience=120)

    def step_5(self) -> None:
        """Two answers by a signed-in person; the others stay waiting."""
        self.screen.heading("5/8  A person answers in the hub's console")
        self.until("sent to the hub", _all_synced)
        self.console = Console(self.address)
        self.console.sign_in(USER, self.password)
        waiting = self._waiting_at_hub()
        self.screen.say(f"signed in as {USER}: {len(waiting)} cards wait")
        if len(waiting) < 2:
            raise Stop(f"only {len(waiting)} approvals wait, and two are needed", "use a CSV with less clear cases")
        cases = {one["approval"]: one for one in self.report("agent", "approvals")}
        first, second = _choose([cases[one] for one in waiting if one in cases])
        self.console.answer(first, "approve", "Agreed.")
        self.screen.good(f"approved {_case(cases, first)}")
        lane = "express" if cases[second]["lane"] == "plan_review" else "plan_review"
        self.console.answer(second, "correct", f"This belongs to {lane}.", lane=lane)
        self.screen.good(f"corrected {_case(cases, second)} to {lane}")
        self.until("answers carried out", lambda s: s["answered"] >= 2 and _unsettled(s) == 0)
        wanted = {cases[first]["subject"]: cases[first]["lane"], cases[second]["subject"]: lane}
        decided = self.books.decisions()
        for subject, expected in wanted.items():
            if decided.get(subject) != expected:
                raise Stop(f"{subject} stands in the register as {decided.get(subject)}, not {expected}", self.tails())
        self.screen.good("both stand in the case register as the person said")

    def _waiting_at_hub(self) -> list[str]:
        console = self.console
        assert console is not None

        def look() -> tuple[bool, str, list[str]]:
            waiting = console.waiting()
            return len(waiting) >= 2, f"{len(waiting)} approvals at the hub", waiting

        try:
            return wait(self.screen, look, patience=15, advice=self.tails)
        except Stop:
            return console.waiting()

    def step_6_and_7(self) -> None:
        """Offline under the lease, killed in the middle, restarted, finished; then the wire is mended."""
        self.screen.heading("6/8  The link is cut, and work goes on under the lease")
        self.wire.cut()
        status = self.until("cut", lambda s: not s["linked"])
        synced, before = status["synced"], self.books.count()
        self.screen.heading("7/8  kill -9 in the middle of a file")
        dropped = self._kill_in_the_middle()
        self.agent.start()
        self._agent_ready()
        status = self._settled(self.morning, *dropped)
        self.linked_offline = bool(status["linked"]) or status["synced"] != synced
        if self.linked_offline:
            raise Stop("the agent reached the hub while the link was cut", self.tails())
        self.screen.good(f"{self.books.count() - before} decided offline, the hub still holds {synced} entries")
        self._show_held()
        self.screen.say("mending the link")
        self.wire.mend()
        self.until("synced", _all_synced, patience=90)
        self.screen.good("everything is at the hub")

    def _show_held(self) -> None:
        """What waits for authority: the lease bounds what is done between two syncs."""
        held = [run for run in self.report("agent", "runs") if run["status"] == "held"]
        if held:
            rules = sorted({rule for run in held for rule in run["rules"]})
            self.screen.good(f"{len(held)} held by {', '.join(rules)}: they go on when the hub is back")

    def _kill_in_the_middle(self) -> list[Path]:
        """Drop the file and kill the agent inside it; the files that were dropped. Should all of it be done before the
        kill lands, which the slices make unlikely, the same cases come once more under new numbers."""
        dropped = [self.afternoon]
        while not self._kill_inside(dropped[-1]):
            if len(dropped) == KILLS:
                raise Stop(f"{KILLS} files were each finished before the kill", "run the demo again")
            self.screen.say("nothing was left to interrupt: the same cases once more, under new numbers")
            dropped.append(_renumbered(self.afternoon, DEMO, len(dropped) + 1))
            self.agent.start()
            self._agent_ready()
        return dropped

    def _kill_inside(self, file: Path) -> int:
        """Drop a file, and kill the agent once the first of it is decided; how many runs that left under way."""
        before, pid = self.books.count(), self.agent.pid
        self._drop(file)
        self.screen.say("the agent runs in slices of 5 ms, and stands frozen while the demo reads the case register")
        self.agent.kill_at(lambda: self.books.count() > before, patience=120)
        done, left = self.books.count() - before, _unsettled(self.status())
        self.screen.good(f"process {pid} killed where it stood: {done} of the file decided, {left} runs under way")
        return left

    # --- the end --------------------------------------------------------------------------------------------------

    def step_8(self) -> bool:
        """The summary, and the checks that decide the exit code."""
        self.screen.heading("8/8  Summary")
        status = self.until("at rest", lambda s: _all_synced(s) and _unsettled(s) == 0)
        for label, value in _summary(status):
            self.screen.plain(f"   {label:<30}{value}")
        self.screen.plain()
        held = True
        for holds, said in self._checks(status):
            held = held and holds
            (self.screen.good if holds else self.screen.bad)(said)
        (DEMO / "summary.json").write_text(json.dumps(status, indent=1) + "\n", "utf-8")
        return held

    def _checks(self, status: Json) -> list[tuple[bool, str]]:
        size = status["log"]["size"]
        synced = status["synced"] == size and status["cosigned"]
        faults = list(self.books.faults())
        done = {run["subject"] for run in self.report("agent", "runs") if run["outcome"] == "done"}
        decided = set(self.books.decisions())
        doubts = status["runs"]["in_doubt"]
        opened = sum(source["opened"] for source in status["sources"])
        runs = status["runs"]["open"] + status["runs"]["closed"]
        try:
            verified, said = True, outrider("audit", "verify", "--device", "--home", str(self.home)).strip()
        except Stop as stop:
            verified, said = False, str(stop)
        return [
            (synced, f"hub verified {status['synced']} entries, checkpoint countersigned"),
            (not faults, f"duplicates {len(faults)}: {'; '.join(faults[:3]) or 'each case once, each key sent once'}"),
            (done == decided, f"{len(done)} finished runs, {len(decided)} rows in the case register, the same cases"),
            (opened == runs, f"{opened} rows became {runs} runs: none lost"),
            (doubts == 0, f"{doubts} actions in doubt"),
            (verified, f"audit: {said.splitlines()[0] if said else 'verified'}"),
        ]

    def serve(self) -> None:
        self.screen.heading("Hub and agent stay up")
        self.screen.say(f"console   {self.address}")
        self.screen.say(f"user      {USER}")
        self.screen.say(f"password  {self.password}")
        self.screen.say(f"inbox     {self.home / 'inbox'}")
        self.screen.say("Ctrl-C ends both")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self.hub.check()
                self.agent.check()
                time.sleep(0.5)
        self.screen.plain("\nstopping")

    def stop(self) -> None:
        self.agent.stop()
        self.wire.cut()
        self.hub.stop()


# --- reading the status -------------------------------------------------------------------------------------------


def _unsettled(status: Json) -> int:
    """Runs that neither ended nor wait for a person or for authority."""
    runs = status["runs"]
    return int(runs["open"] - runs["waiting"] - runs["held"] - runs["in_doubt"])


def _all_synced(status: Json) -> bool:
    return bool(status["linked"] and status["cosigned"] and status["synced"] == status["log"]["size"])


def _where(status: Json) -> str:
    runs = status["runs"]
    return (
        f"{runs['closed']} closed, {runs['waiting']} waiting, {_unsettled(status)} under way, "
        f"log {status['log']['size']}, synced {status['synced']}, {'linked' if status['linked'] else 'offline'}"
    )


def _parts(model: Json) -> list[Json]:
    return [model["language"], model["embedder"]]


def _summary(status: Json) -> list[tuple[str, str]]:
    planner = status["planner"]
    lanes = ", ".join(f"{lane} {count}" for lane, count in sorted(status["lanes"].items()))
    by = status["model_calls_avoided_by"]
    avoided = f"{by.get('rules', 0)}, by memory {by.get('memory', 0)}; made {status['model_calls']}"
    return [
        ("cases by lane", lanes),
        ("decided alone", str(status["decided_alone"])),
        ("asked", f"{status['asked']}, of these answered {status['answered']}"),
        ("denied", str(status["denied"])),
        ("waiting, held", f"{status['runs']['waiting']}, {status['runs']['held']}"),
        ("planner latency", f"p50 {planner['p50_us'] / 1000:.1f} ms, p95 {planner['p95_us'] / 1000:.1f} ms"),
        ("model calls avoided by rules", avoided),
        ("log", f"{status['log']['size']} entries, {status['log']['bytes'] / 1000:.0f} kB"),
    ]


def _case(cases: dict[str, Json], approval: str) -> str:
    case = cases[approval]
    return f"{case['subject']} ({case['lane']})"


def _reason(stop: Stop) -> str:
    code = re.search(r"\[([a-z.-]+)\]", str(stop))
    return code[1] if code else str(stop)[-100:]


def _choose(cases: list[Json]) -> tuple[str, str]:
    """The approval that the agent was surest of, and the least sure one of the others, drawings first: the one a person
    would most likely wave through, and the one where a person is needed."""
    surest = max(cases, key=lambda case: int(case["confidence"]))
    others = [case for case in cases if case is not surest]
    least = min(others, key=lambda case: (case["lane"] != "plan_review", case["confidence"]))
    return surest["approval"], least["approval"]


def _name(file: Path) -> str:
    """Its name in the inbox, which takes in what ends in .csv."""
    return file.name if file.suffix.lower() == ".csv" else f"{file.name}.csv"


def _renumbered(file: Path, folder: Path, copy: int) -> Path:
    """The same cases under numbers of their own, as a new file."""
    with file.open(encoding="utf-8", newline="") as lines:
        head, *rows = csv.reader(lines)
    made = folder / f"{file.stem}-{copy}.csv"
    with made.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows([head, *([f"{row[0]}-{copy}", *row[1:]] for row in rows)])
    return made


def _rows(file: Path) -> int:
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        return max(sum(1 for _ in csv.reader(lines)) - 1, 0)


# --- the whole ----------------------------------------------------------------------------------------------------


def fresh() -> None:
    """An empty ``.demo``, and nothing left running from a demo that was itself killed."""
    pids = DEMO / "pids"
    for text in pids.read_text("utf-8").split() if pids.exists() else []:
        command = Path(f"/proc/{text}/cmdline")
        if command.exists() and str(DEMO).encode() in command.read_bytes():
            os.kill(int(text), signal.SIGKILL)
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(mode=0o700)


def morning_file() -> Path:
    given = os.environ.get("CSV", "")
    if not given:
        return SAMPLES / "applications-morning.csv"
    path = Path(given).expanduser()
    if not path.is_file():
        raise Stop(f"there is no file {path}", "name an existing file: make demo CSV=/path/to/file.csv")
    return path.absolute()


def main() -> int:
    screen = Screen()
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    demo: Demo | None = None
    try:
        morning = morning_file()
        fresh()
        demo = Demo(screen, morning, SAMPLES / "applications-afternoon.csv")
        demo.step_1()
        demo.step_2()
        demo.step_3_and_4()
        demo.step_5()
        demo.step_6_and_7()
        held = demo.step_8()
        screen.plain(f"\n{'All of it holds.' if held else 'Not all of it holds.'} {time.monotonic() - began:.0f} s")
        if os.environ.get("SERVE", "") not in ("", "0"):
            demo.serve()
        return 0 if held else 1
    except Stop as stop:
        screen.bad(str(stop))
        screen.say(stop.advice)
        return 1
    except KeyboardInterrupt:
        screen.plain("\nstopped")
        return 130
    finally:
        if demo is not None:
            demo.stop()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
