"""What a device knows of itself: small however long its log is, the same however it is read."""

from __future__ import annotations

import pytest

from shared import entries as e
from shared import limits
from shared.errors import Tampered
from shared.runs import Device, save
from shared.runs.fold import OF_RUNS
from tests.shared import examples
from tests.shared.one_step import (
    ACTED,
    AGAIN,
    ALLOW,
    APPROVED_INTENT,
    ASK,
    ASKED,
    ASKED_TWO,
    BROKE,
    DENY,
    DONE,
    INTENT,
    LOST,
    PLAN,
    YES,
    also,
    order,
)
from tests.shared.stories import START, make, opened, plan, verdict

DAY = 86_400 * 1_000_000
RUN, OTHER = examples.RUN, "run_other"


class Log:
    """A device, and the entries it has folded."""

    def __init__(self, *, audit: bool = False) -> None:
        self.device = Device(closed={} if audit else None)
        self.entries: list[e.Entry] = []
        self.at = START

    def add(self, *facts: e.Facts, run: str = "", later: int = 1) -> Device:
        for one in facts:
            self.at += later
            entry = make(one, len(self.entries), self.at, run)
            self.device.fold(entry)
            self.entries.append(entry)
        return self.device

    def refused(self, facts: e.Facts, run: str = "") -> str:
        before = save(self.device)
        with pytest.raises(Tampered) as caught:
            self.device.fold(make(facts, len(self.entries), self.at + 1, run))
        assert caught.value.code == "run.order" and save(self.device) == before
        return caught.value.message

    def again(self) -> Device:
        """The same entries, folded from the first."""
        device = Device(closed=None if self.device.closed is None else {})
        for entry in self.entries:
            device.fold(entry)
        return device


# --- its own entries ----------------------------------------------------------------------------------------------


def test_what_a_device_knows_of_itself() -> None:
    log = Log()
    device = log.add(*(facts for facts in examples.FACTS if not isinstance(facts, OF_RUNS)))
    assert device.lease is not None and device.lease.lease == "lease_1"
    assert device.release is not None and device.release.release == 2
    assert device.joined is not None and device.revoked
    assert set(device.sources) == {examples.SHA} and set(device.events) == {examples.SHA}
    assert (device.hub_size, device.hub_root, device.size) == (18, examples.SHA, len(log.entries))


@pytest.mark.parametrize("facts", [facts for facts in examples.FACTS if isinstance(facts, OF_RUNS)])
def test_an_entry_of_a_run_must_name_it(facts: e.Facts) -> None:
    assert "names no run" in Log().refused(facts)


def test_entries_of_the_device_stand_in_no_run() -> None:
    log = Log()
    log.add(opened(), run=RUN)
    for facts in examples.FACTS:
        if not isinstance(facts, OF_RUNS):
            log.refused(facts, RUN)


def test_old_events_are_forgotten() -> None:
    log = Log()
    log.add(e.EventReceived("payment", "old"))
    log.add(e.EventReceived("payment", "new"), later=(limits.EVENT_DAYS - 1) * DAY)
    assert list(log.device.events) == ["old", "new"]
    log.add(e.EventReceived("payment", "newer"), later=2 * DAY)
    assert list(log.device.events) == ["new", "newer"]


@pytest.mark.parametrize(("bound", "kept"), [("EVENTS_REMEMBERED", "events"), ("SOURCES_REMEMBERED", "sources")])
def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, bound: str, kept: str) -> None:
    monkeypatch.setattr(limits, bound, 3)
    log = Log()
    for number in range(5):
        log.add(e.EventReceived("payment", f"n{number}"), e.SourceRead(f"n{number}", 1, 1, 0, 0))
    assert list(getattr(log.device, kept)) == ["n2", "n3", "n4"]
    log.add(e.SourceRead("n2", 1, 0, 1, 0), e.EventReceived("payment", "n2"))
    assert list(getattr(log.device, kept)) == ["n3", "n4", "n2"], "what came again is new again"


# --- runs ---------------------------------------------------------------------------------------------------------


def test_the_model_in_use_the_one_before_and_the_last_that_failed_are_known() -> None:
    log = Log()
    first, second, third = (e.ModelTaken("embedder", f"m{n}", f"{n}{n}" * 32, n) for n in (1, 2, 3))
    failed = e.ModelRefused("embedder", "m9", "99" * 32, 2, "model.smoke", first.sha256)
    device = log.add(first, failed)
    assert (device.models, device.models_before) == ({"embedder": first}, {})
    assert device.models_refused == {"embedder": failed}
    log.add(second, e.ModelTaken("embedder", "m2", second.sha256, 4), third, e.ModelTaken("language", "l", "", 4))
    assert device.models == {"embedder": third, "language": e.ModelTaken("language", "l", "", 4)}
    assert device.models_before["embedder"].sha256 == second.sha256
    assert device.models_refused == {}


def test_an_ended_run_is_forgotten_but_counted() -> None:
    log = Log()
    log.add(opened(), PLAN, DENY, e.RunClosed("denied", "r"), run=RUN)
    assert (log.device.runs, log.device.failed, log.device.outcomes) == ({}, {}, {"denied": 1})


def test_an_audit_remembers_that_it_ended() -> None:
    log = Log(audit=True)
    log.add(opened(), PLAN, DENY, e.RunClosed("denied", "r"), run=RUN)
    assert log.device.closed == {RUN: "denied"}
    assert "closed" in log.refused(opened(), RUN)


@pytest.mark.parametrize("audit", [True, False])
def test_a_failed_run_waits_to_be_retried_or_dismissed(audit: bool) -> None:
    log = Log(audit=audit)
    log.add(opened(), BROKE, LOST, run=RUN)
    assert set(log.device.failed) == {RUN} and log.device.outcomes == {"failed": 1}
    log.add(order("retry"), run=RUN)
    assert set(log.device.runs) == {RUN} and not log.device.failed and log.device.outcomes == {"failed": 0}
    assert log.device.closed == ({} if audit else None)
    log.add(BROKE, LOST, order("dismiss", "2"), run=RUN)
    assert not log.device.runs and not log.device.failed and log.device.outcomes == {"failed": 1}
    log.refused(order("retry", "3"), RUN)
    log.refused(order("dismiss", "4"), RUN)
    assert log.again() == log.device


TAKEN_BACK = [
    e.ContextRecalled("~first", [], 1),
    e.UndoLeft("first", "undo.manual"),
    order("handled", "3", step="~first"),
    e.RunClosed("cancelled", "run.recalled"),
]


@pytest.mark.parametrize("audit", [True, False])
def test_an_ended_run_that_did_something_may_be_taken_back_once(audit: bool) -> None:
    log = Log(audit=audit)
    log.add(opened(), *ACTED, DONE, run=RUN)
    assert set(log.device.ended) == {RUN} and log.device.outcomes == {"done": 1}
    assert log.device.ended[RUN].steps["first"].verdict is None, "what it was judged by is not kept"
    log.refused(PLAN, RUN)
    log.refused(opened(), RUN)
    log.add(order("undo"), run=RUN)
    run = log.device.runs[RUN]
    assert not log.device.ended and log.device.outcomes == {"done": 0} and run.undoing is not None
    assert log.device.closed == ({} if audit else None)
    log.refused(order("undo", "2"), RUN)
    log.add(*TAKEN_BACK, run=RUN)
    assert not log.device.runs and not log.device.ended and log.device.outcomes == {"done": 0, "cancelled": 1}
    log.refused(order("undo", "4"), RUN)
    assert log.again() == log.device


def test_a_failed_run_may_be_taken_back_also_once_it_was_laid_to_rest() -> None:
    log = Log()
    log.add(opened(), *ACTED, BROKE, LOST, order("dismiss"), run=RUN)
    assert set(log.device.ended) == {RUN} and not log.device.failed
    log.add(order("undo", "2"), *TAKEN_BACK, run=RUN)
    assert log.device.outcomes == {"failed": 0, "cancelled": 1} and log.again() == log.device


def test_only_the_newest_ended_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENDED_REMEMBERED", 2)
    log = Log()
    for number in range(4):
        log.add(opened(), *ACTED, DONE, run=f"run_{number}")
    assert list(log.device.ended) == ["run_2", "run_3"]
    log.refused(order("undo"), "run_0")


# --- what was spent -----------------------------------------------------------------------------------------------


def test_what_was_done_alone_counts_until_the_hub_has_it() -> None:
    log = Log()
    device = log.add(opened(), PLAN, ALLOW, INTENT, run=RUN)
    assert (device.actions_since_sync, device.value_since_sync) == (1, 100)
    device.synced(3)
    assert device.actions_since_sync == 1
    device.synced(4)
    assert (device.actions_since_sync, device.value_since_sync) == (0, 0)


def test_what_a_person_approved_does_not_count_against_the_lease() -> None:
    log = Log()
    device = log.add(opened(), PLAN, ASK, ASKED, YES, AGAIN, APPROVED_INTENT, run=RUN)
    assert (device.actions_since_sync, device.value_since_sync) == (0, 0)
    assert device.spent_today("p", log.at).actions == 1, "but against the playbook's budget"


def test_each_day_begins_anew() -> None:
    log = Log()
    log.add(opened(), PLAN, ALLOW, INTENT, run=RUN)
    spent = log.device.spent_today("p", log.at)
    assert (spent.actions, spent.cents, spent.tokens) == (1, 100, 7)
    assert log.device.spent_today("p", log.at + DAY).actions == 0
    assert log.device.spent_today("q", log.at).actions == 0
    log.add(opened(), run=OTHER, later=DAY)
    log.add(PLAN, run=OTHER)
    spent = log.device.spent_today("p", log.at)
    assert (spent.actions, spent.cents, spent.tokens) == (0, 0, 7)


def test_a_retry_does_not_give_back_what_the_day_has_spent() -> None:
    log = Log()
    log.add(opened(), *ACTED, BROKE, LOST, order("retry"), run=RUN)
    assert log.device.runs[RUN].tokens == 0 and log.device.spent_today("p", log.at).tokens == 7


# --- children -----------------------------------------------------------------------------------------------------

KID = e.StepEntered("kid", "run", 0, 0, OTHER)
CHILD = opened(parent=RUN, parent_step="kid")


def with_child() -> Log:
    log = Log()
    log.add(opened(), KID, run=RUN)
    log.add(CHILD, run=OTHER)
    return log


def test_a_parent_goes_on_when_its_child_has_ended() -> None:
    log = with_child()
    assert "has not ended so" in log.refused(e.StepEnded("kid", "done"), RUN)
    log.add(PLAN, DENY, e.RunClosed("denied", "r"), run=OTHER)
    assert log.device.children == {OTHER: "denied"}
    assert "has not ended so" in log.refused(e.StepEnded("kid", "done"), RUN)
    log.add(e.StepEnded("kid", "denied"), run=RUN)
    assert log.device.children == {} and log.device.runs[RUN].steps["kid"].end == ("failed", "child.denied")


def test_a_child_that_is_retried_before_its_parent_took_note() -> None:
    log = with_child()
    log.add(BROKE, LOST, run=OTHER)
    assert log.device.children == {OTHER: "failed"}
    log.add(order("retry"), run=OTHER)
    assert log.device.children == {}
    log.add(e.StepSkipped("second"), DONE, run=OTHER)
    log.add(e.StepEnded("kid", "done"), run=RUN)
    assert not log.device.children


@pytest.mark.parametrize("how", ["cancelled", "timed out", "retried"])
def test_nobody_takes_note_of_a_child_that_is_not_waited_for(how: str) -> None:
    log = with_child()
    match how:
        case "cancelled":
            log.add(order("cancel"), e.RunClosed("cancelled", "run.cancelled"), run=RUN)
        case "timed out":
            log.add(e.StepFailed("kid", "step.timeout"), run=RUN)
        case _:
            log.add(BROKE, LOST, order("retry"), also(KID, ref="run_new"), run=RUN)
    log.add(e.StepSkipped("x"), DONE, run=OTHER)
    assert log.device.children == {} and OTHER not in log.device.runs


def test_what_a_child_came_to_goes_with_its_parent() -> None:
    log = with_child()
    log.add(e.StepSkipped("x"), DONE, run=OTHER)
    assert log.device.children == {OTHER: "done"}
    log.add(order("cancel"), e.RunClosed("cancelled", "run.cancelled"), run=RUN)
    assert log.device.children == {}


# --- a yes to more than one ---------------------------------------------------------------------------------------

LONG = also(ASKED, expires_at=START + DAY, similar_s=3600)
UNTIL = START + 1_000_000_000
YES_TO_ALL = also(YES, similar_until=UNTIL)
COVERED = e.ApprovalCovered("first", "app_2", "act2", "app")
PLAN2, ASK2 = plan("first", "act2"), verdict("first", "act2", "ask", ["r"])


def granted() -> Log:
    log = Log()
    log.add(opened(), PLAN, ASK, LONG, YES_TO_ALL, run=RUN)
    log.add(opened(), PLAN2, run=OTHER)
    return log


def test_a_yes_covers_what_is_like_it() -> None:
    log = granted()
    log.add(ASK2, run=OTHER)
    run = log.device.runs[OTHER]
    grant = log.device.grant_for(run, run.steps["first"], log.at)
    assert grant is not None and grant.approval == "app" and grant.by == "mara"
    log.add(COVERED, run=OTHER)
    assert log.device.runs[OTHER].status == "approved"
    assert log.again() == log.device


@pytest.mark.parametrize(
    "other",
    [
        also(ASK2, rules=["r", "s"]),
        also(ASK2, release=2),
        also(ASK2, tool="other"),
        also(ASK2, context={"label": "dear"}),
        also(ASK2, context={"value_cents": 101}),
    ],
    ids=["rules", "release", "tool", "outcome", "value"],
)
def test_a_yes_does_not_cover_what_is_unlike_it(other: e.Facts) -> None:
    log = granted()
    log.add(other, run=OTHER)
    run = log.device.runs[OTHER]
    assert log.device.grant_for(run, run.steps["first"], log.at) is None
    assert "no answer covers" in log.refused(COVERED, OTHER)


def test_a_yes_covers_nothing_in_another_step_or_playbook_or_when_its_time_is_over() -> None:
    log = granted()
    log.add(also(plan("second", "act2"), step="second"), also(ASK2, step="second"), run=OTHER)
    assert "no answer covers" in log.refused(also(COVERED, step="second"), OTHER)
    log.add(also(opened(), playbook_sha256="other"), PLAN2, ASK2, run="run_3")
    assert "no answer covers" in log.refused(COVERED, "run_3")
    log.add(ASK2, run=OTHER)
    log.at = UNTIL
    assert "no answer covers" in log.refused(COVERED, OTHER)
    log.at = UNTIL - 1
    log.add(COVERED, run=OTHER)


def test_the_yes_that_is_named_must_be_the_one_that_covers() -> None:
    log = granted()
    log.add(opened(), plan("second", "x"), verdict("second", "x", "ask", ["s"]), run="run_3")
    log.add(also(LONG, step="second", approval="app_3", action="x"), run="run_3")
    log.add(also(YES_TO_ALL, step="second", approval="app_3", action="x"), run="run_3")
    log.add(ASK2, run=OTHER)
    assert "no answer covers" in log.refused(also(COVERED, grant="app_3"), OTHER)
    assert "no answer covers" in log.refused(also(COVERED, grant="unheard-of"), OTHER)


def test_the_first_of_two_people_gives_no_yes_in_advance() -> None:
    log = Log()
    log.add(opened(), PLAN, ASK, also(ASKED_TWO, expires_at=START + DAY), run=RUN)
    assert "covers more than it may" in log.refused(YES_TO_ALL, RUN)
    log.add(YES, also(YES, by="otto"), run=RUN)
    assert log.device.grants == {}


def test_a_no_gives_no_yes() -> None:
    log = Log()
    log.add(opened(), PLAN, ASK, LONG, also(YES_TO_ALL, answer="deny"), run=RUN)
    assert log.device.grants == {}


def test_a_yes_outlives_the_release_that_overtakes_it_and_not_the_next() -> None:
    """A covered action may stand in the log just behind a release that was not in force when it was judged."""
    log = granted()
    log.add(e.ReleaseInstalled(1, {}))
    log.add(ASK2, run=OTHER)
    log.add(e.ReleaseInstalled(2, {}))
    log.add(COVERED, run=OTHER)
    assert list(log.device.grants) == ["app"]
    log.add(e.ReleaseInstalled(3, {}))
    assert log.device.grants == {}


def test_a_yes_whose_time_is_over_is_forgotten() -> None:
    log = granted()
    log.at = UNTIL
    log.add(e.ReleaseInstalled(1, {}))
    assert log.device.grants == {}
