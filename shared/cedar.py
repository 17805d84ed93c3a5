"""Reading a policy strictly: what a Cedar policy and its schema must be before anything is judged by them.

Every refusal names the rule and its line, which Cedar's own messages lack.
"""

from __future__ import annotations

import json
import re
from typing import Any

import cedarpy
import msgspec

from shared import limits
from shared.errors import BadInput

_DURATION = re.compile(r"[0-9]{1,4}[smh]")
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*', re.DOTALL)
_DEEPENS = re.compile(r"&&|\|\||[=!<>]=?|[-+*.(\[{]|\b(?:if|has|like|in|is)\b")
# What the guard asks about. A schema that lacks it could only ever deny.
ACTIONS = ("execute", "execute_unattended")
_PROBES = [f'permit (principal is Device, action == Action::"{action}", resource is Tool);' for action in ACTIONS]


class Rule(msgspec.Struct, frozen=True):
    """What a rule's author wrote beside it. ``about`` is for the person who is asked. Of a rule that holds an action
    back: ``@people("2")`` so many different people must approve; ``@similar("1h")`` one may approve all actions like it
    for so long; ``@local("yes")`` the answer may be given at the agent's own computer."""

    about: str = ""
    people: int = 1
    similar_s: int = 0
    local: bool = False


def refuse_deep(text: str, where: str) -> None:
    """Cedar's parser is native and recursive: a rule nested some thousand deep ends the whole process. Count first."""
    bare = _QUOTED.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    line = 1
    for rule in bare.split(";"):
        if len(_DEEPENS.findall(rule)) > limits.POLICY_RULE_OPERATORS or _nesting(rule) > limits.POLICY_RULE_NESTING:
            begins = line + rule[: len(rule) - len(rule.lstrip())].count("\n")
            raise BadInput(
                "policy.too-deep",
                f"one rule has more than {limits.POLICY_RULE_OPERATORS} operators and brackets, or "
                f"{limits.POLICY_RULE_NESTING} brackets within each other",
                advice="split it into several rules",
                where=f"{where}:{begins}",
            )
        line += rule.count("\n")


def _nesting(rule: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[(\[{)\]}]", rule):
        depth = depth + 1 if bracket in "([{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


def parse_schema(schema: str) -> Any:
    try:
        parsed = cedarpy.Schema.from_str(schema)
    except ValueError as error:
        raise BadInput(
            "policy.schema", str(error), advice="correct the schema and validate again", where="schema.cedarschema"
        ) from error
    for probe in _PROBES:
        if not cedarpy.validate_policies(probe, schema).validation_passed:
            raise BadInput(
                "policy.schema",
                "it must let Device execute and execute_unattended on Tool",
                advice="declare both actions with appliesTo { principal: [Device], resource: [Tool], context: ... }",
                where="schema.cedarschema",
            )
    return parsed


def parse_policies(text: str, where: str) -> Any:
    try:
        return cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        raise BadInput(
            "policy.parse", str(error), advice="correct the policy and validate again", where=where
        ) from error


def context_read(text: str) -> dict[str, frozenset[str]] | None:
    """The context fields that the rules about each of the guard's actions read, ``None`` where that cannot be told.

    Whether a request fits the schema depends on the names and types of its context alone, so once Cedar has found one
    to fit, the like of it is judged without that check and with only the fields that matter: a third of the time.
    Actions in groups exist in the schema only, so rules that speak of them are always judged with it.
    """
    found: dict[str, set[str]] = {name: set() for name in ACTIONS}
    for rule in json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values():
        scope, read = rule["action"], set[str]()
        if scope["op"] == "in" or not _note_reads([part["body"] for part in rule["conditions"]], read):
            return None
        for name, fields in found.items():
            if scope["op"] == "All" or scope["entity"].get("id") == name:
                fields |= read
    return {name: frozenset(fields) for name, fields in found.items()}


def _note_reads(node: Any, read: set[str]) -> bool:
    """Gather the fields of the context that an expression names; false where it uses the context as a whole, or looks
    at the action."""
    if isinstance(node, list):
        return all(_note_reads(part, read) for part in node)
    if not isinstance(node, dict):
        return True
    if node.get("Var") in ("context", "action"):
        return False
    for name, part in node.items():
        if name in (".", "has") and isinstance(part, dict) and part.get("left") == {"Var": "context"}:
            read.add(part["attr"])
        elif not _note_reads(part, read):
            return False
    return True


class Distinctions(msgspec.Struct, frozen=True):
    """What of a request the rules can tell apart. ``fields`` has each field of the context that some rule reads: the
    integers it is compared with, sorted, or ``None`` where its exact value may matter. ``principal`` says whether any
    rule looks at the device."""

    fields: dict[str, list[int] | None]
    principal: bool


_COMPARED = frozenset(("<", "<=", ">", ">=", "==", "!="))


def distinctions(text: str) -> Distinctions | None:
    """What the rules distinguish, ``None`` where that cannot be told.

    A rule that only ever asks whether ``context.value_cents > 10000000`` says the same of all values beyond that. So
    of a hundred thousand requests only those are judged that some rule could tell apart (``shared.replay``).
    """
    if context_read(text) is None:
        return None
    found: dict[str, set[int] | None] = {}
    principal = False
    for rule in json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values():
        bodies = [part["body"] for part in rule["conditions"]]
        principal = principal or rule["principal"]["op"] != "All" or '{"Var": "principal"}' in json.dumps(bodies)
        _note_compared(bodies, found)
    fields = {name: None if values is None else sorted(values) for name, values in found.items()}
    return Distinctions(fields, principal)


def _note_compared(node: Any, found: dict[str, set[int] | None]) -> None:
    """Gather what each field is compared with; ``None`` once it is used in any other way."""
    if isinstance(node, list):
        for part in node:
            _note_compared(part, found)
        return
    if not isinstance(node, dict):
        return
    for name, part in node.items():
        if name in _COMPARED and isinstance(part, dict):
            for one, other in (("left", "right"), ("right", "left")):
                field, value = _field(part[one]), part[other].get("Value")
                if field and type(value) is int:
                    seen = found.setdefault(field, set())
                    if seen is not None:
                        seen.add(value)
                else:
                    _note_compared(part[one], found)
        elif field := _field({name: part}):
            found[field] = None
        else:
            _note_compared(part, found)


def _field(node: dict[str, Any]) -> str:
    """The field of the context that an expression is, empty where it is another."""
    part = node.get(".") or node.get("has")
    return str(part["attr"]) if isinstance(part, dict) and part.get("left") == {"Var": "context"} else ""


def declares(schema: str, name: str, right: str, wrong: str) -> bool:
    """Whether the context has a field, required or optional, of the type of the literal ``right``. Of an undeclared one
    Cedar knows that ``has`` is false, and takes anything behind it, a comparison with ``wrong`` too."""
    head = 'permit (principal is Device, action == Action::"execute", resource is Tool)'
    rules = (f"{head} when {{ context has {name} && context.{name} == {probe} }};" for probe in (right, wrong))
    fits, anything = (cedarpy.validate_policies(rule, schema).validation_passed for rule in rules)
    return bool(fits and not anything)


def rules(text: str, where: str, *, new: bool) -> dict[str, Rule]:
    """Each rule by its ``@id``. Cedar lets ids be missing or double; a verdict must name one rule. A ``new`` policy may
    have no annotations that mean nothing; in one that is in force already they stay as meaningless as they were."""
    found: dict[str, Rule] = {}
    parsed = json.loads(cedarpy.policies_to_json_str(text))
    rules: dict[str, dict[str, Any]] = parsed["staticPolicies"]
    if parsed["templates"]:
        raise BadInput(
            "policy.template",
            "a rule with ?principal or ?resource is a template and would never apply",
            advice="write the rule out",
            where=where,
        )
    if not rules:
        raise BadInput(
            "policy.empty", "the policy has no rules", advice="permit something, or nothing can run", where=where
        )
    for number, rule in enumerate(rules.values(), 1):
        annotations = rule.get("annotations") or {}
        name = annotations.get("id") or ""
        if not _ID.fullmatch(name):
            raise BadInput(
                "policy.rule-id",
                f"rule {number} has the id {name!r}",
                advice='give each rule an @id("lower-case-name") of its own',
                where=where,
            )
        if name in found:
            raise BadInput(
                "policy.rule-twice",
                f"two rules have the id {name!r}",
                advice="rename one",
                where=_place(where, text, name, last=True),
            )
        found[name] = _rule(name, rule, _place(where, text, name), new=new)
    return found


_KNOWN = ("id", "about", "people", "similar", "local")


def _rule(name: str, rule: dict[str, Any], where: str, *, new: bool) -> Rule:
    annotations: dict[str, str | None] = rule.get("annotations") or {}
    action = rule["action"].get("entity") or {}
    may_ask = rule["effect"] == "forbid" and action.get("id") != "execute"

    def need(holds: bool, said: str) -> None:
        if not holds:
            raise BadInput(
                "policy.annotation",
                f"rule {name}: {said}",
                advice='write @people("2"), @similar("1h") or @local("yes") beside what forbids execute_unattended',
                where=where,
            )

    for annotation in annotations if new else ():
        need(annotation in _KNOWN, f"@{annotation} means nothing here")
        need(may_ask or annotation in ("id", "about"), f"@{annotation} says how a person is asked, and it asks nobody")
    people, similar = annotations.get("people", "1"), annotations.get("similar", "0s")
    local = annotations.get("local", "no")
    need(re.fullmatch("[1-9]", people or "") is not None, "@people is a number from 1 to 9")
    need(_DURATION.fullmatch(similar or "") is not None, "@similar is a number and s, m or h")
    need(local in ("yes", "no"), "@local is yes or no")
    assert people and similar
    seconds = int(similar[:-1]) * {"s": 1, "m": 60, "h": 3600}[similar[-1]]
    return Rule(annotations.get("about") or "", int(people), seconds, local == "yes")


def _place(where: str, text: str, rule: str, *, last: bool = False) -> str:
    """``where`` with the line of a rule's ``@id``; Cedar's own messages have none."""
    found = [match.start() for match in re.finditer(rf'@id\s*\(\s*"{re.escape(rule)}"', text)]
    return f"{where}:{text.count(chr(10), 0, found[-1 if last else 0]) + 1}" if found else where


def validate(text: str, schema: str, where: str) -> None:
    result = cedarpy.validate_policies(text, schema)
    if result.validation_passed:
        return
    rules = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    names = {number: (rule.get("annotations") or {}).get("id", number) for number, rule in rules.items()}
    errors = [(names.get(error.policy_id, ""), error.error, error.policy_id) for error in result.errors]
    said = [message.replace(f"`{number}`", f"`{name}`") for name, message, number in errors]
    raise BadInput(
        "policy.invalid",
        "; ".join(dict.fromkeys(said)) or "the policy does not fit its schema",
        advice="correct the rule or extend the schema",
        where=_place(where, text, errors[0][0]) if errors else where,
    )
