"""Triage rules of a playbook: phrases and amounts that settle a lane, or send a case to a person.

    - id: wrecking
      when:
        any: [{field: description, contains: ["wreck and remove", "raze"]}]
        none: [{field: description, contains: ["interior demolition"]}]
      then: {lane: demolition, confidence: 960, reason: "The work is to take a building down."}

``when`` holds if every clause of ``all``, at least one of ``any`` and none of ``none`` holds. A clause looks at one
input: ``contains`` (a list of phrases, see ``phrases``) or ``at_most`` / ``at_least`` (cents, inclusive). An input
that is missing fulfils no clause. ``then`` names a lane with a confidence in permille, or ``person: true``; always a
reason.

Rules never outvote each other. If two name different lanes, nothing is decided and the case is marked as conflicting;
a rule that wants a person wins over all that name a lane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from shared.actions import Value
from shared.errors import BadInput
from shared.playbook import Playbook
from shared.triage import phrases
from shared.triage.text import words

Case = Mapping[str, Value]

PHRASES = 64  # in one clause

Parts = tuple[str, ...]


class _Clause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    field: str
    contains: list[str] | None = None
    at_most: int | None = None
    at_least: int | None = None


class _When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    all: list[_Clause] = msgspec.field(default_factory=list)
    any: list[_Clause] = msgspec.field(default_factory=list)
    none: list[_Clause] = msgspec.field(default_factory=list)


class Then(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``confidence`` in permille is the author's claim; the benchmark shows whether it holds."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    lane: str = ""
    confidence: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    person: bool = False


class Clause(msgspec.Struct, frozen=True):
    """One test of one input: phrases, or bounds in cents."""

    field: str
    phrases: tuple[Parts, ...]
    at_most: int | None
    at_least: int | None


class Rule(msgspec.Struct, frozen=True):
    """A checked rule. What it says is pinned by the playbook's digest at ``run.opened``."""

    id: str
    all: list[Clause]
    any: list[Clause]
    none: list[Clause]
    then: Then


class Fired(msgspec.Struct, frozen=True):
    """A rule that held, and the applicant's words it held by."""

    rule: Rule
    matched: list[str]


class Outcome(msgspec.Struct, frozen=True):
    """What the rules say of a case. ``lane`` is empty unless all lane rules that fired agree."""

    fired: list[Fired]
    lane: str = ""
    confidence: int = 0
    person: bool = False
    conflict: bool = False


def read(playbook: Playbook) -> list[Rule]:
    """Check the rules of a playbook. Raises ``BadInput('rule.form' | 'plan.phrase')`` naming the rule."""
    lanes = {lane.id for lane in playbook.lanes}
    return [_read_one(rule.id, rule.when, rule.then, playbook, lanes) for rule in playbook.rules]


def _read_one(rule_id: str, when: object, then: object, playbook: Playbook, lanes: set[str]) -> Rule:
    try:
        tests, result = msgspec.convert(when, _When), msgspec.convert(then, Then)
    except msgspec.ValidationError as error:
        raise _bad(rule_id, str(error)) from error
    if result.person == bool(result.lane):
        raise _bad(rule_id, "`then` names either a lane or `person: true`")
    if result.lane and result.lane not in lanes:
        raise _bad(rule_id, f"there is no lane {result.lane!r}")
    if not tests.all and not tests.any:
        raise _bad(rule_id, "`when` needs a clause under `all` or `any`")

    def checked(clauses: list[_Clause]) -> list[Clause]:
        return [_clause(rule_id, clause, playbook) for clause in clauses]

    return Rule(rule_id, checked(tests.all), checked(tests.any), checked(tests.none), result)


def _clause(rule_id: str, clause: _Clause, playbook: Playbook) -> Clause:
    known = playbook.inputs.get(clause.field)
    if known is None:
        raise _bad(rule_id, f"there is no input {clause.field!r}")
    amounts = clause.at_most is not None or clause.at_least is not None
    if amounts == (clause.contains is not None):
        raise _bad(rule_id, "a clause has either `contains` or `at_most` / `at_least`")
    if known.type != ("cents" if amounts else "text"):
        raise _bad(rule_id, f"{clause.field!r} is of type {known.type}")
    said = clause.contains or []
    if not amounts and not 1 <= len(said) <= PHRASES:
        raise _bad(rule_id, f"`contains` takes 1 to {PHRASES} phrases")
    parsed = tuple(phrases.parse(phrase, where=f"rules.{rule_id}") for phrase in said)
    return Clause(clause.field, parsed, clause.at_most, clause.at_least)


def _bad(rule_id: str, said: str) -> BadInput:
    return BadInput("rule.form", said, advice="see the playbook reference, rules", where=f"rules.{rule_id}")


def judge(rules: Sequence[Rule], case: Case) -> Outcome:
    """Evaluate all rules. Their order does not change the outcome, only the order in which they are named."""
    texts = {name: words(value) for name, value in case.items() if isinstance(value, str)}
    fired = [Fired(rule, matched) for rule in rules if (matched := _holds(rule, case, texts)) is not None]
    lanes = {entry.rule.then.lane for entry in fired if entry.rule.then.lane}
    person = any(entry.rule.then.person for entry in fired)
    if len(lanes) != 1:
        return Outcome(fired, person=person, conflict=len(lanes) > 1)
    sure = max(entry.rule.then.confidence for entry in fired if entry.rule.then.lane)
    return Outcome(fired, lanes.pop(), sure, person)


def _holds(rule: Rule, case: Case, texts: dict[str, list[str]]) -> list[str] | None:
    """The words that fulfilled the rule, or None if it does not hold. An amount fulfils without words."""
    if any(_fulfilled(clause, case, texts) is not None for clause in rule.none):
        return None
    needed = [_fulfilled(clause, case, texts) for clause in rule.all]
    chosen = [found for clause in rule.any if (found := _fulfilled(clause, case, texts)) is not None]
    if None in needed or (rule.any and not chosen):
        return None
    return list(dict.fromkeys(part for found in [*needed, *chosen] if found for part in found))


def _fulfilled(clause: Clause, case: Case, texts: dict[str, list[str]]) -> list[str] | None:
    if clause.phrases:
        have = texts.get(clause.field, [])
        places = [place for parts in clause.phrases if (place := phrases.find(parts, have))]
        return [" ".join(have[start:end]) for start, end in places] or None
    amount = case.get(clause.field)
    if not isinstance(amount, int) or isinstance(amount, bool):
        return None
    if clause.at_most is not None and amount > clause.at_most:
        return None
    if clause.at_least is not None and amount < clause.at_least:
        return None
    return []
