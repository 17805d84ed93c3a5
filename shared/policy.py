"""The verdict: allow, ask or deny, under a Cedar policy. Denies on any error.

Cedar answers two questions about an action: may it be *executed* at all, and may it be executed *unattended*. The
first denied is ``deny``; both allowed is ``allow``; otherwise a person is asked.

Cedar skips a policy whose evaluation errs, a ``forbid`` as well, and then answers Allow. So any error in the
diagnostics of either question, or no decision, is ``deny`` here with the rule id ``cedar:error``. Requests are always
checked against the schema, so a missing, extra or mistyped context field is an error, hence ``deny``.

``Allowed`` is the only thing that the acting room accepts. It can be made in this module alone, from a verdict, and
where the verdict is ``ask`` from a person's answer to exactly that action.
"""

from __future__ import annotations

import json
import re
from typing import Any, final

import cedarpy
import msgspec

from shared import limits
from shared.actions import Action
from shared.errors import BadInput, Refused

ALLOW, ASK, DENY = "allow", "ask", "deny"

# Rules the host enforces before Cedar is asked; policy cannot switch them off.
HOST_RULES = {
    "host:no-lease": "The hub has lent this device no authority to act.",
    "host:lease-expired": "The lease ended. The run goes on when the hub renews it.",
    "host:lease-spent": "The lease's actions or value are used up since the last sync.",
    "host:over-lease": "Its value alone is more than the lease lends, so a person decides.",
    "host:clock": "The clock stands before the lease was issued.",
    "host:revoked": "The hub has revoked this device.",
    "host:log-in-question": "The hub refuses this device's log as rewritten or rolled back; a person must look.",
    "host:over-budget": "The playbook's budget for the run or the day does not cover it, so a person decides.",
    "host:confirm": "The playbook asks a person here.",
    "host:tool-missing": "The tool is not installed on this device.",
    "host:no-policy": "No verified release is installed.",
    "cedar:error": "The policy could not be evaluated, so nothing is allowed.",
    "cedar:no-permit": "No rule permits this action.",
    "cedar:not-unattended": "No rule lets this be done without a person.",
}

_ACTIONS = ({"type": "Action", "id": "execute"}, {"type": "Action", "id": "execute_unattended"})
_FORMS = 32  # the guard has one or two; a bound all the same
_ENTITIES = cedarpy.Entities.from_json_str("[]")
# Context fields that came after the first schema, each with a value of its type.
_OPTIONAL = {"risk": '""', "undo": "true", "source": '""', "run_actions": "1", "run_cents": "1"}
_DURATION = re.compile(r"[0-9]{1,4}[smh]")
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*', re.DOTALL)
_DEEPENS = re.compile(r"&&|\|\||[=!<>]=?|[-+*.(\[{]|\b(?:if|has|like|in|is)\b")
# What the guard asks about. A schema that lacks it could only ever deny.
_PROBES = [
    f'permit (principal is Device, action == Action::"{action}", resource is Tool);'
    for action in ("execute", "execute_unattended")
]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One action before the guard. ``context`` holds what ``schema.cedarschema`` declares: integers, booleans, text."""

    device: str
    tool: str
    context: dict[str, int | bool | str]


class Rule(msgspec.Struct, frozen=True):
    """What a rule's author wrote beside it. ``about`` is for the person who is asked. Of a rule that holds an action
    back: ``@people("2")`` so many different people must approve; ``@similar("1h")`` one may approve all actions like it
    for so long; ``@local("yes")`` the answer may be given at the agent's own computer."""

    about: str = ""
    people: int = 1
    similar_s: int = 0
    local: bool = False


class Asking(msgspec.Struct, frozen=True):
    """How a person is asked: the strictest of what the rules that hold back allow."""

    people: int
    similar_s: int
    local: bool


class Verdict(msgspec.Struct, frozen=True):
    """``rules`` are the ids of the rules that decided: for *allow* those that permit acting alone, for *ask* those
    that hold that back, for *deny* those that forbid it. ``errors`` are Cedar's words where it erred. ``held`` says
    that the denial is the host's own and passes (a lease can be renewed), so the run waits and does not end."""

    kind: str
    rules: list[str]
    errors: list[str] = msgspec.field(default_factory=list)

    @property
    def held(self) -> bool:
        return self.kind == DENY and any(rule.startswith("host:") for rule in self.rules)


def deny(rule: str, *errors: str) -> Verdict:
    return Verdict(DENY, [rule], list(errors))


class Policy:
    """A parsed and validated policy. Parsing costs many times a verdict, so keep it."""

    def __init__(self, text: str, schema: str, *, where: str = "policy.cedar") -> None:
        """Raises ``BadInput``: ``policy.schema``, ``.parse``, ``.empty``, ``.template``, ``.rule-id``, ``.rule-twice``,
        ``.invalid``, ``.too-deep``."""
        _refuse_deep(schema, "schema.cedarschema")
        _refuse_deep(text, where)
        self._schema = _parse_schema(schema)
        self._policies = _parse_policies(text, where)
        self.rules = _rules(text, where)
        _validate(text, schema, where)
        self._reads = _context_read(text)
        self._forms: set[tuple[Any, ...]] = set()  # names and types of contexts that Cedar found to fit the schema
        self._knows = {name for name, probe in _OPTIONAL.items() if _declares(schema, name, probe)}

    def judge(self, request: Request) -> Verdict:
        """Never raises: what cannot be judged is denied."""
        form = (tuple(request.context), tuple(map(type, request.context.values())))
        known = form in self._forms
        context = request.context
        if known and self._reads is not None:
            context = {name: value for name, value in context.items() if name in self._reads}
        query = {
            "principal": {"type": "Device", "id": request.device},
            "resource": {"type": "Tool", "id": request.tool},
            "context": context,
        }
        try:
            attended, alone = cedarpy.is_authorized_batch(
                [query | {"action": action} for action in _ACTIONS],
                self._policies,
                _ENTITIES,
                schema=None if known and self._reads is not None else self._schema,
            )
        # BaseException: cedarpy is native code, and a panic in it does not derive from Exception.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return deny("cedar:error", type(error).__name__)
        errors = [*attended.diagnostics.errors, *alone.diagnostics.errors]
        decided = {cedarpy.Decision.Allow, cedarpy.Decision.Deny}
        if errors or attended.decision not in decided or alone.decision not in decided:
            return Verdict(DENY, ["cedar:error"], sorted(set(errors)) or ["no decision"])
        if not known and len(self._forms) < _FORMS:
            self._forms.add(form)
        if not attended.allowed:
            return Verdict(DENY, _reasons(attended) or ["cedar:no-permit"])
        if not alone.allowed:
            return Verdict(ASK, _reasons(alone) or ["cedar:not-unattended"])
        return Verdict(ALLOW, _reasons(alone))

    @property
    def about(self) -> dict[str, str]:
        """What the author of each rule says of it."""
        return {name: rule.about for name, rule in self.rules.items()}

    def explain(self, rule: str) -> str:
        """What a rule id means, in the words its author gave it."""
        known = self.rules.get(rule)
        return HOST_RULES.get(rule) or (known.about if known else "") or rule

    def asking(self, rules: list[str]) -> Asking:
        """How a person is asked where these rules hold an action back. A rule of the host allows nothing extra. Where
        several people are needed they answer at the hub, which knows them apart, and for one action."""
        found = [self.rules.get(rule, Rule()) for rule in rules] or [Rule()]
        people = max(rule.people for rule in found)
        alone = people == 1
        return Asking(
            people=people,
            similar_s=min(rule.similar_s for rule in found) if alone else 0,
            local=alone and all(rule.local for rule in found),
        )

    def context(self, full: dict[str, int | bool | str]) -> dict[str, int | bool | str]:
        """The context without the fields that this policy's schema, an older one, does not declare yet."""
        return {name: value for name, value in full.items() if name not in _OPTIONAL or name in self._knows}


def _reasons(result: Any) -> list[str]:
    names = result.diagnostics.id_annotations_by_reason
    return sorted(names.get(reason, reason) for reason in result.diagnostics.reasons)


def _refuse_deep(text: str, where: str) -> None:
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


def _parse_schema(schema: str) -> Any:
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


def _parse_policies(text: str, where: str) -> Any:
    try:
        return cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        raise BadInput(
            "policy.parse", str(error), advice="correct the policy and validate again", where=where
        ) from error


def _context_read(text: str) -> frozenset[str] | None:
    """The context fields that the rules read, ``None`` where that cannot be told.

    Whether a request fits the schema depends on the names and types of its context alone, so once Cedar has found one
    to fit, the like of it is judged without that check and with only the fields that matter: half the time. Actions in
    groups exist in the schema only, so rules that speak of them are always judged with it.
    """
    bare = _QUOTED.sub(" ", text)
    named = re.findall(r"\bcontext\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)", bare)
    if len(named) != len(re.findall(r"\bcontext\b", bare)) or re.search(r"\baction\s+in\b", bare):
        return None
    return frozenset(named)


def _declares(schema: str, name: str, probe: str) -> bool:
    head = 'permit (principal is Device, action == Action::"execute", resource is Tool)'
    rule = f"{head} when {{ context.{name} == {probe} }};"
    return bool(cedarpy.validate_policies(rule, schema).validation_passed)


def _rules(text: str, where: str) -> dict[str, Rule]:
    """Each rule by its ``@id``. Cedar lets ids be missing or double; a verdict must name one rule."""
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
        found[name] = _rule(name, annotations, _place(where, text, name))
    return found


def _rule(name: str, annotations: dict[str, str], where: str) -> Rule:
    people, similar = annotations.get("people") or "1", annotations.get("similar") or "0s"
    local = annotations.get("local")
    if not re.fullmatch("[1-9]", people) or not _DURATION.fullmatch(similar) or local not in (None, "", "yes", "no"):
        raise BadInput(
            "policy.annotation",
            f"rule {name} has an annotation that does not fit",
            advice='write @people("2"), @similar("1h"), @local("yes")',
            where=where,
        )
    seconds = int(similar[:-1]) * {"s": 1, "m": 60, "h": 3600}[similar[-1]]
    return Rule(annotations.get("about") or "", int(people), seconds, local == "yes")


def _place(where: str, text: str, rule: str, *, last: bool = False) -> str:
    """``where`` with the line of a rule's ``@id``; Cedar's own messages have none."""
    found = [match.start() for match in re.finditer(rf'@id\s*\(\s*"{re.escape(rule)}"', text)]
    return f"{where}:{text.count(chr(10), 0, found[-1 if last else 0]) + 1}" if found else where


def _validate(text: str, schema: str, where: str) -> None:
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


# --- the right to act ---------------------------------------------------------------------------------------------

_MINT = object()


@final
class Allowed:
    """Proof that one exact action may be done now. Made by ``permit`` only; ``act`` takes nothing else.

    It cannot be changed, copied, pickled or derived from: each would be an ``Allowed`` that no verdict stands behind.
    """

    __slots__ = ("action", "approval", "key", "step", "verdict")

    action: Action
    approval: str
    key: str
    step: str
    verdict: Verdict

    def __init__(self, mint: object, action: Action, verdict: Verdict, step: str, approval: str, time: int) -> None:
        if mint is not _MINT:
            raise _forged()
        given = {"action": action, "verdict": verdict, "step": step, "approval": approval, "key": action.key_for(time)}
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an Allowed cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("an Allowed cannot be changed")

    def __reduce_ex__(self, protocol: object) -> str:
        raise _forged()

    def __init_subclass__(cls) -> None:
        raise _forged()


def _forged() -> Refused:
    return Refused("guard.forged", "an Allowed was made outside the guard", advice="this is a bug; report it")


def permit(
    action: Action, verdict: Verdict, *, judged: str, step: str, approval: str = "", approved: str = "", time: int = 0
) -> Allowed:
    """Turn a verdict into the right to act.

    ``judged`` is the digest the verdict was given on; ``approved`` the digest a person approved, ``approval`` its id;
    ``time`` counts how often it is done anew (``Action.key_for``).
    Raises ``Refused('guard.denied' | 'guard.unapproved' | 'guard.mismatch')``.
    """
    if judged != action.digest:
        raise Refused("guard.mismatch", "the verdict is about another action", advice="judge this action first")
    if verdict.kind == ALLOW:
        return Allowed(_MINT, action, verdict, step, approval, time)
    if verdict.kind == ASK and approval and approved == action.digest:
        return Allowed(_MINT, action, verdict, step, approval, time)
    if verdict.kind == ASK:
        raise Refused("guard.unapproved", "a person has not approved this action", advice="answer it in the console")
    raise Refused("guard.denied", f"denied by {', '.join(verdict.rules)}", advice="see the rule in the policy")
