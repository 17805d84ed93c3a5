"""Golden cases: for a playbook, inputs and what must come of them. They stand beside it as ``NAME.cases.yaml``:

    - case: a garage is taken down
      inputs: {description: "Wreck and remove a frame garage", value: 450000}
      expect: {lane: demolition, verdict: ask, fields: {work_type: demolition}}
    - case: danger is for a person
      inputs: {description: "Partial collapse of a porch roof"}
      expect: {person: true}

They are run whenever a workspace is checked, hence before every release, by the same rules, extractors and policy that
devices use. What only memory or a language model can settle has no answer here: such a case is *open*, and is run by
devices when they replay the release on their own (``outrider hub replay --devices``).

``verdict`` is the policy's word on the action with the lane and confidence that the rules give. Where the policy looks
at more than the playbook tells, the case says it under ``context``; what it leaves out is as in ``CONTEXT``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

import msgspec

from shared import plainyaml
from shared.errors import BadInput
from shared.playbook import Playbook, PlaybookStep
from shared.policy import Request
from shared.release import Release
from shared.triage import extract, rules
from shared.triage.rules import Case
from shared.triage.setup import Setup
from shared.triage.text import clean

CASES = ".cases.yaml"  # what the name of such a file ends in, behind the playbook's
_SHOWN = 5  # failures told in one refusal

# What a verdict is asked with where the case says nothing else: online, on an ordinary day, with a fresh lease.
CONTEXT: dict[str, int | bool | str] = {
    "effect": "reversible",
    "risk": "medium",
    "source": "playbook",
    "undo": False,
    "approved": False,
    "offline": False,
    "lease_age_s": 0,
    "lease_left_s": 8 * 3600,
    "actions_since_sync": 0,
    "value_since_sync_cents": 0,
    "local_hour": 10,
    "local_weekday": 1,
    "run_actions": 0,
    "run_cents": 0,
}


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``person`` means that a rule hands it to a person. What is left out may be anything."""

    lane: str = ""
    person: bool | None = None
    verdict: Literal["", "allow", "ask", "deny"] = ""
    fields: dict[str, str | int | None] = {}


class GoldenCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``step`` is the triage step it is about: the first of the playbook where it names none."""

    case: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    inputs: dict[str, str | int | None]
    expect: Expect
    step: str = ""
    context: dict[str, int | bool | str] = {}


class Told(msgspec.Struct, frozen=True):
    """What came of one case. ``wrong`` says what is not as expected, empty where all is; ``open`` that rules and words
    alone do not settle what it asks."""

    playbook: str
    case: str
    wrong: list[str]
    open: bool


def read_cases(text: str, where: str) -> list[GoldenCase]:
    """Raises ``BadInput('case.form')`` with file and line."""

    def broken(said: str, place: str) -> BadInput:
        return BadInput("case.form", said, advice="see docs/how-to/replay-a-release.md", where=place)

    source = plainyaml.read(text, where, broken)

    def bad(path: list[str], said: str) -> BadInput:
        return broken(f"{'.'.join(path) or 'the file'}: {said}", source.place(path))

    cases = plainyaml.fit(source, list[GoldenCase], bad, broken)
    names = [one.case for one in cases]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise bad([str(place)], f"two cases are called {name!r}")
    return cases


def cases_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """The files of golden cases among a release's files: playbook name to path."""
    return {
        path.rpartition("/")[2].removesuffix(CASES): path
        for path in sorted(files)
        if path.startswith("playbooks/") and path.endswith(CASES)
    }


def run_cases(release: Release, files: Mapping[str, bytes]) -> list[Told]:
    """Run all golden cases of a release as far as rules, words and policy go. Raises ``BadInput('case.form' |
    'case.playbook' | 'case.step')``."""
    told = []
    for name, path in cases_of(files).items():
        book = release.playbooks.get(name)
        if book is None:
            advice = "name the file after a playbook of the workspace"
            raise BadInput("case.playbook", f"there is no playbook {name!r}", advice=advice, where=path)
        try:
            cases = read_cases(files[path].decode(), path)
        except UnicodeDecodeError as error:
            raise BadInput("case.form", "it is not UTF-8", advice="save it as UTF-8", where=path) from error
        told += [_run(release, book, one, path) for one in cases]
    return told


def refuse_failing(release: Release, files: Mapping[str, bytes]) -> list[Told]:
    """The same, where nothing may be wrong. Raises ``BadInput('case.failed')`` that says what is, also."""
    told = run_cases(release, files)
    failed = [one for one in told if one.wrong]
    if failed:
        said = "; ".join(f"{one.case}: {', '.join(one.wrong)}" for one in failed[:_SHOWN])
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        raise BadInput(
            "case.failed",
            f"{len(failed)} of {len(told)} golden cases fail: {said}{more}",
            advice="correct the rules or the policy; or the cases, if what they ask for is no longer right",
            where=f"playbooks/{failed[0].playbook}{CASES}",
        )
    return told


def step_of(release: Release, book: Playbook, case: GoldenCase, where: str) -> tuple[PlaybookStep, Setup]:
    """The triage step a case is about. Raises ``BadInput('case.step')``."""
    for step in book.all_steps:
        setup = release.setups.get((book.playbook, step.id))
        if setup is not None and case.step in ("", step.id):
            return step, setup
    raise BadInput(
        "case.step",
        f"{case.case}: {book.playbook} has no triage step {case.step!r}" if case.step else "it has no triage step",
        advice="golden cases are about steps with `planner: triage`",
        where=where,
    )


class Came(msgspec.Struct, frozen=True):
    """What a plan made of a case. ``left`` are the options of fields that words left open. ``final`` says that the
    planner had all it ever has: then what is not settled is wrong, and not open."""

    lane: str
    confidence: int
    person: bool
    values: Mapping[str, str | int | None]
    left: Mapping[str, Collection[str]] = {}
    planner: str = "rules"
    conflict: bool = False
    final: bool = False


def _run(release: Release, book: Playbook, case: GoldenCase, where: str) -> Told:
    """By rules and words alone."""
    step, setup = step_of(release, book, case, where)
    unknown = sorted(set(case.inputs) - set(book.inputs))
    if unknown:
        advice = "name it as the playbook does"
        raise BadInput("case.form", f"{case.case}: there is no input {unknown[0]!r}", advice=advice, where=where)
    inputs: Case = inputs_of(book, case)
    outcome = rules.judge(setup.rules, inputs)
    read = extract.extract(setup.fields, clean(str(inputs.get(setup.text) or "")))
    came = Came(
        lane=outcome.lane,
        confidence=outcome.confidence,
        person=outcome.person,
        values={name: found.value for name, found in read.found.items()},
        left=read.left,
        conflict=outcome.conflict,
    )
    return tell(release, book, step, case, came)


def inputs_of(book: Playbook, case: GoldenCase) -> dict[str, str | int | None]:
    """The inputs of a case, null where it gives none."""
    return dict.fromkeys(book.inputs) | case.inputs


def tell(release: Release, book: Playbook, step: PlaybookStep, case: GoldenCase, came: Came) -> Told:
    """Hold what came of a case against what must."""
    expect = case.expect
    unsettled = {name for name, wanted in expect.fields.items() if not came.final and wanted in came.left.get(name, ())}
    wrong = [
        f"{name} is {came.values.get(name)!r}, and not {wanted!r}"
        for name, wanted in expect.fields.items()
        if came.values.get(name) != wanted and name not in unsettled
    ]
    asks = bool(expect.lane or expect.verdict)
    settled = bool(came.lane) and not came.person
    if expect.person is not None and came.person != expect.person:
        wrong.append("a rule hands it to a person" if came.person else "no rule hands it to a person")
    elif asks and came.person:
        wrong.append("a rule hands it to a person")
    elif asks and came.conflict:
        wrong.append("its rules disagree")
    elif asks and not settled and came.final:
        wrong.append("nothing settles its lane")
    elif settled and expect.lane and came.lane != expect.lane:
        wrong.append(f"it goes to {came.lane}, and not to {expect.lane}")
    elif settled and expect.verdict:
        wrong += _verdict(release, book, step, case, came)
    return Told(book.playbook, case.case, wrong, not wrong and (bool(unsettled) or (asks and not settled)))


def _verdict(release: Release, book: Playbook, step: PlaybookStep, case: GoldenCase, came: Came) -> list[str]:
    value = case.inputs.get(book.value) if book.value else 0
    context = CONTEXT | {
        "playbook": book.playbook,
        "step": step.id,
        "label": came.lane,
        "planner": came.planner,
        "urgency": book.urgency,
        "data_class": "personal" if book.private else "public",
        "confidence": came.confidence,
        "value_cents": value if isinstance(value, int) else 0,
        "abstained": False,
    }
    tool = step.tools[0] if step.tools else step.tool or ""
    verdict = release.policy.judge(Request("golden", tool, release.policy.context(context | case.context)))
    if verdict.kind == case.expect.verdict:
        return []
    return [f"the policy says {verdict.kind} ({', '.join(verdict.rules)}), and not {case.expect.verdict}"]
