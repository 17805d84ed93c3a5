"""Golden cases: what the rules, the words and the policy of a release must make of known inputs."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from server.releases.workspace import read_files
from shared.errors import BadInput
from shared.release import Release
from shared.replay.golden import Told, run_cases

STARTER = resources.files("server") / "starter" / "permits"
PATH = "playbooks/permit-triage.cases.yaml"
GARAGE = "- case: a garage\n  inputs: {description: Wreck and remove a frame garage, value: 450000}\n"
NOBODY = "- case: a deck\n  inputs: {description: 'New rear deck, per plans'}\n"


def starter() -> dict[str, bytes]:
    names = ["policy.cedar", "schema.cedarschema", "playbooks/permit-triage.yaml", "prompts/extract-fields@1.txt", PATH]
    return {name: STARTER.joinpath(*name.split("/")).read_bytes() for name in names}


def told(cases: str, **files: bytes) -> list[Told]:
    whole = starter() | files
    candidate = read_files({name: data for name, data in whole.items() if name != PATH})
    return run_cases(Release(candidate.manifest(1, 0), candidate.files), {**whole, PATH: cases.encode()})


def refusal(cases: str, path: str = PATH) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_files({name: data for name, data in starter().items() if name != PATH} | {path: cases.encode()})
    return caught.value


def test_the_starter_holds_its_own_cases_and_they_are_part_of_the_release() -> None:
    candidate = read_files(starter())
    assert PATH in candidate.files and PATH in candidate.manifest(1, 0).files
    found = run_cases(Release(candidate.manifest(1, 0), candidate.files), candidate.files)
    assert len(found) > 5 and not any(one.wrong for one in found)
    assert {one.case for one in found if one.open} < {one.case for one in found}


@pytest.mark.parametrize(
    ("cases", "wrong", "still_open"),
    [
        (GARAGE + "  expect: {lane: demolition, verdict: ask}", [], False),
        (GARAGE + "  expect: {lane: express}", ["it goes to demolition, and not to express"], False),
        (
            GARAGE + "  expect: {lane: demolition, verdict: allow}",
            ["the policy says ask (heavy-lanes-ask, unsure-asks), and not allow"],
            False,
        ),
        (GARAGE + "  expect: {person: true}", ["no rule hands it to a person"], False),
        (GARAGE + "  expect: {fields: {work_type: demolition}}", [], True),
        (GARAGE + "  expect: {fields: {work_type: solar}}", ["work_type is None, and not 'solar'"], False),
        (GARAGE + "  expect: {fields: {amps: null}}", [], False),
        (GARAGE + "  expect: {}", [], False),
        (NOBODY + "  expect: {lane: plan_review, verdict: ask}", [], True),
        (NOBODY + "  expect: {person: false}", [], False),
        (
            "- case: danger\n  inputs: {description: Partial collapse of a porch}\n  expect: {lane: express}",
            ["a rule hands it to a person"],
            False,
        ),
        (
            "- case: two\n  inputs: {description: Raze it and repoint the chimney}\n  expect: {lane: demolition}",
            ["its rules disagree"],
            False,
        ),
    ],
)
def test_what_comes_of_a_case(cases: str, wrong: list[str], still_open: bool) -> None:
    (one,) = told(cases)
    assert (one.wrong, one.open) == (wrong, still_open)


def test_a_failing_case_refuses_the_workspace_and_says_which() -> None:
    error = refusal(GARAGE + "  expect: {lane: express}\n" + NOBODY + "  expect: {person: true}")
    assert error.code == "case.failed" and error.where == PATH
    assert "2 of 2" in error.message and "a garage: it goes to demolition" in error.message


def test_a_changed_rule_is_caught_by_its_case() -> None:
    files: dict[str, Any] = starter()
    book = files["playbooks/permit-triage.yaml"].decode()
    assert '"wreck ... remove", ' in book
    files["playbooks/permit-triage.yaml"] = book.replace('"wreck ... remove", ', "").encode()
    policy = files["policy.cedar"].decode()
    files["policy.cedar"] = policy.replace("context.value_cents > 10000000", "context.value_cents > 900000000").encode()
    with pytest.raises(BadInput, match="a dear sign: the policy says allow"):
        read_files(files)


@pytest.mark.parametrize(
    ("cases", "code", "where"),
    [
        ("- [", "case.form", f"{PATH}:1"),
        ("- case: a\n  inputs: {}\n  expect: {lanes: x}\n", "case.form", f"{PATH}:3"),
        ("- case: a\n  inputs: {mood: 3}\n  expect: {}\n", "case.form", PATH),
        (GARAGE + "  expect: {}\n" + GARAGE + "  expect: {}\n", "case.form", f"{PATH}:4"),
        (GARAGE + "  step: other\n  expect: {}\n", "case.step", PATH),
        ("- case: ''\n  inputs: {}\n  expect: {}\n", "case.form", f"{PATH}:1"),
    ],
)
def test_cases_that_are_no_cases(cases: str, code: str, where: str) -> None:
    error = refusal(cases)
    assert (error.code, error.where) == (code, where) and error.advice


def test_cases_of_no_playbook() -> None:
    assert refusal("[]", "playbooks/other.cases.yaml").code == "case.playbook"


def test_cases_that_are_no_text() -> None:
    with pytest.raises(BadInput, match=r"case\.form"):
        read_files(starter() | {PATH: b"\xff"})
