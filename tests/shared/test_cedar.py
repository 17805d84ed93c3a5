"""Policies that are refused before they judge anything, with rule and line; how their authors say people are asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared import limits
from shared.cedar import Rule
from shared.policy import ALLOW, Asking, Policy
from tests.shared.test_policy import POLICY, SCHEMA, bad, judge

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


# --- how people are asked -----------------------------------------------------------------------------------------

FORBID = 'forbid (principal, action == Action::"execute_unattended", resource) when { context.value > 5 };'


def test_annotations_say_how_people_are_asked() -> None:
    text = f"""{POLICY}
    @id("two") @about("Two.") @people("2") {FORBID}
    @id("hour") @similar("90m") @local("yes") {FORBID}
    @id("day") @similar("24h") @local("yes") {FORBID}
    @id("plain") {FORBID}"""
    found = Policy(text, SCHEMA)
    assert found.rules["two"] == Rule("Two.", 2, 0, False)
    assert found.rules["hour"] == Rule("", 1, 5400, True)
    assert found.asking(["hour"]) == Asking(people=1, similar_s=5400, local=True)
    assert found.asking(["day", "hour"]) == Asking(people=1, similar_s=5400, local=True)
    assert found.asking(["hour", "plain"]) == Asking(people=1, similar_s=0, local=False)
    assert found.asking(["two", "hour"]) == Asking(people=2, similar_s=0, local=False)
    assert found.about["two"] == "Two." and found.explain("two") == "Two."


def test_several_people_answer_at_the_hub_and_for_one_action() -> None:
    """At one computer nobody can tell two people apart, and a yes in advance would be one person's."""
    text = f'{POLICY}@id("all") @people("3") @similar("1h") @local("yes") {FORBID}'
    assert Policy(text, SCHEMA).asking(["all"]) == Asking(people=3, similar_s=0, local=False)


@pytest.mark.parametrize(
    "rules", [[], ["host:confirm"], ["host:over-budget"], ["cedar:not-unattended"], ["unheard-of"]]
)
def test_a_rule_that_is_not_the_policys_allows_nothing_extra(rules: list[str]) -> None:
    text = f'{POLICY}@id("hour") @similar("1h") @local("yes") {FORBID}'
    found = Policy(text, SCHEMA)
    assert found.asking(rules) == found.asking([*rules, "hour"] if rules else []) == Asking(1, 0, False)


@pytest.mark.parametrize(
    "annotation",
    [
        '@people("0")', '@people("10")', '@people("two")', '@people("")', "@people", '@people("2 ")',
        '@similar("1d")', '@similar("1")', '@similar("")', "@similar", '@similar("-1h")', '@similar("1h30m")',
        '@local("maybe")', '@local("")', "@local", '@local("Yes")',
        '@poeple("2")', '@quorum("2")', '@Local("yes")',
    ],
)  # fmt: skip
def test_an_annotation_that_means_nothing_is_refused(annotation: str) -> None:
    """Passed over in silence, a misspelt ``@people("2")`` would let one person alone."""
    error = bad("policy.annotation", f'{POLICY}\n@id("x") {annotation}\n{FORBID}')
    assert "rule x" in error.message and error.where.startswith("policy.cedar:")


@pytest.mark.parametrize("annotation", ['@people("2")', '@similar("1h")', '@local("yes")'])
@pytest.mark.parametrize(
    "rule", ["permit (principal, action, resource);", 'forbid (principal, action == Action::"execute", resource);']
)
def test_an_annotation_on_a_rule_that_never_asks_is_refused(annotation: str, rule: str) -> None:
    assert "it asks nobody" in bad("policy.annotation", f'{POLICY}@id("x") {annotation} {rule}').message


@pytest.mark.parametrize(
    "rule",
    [f'@id("x") @owner("mara") {FORBID}', '@id("x") @local("yes") permit (principal, action, resource);'],
)
def test_a_policy_in_force_may_go_on_saying_what_means_nothing(rule: str) -> None:
    """It was published when this was not yet checked; its devices must not lose it to an update."""
    bad("policy.annotation", POLICY + rule)
    assert "x" in Policy(POLICY + rule, SCHEMA).rules
