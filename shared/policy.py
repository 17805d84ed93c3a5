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
from typing import Any, final

import cedarpy
import msgspec

from shared import cedar
from shared.actions import Action
from shared.cedar import Rule
from shared.errors import Refused

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
    "host:stopped": "A person stopped this device, its playbook or its tool; it goes on when they let it.",
    "host:over-budget": "The playbook's budget for the run or the day does not cover it, so a person decides.",
    "host:confirm": "The playbook asks a person here.",
    "host:tool-missing": "The tool is not installed on this device.",
    "host:no-policy": "No verified release is installed.",
    "cedar:error": "The policy could not be evaluated, so nothing is allowed.",
    "cedar:no-permit": "No rule permits this action.",
    "cedar:not-unattended": "No rule lets this be done without a person.",
}

_ACTIONS = tuple({"type": "Action", "id": name} for name in cedar.ACTIONS)
_FORMS = 32  # the guard has one or two; a bound all the same
_REMEMBERED = 1024  # answers kept for each policy
_DECIDED = frozenset((cedarpy.Decision.Allow, cedarpy.Decision.Deny))
_ENTITIES = cedarpy.Entities.from_json_str("[]")
# Context fields that came after the first schema, each with a value of its type and one of another.
_OPTIONAL = {
    "risk": ('""', "1"),
    "undo": ("true", "1"),
    "source": ('""', "1"),
    "run_actions": ("1", '""'),
    "run_cents": ("1", '""'),
}


class Request(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One action before the guard. ``context`` holds what ``schema.cedarschema`` declares: integers, booleans, text."""

    device: str
    tool: str
    context: dict[str, int | bool | str]


class Asking(msgspec.Struct, frozen=True):
    """How a person is asked: the strictest of what the rules that hold back allow."""

    people: int
    similar_s: int
    local: bool


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """``rules`` are the ids of the rules that decided: for *allow* those that permit acting alone, for *ask* those
    that hold that back, for *deny* those that forbid it. ``errors`` are Cedar's words where it erred. ``held`` says
    that the denial is the host's own and passes (a lease can be renewed), so the run waits and does not end."""

    kind: str
    rules: list[str]
    errors: list[str] = msgspec.field(default_factory=list)

    @property
    def held(self) -> bool:
        return self.kind == DENY and any(rule.startswith("host:") for rule in self.rules)


class _Said(msgspec.Struct, frozen=True, gc=False):
    """Cedar's word to one question; ``reasons`` are the ids of the rules that decided, sorted."""

    decided: bool
    allowed: bool
    reasons: tuple[str, ...]
    errors: tuple[str, ...]

    @classmethod
    def of(cls, result: Any) -> _Said:
        names = result.diagnostics.id_annotations_by_reason
        reasons = sorted(names.get(reason, reason) for reason in result.diagnostics.reasons)
        return cls(result.decision in _DECIDED, result.allowed, tuple(reasons), tuple(result.diagnostics.errors))


def deny(rule: str, *errors: str) -> Verdict:
    return Verdict(DENY, [rule], list(errors))


class Policy:
    """A parsed and validated policy. Parsing costs many times a verdict, so keep it."""

    def __init__(self, text: str, schema: str, *, where: str = "policy.cedar", new: bool = False) -> None:
        """``new`` is one that is about to be published. Raises ``BadInput``: ``policy.schema``, ``.parse``, ``.empty``,
        ``.template``, ``.rule-id``, ``.rule-twice``, ``.annotation``, ``.invalid``, ``.too-deep``."""
        cedar.refuse_deep(schema, "schema.cedarschema")
        cedar.refuse_deep(text, where)
        self.text = text
        self._schema = cedar.parse_schema(schema)
        self._policies = cedar.parse_policies(text, where)
        self.rules = cedar.rules(text, where, new=new)
        cedar.validate(text, schema, where)
        self._reads = cedar.context_read(text)
        self._forms: set[tuple[Any, ...]] = set()  # names and types of contexts that Cedar found to fit the schema
        self._said: dict[tuple[Any, ...], _Said] = {}
        self._knows = {name for name, probes in _OPTIONAL.items() if cedar.declares(schema, name, *probes)}

    def judge(self, request: Request) -> Verdict:
        """Never raises: what cannot be judged is denied."""
        form = (tuple(request.context), tuple(map(type, request.context.values())))
        known = form in self._forms
        try:
            attended, alone = self._ask(request, self._reads if known else None)
        # BaseException: cedarpy is native code, and a panic in it does not derive from Exception.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return deny("cedar:error", type(error).__name__)
        errors = [*attended.errors, *alone.errors]
        if errors or not (attended.decided and alone.decided):
            return Verdict(DENY, ["cedar:error"], sorted(set(errors)) or ["no decision"])
        if not known and len(self._forms) < _FORMS:
            self._forms.add(form)
        if not attended.allowed:
            return Verdict(DENY, list(attended.reasons) or ["cedar:no-permit"])
        if not alone.allowed:
            return Verdict(ASK, list(alone.reasons) or ["cedar:not-unattended"])
        return Verdict(ALLOW, list(alone.reasons))

    def _ask(self, request: Request, reads: dict[str, frozenset[str]] | None) -> list[_Said]:
        """What Cedar says to the two questions. Its word depends on nothing but the question and the fields that the
        rules read, so what was asked before is not asked again: seldom does anything of the first question change."""
        context = request.context
        asked: list[tuple[Any, ...] | None] = []
        for name in cedar.ACTIONS:
            key = reads and (
                name,
                request.device,
                request.tool,
                *((x, context[x]) for x in context if x in reads[name]),
            )
            asked.append(key or None)
        found = [self._said.get(key) if key is not None else None for key in asked]
        missing = [place for place, said in enumerate(found) if said is None]
        if missing:
            who = {
                "principal": {"type": "Device", "id": request.device},
                "resource": {"type": "Tool", "id": request.tool},
            }
            results = cedarpy.is_authorized_batch(
                [who | {"action": _ACTIONS[n], "context": _context(context, reads, cedar.ACTIONS[n])} for n in missing],
                self._policies,
                _ENTITIES,
                schema=self._schema if reads is None else None,
            )
            for place, result in zip(missing, results, strict=True):
                said = found[place] = _Said.of(result)
                key = asked[place]
                if key is not None and said.decided and not said.errors:
                    self._remember(key, said)
        return [said for said in found if said is not None]

    def _remember(self, key: tuple[Any, ...], said: _Said) -> None:
        if len(self._said) >= _REMEMBERED:
            del self._said[next(iter(self._said))]
        self._said[key] = said

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


def _context(full: dict[str, int | bool | str], reads: dict[str, frozenset[str]] | None, action: str) -> str:
    """The context for one question, as Cedar parses it: what no rule reads costs it as much as what is read."""
    if reads is None:
        return json.dumps(full)
    wanted = reads[action]
    return json.dumps({name: value for name, value in full.items() if name in wanted})


# --- the right to act ---------------------------------------------------------------------------------------------

_MINT = object()


@final
class Allowed:
    """Proof that one exact action may be done now. Made by ``permit`` only; ``act`` takes nothing else.

    It cannot be changed, copied, pickled or derived from: each would be an ``Allowed`` that no verdict stands behind.
    """

    __slots__ = ("action", "approval", "digest", "key", "step", "verdict")

    action: Action
    approval: str
    digest: str
    key: str
    step: str
    verdict: Verdict

    def __init__(
        self, mint: object, action: Action, verdict: Verdict, step: str, approval: str, time: int, digest: str = ""
    ) -> None:
        if mint is not _MINT:
            raise _forged()
        given = {"action": action, "verdict": verdict, "step": step, "approval": approval, "digest": digest}
        for name, value in (given | {"key": action.key_for(time)}).items():
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
    digest = action.digest
    if judged != digest:
        raise Refused("guard.mismatch", "the verdict is about another action", advice="judge this action first")
    if verdict.kind == ALLOW or (verdict.kind == ASK and approval and approved == digest):
        return Allowed(_MINT, action, verdict, step, approval, time, digest)
    if verdict.kind == ASK:
        raise Refused("guard.unapproved", "a person has not approved this action", advice="answer it in the console")
    raise Refused("guard.denied", f"denied by {', '.join(verdict.rules)}", advice="see the rule in the policy")
