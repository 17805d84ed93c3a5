"""What is found in a workspace: nothing in the product's own, and each planted mistake with its file and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.authoring import ERROR, WARNING, Finding, Known
from server.authoring.checking import check
from server.releases.workspace import MEMORY, MODELS, PEERS, POLICY, SCHEMA, read_folder
from tests.server.authoring.conftest import STARTER

BOOK, PROMPT = "playbooks/permit-triage.yaml", "prompts/extract-fields@1.txt"
WHOLE = read_folder(STARTER)
# Golden cases would find some of the mistakes below too; what is tested here is the rest.
FILES = {path: data for path, data in WHOLE.items() if not path.endswith(".cases.yaml")}
KNOWN = Known(roles=frozenset(("clerk", "admin")), devices=frozenset(("d-1",)), running=FILES)
SECOND = """
playbook: letters
version: 1
owner: desk@city.example
trigger: {manual: true}
inputs:
  number: {required: true}
business_key: [number]
steps:
  - id: ask
    confirm: "Send it?"
  - id: send
    when: steps.ask.outcome == "done"
    tool: register.decide
    with: {application_id: "${inputs.number}", lane: express}
approvals: {roles: [clerk]}
"""


def line_of(text: str, files: dict[str, bytes], path: str) -> int:
    """The line where ``text`` begins, which stands there once."""
    whole = files[path].decode()
    assert whole.count(text) == 1, f"{text!r} stands {whole.count(text)} times in {path}"
    return whole[: whole.index(text)].count("\n") + 1


def planted(path: str, old: str, new: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    text = files.get(path, b"").decode()
    assert not old or text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
    return files | {path: (text.replace(old, new) if old else text + new).encode()}


def test_the_starter_is_clean_whoever_looks() -> None:
    assert check(WHOLE, KNOWN) == []
    assert check(WHOLE) == []


def test_golden_cases_that_fail_are_an_error_and_hide_nothing() -> None:
    files = planted(POLICY, "", f"{ALONE % 'context.confidence > 0'}\n{BAN_OF_NOBODY}", WHOLE)
    found = check(files, KNOWN)
    assert [(one.code, one.severity) for one in found] == [("case.failed", ERROR), ("lint.device-unknown", WARNING)]
    assert found[0].path == "playbooks/permit-triage.cases.yaml"


def test_a_second_playbook_that_asks_and_compares_is_clean() -> None:
    assert check(FILES | {"playbooks/letters.yaml": SECOND.encode()}, KNOWN) == []


EXTRA = '@id("extra") @about("x")\n'
BAN_OF_NOBODY = '@id("nobody") @about("x")\nforbid (principal == Device::"d-9", action, resource);\n'
ALONE = f'{EXTRA}forbid (principal, action == Action::"execute_unattended", resource)\nwhen {{ %s }};'
POLICY_MISTAKES = [
    # (a rule, code, what the found line holds)
    (EXTRA + 'permit (principal, action,\nresource == Tool::"regster.decide");', "lint.tool-unknown", "regster"),
    (EXTRA + 'forbid (principal, action,\nresource == Tool::"register.decid");', "lint.tool-unknown", 'decid"'),
    (EXTRA + 'permit (principal, action, resource == Tool::"mail.send");', "lint.tool-unknown", "mail.send"),
    (EXTRA + 'forbid (principal == Device::"d-2", action, resource);', "lint.device-unknown", "d-2"),
    (ALONE % 'context.playbook == "permit-traige"', "lint.word-unknown", "permit-traige"),
    (ALONE % '["demolitoin", "self_cert"].contains(context.label)', "lint.word-unknown", "demolitoin"),
    (ALONE % 'context.effect == "ireversible"', "lint.word-unknown", "ireversible"),
    (ALONE % 'context.offline && context.source != "asistant"', "lint.word-unknown", "asistant"),
    (ALONE % 'context.step == "triag"', "lint.word-unknown", '"triag"'),
    (ALONE % "context.confidence > 1000", "lint.rule-never", '"extra"'),
    (ALONE % "context.confidence > 900 && context.confidence < 800", "lint.rule-never", '"extra"'),
    (ALONE % "context.offline && !context.offline", "lint.rule-never", '"extra"'),
    (ALONE % "context.local_hour >= 24 || context.local_weekday == 7", "lint.rule-never", '"extra"'),
    (ALONE % 'context.label == "sign" && context.label == "express"', "lint.rule-never", '"extra"'),
    (ALONE % "false", "lint.rule-never", '"extra"'),
    ((ALONE % "context.confidence >= 0").replace("when", "unless"), "lint.rule-never", '"extra"'),
    (ALONE % "context.value_cents < 7" + "\n" + (ALONE % "context.value_cents < 7").replace("extra", "twin"),
     "lint.rule-twice", '"twin"'),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "code", "there"), POLICY_MISTAKES, ids=[f"{e[1]}-{e[2]}" for e in POLICY_MISTAKES])
def test_a_mistake_in_the_policy_is_found_at_its_line(rule: str, code: str, there: str) -> None:
    files = planted(POLICY, "", f"{rule}\n")
    found = check(files, KNOWN)
    assert [(one.path, one.line, one.code, one.severity) for one in found] == [
        (POLICY, line_of(there, files, POLICY), code, WARNING)
    ]
    assert found[0].advice


def test_a_ban_on_everything_makes_permits_pointless() -> None:
    files = planted(POLICY, "", '@id("stop") @about("x")\nforbid (principal, action, resource);\n')
    found = check(files, KNOWN)
    assert {one.code for one in found} == {"lint.rule-shadowed"}
    assert all(one.path == POLICY and one.line > 0 for one in found)
    permits = [
        number for number, line in enumerate(files[POLICY].decode().splitlines(), 1) if line.startswith("permit")
    ]
    assert len(found) == len(permits)


def test_a_tool_that_no_rule_permits_is_told_at_the_step() -> None:
    book = SECOND.replace("tool: register.decide", "tool: register.amend")
    files = FILES | {"playbooks/letters.yaml": book.encode()}
    (found,) = check(files, KNOWN)
    assert (found.code, found.path) == ("lint.tool-not-permitted", "playbooks/letters.yaml")
    assert found.line == line_of("id: send", files, "playbooks/letters.yaml")


@pytest.mark.parametrize(
    "rule",
    [
        'forbid (principal, action, resource == Tool::"mail.send") when { context.offline };',  # for what may come
        'permit (principal, action, resource == Tool::"register.amend") when { context.confidence > 990 };',
        'forbid (principal == Device::"d-1", action, resource)'
        ' when { context.local_hour > 19 || context.local_hour < 6 };',
        'forbid (principal, action, resource) when { context.confidence <= 999 && context.confidence >= 999 };',
        'forbid (principal, action, resource) when { context.label != "sign" && context.label like "s*" };',
        'forbid (principal, action, resource) when { if context.offline then context.undo else context.approved };',
        'forbid (principal, action, resource) when { context.step == "~triage" };',
        'forbid (principal, action, resource) when { context has risk && context.risk == "high" };',
    ],
)  # fmt: skip
def test_what_may_well_be_meant_is_left_alone(rule: str) -> None:
    assert check(planted(POLICY, "", f'@id("extra") @about("x")\n{rule}\n'), KNOWN) == []


LAST, AFTER = "    confidence: {floor: 300}\n", "  - id: after\n    "
BOOK_MISTAKES = [
    ("  roles: [clerk]", "  roles: [clark]", "lint.role-nobody", "[clark]"),
    (LAST, "    when: 1 > 2\n", "lint.step-unreachable", "when: 1 > 2"),
    (LAST, AFTER + "when: steps.triage.label == 'expres'\n    tool: register.decide\n",
     "lint.word-unknown", "'expres'"),
    (LAST, AFTER + "when: steps.triage.outcome in ['done', 'finished']\n    tool: register.decide\n",
     "lint.word-unknown", "'finished'"),
    (LAST, AFTER + "for_each: '[]'\n    steps: [{id: one, tool: register.decide}]\n",
     "lint.step-unreachable", "for_each"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "there"), BOOK_MISTAKES, ids=lambda text: text[:40])
def test_a_mistake_in_a_playbook_is_found_at_its_line(old: str, new: str, code: str, there: str) -> None:
    files = planted(BOOK, old, new)
    files = planted(BOOK, "\nversion: 1", "\nversion: 2", files)
    found = check(files, KNOWN)
    assert [(one.path, one.line, one.code) for one in found] == [(BOOK, line_of(there, files, BOOK), code)]


def test_rules_that_say_the_same_are_told() -> None:
    again = '  - id: danger-again\n    when: {any: [{field: description, contains: ["gas leak"]}]}\n'
    again += "    then: {person: true, reason: x}\n"
    files = planted(BOOK, "\nfields:\n", "\n" + again + again.replace("again", "third") + "\nfields:\n")
    (found,) = check(files, Known())
    assert (found.code, found.line) == ("lint.rule-twice", line_of("danger-third", files, BOOK))


def test_two_playbooks_that_watch_one_folder() -> None:
    book = SECOND.replace("{manual: true}", "{folder: inbox}")
    (found,) = check(FILES | {"playbooks/letters.yaml": book.encode()}, KNOWN)
    assert (found.code, found.path, found.line) == ("lint.folder-twice", BOOK, line_of("  folder: inbox", FILES, BOOK))


def test_what_runs_is_not_changed_under_its_name() -> None:
    files = planted(BOOK, "confidence: {floor: 300}", "confidence: {floor: 400}")
    files = planted(PROMPT, "Permit desk.", "The permit desk.", files)
    found = check(files, KNOWN)
    assert [(one.code, one.path, one.line) for one in found] == [
        ("lint.version-same", BOOK, line_of("\nversion: 1", FILES, BOOK) + 1),
        ("lint.version-same", PROMPT, 0),
    ]
    about = planted(BOOK, "about: Recommend a lane", "about: Recommends a lane")
    assert check(about, KNOWN) == []  # what it says of itself is not what it does


def test_prompts() -> None:
    files = planted(PROMPT, "Permit desk.", "Permit desk of [[city]].")
    found = check(files)
    assert [(one.code, one.line) for one in found] == [("lint.prompt-variable", 1)]
    newer = FILES | {"prompts/extract-fields@2.txt": FILES[PROMPT], "prompts/other@1.txt": FILES[PROMPT]}
    assert [(one.code, one.path) for one in check(newer, KNOWN)] == [
        ("lint.prompt-unused", "prompts/extract-fields@2.txt"),
        ("lint.prompt-unused", "prompts/other@1.txt"),
    ]
    used = planted(BOOK, "extract-fields@1", "extract-fields@2", newer)
    del used["prompts/other@1.txt"]
    assert [one.code for one in check(used)] == []  # the older version may stay
    long = planted(PROMPT, "Permit desk.", "Permit desk. " + "A long example. " * 600)
    assert [(one.code, one.path) for one in check(long)] == [("lint.token-budget", PROMPT)]
    small = planted(BOOK, "\napprovals:", "\nbudgets: {run: {tokens: 100}}\n\napprovals:")
    (found_small,) = check(small)
    assert (found_small.code, found_small.line) == (
        "lint.token-budget",
        line_of("prompt: extract-fields@1", small, BOOK),
    )


def test_a_memory_rule_that_never_counts() -> None:
    rule = "  - {kinds: [note], scopes: [device], after: 400d}\n"
    old = "  - {kinds: [note], after: 365d}\n"
    files = planted(MEMORY, old, old + rule)
    (found,) = check(files)
    assert (found.code, found.line) == ("lint.rule-shadowed", line_of("after: 400d", files, MEMORY))
    assert check(planted(MEMORY, old, old + rule.replace("400d", "30d"))) == []


# --- errors -------------------------------------------------------------------------------------------------------

ERRORS = [
    (POLICY, "", ALONE % "context.undo ;", "policy.parse", "context.undo ;"),
    (POLICY, "", ALONE % "context.value_cents << 77", "policy.parse", "<< 77"),
    (POLICY, "", ALONE.replace("extra", "dear-asks") % "context.undo", "policy.rule-twice", ""),
    (POLICY, "", ALONE % "context.undoes", "policy.invalid", '"extra"'),
    (POLICY, "", (ALONE % "context.undo").replace("execute_un", "exceute_un"), "policy.invalid", '"extra"'),
    (SCHEMA, "  risk: String,", "  risk String,", "policy.schema", "risk String"),
    (BOOK, "fallback: plan_review", "fallback: plan_revue", "playbook.field", "plan_revue"),
    (BOOK, "extra_columns: drop", "extra_colums: drop", "playbook.field", "extra_colums"),
    (BOOK, "    prompt: extract-fields@1", "    prompt: extract-fields@7", "release.prompt", "- id: triage"),
    (PROMPT, "[[text]]", "[[txt]]", "prompt.form", None),
    (MEMORY, "  - {kinds: [note], after: 365d}", "  - {kinds: [notes], after: 365d}", "memory.rules", "notes"),
    (MODELS, '"kind": "embedder"', '"kind": "embeder"', "release.models", None),
    (PEERS, "", "models: perhaps\n", "release.peers", "perhaps"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "old", "new", "code", "there"), ERRORS, ids=[f"{e[0]}-{e[3]}" for e in ERRORS])
def test_an_error_is_found_at_its_line(path: str, old: str, new: str, code: str, there: str | None) -> None:
    files = planted(path, old, new)
    (found,) = check(files, KNOWN)
    assert (found.path, found.code, found.severity) == (path, code, ERROR)
    if there:
        assert found.line == line_of(there, files, path)
    elif there is not None:
        assert found.line > 0


def test_one_mistake_does_not_hide_another() -> None:
    files = planted(POLICY, "", ALONE % "context.value_cents << 77")
    files = planted(BOOK, "fallback: plan_review", "fallback: plan_revue", files)
    files = planted(MEMORY, "  - {kinds: [note], after: 365d}", "  - {kinds: [notes], after: 365d}", files)
    files |= {"playbooks/second.yaml": b"playbook: [", "prompts/x@1.txt": b"\xff\xfe"}
    assert [(one.path, one.code) for one in check(files)] == [
        (MEMORY, "memory.rules"),
        (BOOK, "playbook.field"),
        ("playbooks/second.yaml", "playbook.yaml"),
        (POLICY, "policy.parse"),
        ("prompts/x@1.txt", "release.encoding"),
    ]


@pytest.mark.parametrize("path", ["playbooks/other.yml", "prompts/sorting.txt"])
def test_a_file_whose_name_does_not_fit_is_named(path: str) -> None:
    (found,) = check(FILES | {path: b"x"})
    assert (found.path, found.code) == (path, "release.stray-file")


@pytest.mark.parametrize("path", [POLICY, SCHEMA])
def test_without_policy_or_schema_nothing_holds(path: str) -> None:
    (found,) = check({name: data for name, data in FILES.items() if name != path})
    assert (found.path, found.code) == (path, "release.workspace")
    assert isinstance(found, Finding)


def test_every_kind_of_finding_is_in_the_how_to() -> None:
    sources = Path(__file__).parents[3] / "server" / "authoring"
    codes = {code for path in sources.glob("*.py") for code in re.findall(r'"(lint\.[a-z-]+)"', path.read_text())}
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "author-a-release.md").read_text()
    assert codes == set(re.findall(r"^\| `(lint\.[a-z-]+)` \|", page, re.MULTILINE))
