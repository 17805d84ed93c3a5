"""Runs as an engine would write them, with chance in the place of tools, people, clocks and policies.

``Story`` drives ``moves`` over a random playbook, its child runs included, and folds each entry as a device would. What
can happen is decided by ``choose``; ``finish`` lets everything go well from then on, so that a story must end.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec

from shared import entries as e
from shared.playbook import Playbook
from shared.runs import DONE, UNDO, Device, Move, Next, Run, Step, moves
from tests.shared import examples

START = examples.AT
MINUTE = 60_000_000
CHILD = "child"


def make(facts: e.Facts, seq: int, at: int, run: str = examples.RUN) -> e.Entry:
    name, version = e.type_of(facts)
    return e.Entry(seq, at, name, version, run, facts, {})


def opened(**more: Any) -> e.RunOpened:
    return e.RunOpened("p", 1, "sha", 1, "csv:x:1", "sha", False, **more)


def plan(step: str, action: str, planner: str = "rules") -> e.PlanMade:
    abstained = "" if action else "unsure"
    return e.PlanMade(step, planner, "", "", "express", 900, [], 1, 3, 0, 4, 0, "tool", action, abstained)


def verdict(step: str, action: str, kind: str, rules: list[str], *, approved: bool = False, **more: Any) -> e.Facts:
    context = {"approved": approved, "value_cents": 100, "effect": "compensatable"} | more.pop("context", {})
    return e.VerdictGiven(step, action, kind, rules, more.pop("release", 1), "tool", context)


def result(step: str, key: str, outcome: str, how: str = "sent") -> e.ResultRecorded:
    return e.ResultRecorded(step, key, outcome, "" if outcome == DONE else "tool.no", how, 1, 1)


# --- playbooks ----------------------------------------------------------------------------------------------------


def random_playbook(chance: random.Random) -> Playbook:
    """Any shape of steps, at most three deep."""
    names = iter(range(1000))

    def step(depth: int) -> dict[str, Any]:
        one: dict[str, Any] = {"id": f"s{next(names)}"}
        if chance.random() < 0.3:
            one["on_failure"] = "continue"
        if chance.random() < 0.3:
            one["timeout"] = "1h"
        if chance.random() < 0.15:
            one["when"] = "true"
        kinds = ["tool", "tool", "tool", "confirm", "wait", "run"] + ["together", "for_each"] * 2 * (depth < 2)
        match chance.choice(kinds):
            case "tool":
                one |= {"tool": "a.tool"} | ({"undo": "none"} if chance.random() < 0.2 else {})
            case "confirm":
                one |= {"confirm": "Go?"}
            case "wait":
                one |= {"wait": chance.choice([{"for": "1h"}, {"event": "payment"}])}
            case "run":
                one |= {"run": CHILD}
            case "together":
                one |= {"together": [sequence(depth + 1) for _ in range(chance.randint(2, 3))]}
            case _:
                one |= {"for_each": "[1]", "at_once": chance.randint(1, 3), "steps": sequence(depth + 1)}
        return one

    def sequence(depth: int) -> list[dict[str, Any]]:
        return [step(depth) for _ in range(chance.randint(1, 3 - depth))]

    return playbook(sequence(0), on_failure=chance.choice(["undo", "stop"]))


def playbook(steps: list[dict[str, Any]], **more: Any) -> Playbook:
    plain = {
        "playbook": "p",
        "version": 1,
        "owner": "shop",
        "trigger": {"manual": True},
        "inputs": {"sku": {"required": True}},
        "business_key": ["sku"],
        "approvals": {"roles": ["clerk"]},
        "steps": steps,
    }
    return msgspec.convert(json.loads(json.dumps(plain | more)), Playbook)


CHILDS = playbook([{"id": "c1", "tool": "a.tool"}, {"id": "c2", "tool": "a.tool"}], playbook=CHILD)

# --- one story ----------------------------------------------------------------------------------------------------

Choose = Callable[[list[Any]], Any]


class Story:
    """``device`` has folded ``entries``. ``world`` counts what happened outside and was not taken back, by run and
    step; ``sent`` every effect by its key."""

    def __init__(self, book: Playbook, choose: Choose, *, dry_run: bool = False) -> None:
        self.books = {"p": book, CHILD: CHILDS}
        self.choose = choose
        self.device = Device(closed={})
        self.entries: list[e.Entry] = []
        self.world: dict[tuple[str, str], int] = {}
        self.sent: dict[str, int] = {}
        self.at = START
        self.release = 1
        self.finishing = False
        self._names = 0
        self.add(opened(dry_run=dry_run), examples.RUN)

    # --- telling --------------------------------------------------------------------------------------------------

    def tell(self, most: int = 120) -> None:
        """Until nothing is open, or for ``most`` moves."""
        for _ in range(most):
            if not self.device.runs:
                if self.finishing or not self._order():
                    return
            elif self.finishing or self.choose([True] * 9 + [False]):
                self._go()
            else:
                self._order()

    def finish(self, most: int = 600) -> None:
        """From now on everything goes well; raises where the story does not end."""
        self.finishing = True
        for run in list(self.device.runs.values()):
            if run.paused:
                self._ordered(run, "resume")
        self.tell(most)
        assert not self.device.runs, [
            (run.id, moves(run, self.book(run)), run.steps) for run in self.device.runs.values()
        ]

    def add(self, facts: e.Facts, run: str = "", later: int = 1) -> None:
        self.at += later
        entry = make(facts, len(self.entries), self.at, run)
        self.device.fold(entry)
        self.entries.append(entry)

    def name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def book(self, run: Run) -> Playbook:
        return self.books[run.opened.playbook]

    def will(self, *usual: Any, rare: tuple[Any, ...] = ()) -> Any:
        """One of what may happen; what is rare goes wrong, and does not while finishing."""
        if self.finishing:
            return usual[0]
        return self.choose([*usual * 8, *rare])

    def _go(self) -> None:
        """One move of one run."""
        can = [(run, move) for run in self.device.runs.values() for move in moves(run, self.book(run))]
        if self.finishing:
            can = [(run, move) for run, move in can if not self._waits_for_others(run, move)]
            can.sort(key=lambda one: one[1].move in (Move.WAIT, Move.HOLD))
        assert can, "an open run can always do something, if only wait"
        self.move(*(can[0] if self.finishing else self.choose(can)))

    def _waits_for_others(self, run: Run, move: Next) -> bool:
        """For a child that is still open, or for the steps within it."""
        step = run.steps.get(move.step)
        entered = step.entered if step is not None and move.move is Move.WAIT else None
        return entered is not None and (entered.kind in ("each", "together") or entered.ref in self.device.runs)

    # --- moves ----------------------------------------------------------------------------------------------------

    def move(self, run: Run, move: Next) -> None:
        step = run.steps.get(move.step)
        match move.move:
            case Move.START:
                self._start(run, move.step)
            case Move.JUDGE | Move.HOLD if step is not None:
                self._judge(run, step)
            case Move.ASK if step is not None:
                self._ask(run, step)
            case Move.REHEARSE if step is not None and step.verdict is not None:
                self.add(e.StepRehearsed(step.id, step.action, step.verdict.verdict), run.id)
            case Move.WAIT if step is not None:
                self._wait(run, step)
            case Move.ACT if step is not None:
                key = f"{run.id}/{step.action}/{run.times.get(step.id.removeprefix(UNDO), 0)}"
                self.add(e.IntentRecorded(step.id, step.action, "tool", key, step.granted), run.id)
            case Move.SETTLE if step is not None:
                self._settle(run, step)
            case Move.OBSERVE if step is not None and step.intent is not None:
                matches = self.will(True, rare=(False,))
                self.add(e.EffectObserved(step.id, step.intent.key, matches), run.id)
                if matches and step.id.startswith(UNDO):
                    self._count(run, step.id, -1)
            case Move.DROP:
                self.add(e.StepFailed(move.step, move.code), run.id)
            case Move.BACK:
                self.add(e.UndoBegun(move.outcome, move.code), run.id)
            case Move.UNDO:
                self._undo(run, move.step)
            case Move.LEAVE:
                self.add(e.UndoLeft(move.step, move.code), run.id)
            case Move.CLOSE:
                self.add(e.RunClosed(move.outcome, move.code), run.id)

    def _start(self, run: Run, name: str) -> None:
        part = self.book(run).step(name)
        if part.when is not None and not self.will(True, False):
            self.add(e.StepSkipped(name), run.id)
        elif self.will(False, rare=(True,)):
            self.add(e.StepFailed(name, "expression.failed"), run.id)
        elif part.for_each is not None:
            self.add(e.StepEntered(name, "each", 0, self.choose([0, 1, 2, 4]), ""), run.id)
        elif part.together is not None:
            self.add(e.StepEntered(name, "together", 0, len(part.together), ""), run.id)
        elif part.wait is not None and part.wait.event is not None:
            self.add(e.StepEntered(name, "event", 0, 0, f"ref {run.id} {name}"), run.id)
        elif part.wait is not None:
            self.add(e.StepEntered(name, "time", self.at + 60 * MINUTE, 0, ""), run.id)
        elif part.run is not None:
            child = self.name("run_child")
            self.add(e.StepEntered(name, "run", 0, 0, child), run.id)
            facts = opened(parent=run.id, parent_step=name, dry_run=run.opened.dry_run)
            self.add(msgspec.structs.replace(facts, playbook=CHILD), child)
        else:
            if self.choose([True, False]):
                self.add(e.ContextRecalled(name, [], 1), run.id)
            action = self.will(f"do {name}", rare=("",))
            self.add(plan(name, action), run.id)

    def _judge(self, run: Run, step: Step) -> None:
        kind, rule = self.will(
            ("allow", "alone"), ("ask", "asks"), rare=(("deny", "never"), ("deny", "host:lease-spent"))
        )
        effect = self.choose(["compensatable", "compensatable", "read"]) if step.verdict is None else ""
        context = {"effect": effect or (step.verdict.context["effect"] if step.verdict else "")}
        given = verdict(
            step.id, step.action, kind, [rule], approved=bool(step.granted), release=self.release, context=context
        )
        self.add(given, run.id)

    def _ask(self, run: Run, step: Step) -> None:
        grant = self.device.grant_for(run, step, self.at + 1)
        if grant is not None:
            self.add(e.ApprovalCovered(step.id, self.name("app"), step.action, grant.approval), run.id)
            return
        needed = self.choose([1, 1, 2])
        local, similar = (self.choose([True, False]), self.choose([0, 3600])) if needed == 1 else (False, 0)
        end = self.at + 60 * MINUTE
        self.add(
            e.ApprovalAsked(step.id, self.name("app"), step.action, ["clerk"], end, needed, local, similar), run.id
        )

    def _wait(self, run: Run, step: Step) -> None:
        if step.status == "waiting":
            self._answer(run, step)
        elif step.status == "doubted" and step.intent is not None and self.will(True, False, False, False):
            self._result(run, step, self.will(DONE, rare=("failed",)), "asked")
        elif step.status == "left" and self.finishing:
            self._ordered(run, "handled", step.id)
        elif step.status == "entered" and self.will(False, rare=(True,)):
            self.add(e.StepFailed(step.id, "step.timeout"), run.id)
        elif step.entered is not None and step.status == "entered":
            self._end(run, step, step.entered)

    def _end(self, run: Run, step: Step, entered: e.StepEntered) -> None:
        match entered.kind:
            case "time":
                self.at = max(self.at, entered.until)
                self.add(e.StepEnded(step.id, "time"), run.id)
            case "event":
                if entered.ref not in self.device.events:
                    self.add(e.EventReceived("payment", entered.ref))
                self.add(e.StepEnded(step.id, "event"), run.id)
            case "run" if entered.ref in self.device.children:
                self.add(e.StepEnded(step.id, self.device.children[entered.ref]), run.id)

    def _answer(self, run: Run, step: Step) -> None:
        asked = step.approval
        assert asked is not None
        if self.at + 1 > asked.expires_at:
            self.add(e.ApprovalVoided(step.id, asked.approval, "approval.expired"), run.id)
            return
        said = self.will("approve", "approve", rare=("deny", "correct", "void", "later"))
        if said == "later":
            self.add(e.ApprovalEscalated(step.id, asked.approval, step.level + 1, ["mayor"]), run.id, 10 * MINUTE)
        elif said == "void":
            self.add(e.ApprovalVoided(step.id, asked.approval, "approval.superseded"), run.id)
        elif said != "correct" or asked.needed == 1:
            corrected = f"{step.action}, corrected" if said == "correct" else ""
            by = f"person {len(step.approvers)}"
            place = "local" if asked.local else "hub"
            until = self.at + 1 + asked.similar_s * 1_000_000 if asked.similar_s and said == "approve" else 0
            given = (step.id, asked.approval, asked.action, said, corrected, by, place, until)
            self.add(e.ApprovalAnswered(*given), run.id)

    def _settle(self, run: Run, step: Step) -> None:
        assert step.intent is not None
        match self.will(DONE, rare=("failed", "doubt", "doubt", "doubt")):
            case "doubt":
                self.add(e.IntentDoubted(step.id, step.intent.key), run.id)
            case outcome:
                self._result(run, step, outcome, "sent")

    def _result(self, run: Run, step: Step, outcome: str, how: str) -> None:
        assert step.intent is not None and step.verdict is not None
        self.add(result(step.id, step.intent.key, outcome, how), run.id)
        if outcome == DONE:
            self.sent[step.intent.key] = self.sent.get(step.intent.key, 0) + 1
            if step.verdict.context["effect"] != "read" and not step.id.startswith(UNDO):
                self._count(run, step.id, 1)

    def _count(self, run: Run, step: str, number: int) -> None:
        name = (run.id, step.removeprefix(UNDO))
        self.world[name] = self.world.get(name, 0) + number
        assert self.world[name] in (0, 1), (name, self.world[name])

    def _undo(self, run: Run, name: str) -> None:
        if self.book(run).step(name).undo == "none":
            self.add(e.StepSkipped(UNDO + name), run.id)
        elif self.will(False, rare=(True,)):
            self.add(e.UndoLeft(name, "undo.manual"), run.id)
        else:
            self.add(plan(UNDO + name, f"undo {name}", "undo"), run.id)

    # --- what people order, and what happens to the device --------------------------------------------------------

    def _order(self) -> bool:
        """Something from outside the run; whether anything could be."""
        runs = [*self.device.runs.values(), *self.device.failed.values()]
        fits: list[tuple[Run, str, str]] = []
        for run in runs:
            if run.closed is not None:
                fits += [(run, order, "") for order in ("retry", "retry", "dismiss")]
                continue
            fits.append((run, "resume" if run.paused else "pause", ""))
            fits += [(run, "cancel", "")] if not run.cancelled and self.choose([True] + [False] * 5) else []
            fits += [(run, order, step.id) for step in run.in_doubt for order in ("happened", "not-happened")] * 8
            fits += [(run, "handled", step.id) for step in run.left] * 3
        if not fits:
            return False
        if self.choose([True] * 9 + [False]):
            self._ordered(*self.choose(fits))
        else:
            self.release += 1
            self.add(e.ReleaseInstalled(self.release, {}))
        return True

    def _ordered(self, run: Run, order: str, step: str = "") -> None:
        self.add(e.RunOrdered(order, self.name("ord"), step, "mara", "hub"), run.id)
        if order == "happened":
            self._result(self.device.runs[run.id], self.device.runs[run.id].steps[step], DONE, "told")
        elif order == "handled":
            self._count(run, step, -1)
