"""The fold over a run: every way the engine may go folds, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import entries as e
from shared.errors import Tampered
from shared.runs import Device, Move, Run, fold, next_move
from tests.shared import examples

RUN = examples.RUN
STEPS = ["first", "second"]
START = examples.AT


class Story:
    """A run written as the engine would write it, one choice at a time."""

    def __init__(self, choose: Callable[[list[Any]], Any]) -> None:
        self.choose = choose
        self.entries: list[e.Entry] = []
        self.run: Run | None = None
        self.names = 0
        self.corrections = 0
        self.at = START

    def add(self, facts: e.Facts, later: int = 1) -> None:
        self.at += later
        entry = make(facts, len(self.entries), self.at)
        self.run = fold(self.run, entry)
        self.entries.append(entry)

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def tell(self, most: int = 60) -> list[e.Entry]:
        self.add(opened())
        while len(self.entries) < most:
            assert self.run is not None
            step = next_move(self.run, STEPS)
            if self.run.status == "doubted":
                if not self.settle():
                    break
            elif step.move is Move.STOP:
                break
            else:
                self.move(step.move, step.step, step.outcome, step.code)
        return self.entries

    def settle(self) -> bool:
        """A person said what became of a doubted intent, or nobody did yet."""
        if self.choose([True, False]):
            assert self.run is not None and self.run.intent is not None
            self.add(result(self.run.step, self.run.intent.key, self.choose(["done", "failed"])))
            return True
        return False

    def move(self, move: Move, step: str, outcome: str, code: str) -> None:
        run = self.run
        assert run is not None
        match move:
            case Move.PLAN:
                self.add(e.ContextRecalled(step, [], 1))
                self.add(plan(step, self.choose(["", self.name("act"), self.name("act")])))
            case Move.JUDGE | Move.HOLD:
                approved = run.answer is not None
                kind = self.choose(["allow", "ask", "deny", "held"])
                rules = ["host:lease-spent"] if kind == "held" else ["rule"]
                self.add(verdict(step, run.action, "deny" if kind == "held" else kind, rules, approved=approved))
            case Move.ASK:
                self.add(e.ApprovalAsked(step, self.name("app"), run.action, ["clerk"], self.at + 1000))
            case Move.WAIT:
                self.answer(run)
            case Move.ACT:
                approval = run.answer.approval if run.answer else ""
                self.add(e.IntentRecorded(step, run.action, "tool", self.name("key"), approval))
            case Move.SETTLE:
                assert run.intent is not None
                if self.choose([True, True, False]):
                    self.add(result(step, run.intent.key, self.choose(["done", "done", "failed"])))
                else:
                    self.add(e.IntentDoubted(step, run.intent.key))
            case Move.OBSERVE:
                assert run.intent is not None
                self.add(e.EffectObserved(step, run.intent.key, self.choose([True, True, False])))
            case Move.CLOSE:
                self.add(e.RunClosed(outcome, code))

    def answer(self, run: Run) -> None:
        assert run.approval is not None
        asked = run.approval
        said = self.choose(["approve", "deny", "correct", "void"])
        if said == "void":
            self.add(e.ApprovalVoided(run.step, asked.approval, "approval.expired"), later=2000)
        else:
            corrected = self.name("corrected") if said == "correct" else ""
            self.add(e.ApprovalAnswered(run.step, asked.approval, asked.action, said, corrected, "mara"))


def make(facts: e.Facts, seq: int, at: int, run: str = RUN) -> e.Entry:
    name, version = e.type_of(facts)
    return e.Entry(seq, at, name, version, run, facts, {})


def opened() -> e.RunOpened:
    return e.RunOpened("p", 1, "sha", 1, "csv:x:1", "sha", False)


def plan(step: str, action: str) -> e.PlanMade:
    return e.PlanMade(
        step, "rules", "", "", "express", 900, [], 1, 0, 0, 0, 0, "tool", action, "" if action else "unsure"
    )


def verdict(step: str, action: str, kind: str, rules: list[str], *, approved: bool = False) -> e.VerdictGiven:
    return e.VerdictGiven(step, action, kind, rules, 1, "tool", {"approved": approved, "value_cents": 100})


def result(step: str, key: str, outcome: str) -> e.ResultRecorded:
    return e.ResultRecorded(step, key, outcome, "" if outcome == "done" else "tool.no", "sent", 1, 1)


def folded(entries: list[e.Entry]) -> Run | None:
    run: Run | None = None
    for entry in entries:
        run = fold(run, entry)
    return run


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_story_the_engine_can_tell_folds_and_replays(chance: random.Random) -> None:
    story = Story(chance.choice)
    entries = story.tell()
    assert folded(entries) == story.run
    device = Device()
    for number, entry in enumerate(entries):
        run = device.fold(entry)
        assert run == folded(entries[: number + 1])
    assert story.run is not None
    closed = story.run.closed is not None
    assert (RUN in device.closed, RUN in device.runs) == (closed, not closed)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_in_every_story_each_act_was_allowed_or_approved(chance: random.Random) -> None:
    verdicts: dict[str, e.VerdictGiven] = {}
    said: dict[str, e.ApprovalAnswered] = {}
    used: set[str] = set()
    for entry in Story(chance.choice).tell():
        match entry.facts:
            case e.VerdictGiven() as facts:
                verdicts[facts.action] = facts
            case e.ApprovalAnswered() as facts:
                said[facts.approval] = facts
            case e.IntentRecorded() as facts:
                judged = verdicts[facts.action]
                if facts.approval:
                    answer = said[facts.approval]
                    assert answer.answer != "deny" and facts.action in (answer.action, answer.corrected)
                    assert judged.verdict != "deny" and judged.context["approved"] is True
                    assert facts.approval not in used
                    used.add(facts.approval)
                else:
                    assert judged.verdict == "allow"


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_entry_but_a_judgement_stands_twice(chance: random.Random) -> None:
    entries = Story(chance.choice).tell()
    place = chance.randrange(len(entries))
    if isinstance(entries[place].facts, e.ContextRecalled | e.VerdictGiven):
        return  # to recall or to judge once more is no act
    with pytest.raises(Tampered) as caught:
        folded([*entries[: place + 1], *entries[place:]])
    assert caught.value.code == "run.order"


# --- what may never follow ---------------------------------------------------------------------------------------


def told(*facts: e.Facts) -> list[e.Entry]:
    return [make(one, seq, START + seq) for seq, one in enumerate(facts)]


RECALL = e.ContextRecalled("first", [], 1)
PLAN = plan("first", "act")
ALLOW = verdict("first", "act", "allow", ["r"])
ASK = verdict("first", "act", "ask", ["r"])
DENY = verdict("first", "act", "deny", ["r"])
HELD = verdict("first", "act", "deny", ["host:no-lease"])
AGAIN = verdict("first", "act", "ask", ["r"], approved=True)
ASKED = e.ApprovalAsked("first", "app", "act", ["clerk"], START + 100)
YES = e.ApprovalAnswered("first", "app", "act", "approve", "", "mara")
NO = e.ApprovalAnswered("first", "app", "act", "deny", "", "mara")
CORRECT = e.ApprovalAnswered("first", "app", "act", "correct", "other", "mara")
INTENT = e.IntentRecorded("first", "act", "tool", "key", "")
APPROVED_INTENT = e.IntentRecorded("first", "act", "tool", "key", "app")
RESULT = result("first", "key", "done")
FAILED = result("first", "key", "failed")
SEEN = e.EffectObserved("first", "key", True)
UNSEEN = e.EffectObserved("first", "key", False)
DONE = e.RunClosed("done", "")


def also(facts: e.Facts, **changes: Any) -> e.Facts:
    return msgspec.structs.replace(facts, **changes)


@pytest.mark.parametrize(
    ("before", "bad"),
    [
        ([], INTENT),
        ([], RESULT),
        ([], SEEN),
        ([], ALLOW),
        ([], ASKED),
        ([], DONE),
        ([], opened()),
        ([], e.ClockStepped(1)),
        ([PLAN], INTENT),
        ([PLAN], ASKED),
        ([PLAN], PLAN),
        ([PLAN], RECALL),
        ([PLAN], also(ALLOW, action="other")),
        ([plan("first", "")], also(ALLOW, action="")),
        ([PLAN, ALLOW], also(INTENT, action="other")),
        ([PLAN, ALLOW], APPROVED_INTENT),
        ([PLAN, ALLOW], ASKED),
        ([PLAN, ALLOW], RESULT),
        ([PLAN, DENY], INTENT),
        ([PLAN, DENY], ASKED),
        ([PLAN, HELD], INTENT),
        ([PLAN, ASK], INTENT),
        ([PLAN, ASK], APPROVED_INTENT),
        ([PLAN, ASK], YES),
        ([PLAN, ASK, also(ASKED, action="other")], None),
        ([PLAN, ASK, ASKED], ALLOW),
        ([PLAN, ASK, ASKED], INTENT),
        ([PLAN, ASK, ASKED], APPROVED_INTENT),
        ([PLAN, ASK, ASKED], also(YES, approval="another")),
        ([PLAN, ASK, ASKED], also(YES, action="other")),
        ([PLAN, ASK, ASKED], also(YES, answer="maybe")),
        ([PLAN, ASK, ASKED], also(YES, corrected="other")),
        ([PLAN, ASK, ASKED], also(CORRECT, corrected="")),
        ([PLAN, ASK, ASKED], e.ApprovalVoided("first", "another", "x")),
        ([PLAN, ASK, ASKED, YES], YES),
        ([PLAN, ASK, ASKED, YES], NO),
        ([PLAN, ASK, ASKED, YES], APPROVED_INTENT),
        ([PLAN, ASK, ASKED, YES, AGAIN], INTENT),
        ([PLAN, ASK, ASKED, YES, AGAIN], also(APPROVED_INTENT, approval="another")),
        ([PLAN, ASK, ASKED, YES, also(AGAIN, verdict="deny")], APPROVED_INTENT),
        ([PLAN, ASK, ASKED, YES, also(AGAIN, verdict="deny", rules=["host:clock"])], APPROVED_INTENT),
        ([PLAN, ASK, ASKED, NO], INTENT),
        ([PLAN, ASK, ASKED, NO], APPROVED_INTENT),
        ([PLAN, ASK, ASKED, NO], ALLOW),
        ([PLAN, ASK, ASKED, NO], AGAIN),
        ([PLAN, ASK, ASKED, CORRECT], APPROVED_INTENT),
        ([PLAN, ASK, ASKED, CORRECT], AGAIN),
        ([PLAN, ASK, ASKED, CORRECT, also(AGAIN, action="other")], APPROVED_INTENT),
        ([PLAN, ASK, ASKED, e.ApprovalVoided("first", "app", "x")], YES),
        ([PLAN, ASK, ASKED, e.ApprovalVoided("first", "app", "x")], APPROVED_INTENT),
        ([PLAN, ASK, ASKED, e.ApprovalVoided("first", "app", "x"), ASK], ASKED),
        ([PLAN, ASK, ASKED, e.ApprovalVoided("first", "app", "x"), ASK, also(ASKED, approval="new")], YES),
        ([PLAN, ALLOW, INTENT], INTENT),
        ([PLAN, ALLOW, INTENT], also(RESULT, key="other")),
        ([PLAN, ALLOW, INTENT], also(RESULT, outcome="perhaps")),
        ([PLAN, ALLOW, INTENT], SEEN),
        ([PLAN, ALLOW, INTENT], DONE),
        ([PLAN, ALLOW, INTENT], e.RunClosed("failed", "")),
        ([PLAN, ALLOW, INTENT], e.IntentDoubted("first", "other")),
        ([PLAN, ALLOW, INTENT], ALLOW),
        ([PLAN, ALLOW, INTENT, e.IntentDoubted("first", "key")], INTENT),
        ([PLAN, ALLOW, INTENT, e.IntentDoubted("first", "key")], e.RunClosed("failed", "")),
        ([PLAN, ALLOW, INTENT, RESULT], RESULT),
        ([PLAN, ALLOW, INTENT, RESULT], DONE),
        ([PLAN, ALLOW, INTENT, RESULT], also(SEEN, key="other")),
        ([PLAN, ALLOW, INTENT, RESULT], INTENT),
        ([PLAN, ALLOW, INTENT, FAILED], SEEN),
        ([PLAN, ALLOW, INTENT, FAILED], DONE),
        ([PLAN, ALLOW, INTENT, RESULT, UNSEEN], DONE),
        ([PLAN, ALLOW, INTENT, RESULT, SEEN], INTENT),
        ([PLAN, ALLOW, INTENT, RESULT, SEEN], e.RunClosed("perfect", "")),
        ([PLAN, ALLOW, INTENT, RESULT, SEEN, DONE], DONE),
        ([PLAN, ALLOW, INTENT, RESULT, SEEN, DONE], PLAN),
        ([PLAN, ALLOW, INTENT, RESULT, SEEN, DONE], opened()),
    ],
    ids=lambda value: value[-1].__class__.__name__ if isinstance(value, list) and value else type(value).__name__,
)
def test_what_may_never_follow(before: list[e.Facts], bad: e.Facts | None) -> None:
    if bad is None:
        before, bad = before[:-1], before[-1]
    run = folded(told(opened(), *before))
    with pytest.raises(Tampered) as caught:
        fold(run, make(bad, 50, START + 50))
    assert caught.value.code == "run.order"
    assert caught.value.advice


def test_an_answer_after_its_time_is_refused() -> None:
    run = folded(told(opened(), PLAN, ASK, ASKED))
    assert fold(run, make(YES, 9, START + 100)).status == "approved"
    with pytest.raises(Tampered):
        fold(run, make(YES, 9, START + 101))


def test_a_run_that_was_never_opened() -> None:
    with pytest.raises(Tampered) as caught:
        fold(None, make(PLAN, 0, START))
    assert caught.value.code == "run.order"


def test_a_held_run_goes_on_as_what_it_was() -> None:
    asked_first = told(opened(), PLAN, ASK, ASKED, YES, also(AGAIN, verdict="deny", rules=["host:clock"]), AGAIN)
    run = folded(asked_first)
    assert run is not None and run.status == "approved"
    assert fold(run, make(APPROVED_INTENT, 9, START + 50)).status == "intended"
    run = folded(told(opened(), PLAN, HELD, ALLOW))
    assert run is not None and run.status == "judged"
    assert fold(run, make(INTENT, 9, START + 50)).status == "intended"


def test_a_correction_dies_with_its_approval() -> None:
    run = folded(told(opened(), PLAN, ASK, ASKED, CORRECT, e.ApprovalVoided("first", "app", "x")))
    assert run is not None
    assert (run.action, run.corrected_seq, run.status) == ("act", -1, "planned")


def test_next_moves() -> None:
    def move(*facts: e.Facts) -> tuple[str, str, str]:
        run = folded(told(opened(), *facts))
        assert run is not None
        step = next_move(run, STEPS)
        return step.move.value, step.outcome, step.code

    assert move() == ("plan", "", "")
    assert move(plan("first", "")) == ("close", "referred", "unsure")
    assert move(PLAN) == ("judge", "", "")
    assert move(PLAN, DENY) == ("close", "denied", "r")
    assert move(PLAN, HELD) == ("hold", "", "")
    assert move(PLAN, ASK) == ("ask", "", "")
    assert move(PLAN, ASK, ASKED) == ("wait", "", "")
    assert move(PLAN, ASK, ASKED, NO) == ("close", "declined", "approval.denied")
    assert move(PLAN, ASK, ASKED, YES) == ("judge", "", "")
    assert move(PLAN, ASK, ASKED, YES, AGAIN) == ("act", "", "")
    assert move(PLAN, ALLOW, INTENT) == ("settle", "", "")
    assert move(PLAN, ALLOW, INTENT, e.IntentDoubted("first", "key")) == ("wait", "", "")
    assert move(PLAN, ALLOW, INTENT, FAILED) == ("close", "failed", "tool.no")
    assert move(PLAN, ALLOW, INTENT, RESULT) == ("observe", "", "")
    assert move(PLAN, ALLOW, INTENT, RESULT, UNSEEN) == ("close", "failed", "effect.mismatch")
    assert move(PLAN, ALLOW, INTENT, RESULT, SEEN) == ("plan", "", "")
    assert move(PLAN, ALLOW, INTENT, RESULT, SEEN, DONE) == ("stop", "", "")


# --- the device --------------------------------------------------------------------------------------------------


def test_what_a_device_knows_of_itself() -> None:
    device = Device()
    for seq, facts in enumerate(examples.FACTS[:8]):
        assert device.fold(make(facts, seq, START, run="")) is None
    assert device.lease is not None and device.lease.lease == "lease_1"
    assert device.release is not None and device.release.release == 2
    assert device.joined is not None and not device.revoked
    assert set(device.sources) == {examples.SHA}
    device.fold(make(e.HubPinned("city/log", 18, "aa"), 8, START, run=""))
    device.fold(make(e.DeviceRevoked("dev_1", "mara", "lost"), 9, START, run=""))
    assert (device.hub_size, device.hub_root, device.revoked) == (18, "aa", True)


def test_what_was_done_alone_counts_until_the_hub_has_it() -> None:
    device = Device()
    for entry in told(opened(), PLAN, ALLOW, INTENT):
        device.fold(entry)
    assert (device.actions_since_sync, device.value_since_sync) == (1, 100)
    device.synced(3)
    assert device.actions_since_sync == 1
    device.synced(4)
    assert (device.actions_since_sync, device.value_since_sync) == (0, 0)


def test_a_closed_run_stays_closed_on_the_device() -> None:
    device = Device()
    for entry in told(opened(), PLAN, DENY, e.RunClosed("denied", "r")):
        device.fold(entry)
    assert device.closed == {RUN: "denied"} and device.runs == {}
    with pytest.raises(Tampered):
        device.fold(make(opened(), 9, START))


@pytest.mark.parametrize("facts", [facts for facts in examples.FACTS if type(facts) in examples.OF_RUNS])
def test_an_entry_of_a_run_must_name_it(facts: e.Facts) -> None:
    with pytest.raises(Tampered) as caught:
        Device().fold(make(facts, 0, START, run=""))
    assert caught.value.code == "run.order"


def test_entries_of_the_device_stand_in_no_run() -> None:
    device = Device()
    device.fold(make(opened(), 0, START))
    for facts in examples.FACTS:
        if type(facts) not in examples.OF_RUNS:
            with pytest.raises(Tampered):
                device.fold(make(facts, 1, START))


def test_a_strange_context_is_no_crash() -> None:
    device = Device()
    strange = msgspec.structs.replace(ALLOW, context={"value_cents": "much", "approved": False})
    for entry in told(opened(), PLAN, strange, INTENT):
        device.fold(entry)
    assert device.value_since_sync == 0
