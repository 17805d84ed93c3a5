"""The permit desk's policy as a decision table: what it allows alone, asks or denies, and by which rule."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from shared.playbook import load
from shared.policy import ALLOW, ASK, DENY, Asking, Policy, Request

STARTER = resources.files("server") / "starter" / "permits"
PLAIN: dict[str, Any] = {
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
DOLLARS = 100
AGED = {"offline": True, "lease_age_s": 4 * 3600 + 1}
LAST_HOUR = {"offline": True, "lease_left_s": 3599}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy((STARTER / "policy.cedar").read_text(), (STARTER / "schema.cedarschema").read_text())


def judge(policy: Policy, tool: str = "register.decide", **changes: Any) -> tuple[str, list[str]]:
    verdict = policy.judge(Request("device-1", tool, PLAIN | changes))
    assert verdict.errors == []
    return verdict.kind, verdict.rules


ALONE = (ALLOW, ["desk-alone"])
UNKNOWN = (ASK, ["cedar:not-unattended"])


def asked_by(*rules: str) -> tuple[str, list[str]]:
    return ASK, [*rules]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        # everyday lanes
        ({}, ALONE),
        ({"label": "sign"}, ALONE),
        ({"label": "plan_review"}, ALONE),
        ({"label": "conveyance"}, ALONE),
        ({"confidence": 850}, ALONE),
        ({"confidence": 849}, asked_by("unsure-asks")),
        ({"value_cents": 100_000 * DOLLARS}, ALONE),
        ({"value_cents": 100_000 * DOLLARS + 1}, asked_by("dear-asks")),
        ({"value_cents": 0}, ALONE),
        ({"label": "unheard-of"}, UNKNOWN),
        ({"label": ""}, UNKNOWN),
        ({"label": "Express"}, UNKNOWN),
        # heavy lanes ask, however sure and however cheap
        ({"label": "demolition"}, asked_by("heavy-lanes-ask")),
        ({"label": "self_cert"}, asked_by("heavy-lanes-ask")),
        ({"label": "demolition", "confidence": 1000, "value_cents": 0}, asked_by("heavy-lanes-ask")),
        ({"label": "demolition", "confidence": 849}, asked_by("heavy-lanes-ask", "unsure-asks")),
        # abstaining asks, however sure the number looks
        ({"abstained": True}, asked_by("unsure-asks")),
        ({"abstained": True, "confidence": 1000}, asked_by("unsure-asks")),
        # the lease ages
        (AGED, (ASK, ["aged-lease-small-only"])),
        (AGED | {"value_cents": 10_000 * DOLLARS}, ALONE),
        (AGED | {"value_cents": 10_000 * DOLLARS + 1}, asked_by("aged-lease-small-only")),
        (AGED | {"lease_age_s": 4 * 3600}, ALONE),
        (AGED | {"offline": False}, ALONE),
        # a hundred between two syncs
        ({"offline": True, "actions_since_sync": 99}, ALONE),
        ({"offline": True, "actions_since_sync": 100}, asked_by("offline-hundred")),
        ({"offline": False, "actions_since_sync": 5000}, ALONE),
        # the lease's last hour
        (LAST_HOUR, asked_by("last-hour-tiny-only")),
        (LAST_HOUR | {"value_cents": 1_000 * DOLLARS}, ALONE),
        (LAST_HOUR | {"value_cents": 1_000 * DOLLARS + 1}, asked_by("last-hour-tiny-only")),
        (LAST_HOUR | {"lease_left_s": 3600}, ALONE),
        (LAST_HOUR | {"offline": False}, ALONE),
        # what was decided alone since the last sync, all together
        ({"offline": True, "value_since_sync_cents": 200_000 * DOLLARS}, ALONE),
        ({"offline": True, "value_since_sync_cents": 200_000 * DOLLARS + 1}, asked_by("offline-value")),
        ({"offline": False, "value_since_sync_cents": 10**9}, ALONE),
        # what cannot be undone
        ({"effect": "irreversible"}, asked_by("no-undo-asks")),
        ({"effect": "irreversible", "approved": True}, asked_by("no-undo-asks")),
        # an assistant never acts alone, however sure and however cheap
        ({"source": "assistant"}, asked_by("assistants-ask")),
        ({"source": "assistant", "confidence": 1000, "value_cents": 0}, asked_by("assistants-ask")),
        ({"source": "assistant", "approved": True}, asked_by("assistants-ask")),
        # taking back is judged like any other action
        ({"undo": True}, ALONE),
        ({"undo": True, "value_cents": 100_000 * DOLLARS + 1}, asked_by("dear-asks")),
        # several rules are all named
        (
            AGED | {"effect": "irreversible", "actions_since_sync": 100},
            (ASK, ["aged-lease-small-only", "no-undo-asks", "offline-hundred"]),
        ),
        # wrong data
        ({"value_cents": -1}, (DENY, ["value-makes-sense"])),
        ({"value_cents": -1, "approved": True}, (DENY, ["value-makes-sense"])),
        ({"value_cents": -(2**63)}, (DENY, ["value-makes-sense"])),
    ],
)
def test_table(policy: Policy, changes: dict[str, Any], verdict: tuple[str, list[str]]) -> None:
    assert judge(policy, **changes) == verdict


@pytest.mark.parametrize("tool", ["register.erase", "mail.send", "register.decide2", "", 'x"::y'])
def test_other_tools_are_not_permitted(policy: Policy, tool: str) -> None:
    assert judge(policy, tool) == (DENY, ["cedar:no-permit"])


@pytest.mark.parametrize("field", sorted(PLAIN))
def test_every_field_is_needed(policy: Policy, field: str) -> None:
    context = {name: value for name, value in PLAIN.items() if name != field}
    verdict = policy.judge(Request("device-1", "register.decide", context))
    assert (verdict.kind, verdict.rules) == (DENY, ["cedar:error"])
    wrong: Any = "x" if not isinstance(PLAIN[field], str) else 1
    verdict = policy.judge(Request("device-1", "register.decide", PLAIN | {field: wrong}))
    assert (verdict.kind, verdict.rules) == (DENY, ["cedar:error"])


@pytest.mark.parametrize(
    ("changes", "asking"),
    [
        ({"confidence": 849}, Asking(people=1, similar_s=0, local=False)),
        ({"effect": "irreversible"}, Asking(people=2, similar_s=0, local=False)),
        ({"source": "assistant"}, Asking(people=1, similar_s=3600, local=True)),
        (AGED, Asking(people=1, similar_s=0, local=True)),
        ({"offline": True, "actions_since_sync": 100}, Asking(people=1, similar_s=0, local=True)),
        # the strictest of several holds
        ({"source": "assistant", "effect": "irreversible"}, Asking(people=2, similar_s=0, local=False)),
        (AGED | {"confidence": 849}, Asking(people=1, similar_s=0, local=False)),
        (AGED | {"source": "assistant"}, Asking(people=1, similar_s=0, local=True)),
        ({"label": "unheard-of"}, Asking(people=1, similar_s=0, local=False)),
    ],
)
def test_how_a_person_is_asked(policy: Policy, changes: dict[str, Any], asking: Asking) -> None:
    verdict, rules = judge(policy, **changes)
    assert (verdict, policy.asking(rules)) == (ASK, asking)


def test_it_uses_every_field_that_newer_agents_tell(policy: Policy) -> None:
    assert policy.context(PLAIN) == PLAIN


def test_every_rule_says_in_plain_words_what_it_is_about(policy: Policy) -> None:
    assert policy.about
    for rule, about in policy.about.items():
        assert about.endswith(".") and len(about) < 120, rule


def test_every_lane_of_the_playbook_is_named_by_the_policy(policy: Policy) -> None:
    """A lane that is misspelt in the policy would be asked about for ever, and nobody would see why."""
    book = load((STARTER / "playbooks" / "permit-triage.yaml").read_text(), "permit-triage.yaml")
    alone = {lane.id for lane in book.lanes if judge(policy, label=lane.id, confidence=1000) == ALONE}
    asked = {lane.id for lane in book.lanes if judge(policy, label=lane.id) == asked_by("heavy-lanes-ask")}
    assert alone == {"express", "sign", "plan_review", "conveyance"}
    assert asked == {"demolition", "self_cert"}
    assert alone | asked == {lane.id for lane in book.lanes}
