"""What is refused of steps and their expressions, wherever they stand: with file, line and field."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared import limits
from shared.errors import BadInput
from shared.playbook import Playbook, load

HEAD = """\
playbook: shop
version: 1
owner: Shop
trigger: {manual: true}
inputs:
  sku: {required: true}
  price: {type: cents}
  phone: {private: true}
  cost: {type: cents, private: true}
business_key: [sku]
approvals: {roles: [owner]}
steps:
"""
WHOLE = """\
- id: draft
  tool: shop.draft
  with:
    sku: ${inputs.sku}
    lines: [one, "two ${inputs.price}"]
  value: inputs.price
  undo:
    tool: shop.delete
    with: {id: "${result.id}", sku: "${inputs.sku}"}
- id: ask
  confirm: Publish ${steps.draft.result.title}?
- id: both
  together:
  - - id: mail
      tool: mail.send
      with: {to: "${inputs.sku}"}
      on_failure: continue
  - - id: each
      for_each: steps.draft.result.pages
      at_once: 2
      steps:
      - id: page
        when: item.open && index < 9
        tool: shop.page
        with: {page: "${item.name}", of: "${steps.draft.result.id}"}
      - id: read
        tool: shop.read
        with: {what: "${steps.page.result.id}"}
- id: rest
  wait: {for: 1h}
- id: later
  wait: {until: "addDays(today, 1)"}
- id: paid
  wait: {event: payment, key: inputs.sku}
  timeout: 3d
- id: kid
  run: other
  inputs: {sku: "${inputs.sku}", paid: "${steps.paid.event.paid}"}
"""


def line_of(text: str, part: str) -> int:
    assert part in text
    return text[: text.index(part)].count("\n") + 1


def refused(text: str, *, new: bool = False) -> BadInput:
    with pytest.raises(BadInput) as caught:
        load(text, "playbooks/shop.yaml", new=new)
    assert caught.value.advice
    return caught.value


def book(steps: str, *, more: str = "") -> Playbook:
    return load(HEAD.replace("steps:\n", more + "steps:\n") + steps, "x")


def test_a_whole_playbook_of_every_kind_of_step() -> None:
    found = book(WHOLE)
    kinds = {step.id: step.kind for step in found.all_steps}
    assert kinds == {
        "draft": "tool", "ask": "confirm", "both": "together", "mail": "tool", "each": "for_each", "page": "tool",
        "read": "tool", "rest": "wait", "later": "wait", "paid": "wait", "kid": "run",
    }  # fmt: skip
    assert found.step("page#3").id == "page" and found.step("page#3.1").at_once == 4


# --- structure ----------------------------------------------------------------------------------------------------

TOOL = "- {id: a, tool: shop.put}\n"


@pytest.mark.parametrize(
    ("steps", "field", "said"),
    [
        ("- {id: a}\n", "steps.0", "exactly one of"),
        ("- {id: a, tool: shop.put, confirm: Go on}\n", "steps.0", "exactly one of"),
        ("- {id: a, confirm: Go on, with: {x: 1}}\n", "steps.0.with", "only a tool step"),
        ("- {id: a, confirm: Go on, label: x}\n", "steps.0.label", "only a tool step"),
        ("- {id: a, tool: shop.put, tools: [shop.put]}\n", "steps.0.tools", "only a planner step"),
        ("- {id: a, tool: shop.put, prompt: x@1}\n", "steps.0.prompt", "only a planner step"),
        ("- {id: a, tool: shop.put, confidence: {floor: 1}}\n", "steps.0.confidence", "only a planner step"),
        ("- {id: a, tool: shop.put, at_once: 2}\n", "steps.0.at_once", "only a for_each step"),
        ("- {id: a, tool: shop.put, steps: [{id: b, tool: shop.put}]}\n", "steps.0.steps", "only a for_each step"),
        ("- {id: a, tool: shop.put, inputs: {x: 1}}\n", "steps.0.inputs", "only a run step"),
        ("- {id: a, planner: triage}\n", "lanes", "needs lanes"),
        ("- {id: a, for_each: '[1]'}\n", "steps.0.steps", "nothing to do"),
        ("- {id: a, together: [[{id: b, tool: shop.put}]]}\n", "steps.0.together", "two branches"),
        ("- {id: a, together: [[{id: b, tool: shop.put}], []]}\n", "steps.0.together", "two branches"),
        ("- {id: a, confirm: Go on, undo: none}\n", "steps.0.undo", "only an action"),
        ("- {id: a, confirm: Go on, value: '5'}\n", "steps.0.value", "only an action"),
        ("- {id: a, wait: {}}\n", "steps.0.wait", "exactly one of for"),
        ("- {id: a, wait: {for: 1h, event: x}}\n", "steps.0.wait", "exactly one of for"),
        ("- {id: a, wait: {for: 1h, key: inputs.sku}}\n", "steps.0.wait.key", "only an event"),
        ("- {id: a, wait: {for: soon}}\n", "steps.0.wait.for", "regex"),
        ("- {id: a, tool: put}\n", "steps.0.tool", "regex"),
        ("- {id: a, tool: shop.put, timeout: 1y}\n", "steps.0.timeout", "regex"),
        ("- {id: a, tool: shop.put, on_failure: retry}\n", "steps.0.on_failure", "retry"),
        ("- {id: a, tool: shop.put, undo: never}\n", "steps.0.undo", "never"),
        ("- {id: a, tool: shop.put, undo: {tool: shop.x, wiht: {}}}\n", "steps.0.undo.wiht", "unknown field"),
        ("- {id: a#1, tool: shop.put}\n", "steps.0.id", "regex"),
        ("- {id: ~a, tool: shop.put}\n", "steps.0.id", "regex"),
        ("- {id: a, planner: assistant, tools: [shop.put]}\n", "steps", "needs trigger"),
        (TOOL + TOOL, "steps.1.id", "stands twice"),
    ],
)
def test_what_is_wrong_with_a_step(steps: str, field: str, said: str) -> None:
    error = refused(HEAD + steps)
    assert error.code == "playbook.field"
    assert error.message.startswith(f"{field}: ") and said in error.message, error


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("      tool: mail.send\n", "      tol: mail.send\n", "steps.2.together.0.0.tol"),
        ("      tool: mail.send\n", "      tool: send\n", "steps.2.together.0.0.tool"),
        ("      at_once: 2\n", "      at_once: 0\n", "steps.2.together.1.0.at_once"),
        ("      - id: page\n", "      - id: Page\n", "steps.2.together.1.0.steps.0.id"),
        ("      - id: read\n", "      - id: kid\n", "steps.6.id"),
        ("        tool: shop.page\n", "        tool: a.b\n        labell: x\n", "steps.2.together.1.0.steps.0.labell"),
        ("  timeout: 3d\n", "  timeout: 3x\n", "steps.5.timeout"),
        ("  run: other\n", "  run: Other\n", "steps.6.run"),
    ],
)  # fmt: skip
def test_file_line_and_field_of_a_step_within_others(old: str, new: str, field: str) -> None:
    assert WHOLE.count(old) == 1
    text = HEAD + WHOLE.replace(old, new)
    error = refused(text)
    assert error.code == "playbook.field" and error.message.startswith(f"{field}: "), error
    wanted = new.strip().split("\n")[-1].strip() if "kid" not in new else "- id: kid\n  run"
    assert error.where == f"playbooks/shop.yaml:{line_of(text, wanted)}", error


def test_all_steps_count_and_not_only_those_at_the_top() -> None:
    inner = ", ".join(f"{{id: i{number}, tool: a.b}}" for number in range(limits.PLAYBOOK_STEPS - 1))
    assert book(f"- {{id: all, for_each: '[1]', steps: [{inner}]}}\n")
    error = refused(HEAD + TOOL + f"- {{id: all, for_each: '[1]', steps: [{inner}]}}\n")
    assert error.code == "playbook.field" and "more than 64 steps" in error.message


def test_how_deep_steps_may_stand() -> None:
    def deep(depth: int) -> str:
        text = "{id: s, tool: a.b}"
        for number in range(depth - 1):
            text = f"{{id: s{number}, for_each: '[1]', steps: [{text}]}}"
        return f"- {text}\n"

    assert book(deep(limits.PLAYBOOK_DEPTH))
    assert "deep" in refused(HEAD + deep(limits.PLAYBOOK_DEPTH + 1)).message


# --- triggers, and the rest of the playbook -----------------------------------------------------------------------


def asked(escalate: str) -> tuple[str, str]:
    return "{roles: [owner]}", f"{{roles: [owner], escalate: {escalate}}}"


@pytest.mark.parametrize(
    ("old", "new", "field", "said"),
    [
        ("{manual: true}", "{}", "trigger", "exactly one"),
        ("{manual: true}", "{manual: false}", "trigger", "exactly one"),
        ("{manual: true}", "{manual: true, event: order}", "trigger", "exactly one"),
        ("{manual: true}", "{assistant: true}", "inputs", "there are no inputs"),
        ("business_key: [sku]", "business_key: []", "business_key", "at least one"),
        ("business_key: [sku]\n", "", "business_key", "missing required field"),
        ("business_key: [sku]", "business_key: [skew]", "business_key.0", "no input 'skew'"),
        ("business_key: [sku]", "business_key: [phone]", "inputs.phone", "required"),
        (*asked("[{after: 15d, roles: [x]}]"), "approvals.escalate.0.after", "before expires"),
        (*asked("[{after: 2h, roles: [x]}, {after: 1h, roles: [y]}]"), "approvals.escalate.1.after", "after the one"),
        (*asked("[{after: 2h, roles: []}]"), "approvals.escalate.0.roles", "length"),
        ("{roles: [owner]}", "{roles: [owner]}\nbudgets: {run: {actions: -1}}", "budgets.run.actions", ">= 0"),
        ("{roles: [owner]}", "{roles: [owner]}\nbudgets: {week: {actions: 1}}", "budgets.week", "unknown field"),
        ("{roles: [owner]}", "{roles: [owner]}\nbudgets: {day: {time: 1}}", "budgets.day.time", "str"),
        ("{roles: [owner]}", "{roles: [owner]}\nbudgets: {day: {time: 1h}}", "budgets.day.time", "of one run"),
        ("{roles: [owner]}", "{roles: [owner]}\non_failure: retry", "on_failure", "retry"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_playbook(old: str, new: str, field: str, said: str) -> None:
    assert old in HEAD
    error = refused(HEAD.replace(old, new) + TOOL)
    assert error.code == "playbook.field" and error.message.startswith(f"{field}: ") and said in error.message, error
    assert re.fullmatch(r"playbooks/shop\.yaml:\d+", error.where)


def test_a_new_playbook_may_not_hide_its_value() -> None:
    """One that is in force already goes on as it was."""
    text = HEAD + "- {id: a, tool: shop.put}\nvalue: cost\n"
    assert load(text, "x").value == "cost"
    assert "private" in refused(text, new=True).message


ASSISTED = """\
playbook: help
version: 1
owner: Shop
trigger: {assistant: true}
inputs: {}
business_key: []
approvals: {roles: [owner]}
steps: [{id: act, planner: assistant, tools: [shop.put, mail.send]}]
"""


def test_an_assistants_playbook_is_one_step() -> None:
    assert load(ASSISTED, "x").steps[0].tools == ["shop.put", "mail.send"]
    two = ASSISTED.replace("steps: [", "steps: [{id: first, tool: shop.put}, ")
    assert "one step" in refused(two).message
    assert "tools it may choose" in refused(ASSISTED.replace(", tools: [shop.put, mail.send]", "")).message


# --- expressions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code", "field"),
    [
        ("value: inputs.price", "value: inputs.price >", "expression.syntax", "steps.0.value"),
        ("value: inputs.price", "value: price", "expression.name", "steps.0.value"),
        ("value: inputs.price", "value: result.price", "expression.name", "steps.0.value"),
        ("sku: ${inputs.sku}\n", "sku: ${inputs.sku\n", "expression.syntax", "steps.0.with.sku"),
        ('"two ${inputs.price}"', '"two ${cost()}"', "expression.function", "steps.0.with.lines.1"),
        ("sku: ${inputs.sku}\n", "sku: ${item}\n", "expression.name", "steps.0.with.sku"),
        ("Publish ${steps", "Publish ${stepz", "expression.name", "steps.1.confirm"),
        ('{to: "${inputs.sku}"}', '{to: "${item.mail}"}', "expression.name", "steps.2.together.0.0.with.to"),
        ("for_each: steps.draft", "for_each: item.draft", "expression.name", "steps.2.together.1.0.for_each"),
        ("when: item.open", "when: itm.open", "expression.name", "steps.2.together.1.0.steps.0.when"),
        ('"${item.name}"', '"${result.name}"', "expression.name", "steps.2.together.1.0.steps.0.with.page"),
        ('"addDays(today, 1)"', '"addDays(today)"', "expression.function", "steps.4.wait.until"),
        ("key: inputs.sku", "key: inputs.sku +", "expression.syntax", "steps.5.wait.key"),
        ('paid: "${steps.paid.event.paid}"', 'paid: "${event.paid}"', "expression.name", "steps.6.inputs.paid"),
    ],
)
def test_an_expression_that_cannot_be_evaluated(old: str, new: str, code: str, field: str) -> None:
    assert old in WHOLE
    text = HEAD + WHOLE.replace(old, new, 1)
    error = refused(text)
    assert error.code == code and error.message.startswith(f"{field}: "), error
    assert error.where == f"playbooks/shop.yaml:{line_of(text, new.strip())}", error


@pytest.mark.parametrize(
    ("old", "new", "field", "said"),
    [
        ("value: inputs.price", "value: inputs.prize", "steps.0.value", "there is no input 'prize'"),
        ("value: inputs.price", "value: inputs.cost", "steps.0.value", "private"),
        ("sku: ${inputs.sku}\n", "sku: ${inputs.phone}\n", "steps.0.with", "private"),
        ("${steps.draft.result.title}", "${steps.drafd.result.title}", "steps.1.confirm", "there is no step 'drafd'"),
        ("${steps.draft.result.title}", "${steps.draft.title}", "steps.1.confirm", "outcome, result, and no 'title'"),
        ("${steps.draft.result.title}", "${run.title}", "steps.1.confirm", "id, playbook, subject, and no 'title'"),
        ('{to: "${inputs.sku}"}', '{to: "${steps.page.outcome}"}', "steps.2.together.0.0.with", "stands in 'each'"),
        ('paid: "${steps.paid.event.paid}"', 'paid: "${steps.page.outcome}"', "steps.6.inputs", "is known only there"),
        ('{id: "${result.id}", sku', '{id: "${steps.no.outcome}", sku', "steps.0.undo.with", "there is no step 'no'"),
    ],
)  # fmt: skip
def test_an_expression_that_reads_what_is_not_there(old: str, new: str, field: str, said: str) -> None:
    assert old in WHOLE
    text = HEAD + WHOLE.replace(old, new, 1)
    error = refused(text)
    assert error.code == "playbook.field" and error.message.startswith(f"{field}: ") and said in error.message, error


@pytest.mark.parametrize(
    "step",
    [
        "when: has(steps.a.result.x) && steps.a.outcome == 'done'",
        "when: steps[inputs.sku].outcome == 'done'",
        "when: run.subject == inputs['sku'] && today > '2026-01-01'",
        "when: size(inputs) > 1",
        "when: inputs.price != null",
    ],
)
def test_what_an_expression_may_read(step: str) -> None:
    assert book(f"- {{id: a, tool: shop.put}}\n- id: b\n  tool: shop.put\n  {step}\n")


def test_undo_reads_the_result_and_nothing_else_does() -> None:
    found = book(
        "- {id: a, tool: shop.put, undo: {tool: shop.x, with: {id: '${result.id}', n: '${steps.a.outcome}'}}}\n"
    )
    undo: Any = found.steps[0].undo
    assert undo.with_ == {"id": "${result.id}", "n": "${steps.a.outcome}"}
    error = refused(HEAD + "- {id: a, tool: shop.put, undo: {tool: shop.x, with: {id: '${item.id}'}}}\n")
    assert error.code == "expression.name" and error.message.startswith("steps.0.undo.with.id: ")
