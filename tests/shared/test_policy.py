"""The verdict as a decision table, every way in which Cedar could fail open, and the right to act."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import limits, policy
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
PLAIN: dict[str, Any] = {"label": "ok", "value": 10, "offline": False}
ACTION = Action("desk.file", {"n": 1}, "A-1")


def judge(text: str = POLICY, device: str = "d1", tool: str = "desk.file", **changes: Any) -> Verdict:
    return Policy(text, SCHEMA).judge(Request(device, tool, PLAIN | changes))


def bad(code: str, text: str, schema: str = SCHEMA) -> BadInput:
    with pytest.raises(BadInput) as caught:
        Policy(text, schema)
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


@pytest.mark.parametrize(
    "context",
    [
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
    ],
)
def test_a_context_that_does_not_fit_the_schema_is_denied(context: Any) -> None:
    assert error_of(Policy(POLICY, SCHEMA).judge(Request("d1", "desk.file", context)))


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
    verdict = JUDGE.judge(Request("d1", "desk.file", PLAIN))
    assert verdict == deny("cedar:error", type(error).__name__)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_being_told_to_stop_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    def stops(*args: Any, **more: Any) -> Any:
        raise kind

    monkeypatch.setattr(cedarpy, "is_authorized_batch", stops)
    with pytest.raises(kind):
        JUDGE.judge(Request("d1", "desk.file", PLAIN))


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
    assert JUDGE.judge(Request("d1", "desk.file", PLAIN)) == Verdict(DENY, ["cedar:error"], ["no decision"])


# --- policies that are refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "entity Device; entity Tool;",
        "entity Device; entity Tool; action execute appliesTo {principal: [Device], resource: [Tool], context: {}};",
        SCHEMA.replace("execute_unattended", "execute_alone"),
        SCHEMA.replace("principal: [Device]", "principal: [Tool]"),
        SCHEMA.replace("entity Device;", ""),
    ],
)
def test_a_schema_without_the_two_actions_is_refused(schema: str) -> None:
    assert bad("policy.schema", '@id("a") permit (principal, action, resource);', schema).where == "schema.cedarschema"


def test_what_does_not_parse() -> None:
    assert bad("policy.parse", '@id("a") permit (principal, action, resource').where == "policy.cedar"
    assert bad("policy.parse", "\x00").where == "policy.cedar"
    assert bad("policy.schema", POLICY, "entity").where == "schema.cedarschema"


@pytest.mark.parametrize("text", ["", "// nothing but a comment\n"])
def test_an_empty_policy_is_refused(text: str) -> None:
    bad("policy.empty", text)


@pytest.mark.parametrize(
    "annotation", ["", '@about("x") ', '@id("") ', "@id ", '@id("Upper") ', '@id("-x") ', '@id("a b") ', '@id("a\\n") ']
)
def test_every_rule_has_an_id(annotation: str) -> None:
    bad("policy.rule-id", annotation + "permit (principal, action, resource);")
    bad("policy.rule-id", POLICY + annotation + "permit (principal, action, resource);")


def test_ids_are_single_and_the_second_is_pointed_at() -> None:
    text = '@id("a") permit (principal, action, resource);\n\n@id("a")\nforbid (principal, action, resource);'
    assert bad("policy.rule-twice", text).where == "policy.cedar:3"


def test_a_misspelt_attribute_is_named_with_its_rule_and_line() -> None:
    text = POLICY.replace("context.offline", "context.ofline")
    error = bad("policy.invalid", text)
    assert "ofline" in error.message and "never-offline-big" in error.message
    assert error.where == f"policy.cedar:{text[: text.index('never-offline-big')].count(chr(10)) + 1}"


@pytest.mark.parametrize(
    "rule",
    [
        'permit (principal, action == Action::"exeute", resource);',
        'permit (principal, action, resource) when { context.value == "ten" };',
        "permit (principal, action, resource) when { context.label > 1 };",
        "permit (principal is Person, action, resource);",
        'permit (principal, action, resource) when { context.note == "x" };',
    ],
)
def test_unknown_action_wrong_types_and_unguarded_optionals_are_refused(rule: str) -> None:
    assert bad("policy.invalid", '@id("a") ' + rule).where == "policy.cedar:1"


def test_templates_are_refused_because_they_never_apply() -> None:
    bad("policy.template", POLICY + '@id("t") forbid (principal == ?principal, action, resource);')


DEEP = {
    "brackets": "(" * 33 + "true" + ")" * 33,
    "lists": "[" * 33 + "]" * 33 + " == context.label",
    "chain": "true && " * 301 + "true",
    "ifs": "if true then " * 301 + "true" + " else true" * 301,
    "dots": "context" + ".a" * 301,
}


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
def test_deep_rules_are_refused_before_the_native_parser_sees_them(body: str) -> None:
    anyone = "permit (principal, action, resource)"
    text = f'@id("x") {anyone};\n\n@id("a")\n{anyone} when {{ {body} }};'
    assert bad("policy.too-deep", text).where == "policy.cedar:3"


def test_a_deep_schema_is_refused() -> None:
    deep = SCHEMA.replace("String", "Set<" * 5000 + "Long" + ">" * 5000, 1)
    assert bad("policy.too-deep", POLICY, deep).where.startswith("schema.cedarschema")


def test_the_bound_lies_below_the_crash() -> None:
    """At the bound itself, in a process of its own: a crash there would end this one."""
    n = limits.POLICY_RULE_NESTING - 3
    code = f"""
from shared.policy import Policy
brackets, chain = "(" * {n} + "true" + ")" * {n}, "true && " * 280 + "true"
for body in [brackets, chain, "if true then " * 200 + "true" + " else true" * 200]:
    Policy('@id("a") permit (principal, action, resource) when {{' + body + '}};', {SCHEMA!r})
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alive", done.stderr


def test_brackets_in_text_and_comments_do_not_count() -> None:
    many = "(" * 500
    rule = f'@id("t") forbid (principal, action, resource) when {{ context.label == "{many}" }};'
    text = f"{POLICY}// {many}\n{rule}"
    assert judge(text).kind == ALLOW


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


def test_allowed_cannot_be_made_elsewhere() -> None:
    for mint in (None, object(), "", 0, True, Allowed, policy):
        with pytest.raises(Refused) as caught:
            Allowed(mint, ACTION, YES, "s", "")
        assert caught.value.code == "guard.forged"
    with pytest.raises(TypeError):
        Allowed(ACTION, YES, "s", "")  # type: ignore[call-arg, arg-type]


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
