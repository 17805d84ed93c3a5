"""Old verdicts under another policy: what counts as a difference, and that judging by classes judges the same."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import cedar
from shared.entries import VerdictGiven
from shared.policy import ALLOW, ASK, DENY, Policy, Request
from shared.replay import Judge, Past, compare

STARTER = resources.files("server") / "starter" / "permits"
SCHEMA = (STARTER / "schema.cedarschema").read_text()
TEXT = (STARTER / "policy.cedar").read_text()
AT = 1_790_000_000_000_000
PLAIN: dict[str, int | bool | str] = {
    "playbook": "permit-triage",
    "step": "triage",
    "effect": "reversible",
    "label": "express",
    "planner": "rules",
    "urgency": "background",
    "data_class": "public",
    "confidence": 950,
    "value_cents": 1_200_000,
    "offline": False,
    "lease_age_s": 60,
    "lease_left_s": 86_340,
    "actions_since_sync": 0,
    "value_since_sync_cents": 0,
    "local_hour": 10,
    "local_weekday": 1,
    "abstained": False,
    "approved": False,
    "risk": "low",
    "undo": False,
    "source": "playbook",
    "run_actions": 0,
    "run_cents": 0,
}


def past(verdict: str, *rules: str, number: int = 0, action: str = "", **changes: Any) -> Past:
    given = VerdictGiven(
        "triage", action or f"{number:064x}", verdict, list(rules), 1, "register.decide", PLAIN | changes
    )
    return Past("dev_1", number, AT - number, f"run_{number}", given)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(TEXT, SCHEMA)


def stricter(old: str, new: str) -> Policy:
    assert old in TEXT
    return Policy(TEXT.replace(old, new), SCHEMA)


def test_the_same_policy_changes_nothing(policy: Policy) -> None:
    verdicts = [past(ALLOW, "desk-alone", number=1), past(ASK, "dear-asks", number=2, value_cents=20_000_000)]
    found = compare(policy, verdicts)
    assert (found.looked, found.same, found.changed, found.found) == (2, 2, 0, [])


def test_what_would_be_asked_denied_and_allowed_is_told_with_the_entry(policy: Policy) -> None:
    lower = stricter("context.value_cents > 10000000", "context.value_cents > 1000000")
    found = compare(lower, [past(ALLOW, "desk-alone", number=7), past(ALLOW, "desk-alone", number=8, value_cents=5)])
    assert (found.asked, found.same) == (1, 1)
    (one,) = found.found
    assert (one.past.seq, one.past.run, one.now, one.rules) == (7, "run_7", ASK, ["dear-asks"])
    never = stricter('"sign", ', "").judge(Request("dev_1", "register.decide", PLAIN | {"label": "sign"}))
    assert never.kind == ASK
    denied = compare(stricter("context.value_cents < 0", "context.value_cents < 9999999"), [past(ALLOW, number=1)])
    assert (denied.denied, denied.found[0].rules) == (1, ["value-makes-sense"])
    allowed = compare(policy, [past(ASK, "dear-asks", number=1)])
    assert (allowed.allowed, allowed.found[0].now) == (1, ALLOW)


def test_what_the_host_held_is_not_compared_and_what_it_asked_stays_asked(policy: Policy) -> None:
    found = compare(
        policy,
        [past(DENY, "host:lease-expired", number=1), past(ASK, "host:over-budget", number=2), past(ASK, number=3)],
    )
    assert (found.held, found.looked, found.same, found.allowed) == (1, 2, 1, 1)


def test_the_judgement_after_a_yes_counts_only_where_it_would_be_denied_and_once(policy: Policy) -> None:
    twice = [
        past(ASK, "dear-asks", number=2, action="a" * 64, value_cents=20_000_000, approved=True),
        past(ASK, "dear-asks", number=2, action="a" * 64, value_cents=20_000_000),
    ]
    assert compare(policy, twice).looked == 1
    forbid = stricter("context.value_cents < 0", "context.value_cents > 19999999")
    found = compare(forbid, twice)
    assert (found.looked, found.denied, found.changed) == (1, 1, 1)


def test_what_cannot_be_judged_is_told_apart_from_what_is_denied() -> None:
    candidate = Policy(TEXT, SCHEMA.replace("run_cents: Long,", "run_cents: Long, mood: String,"))
    found = compare(candidate, [past(ALLOW, "desk-alone", number=1)])
    assert (found.unjudged, found.denied, found.found[0].unjudged) == (1, 0, True)


def test_older_verdicts_without_newer_fields_are_unjudged_and_not_called_same(policy: Policy) -> None:
    old = past(ALLOW, "desk-alone", number=1)
    context = {name: value for name, value in old.given.context.items() if name != "risk"}
    given = VerdictGiven("triage", "a" * 64, ALLOW, [], 1, "register.decide", context)
    assert compare(policy, [Past("dev_1", 1, AT, "run_1", given)]).unjudged == 1


EDGES = sorted({-1, 0, 1, 99, 100, 101, 849, 850, 851, 14_400, 14_401, 999_999, 1_000_001, 10_000_000, 10_000_001})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "value_cents": st.sampled_from(EDGES),
                "confidence": st.sampled_from(EDGES),
                "lease_age_s": st.sampled_from(EDGES),
                "actions_since_sync": st.sampled_from(EDGES),
                "offline": st.booleans(),
                "undo": st.booleans(),
                "label": st.sampled_from(["express", "demolition", "other"]),
                "effect": st.sampled_from(["read", "irreversible"]),
                "source": st.sampled_from(["playbook", "assistant"]),
            },
        ),
        max_size=30,
    )
)
def test_judging_what_rules_can_tell_apart_is_judging_all(policy: Policy, changes: list[dict[str, Any]]) -> None:
    judge, alone = Judge(policy), Policy(TEXT, SCHEMA)
    for one in changes:
        context = PLAIN | one
        given = VerdictGiven("triage", "a" * 64, ALLOW, [], 1, "register.decide", context)
        mine, theirs = judge.judge("dev_1", given), alone.judge(Request("dev_1", "register.decide", context))
        assert (mine.kind, mine.rules) == (theirs.kind, theirs.rules)


def test_a_hundred_thousand_verdicts_are_judged_in_a_few_hundred_classes(policy: Policy) -> None:
    asked = []
    judge = policy.judge
    policy.judge = lambda request: asked.append(request) or judge(request)  # type: ignore[method-assign,func-returns-value]  # counts
    try:
        verdicts = (
            past(ALLOW, number=n, value_cents=n * 37, confidence=n % 1000, lease_age_s=n % 30_000) for n in range(5_000)
        )
        assert compare(policy, verdicts).looked == 5_000
    finally:
        del policy.judge
    assert len(asked) < 100


@pytest.mark.parametrize(
    ("condition", "field", "bounds"),
    [
        ("context.value_cents > 5 && 7 >= context.value_cents", "value_cents", [5, 7]),
        ("context.value_cents > -5", "value_cents", [-5]),
        ("context.value_cents + 1 > 5", "value_cents", None),
        ("context.value_cents > 5 && context.value_cents > context.run_cents", "value_cents", None),
        ("context.value_cents > context.run_cents && context.value_cents > 5", "value_cents", None),
        ("context.value_cents * 2 == 4", "value_cents", None),
        ("[1, 2].contains(context.value_cents)", "value_cents", None),
        ('context.label like "x*"', "label", None),
        ("(context.value_cents > 5) == context.offline", "offline", None),
    ],
)
def test_what_a_rule_distinguishes(condition: str, field: str, bounds: list[int] | None) -> None:
    told = cedar.distinctions(f"permit (principal, action, resource) when {{ {condition} }};")
    assert told is not None and told.fields[field] == bounds


@pytest.mark.parametrize(
    ("rule", "looks"),
    [
        ("permit (principal, action, resource);", False),
        ('permit (principal == Device::"d", action, resource);', True),
        ('permit (principal, action, resource) when { principal == Device::"d" };', True),
    ],
)
def test_whether_a_rule_looks_at_the_device(rule: str, looks: bool) -> None:
    told = cedar.distinctions(rule)
    assert told is not None and told.principal is looks


def test_a_policy_that_uses_the_context_as_a_whole_is_judged_by_every_value() -> None:
    assert cedar.distinctions("permit (principal, action, resource) when { context == {} };") is None
