"""What the guard tells the policy, and what it refuses before the policy is asked."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from edge_agent.config import now_us, uptime_us
from edge_agent.guard import Case, Guard
from shared.entries import LeaseTaken, PlanMade, RunOpened, VerdictGiven
from shared.policy import ALLOW, ASK, DENY, Policy
from shared.runs import Device, Run
from tests.edge_agent.rig import HOUR, SCHEMA, START

TRAP = """
@id("may") permit(principal, action, resource);
@id("trap") forbid(principal, action, resource) when { context.value_cents * 9223372036854775807 > 1 };
"""
MAY = '@id("may") permit(principal, action, resource);'
RUN = Run("run_1", RunOpened("triage", 3, "p", 7, "csv:x:1", "s", True), START, 0, START)
PLAN = PlanMade("triage", "memory", "", "", "express", 912, [], 1, 0, 0, 0, 0, "register.decide", "a" * 64, "")
CASE = Case("a" * 64, "register.decide", "sign", "reversible", "background", 4_200, False)


class Bench:
    """A guard whose surroundings a test sets."""

    def __init__(self, policy: str = MAY, *, newest: int = 0) -> None:
        self.device = Device(lease=LeaseTaken("l", START, START + 8 * HOUR, 3, 1_000_000))
        self.policy: tuple[Policy, int] | None = (Policy(policy, SCHEMA), 7)
        self.online = True
        self.now = START + HOUR
        self.uptime = 0
        self.in_question = False
        self.guard = Guard(
            self.device,
            name="dev",
            policy=lambda: self.policy,
            online=lambda: self.online,
            in_question=lambda: self.in_question,
            now=lambda: self.now,
            uptime=lambda: self.uptime,
            newest=newest,
            local=lambda at: datetime.datetime.fromtimestamp(at / 1e6, datetime.timezone(datetime.timedelta(hours=9))),
        )

    def judge(self, plan: PlanMade = PLAN, case: Case = CASE, run: Run = RUN) -> VerdictGiven:
        verdict, facts = self.guard.judge(run, plan, case)
        assert (facts.verdict, facts.rules) == (verdict.kind, verdict.rules)
        return facts


def test_the_context_is_whole_and_recorded() -> None:
    bench = Bench()
    bench.online = False
    bench.device.spent, bench.device.value_since_sync = [(4, 100), (9, 250)], 350
    assert bench.judge().context == {
        "playbook": "triage",
        "step": "triage",
        "effect": "reversible",
        "label": "sign",
        "planner": "memory",
        "urgency": "background",
        "data_class": "personal",
        "confidence": 912,
        "value_cents": 4_200,
        "offline": True,
        "lease_age_s": 3600,
        "lease_left_s": 7 * 3600,
        "actions_since_sync": 2,
        "value_since_sync_cents": 350,
        "local_hour": 0,  # the device's own time, nine hours ahead of UTC: the next day
        "local_weekday": 1,
        "abstained": False,
        "approved": False,
    }


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"revoked": True}, "host:revoked"),
        ({"in_question": True}, "host:log-in-question"),
        ({"lease": None}, "host:no-lease"),
        ({"now": START - HOUR}, "host:clock"),
        ({"now": START + 8 * HOUR}, "host:lease-expired"),
        ({"policy": None}, "host:no-policy"),
    ],
)
def test_the_host_denies_before_any_policy_is_asked_and_holds_the_run(change: dict[str, Any], rule: str) -> None:
    bench = Bench()
    for name, value in change.items():
        setattr(bench.device if name in ("revoked", "lease") else bench, name, value)
    facts = bench.judge()
    assert (facts.verdict, facts.rules) == (DENY, [rule])


def test_a_clock_a_little_before_the_lease_is_let_pass() -> None:
    bench = Bench()
    bench.now = START - 200 * 1_000_000
    assert bench.judge().verdict == ALLOW


# --- games with the clock -----------------------------------------------------------------------------------------


def test_a_clock_set_back_does_not_bring_a_lease_back_to_life() -> None:
    bench = Bench()
    assert bench.judge().verdict == ALLOW
    bench.now, bench.uptime = START + 9 * HOUR, 9 * HOUR
    assert bench.judge().rules == ["host:lease-expired"]
    bench.now = START + 2 * HOUR
    facts = bench.judge()
    assert facts.rules == ["host:lease-expired"] and facts.context["lease_left_s"] == 0


def test_a_clock_that_is_set_back_again_and_again_makes_no_lease_younger() -> None:
    bench = Bench()
    ages = []
    for step in range(16):
        bench.now, bench.uptime = START + HOUR, step * HOUR // 2
        facts = bench.judge()
        ages.append(int(facts.context["lease_age_s"]))
        assert (facts.verdict == ALLOW) == (step < 16), "eight hours of work, however late the clock says it is"
    assert ages == sorted(ages) and ages[-1] == 27_000
    bench.uptime = 8 * HOUR
    assert bench.judge().rules == ["host:lease-expired"]


def test_a_restart_with_the_clock_set_back_begins_at_the_log_s_newest_entry() -> None:
    bench = Bench(newest=START + 7 * HOUR)
    bench.now = START + HOUR
    assert bench.judge().context["lease_age_s"] == 7 * 3600
    bench.uptime = HOUR
    assert bench.judge().rules == ["host:lease-expired"]


def test_a_clock_set_forward_only_ends_the_lease_early_and_set_right_it_goes_on() -> None:
    bench = Bench()
    bench.now = START + 30 * 24 * HOUR
    assert bench.judge().rules == ["host:lease-expired"]
    bench.now, bench.uptime = START + HOUR, HOUR
    assert bench.judge().verdict == ALLOW


def test_a_log_from_a_clock_far_ahead_holds_only_until_the_hub_renews() -> None:
    bench = Bench(newest=START + 400 * 24 * HOUR)
    assert bench.judge().rules == ["host:lease-expired"]
    bench.device.lease = LeaseTaken("l2", START + HOUR, START + 9 * HOUR, 3, 1_000_000)
    assert bench.judge().verdict == ALLOW


def test_time_asleep_counts() -> None:
    """The machine slept, and its clock was stopped with it, or set back on waking: the uptime went on."""
    bench = Bench()
    assert bench.judge().context["lease_age_s"] == 3600
    bench.uptime = 5 * HOUR
    assert bench.judge().context["lease_age_s"] == 5 * 3600
    bench.uptime = 8 * HOUR
    assert bench.judge().rules == ["host:lease-expired"]


def test_the_uptime_of_this_machine_goes_on_and_is_not_its_time_of_day() -> None:
    first = uptime_us()
    assert first <= uptime_us() < now_us()


def test_the_lease_bounds_count_and_value_of_what_is_done_alone() -> None:
    bench = Bench()
    bench.device.spent = [(1, 0), (2, 0)]
    assert bench.judge().verdict == ALLOW
    bench.device.spent.append((3, 0))
    assert bench.judge().rules == ["host:lease-spent"]
    bench.device.spent, bench.device.value_since_sync = [(1, 995_801)], 995_801
    assert bench.judge().rules == ["host:lease-spent"]
    bench.device.spent, bench.device.value_since_sync = [(1, 995_800)], 995_800
    assert bench.judge().verdict == ALLOW


def test_an_allowed_action_counts_from_its_verdict_on_and_no_longer_than_its_commit() -> None:
    bench = Bench()
    with bench.guard.reserve("a", 4_200), bench.guard.reserve("a", 4_200), bench.guard.reserve("b", 4_200):
        assert bench.judge().rules == ["host:lease-spent"]
        assert bench.judge().context["value_since_sync_cents"] == 12_600
    assert bench.judge().verdict == ALLOW


def test_a_case_dearer_than_the_whole_lease_is_for_a_person() -> None:
    dear = Case("a" * 64, "register.decide", "sign", "reversible", "background", 2_000_000, False)
    facts = Bench().judge(case=dear)
    assert (facts.verdict, facts.rules) == (ASK, ["host:over-lease"])


def test_an_erroring_forbid_denies() -> None:
    """Cedar skips it and would allow."""
    facts = Bench(TRAP).judge()
    assert (facts.verdict, facts.rules) == (DENY, ["cedar:error"])


def test_a_plan_without_private_fields_is_public() -> None:
    public = Run("run_1", RunOpened("triage", 3, "p", 7, "csv:x:1", "s", False), START, 0, START)
    assert Bench().judge(run=public).context["data_class"] == "public"
