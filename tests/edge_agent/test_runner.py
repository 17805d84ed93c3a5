"""The run engine against a real log, policy and register: every way a run can go, and every place it can be cut."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import Receipt
from edge_agent.tools.register import Register
from shared.actions import Action
from shared.entries import ApprovalAsked, PlanMade, ResultRecorded, VerdictGiven
from shared.errors import Conflict, Refused, Tampered, Unavailable
from shared.release import sign
from tests.edge_agent.rig import HOUR, PLAYBOOK, POLICY, Clock, Rig, make_release

ALONE = ["run.opened", "context.recalled", "plan.made", "verdict.given", "intent.recorded"]
ENDED = ["result.recorded", "effect.observed", "run.closed"]


def decisions(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "register.sqlite3") as db:
        rows = db.execute("SELECT application_id, lane, calls FROM decisions ORDER BY application_id").fetchall()
    db.close()
    return rows


@pytest.fixture
async def rig(tmp_path: Path) -> Any:
    made = Rig(tmp_path)
    await made.install()
    await made.lend()
    yield made
    made.close()


async def test_a_sure_and_cheap_case_is_decided_alone(rig: Rig) -> None:
    run = await rig.open("A1", "New roof on the house")
    await rig.settle()
    assert rig.types(run) == ALONE + ENDED
    assert rig.device.closed[run] == "done"
    assert decisions(rig.folder) == [("A1", "express", 1)]
    assert rig.learned == [], "what the agent did alone is not evidence for the next case"


async def test_plan_verdict_and_intent_share_one_commit_and_the_end_another(rig: Rig) -> None:
    run = await rig.open("A1", "New roof on the house")
    before = len(list(rig.journal.checkpoints()))
    await rig.settle()
    assert rig.device.closed[run] == "done"
    assert len(list(rig.journal.checkpoints())) == before + 2


@pytest.mark.parametrize(
    ("description", "value", "rules"),
    [
        ("A deck in the yard", 100_000, ["cedar:not-unattended"]),
        ("New roof on the house", 6_000_000, ["cedar:not-unattended"]),
        ("Something nobody has seen", 100_000, ["cedar:not-unattended"]),
    ],
)
async def test_unsure_or_dear_cases_wait_for_a_person(rig: Rig, description: str, value: int, rules: list[str]) -> None:
    run = await rig.open("A1", description, value)
    await rig.settle()
    state = rig.device.runs[run]
    assert state.status == "waiting"
    assert state.shown.verdict is not None
    assert sorted(state.shown.verdict.rules) == rules
    assert not (rig.folder / "register.sqlite3").exists(), "nothing acts before the answer"


async def test_what_policy_denies_ends_without_a_question(rig: Rig) -> None:
    run = await rig.open("A1", "New roof on the house", 10**11)
    await rig.settle()
    entry = rig.journal.run_entries(run)[-1]
    assert (entry.type, rig.device.closed[run], entry.facts.code) == ("run.closed", "denied", "no-fortunes")  # type: ignore[attr-defined]


async def test_approval_is_judged_again_and_then_done(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    await rig.answer(run, "approve")
    assert rig.types(run)[4:] == ["approval.asked", "approval.answered", "verdict.given", "intent.recorded", *ENDED]
    assert decisions(rig.folder) == [("A1", "express", 1)]
    assert len(rig.learned) == 1
    assert rig.device.actions_since_sync == 0, (
        "the lease bounds what is done alone; a person's yes is authority of its own"
    )


async def test_denial_closes_the_run_and_does_nothing(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    await rig.answer(run, "deny")
    assert rig.device.closed[run] == "declined"
    assert not (rig.folder / "register.sqlite3").exists()


async def test_a_correction_is_what_gets_done(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    await rig.answer(run, "correct", lane="plan_review")
    assert decisions(rig.folder) == [("A1", "plan_review", 1)]
    verdicts = [e.facts for e in rig.journal.run_entries(run) if isinstance(e.facts, VerdictGiven)]
    assert [v.context["label"] for v in verdicts] == ["express", "plan_review"], "the person's lane is judged"


async def test_a_correction_whose_digest_lies_is_refused(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    with pytest.raises(Tampered, match="approval.digest"):
        await rig.answer(run, "correct", lane="plan_review", corrected="0" * 64)
    assert rig.device.runs[run].status == "waiting"


async def test_an_answer_to_another_action_is_refused(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    with pytest.raises(Tampered, match="run.order"):
        await rig.answer(run, "approve", action="0" * 64)
    assert rig.device.runs[run].status == "waiting"


async def test_an_answer_that_comes_twice_is_used_once(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    made = rig.made_answer(run, "approve")
    await rig.deliver(made)
    size = rig.journal.size
    await rig.deliver(made)
    assert rig.journal.size == size
    assert decisions(rig.folder) == [("A1", "express", 1)]


async def test_a_clock_set_back_cannot_make_an_answer_that_the_log_refuses(rig: Rig) -> None:
    """The newest entry lies in the future: what is asked and answered now is written at that time, not the clock's."""
    rig.clock.now += 30 * 24 * HOUR
    await rig.lend(name="l2")
    rig.clock.now -= 30 * 24 * HOUR
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    state = rig.device.runs[run]
    assert state.shown.verdict is not None
    assert state.shown.verdict.rules == ["host:clock"], "nothing is done before the lease was issued"
    rig.clock.now += 30 * 24 * HOUR
    await rig.lend(name="l3")
    rig.clock.now -= 60_000_000  # a minute behind the newest entry
    await rig.settle()
    await rig.answer(run, "approve")
    assert rig.device.closed[run] == "done"
    folder = rig.folder
    rig.close()
    again = Rig(folder, clock=rig.clock)
    assert again.device.closed[run] == "done", "the log opens again"
    again.journal = rig.journal = again.journal
    rig.memory = again.memory


async def test_an_answer_that_expires_on_its_way_to_the_disk_is_not_used(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    made = rig.made_answer(run, "approve")
    asked = rig.device.runs[run].shown.approval
    assert asked is not None
    rig.clock.now = asked.expires_at + 1
    with pytest.raises((Tampered, Conflict), match=r"run\.order|entry\.late"):
        await rig.deliver(made)
    assert not (rig.folder / "register.sqlite3").exists()
    again = rig.device.runs[run].shown.approval
    assert again is None or again.approval != asked.approval, "it is asked anew, or held until there is a lease"


async def test_answers_whose_sender_has_gone_or_whose_run_has_closed_hold_nobody_up(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    first, second = rig.made_answer(run, "deny"), rig.made_answer(run, "approve")
    rig.journal.attach(asyncio.get_running_loop())
    waiting = [asyncio.create_task(rig.runner.answer(made, sign(made, rig.hub))) for made in (first, second)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the link dropped
    await rig.settle()
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
    assert rig.device.closed[run] == "declined"


async def test_a_log_the_hub_refuses_is_not_acted_on(rig: Rig) -> None:
    rig.in_question = True
    run = await rig.open("A1", "New roof on the house")
    await rig.settle()
    state = rig.device.runs[run]
    assert state.shown.verdict is not None
    assert (state.status, state.shown.verdict.rules) == ("held", ["host:log-in-question"])


async def test_an_expired_question_is_asked_anew(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    first = rig.device.runs[run].shown.approval
    rig.clock.now += 3 * 24 * HOUR
    await rig.lend(name="l2")
    await rig.settle()
    second = rig.device.runs[run].shown.approval
    assert first is not None
    assert second is not None
    assert first.approval != second.approval
    assert "approval.voided" in rig.types(run)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("none", "host:no-lease"),
        ("expired", "host:lease-expired"),
        ("clock", "host:clock"),
        ("spent", "host:lease-spent"),
    ],
)
async def test_without_authority_a_run_is_held_and_goes_on_when_it_is_lent(
    tmp_path: Path, change: str, rule: str
) -> None:
    rig = Rig(tmp_path)
    await rig.install()
    if change != "none":
        await rig.lend(actions=0 if change == "spent" else 10)
    rig.clock.now += {"expired": 9 * HOUR, "clock": -2 * HOUR}.get(change, 0)
    run = await rig.open("A1", "New roof on the house")
    await rig.settle()
    state = rig.device.runs[run]
    assert state.status == "held"
    assert state.shown.verdict is not None
    assert state.shown.verdict.rules == [rule]
    held = rig.journal.size
    await rig.settle()
    assert rig.journal.size == held, "being held up by the same thing again is not news"
    rig.clock.now += 3 * HOUR
    await rig.lend(name="l2")
    await rig.settle()
    assert rig.device.closed[run] == "done"
    rig.close()


async def test_a_case_dearer_than_the_whole_lease_goes_to_a_person(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.install()
    await rig.lend(cents=1000)
    run = await rig.open("A1", "New roof on the house", 2000)
    await rig.settle()
    state = rig.device.runs[run]
    assert state.shown.verdict is not None
    assert (state.status, state.shown.verdict.rules) == ("waiting", ["host:over-lease"])
    rig.close()


async def test_runs_side_by_side_do_not_overspend_a_lease(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.install()
    await rig.lend(actions=3)
    for number in range(8):
        await rig.open(f"A{number}", "New roof on the house")
    await rig.settle()
    assert len(decisions(tmp_path)) == 3
    assert sum(run.held for run in rig.device.runs.values()) == 5
    rig.device.synced(rig.journal.committed)
    rig.runner.wake_all(held=True)
    await rig.settle()
    assert len(decisions(tmp_path)) == 6
    rig.close()


async def test_a_release_that_still_asks_lets_the_question_stand(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    asked = rig.device.runs[run].shown.approval
    rig.releases[2] = make_release(2)
    await rig.install(2)
    await rig.settle()
    assert rig.device.runs[run].shown.approval == asked
    await rig.answer(run, "approve")
    assert rig.device.closed[run] == "done"


async def test_a_release_that_changes_its_mind_voids_the_question(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    easier = POLICY.replace("confidence >= 900", "confidence >= 600")
    rig.releases[2] = make_release(2, policy=easier)
    await rig.install(2)
    await rig.settle()
    assert "approval.voided" in rig.types(run)
    assert rig.device.closed[run] == "done", "the new policy needs nobody"


async def test_an_upgrade_in_mid_wait_keeps_the_pinned_playbook(rig: Rig) -> None:
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    changed = PLAYBOOK.replace("version: 1", "version: 2").replace("{id: triage, planner", "{id: other, planner")
    rig.releases[2] = make_release(2, playbook=changed)
    await rig.install(2)
    await rig.settle()
    await rig.answer(run, "approve")
    assert rig.device.closed[run] == "done"


async def test_a_missing_pinned_release_stops_the_run_with_advice(rig: Rig) -> None:
    run = await rig.open("A1", "New roof on the house")
    rig.releases[1] = make_release(1, playbook=PLAYBOOK.replace("Roofs are", "Roofs may be"))
    await rig.settle()
    assert rig.types(run) == ["run.opened"]
    assert [error.code for error in rig.troubles] == ["run.playbook"]


# --- cut at every place -------------------------------------------------------------------------------------------


class Cut(Register):
    """A register whose agent dies once: before the effect, or after it and before its result is known."""

    when = "before"
    done = False

    async def send(self, action: Action, key: str) -> Receipt:
        if not self.done and self.when == "before":
            type(self).done = True
            raise asyncio.CancelledError
        receipt = await super().send(action, key)
        if not self.done:
            type(self).done = True
            raise asyncio.CancelledError
        return receipt


class Deaf(Cut):
    """The same, of a tool that cannot be asked; ``idempotent`` varies."""

    askable = False

    async def ask(self, key: str, action: Action) -> Receipt | None:
        raise AssertionError("it cannot be asked")


def _cut(kind: type[Cut], when: str, *, idempotent: bool = True) -> type[Cut]:
    return type("Once", (kind,), {"when": when, "done": False, "idempotent": idempotent})


async def _cut_and_restart(folder: Path, tool: type[Cut]) -> tuple[Rig, str]:
    clock = Clock()

    def make(home: Path) -> Register:
        return tool(home / "register.sqlite3")

    rig = Rig(folder, clock=clock, tool=make)
    await rig.install()
    await rig.lend()
    run = await rig.open("A1", "New roof on the house")
    rig.journal.attach(asyncio.get_running_loop())
    work = asyncio.create_task(rig.runner.work())
    rig.runner.wake_all()
    while not tool.done:
        await asyncio.sleep(0.005)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert rig.types(run) == ALONE
    rig.close()
    again = Rig(folder, clock=clock, tool=make)
    await again.settle()
    return again, run


@pytest.mark.parametrize(("when", "how", "calls"), [("before", "sent", 1), ("after", "asked", 1)])
async def test_an_intent_in_doubt_is_asked_by_key(tmp_path: Path, when: str, how: str, calls: int) -> None:
    rig, run = await _cut_and_restart(tmp_path, _cut(Cut, when))
    assert rig.types(run) == ALONE + ENDED
    result = rig.journal.run_entries(run)[5].facts
    assert isinstance(result, ResultRecorded)
    assert result.how == how
    assert decisions(tmp_path) == [("A1", "express", calls)]
    rig.close()


@pytest.mark.parametrize(("when", "calls"), [("before", 1), ("after", 2)])
async def test_an_idempotent_tool_is_sent_to_again_under_the_same_key(tmp_path: Path, when: str, calls: int) -> None:
    rig, run = await _cut_and_restart(tmp_path, _cut(Deaf, when))
    assert rig.device.closed[run] == "done"
    assert decisions(tmp_path) == [("A1", "express", calls)], "sent twice, done once"
    rig.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_any_other_tool_leaves_the_doubt_to_a_person(tmp_path: Path, when: str) -> None:
    rig, run = await _cut_and_restart(tmp_path, _cut(Deaf, when, idempotent=False))
    assert rig.device.runs[run].status == "doubted"
    assert rig.types(run) == [*ALONE, "intent.doubted"]
    rig.close()


class Flaky(Register):
    """Unreachable for the first ``down`` calls."""

    down = 2

    async def send(self, action: Action, key: str) -> Receipt:
        if self.down:
            self.down -= 1
            raise Unavailable("tool.down", "no answer", advice="wait")
        return await super().send(action, key)


class Mute(Register):
    """Takes the effect and never answers; asking fails too. ``sent`` counts how often it was sent to."""

    idempotent = False
    sent = 0

    async def send(self, action: Action, key: str) -> Receipt:
        type(self).sent += 1
        await super().send(action, key)
        raise Unavailable("tool.down", "no answer", advice="wait")

    async def ask(self, key: str, action: Action) -> Receipt | None:
        raise Unavailable("tool.down", "no answer", advice="wait")


class Blind(Register):
    """Acts, and cannot be read back."""

    askable = idempotent = False

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        raise Unavailable("tool.down", "no answer", advice="wait")


class Stern(Register):
    async def send(self, action: Action, key: str) -> Receipt:
        raise Refused("tool.no", "it says no", advice="ask its owner")


async def _with_tool(folder: Path, tool: type[Register]) -> tuple[Rig, str]:
    rig = Rig(folder, tool=lambda home: tool(home / "register.sqlite3"))
    await rig.install()
    await rig.lend()
    run = await rig.open("A1", "New roof on the house")
    await rig.settle()
    return rig, run


async def test_a_tool_that_is_down_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    rig, run = await _with_tool(tmp_path, Flaky)
    assert rig.device.closed[run] == "done"
    result = rig.journal.run_entries(run)[5].facts
    assert isinstance(result, ResultRecorded)
    assert result.attempts == 3
    rig.close()


async def test_silence_from_a_tool_that_may_not_be_sent_to_twice_is_a_doubt(tmp_path: Path) -> None:
    """That it could be asked does not help while it cannot be reached: never retry blindly."""
    Mute.sent = 0
    rig, run = await _with_tool(tmp_path, Mute)
    assert Mute.sent == 1
    assert rig.device.runs[run].status == "doubted"
    rig.close()


async def test_a_known_result_is_kept_when_the_outcome_cannot_be_read_back(tmp_path: Path) -> None:
    rig, run = await _with_tool(tmp_path, Blind)
    assert rig.types(run) == [*ALONE, "result.recorded"]
    assert [error.code for error in rig.troubles] == ["tool.down"]
    rig.close()


async def test_a_tool_that_says_no_fails_the_run(tmp_path: Path) -> None:
    rig, run = await _with_tool(tmp_path, Stern)
    assert rig.device.closed[run] == "failed"
    assert rig.journal.run_entries(run)[-1].facts.code == "tool.no"  # type: ignore[attr-defined]
    rig.close()


async def test_restart_while_waiting_forgets_nothing(tmp_path: Path) -> None:
    clock = Clock()
    rig = Rig(tmp_path, clock=clock)
    await rig.install()
    await rig.lend()
    run = await rig.open("A1", "A deck in the yard")
    await rig.settle()
    asked = rig.device.runs[run].shown.approval
    rig.close()
    clock.now += 24 * HOUR
    again = Rig(tmp_path, clock=clock)
    await again.lend(name="l2")
    await again.settle()
    assert again.device.runs[run].shown.approval == asked
    await again.answer(run, "approve")
    assert again.device.closed[run] == "done"
    again.close()


async def test_every_recommendation_names_its_sources_and_says_what_it_is(rig: Rig) -> None:
    run = await rig.open("A1", "New roof on the house")
    await rig.settle()
    plan = next(e for e in rig.journal.run_entries(run) if isinstance(e.facts, PlanMade))
    body = rig.journal.body(plan.seq)
    assert body is not None
    assert body["recommendation"] is True
    assert [(s["kind"], s["id"]) for s in body["sources"]] == [("rule", "roof")]
    assert not any(isinstance(e.facts, ApprovalAsked) for e in rig.journal.run_entries(run))
