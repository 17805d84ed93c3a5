"""The verdict as a decision table, every way in which Cedar could fail open, and the right to act."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import policy
from shared.actions import Action
from shared.errors import BadInput, Refused
from shared.policy import ALLOW, ASK, DENY, HOST_RULES, Allowed, Policy, Request, Verdict, deny, permit

SCHEMA = """entity Device;
entity Tool;
action execute, execute_unattended appliesTo {
  principal: [Device],
  resource: [Tool],
  context: { label: String, value: Long, offline: Bool, note?: String },
};
"""
POLICY = """
@id("may") @about("The desk may file.")
permit (principal, action == Action::"execute", resource == Tool::"desk.file");

@id("small-alone") @about("Small things need nobody.")
permit (principal, action == Action::"execute_unattended", resource == Tool::"desk.file")
when { context.value <= 100 };

@id("never-offline-big")
forbid (principal, action == Action::"execute_unattended", resource) when { context.offline && context.value > 50 };

@id("no-poison")
forbid (principal, action, resource) when { context.label == "poison" };

@id("one-device")
forbid (principal == Device::"lost", action, resource);
"""
# Rules that are always judged with the schema: an action in a group, a field that is not written out.
GROUPED = '@id("g") forbid (principal, action in [Action::"execute"], resource) when { context.value < -150 };'
INDEXED = '@id("i") forbid (principal, action, resource) when { context["value"] < -150 };'
PLAIN: dict[str, Any] = {"label": "ok", "value": 10, "offline": False}
ACTION = Action("desk.file", {"n": 1}, "A-1")


def judge(text: str = POLICY, device: str = "d1", tool: str = "desk.file", **changes: Any) -> Verdict:
    return Policy(text, SCHEMA).judge(Request(device, tool, PLAIN | changes))


def bad(code: str, text: str, schema: str = SCHEMA) -> BadInput:
    with pytest.raises(BadInput) as caught:
        Policy(text, schema, new=True)
    assert caught.value.code == code
    assert caught.value.advice
    return caught.value


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "kind", "rules"),
    [
        ({}, ALLOW, ["small-alone"]),
        ({"value": 100}, ALLOW, ["small-alone"]),
        ({"value": 101}, ASK, ["cedar:not-unattended"]),
        ({"offline": True, "value": 50}, ALLOW, ["small-alone"]),
        ({"offline": True, "value": 51}, ASK, ["never-offline-big"]),
        ({"label": "poison"}, DENY, ["no-poison"]),
        ({"device": "lost"}, DENY, ["one-device"]),
        ({"device": "lost", "label": "poison"}, DENY, ["no-poison", "one-device"]),
        ({"tool": "desk.burn"}, DENY, ["cedar:no-permit"]),
        ({"note": "an optional field may stand"}, ALLOW, ["small-alone"]),
    ],
)
def test_table(request_: dict[str, Any], kind: str, rules: list[str]) -> None:
    assert judge(**request_) == Verdict(kind, rules)


def test_what_may_be_done_alone_but_not_at_all_is_denied() -> None:
    only_alone = '@id("a") permit (principal, action == Action::"execute_unattended", resource);'
    assert judge(only_alone) == Verdict(DENY, ["cedar:no-permit"])


# --- failing closed -----------------------------------------------------------------------------------------------


def error_of(verdict: Verdict) -> str:
    assert (verdict.kind, verdict.rules) == (DENY, ["cedar:error"])
    assert verdict.errors
    return " ".join(verdict.errors)


# Cedar's answer to each of these alone is Allow: the forbid that was to stop it erred, and so was skipped.
TRAPS = {
    "overflow": "context.value + 9223372036854775807 > 0",
    "overflow-product": "context.value * 9223372036854775807 > 0",
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
@pytest.mark.parametrize("action", ['== Action::"execute"', '== Action::"execute_unattended"', ""])
def test_a_forbid_that_errs_is_a_denial(trap: str, action: str) -> None:
    text = f"""@id("all") permit (principal, action, resource);
    @id("trap") forbid (principal, action {action}, resource) when {{ {trap} }};"""
    raw = cedarpy.is_authorized(
        {"principal": 'Device::"d"', "action": 'Action::"execute"', "resource": 'Tool::"t"', "context": PLAIN},
        text,
        [],
        schema=SCHEMA,
    )
    assert raw.decision == cedarpy.Decision.Allow, "Cedar itself fails open here; if it no longer does, say so"
    assert "overflow" in error_of(judge(text))


def test_a_permit_that_errs_is_a_denial_though_another_permits() -> None:
    text = """@id("all") permit (principal, action, resource);
    @id("also") permit (principal, action, resource) when { context.value * 9223372036854775807 > 0 };"""
    assert error_of(judge(text))


def test_missing_attribute_of_an_unknown_entity_cannot_be_written() -> None:
    """Another way for a forbid to err is closed by validation: entities have no attributes here."""
    error = bad("policy.invalid", '@id("x") forbid (principal, action, resource) when { principal.secret };')
    assert "secret" in error.message


BAD_CONTEXTS: list[Any] = [
    {},
    {"label": "ok", "value": 10},
    {"label": "ok", "offline": False},
    PLAIN | {"extra": 1},
    PLAIN | {"value": "10"},
    PLAIN | {"value": True},
    PLAIN | {"offline": 0},
    PLAIN | {"offline": "false"},
    PLAIN | {"label": 7},
    PLAIN | {"note": 7},
    PLAIN | {"value": 2**63},
    PLAIN | {"value": -(2**63) - 1},
    PLAIN | {"value": 10.0},
    PLAIN | {"value": float("nan")},
    PLAIN | {"value": None},
    PLAIN | {"label": "\ud800"},
    PLAIN | {"label": ["ok"]},
    PLAIN | {"label": {"__entity": {"type": "Tool", "id": "x"}}},
    PLAIN | {"label": {"__extn": {"fn": "ip", "arg": "1.1.1.1"}}},
    PLAIN | {"value": object()},
    PLAIN | {"label": b"ok"},
    {7: "x"},
]


@pytest.mark.parametrize("context", BAD_CONTEXTS)
def test_a_context_that_does_not_fit_the_schema_is_denied(context: Any) -> None:
    assert error_of(Policy(POLICY, SCHEMA).judge(Request("d1", "desk.file", context)))


@pytest.mark.parametrize("context", BAD_CONTEXTS)
def test_nor_does_it_fit_after_others_that_did(context: Any) -> None:
    """What fits once is judged without the schema from then on; what does not must not slip through with it."""
    warm = Policy(POLICY, SCHEMA)
    for fitting in (PLAIN, PLAIN | {"note": "x"}, PLAIN | {"value": -1, "offline": True}):
        assert warm.judge(Request("d1", "desk.file", fitting)).kind != DENY
    assert error_of(warm.judge(Request("d1", "desk.file", context)))


@pytest.mark.parametrize("text", [POLICY, POLICY + GROUPED, POLICY + INDEXED], ids=["fields", "group", "index"])
@settings(max_examples=40, deadline=None)
@given(st.integers(-200, 200), st.booleans(), st.sampled_from(["ok", "poison", ""]), st.sampled_from(["d1", "lost"]))
def test_judged_the_second_time_it_is_the_same(text: str, value: int, offline: bool, label: str, device: str) -> None:
    context = {"label": label, "value": value, "offline": offline, "note": "x"}
    request = Request(device, "desk.file", context)
    warm = Policy(text, SCHEMA)
    first = warm.judge(request)
    assert warm.judge(request) == first == Policy(text, SCHEMA).judge(request)


@given(
    st.text(max_size=20),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=8), st.integers() | st.booleans() | st.text(max_size=8) | st.none(), max_size=5),
)
def test_judging_never_raises_and_never_allows_what_no_rule_permits(device: str, tool: str, context: Any) -> None:
    verdict = JUDGE.judge(Request(device, tool, context))
    assert verdict.kind == DENY or tool == "desk.file"


JUDGE = Policy(POLICY, SCHEMA)


@pytest.mark.parametrize("device", ["d1", "é", "😀", "it's", 'a"b', "a\\b", "\n", "\x01", "a::b", '"; permit'])
def test_names_are_data_not_syntax(device: str) -> None:
    assert JUDGE.judge(Request(device, "desk.file", PLAIN)).kind == ALLOW
    text = f"""@id("all") permit (principal, action, resource);
    @id("this") forbid (principal == Device::{json.dumps("lost")}, action, resource);"""
    assert judge(text, device=f"{device}lost").kind == ALLOW


class Panic(BaseException):
    """As raised by native code that panics: not an Exception."""


@pytest.mark.parametrize("error", [Panic("boom"), ValueError("x"), MemoryError(), RecursionError()])
def test_a_panic_in_native_code_is_a_denial(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def panics(*args: Any, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(cedarpy, "is_authorized_batch", panics)
    verdict = judge()
    assert verdict == deny("cedar:error", type(error).__name__)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_being_told_to_stop_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    def stops(*args: Any, **more: Any) -> Any:
        raise kind

    monkeypatch.setattr(cedarpy, "is_authorized_batch", stops)
    with pytest.raises(kind):
        judge()


class _Answer:
    class diagnostics:  # noqa: N801  # shaped like cedarpy's result
        errors: tuple[str, ...] = ()
        reasons: tuple[str, ...] = ()
        id_annotations_by_reason: dict[str, str] = {}  # noqa: RUF012  # never written

    def __init__(self, decision: Any) -> None:
        self.decision = decision
        self.allowed = decision == cedarpy.Decision.Allow


@pytest.mark.parametrize("odd", [0, 1])
def test_no_decision_is_a_denial(monkeypatch: pytest.MonkeyPatch, odd: int) -> None:
    answers = [_Answer(cedarpy.Decision.Allow), _Answer(cedarpy.Decision.Allow)]
    answers[odd] = _Answer(cedarpy.Decision.NoDecision)
    monkeypatch.setattr(cedarpy, "is_authorized_batch", lambda *args, **more: answers)
    assert judge() == Verdict(DENY, ["cedar:error"], ["no decision"])


# --- what was asked before ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["d1", "d2"]), st.sampled_from(["desk.file", "desk.burn"]), st.booleans(),
                  st.sampled_from([1, 100, 101, 2**62]), st.sampled_from(["ok", "poison"])),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_a_policy_that_has_judged_much_judges_as_a_fresh_one(asked: list[tuple[Any, ...]]) -> None:
    for device, tool, offline, value, label in asked:
        context = PLAIN | {"offline": offline, "value": value, "label": label}
        assert JUDGE.judge(Request(device, tool, context)) == judge(device=device, tool=tool, **context)


def test_only_what_a_question_reads_makes_it_another(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, asked = Policy(POLICY, SCHEMA), []
    real = cedarpy.is_authorized_batch

    def counting(queries: list[Any], *args: Any, **more: Any) -> Any:
        asked.append([query["action"]["id"] for query in queries])
        return real(queries, *args, **more)

    monkeypatch.setattr(cedarpy, "is_authorized_batch", counting)
    for value in (10, 10, 10, 11):
        policy.judge(Request("d1", "desk.file", PLAIN | {"value": value}))
    both = ["execute", "execute_unattended"]
    assert asked == [both, both, ["execute_unattended"]]  # the first with the schema, and not remembered


def test_an_error_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(POLICY, SCHEMA)
    for _ in range(2):
        policy.judge(Request("d2", "desk.file", PLAIN))  # the form is known from here on
    answers = [_Answer(cedarpy.Decision.NoDecision), _Answer(cedarpy.Decision.NoDecision)]
    with monkeypatch.context() as broken:
        broken.setattr(cedarpy, "is_authorized_batch", lambda *args, **more: answers)
        assert policy.judge(Request("d1", "desk.file", PLAIN)).rules == ["cedar:error"]
    assert policy.judge(Request("d1", "desk.file", PLAIN)).kind == ALLOW


# --- fields that came later ---------------------------------------------------------------------------------------

LATER: dict[str, Any] = {"risk": "high", "undo": False, "source": "assistant", "run_actions": 2, "run_cents": 100}
TYPES = {"risk": "String", "undo": "Bool", "source": "String", "run_actions": "Long", "run_cents": "Long"}


def schema_with(*fields: str) -> str:
    return SCHEMA.replace("note?: String", ", ".join(["note?: String", *fields]))


def test_a_schema_of_before_is_given_what_it_knows() -> None:
    old = Policy(POLICY, SCHEMA)
    assert old.context(PLAIN | LATER) == PLAIN
    assert old.judge(Request("d1", "desk.file", old.context(PLAIN | LATER))).kind == ALLOW


@pytest.mark.parametrize("mark", ["", "?"], ids=["required", "optional"])
@pytest.mark.parametrize("name", TYPES)
def test_a_later_field_is_given_where_it_is_declared(name: str, mark: str) -> None:
    """Required or optional: a rule that asks ``context has risk`` must not find it missing."""
    wants = json.dumps(LATER[name])
    rule = f'@id("x") forbid (principal, action, resource) when {{ context has {name} && context.{name} == {wants} }};'
    new = Policy(POLICY + rule, schema_with(f"{name}{mark}: {TYPES[name]}"))
    context = new.context(PLAIN | LATER)
    assert context == PLAIN | {name: LATER[name]}
    for _ in range(2):
        assert new.judge(Request("d1", "desk.file", context)) == Verdict(DENY, ["x"])


@pytest.mark.parametrize("name", TYPES)
def test_a_later_field_of_another_type_is_never_given(name: str) -> None:
    """Then what needs it can only be denied."""
    other = "Long" if TYPES[name] != "Long" else "String"
    new = Policy(POLICY, schema_with(f"{name}: {other}"))
    context = new.context(PLAIN | LATER)
    assert context == PLAIN
    assert error_of(new.judge(Request("d1", "desk.file", context)))


# --- words --------------------------------------------------------------------------------------------------------


def test_rules_are_explained_in_their_authors_words() -> None:
    assert JUDGE.explain("small-alone") == "Small things need nobody."
    assert JUDGE.explain("host:no-lease") == HOST_RULES["host:no-lease"]
    assert JUDGE.explain("no-poison") == "no-poison"
    assert JUDGE.explain("never-heard-of") == "never-heard-of"


def test_a_policy_cannot_reword_the_hosts_rules() -> None:
    bad("policy.rule-id", '@id("host:no-lease") @about("Fine.") permit (principal, action, resource);')


def test_held_is_only_a_denial_by_the_host() -> None:
    assert deny("host:no-lease").held
    assert not deny("cedar:error").held
    assert not Verdict(ASK, ["host:no-lease"]).held
    assert not Verdict(DENY, ["no-poison"]).held


# --- the right to act ---------------------------------------------------------------------------------------------

OTHER = Action("desk.file", {"n": 2}, "A-1")
YES, MAYBE, NO = Verdict(ALLOW, ["a"]), Verdict(ASK, ["a"]), Verdict(DENY, ["a"])


@pytest.mark.parametrize(
    ("verdict", "judged", "approval", "approved", "code"),
    [
        (YES, ACTION.digest, "", "", None),
        (MAYBE, ACTION.digest, "ap1", ACTION.digest, None),
        (YES, OTHER.digest, "", "", "guard.mismatch"),
        (YES, "", "", "", "guard.mismatch"),
        (MAYBE, OTHER.digest, "ap1", ACTION.digest, "guard.mismatch"),
        (MAYBE, ACTION.digest, "", "", "guard.unapproved"),
        (MAYBE, ACTION.digest, "ap1", "", "guard.unapproved"),
        (MAYBE, ACTION.digest, "", ACTION.digest, "guard.unapproved"),
        (MAYBE, ACTION.digest, "ap1", OTHER.digest, "guard.unapproved"),
        (NO, ACTION.digest, "", "", "guard.denied"),
        (NO, ACTION.digest, "ap1", ACTION.digest, "guard.denied"),
        (Verdict("", []), ACTION.digest, "ap1", ACTION.digest, "guard.denied"),
        (Verdict("ALLOW", []), ACTION.digest, "", "", "guard.denied"),
    ],
)
def test_permit_table(verdict: Verdict, judged: str, approval: str, approved: str, code: str | None) -> None:
    def call() -> Allowed:
        return permit(ACTION, verdict, judged=judged, step="s", approval=approval, approved=approved)

    if code is None:
        allowed = call()
        assert (allowed.action, allowed.verdict, allowed.step, allowed.approval) == (ACTION, verdict, "s", approval)
    else:
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == code


def test_the_key_is_what_the_action_is_and_how_often_it_was_done_anew() -> None:
    first = permit(ACTION, YES, judged=ACTION.digest, step="s")
    again = permit(ACTION, YES, judged=ACTION.digest, step="other", time=1)
    assert first.key == ACTION.key == ACTION.key_for(0) and again.key == ACTION.key_for(1) != first.key


def test_allowed_cannot_be_made_elsewhere() -> None:
    for mint in (None, object(), "", 0, True, Allowed, policy):
        with pytest.raises(Refused) as caught:
            Allowed(mint, ACTION, YES, "s", "", 0)
        assert caught.value.code == "guard.forged"
    with pytest.raises(TypeError):
        Allowed(ACTION, YES, "s", "", 0)  # type: ignore[call-arg, arg-type]


def test_allowed_does_not_travel() -> None:
    """It must not be brought in from outside either: a pickle would be one that no guard has made."""
    allowed = permit(ACTION, YES, judged=ACTION.digest, step="s")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises((TypeError, Refused)):
            pickle.loads(pickle.dumps(allowed, protocol))


def test_allowed_cannot_be_changed_or_copied_into_another() -> None:
    allowed = permit(ACTION, YES, judged=ACTION.digest, step="s")
    with pytest.raises(AttributeError):
        allowed.action = OTHER
    with pytest.raises(AttributeError):
        del allowed.action
    with pytest.raises((TypeError, Refused)):
        copy.copy(allowed)
    blank = object.__new__(Allowed)
    with pytest.raises(AttributeError):
        blank.action = ACTION
    with pytest.raises(Refused):
        type("Forged", (Allowed,), {})
