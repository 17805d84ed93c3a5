"""A second opinion on a log: told only what happened, it asserts that nothing acted unguarded. It shares no code with
the fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared import entries as e


@dataclass
class Seen:
    """What was seen of one run."""

    dry: bool
    paused: bool = False
    cancelled: bool = False
    undoing: bool = False
    closed: str = ""
    verdicts: dict[str, e.VerdictGiven] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)  # step -> key of the intent without a result


class Watch:
    def __init__(self) -> None:
        self.runs: dict[str, Seen] = {}
        self.asked: dict[tuple[str, str], tuple[e.ApprovalAsked, int, set[str]]] = {}
        self.yes: dict[tuple[str, str], str] = {}  # run and approval -> the action it is for
        self.grants: dict[str, tuple[e.VerdictGiven, int]] = {}
        self.used: set[tuple[str, str]] = set()

    def see(self, entry: e.Entry) -> None:
        facts: Any = entry.facts
        if isinstance(facts, e.RunOpenedV1):
            self.runs[entry.run] = Seen(dry=getattr(facts, "dry_run", False))
            return
        if not entry.run:
            return
        run = self.runs[entry.run]
        if run.closed:
            assert isinstance(facts, e.RunOrdered) and facts.order in ("retry", "dismiss"), facts
            assert run.closed == "failed"
        match facts:
            case e.VerdictGiven():
                run.verdicts[facts.step] = facts
            case e.ApprovalAskedV1():
                self._ask(entry, run, facts)
            case e.ApprovalAnsweredV1():
                self._answer(entry, run, facts)
            case e.ApprovalCovered():
                self._cover(entry, run, facts)
            case e.ApprovalVoided():
                self.asked.pop((entry.run, facts.approval), None)
                self.yes.pop((entry.run, facts.approval), None)
                self.used.add((entry.run, facts.approval))
            case e.IntentRecorded():
                self._act(entry, run, facts)
            case e.ResultRecorded():
                assert run.open.pop(facts.step) == facts.key
            case e.RunOrdered():
                self._order(run, facts)
            case e.UndoBegun():
                assert not run.open
                run.undoing = True
            case e.RunClosed():
                assert not run.open
                assert facts.outcome not in ("done", "rehearsed") or not (run.cancelled or run.undoing)
                run.closed = facts.outcome

    def _ask(self, entry: e.Entry, run: Seen, facts: Any) -> None:
        whole = facts if isinstance(facts, e.ApprovalAsked) else e.ApprovalAsked(*_values(facts))
        name = (entry.run, facts.approval)
        assert name not in self.used and not run.dry
        assert run.verdicts[facts.step].verdict == "ask" and run.verdicts[facts.step].action == facts.action
        self.asked[name] = (whole, entry.at, set())

    def _answer(self, entry: e.Entry, run: Seen, facts: Any) -> None:
        name = (entry.run, facts.approval)
        asked, _, people = self.asked[name]
        assert facts.action == asked.action and entry.at <= asked.expires_at and facts.by not in people
        assert name not in self.used
        people.add(facts.by)
        if facts.answer == "approve" and len(people) < asked.needed:
            return
        del self.asked[name]
        self.used.add(name)
        if facts.answer == "deny":
            run.verdicts.pop(facts.step)  # nothing can come of it any more
            return
        self.yes[name] = facts.corrected if facts.answer == "correct" else facts.action
        if getattr(facts, "similar_until", 0) and facts.answer == "approve":
            assert asked.needed == 1 and facts.similar_until <= entry.at + asked.similar_s * 1_000_000
            self.grants[facts.approval] = (run.verdicts[facts.step], facts.similar_until)

    def _cover(self, entry: e.Entry, run: Seen, facts: e.ApprovalCovered) -> None:
        given, until = self.grants[facts.grant]
        mine = run.verdicts[facts.step]
        assert entry.at <= until and mine.verdict == "ask" and mine.action == facts.action
        assert (given.rules, given.release, given.tool) == (mine.rules, mine.release, mine.tool)
        assert given.step.partition("#")[0] == mine.step.partition("#")[0]
        assert (entry.run, facts.approval) not in self.used
        self.used.add((entry.run, facts.approval))
        self.yes[entry.run, facts.approval] = facts.action

    def _act(self, entry: e.Entry, run: Seen, facts: e.IntentRecorded) -> None:
        verdict = run.verdicts[facts.step]
        assert verdict.action == facts.action and verdict.tool == facts.tool
        assert not (run.dry or run.paused or run.closed)
        assert facts.step.startswith("~") == run.undoing and (run.undoing or not run.cancelled)
        assert facts.step not in run.open
        run.open[facts.step] = facts.key
        if facts.approval:
            assert self.yes.pop((entry.run, facts.approval)) == facts.action, "a yes is used once, for its action"
            assert verdict.verdict in ("allow", "ask") and verdict.context["approved"] is True
        else:
            assert verdict.verdict == "allow"

    def _order(self, run: Seen, facts: e.RunOrdered) -> None:
        match facts.order:
            case "pause" | "resume":
                run.paused = facts.order == "pause"
            case "cancel":
                run.cancelled, run.paused = True, False
            case "retry":
                run.closed, run.cancelled, run.undoing, run.paused = "", False, False, False
                run.verdicts.clear()
            case "not-happened":
                run.open.pop(facts.step)


def _values(facts: e.Facts) -> list[Any]:
    return [getattr(facts, name) for name in facts.__struct_fields__]
