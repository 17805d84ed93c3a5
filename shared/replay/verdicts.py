"""Old verdicts judged again under another policy: what would be asked, denied or allowed now that was not then.

Every ``verdict.given`` holds the whole context that was judged, so a candidate policy can be held against what really
happened before anybody runs it. What a rule cannot tell apart is judged once: a hundred thousand verdicts fall into a
few hundred classes (``shared.cedar.distinctions``), and the answer is the same as if each had been judged.

What counts as *was* is what happened, which the host's own rules may have made stricter than the policy:

- held by the host (a lease that ended, no lease): nothing to compare, counted as ``held``;
- asked by the host (a budget, a playbook's ``confirm``): a policy that allows would still ask;
- judged again after a person's yes: told by the first judgement, unless it would now be denied after the yes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any

import msgspec

from shared import cedar
from shared.entries import VerdictGiven
from shared.policy import ALLOW, ASK, DENY, Policy, Request, Verdict

_ERROR = "cedar:error"


class Past(msgspec.Struct, frozen=True, gc=False):
    """A verdict as it was given: entry ``seq`` of ``device``'s log, at ``at`` (microseconds since 1970 UTC)."""

    device: str
    seq: int
    at: int
    run: str
    given: VerdictGiven


class Difference(msgspec.Struct, frozen=True, gc=False):
    """One action that would be judged otherwise. ``rules`` are the ids of the rules that now decide."""

    past: Past
    now: str
    rules: list[str]

    @property
    def unjudged(self) -> bool:
        """It is denied because the policy cannot judge it: a rule errs, or its schema asks for what was not told."""
        return self.rules == [_ERROR]


class Differences(msgspec.Struct):
    """How many actions were looked at, and what would become of them. ``unjudged`` are denied for an error and not
    among ``denied``. ``found`` are the newest differences, at most as many as were asked for."""

    looked: int = 0
    same: int = 0
    held: int = 0
    asked: int = 0
    denied: int = 0
    allowed: int = 0
    unjudged: int = 0
    found: list[Difference] = []

    @property
    def changed(self) -> int:
        return self.asked + self.denied + self.allowed + self.unjudged


class Judge:
    """One policy, and its verdicts on all that it cannot tell apart."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        told = cedar.distinctions(policy.text)
        self._fields = None if told is None else list(told.fields.items())
        self._principal = told is None or told.principal
        self._known: dict[tuple[Any, ...], Verdict] = {}

    def judge(self, device: str, given: VerdictGiven) -> Verdict:
        """The policy's verdict on what was judged then; never raises."""
        key = self._key(device, given)
        verdict = self._known.get(key)
        if verdict is None:
            context = self._policy.context(given.context)
            verdict = self._known[key] = self._policy.judge(Request(device, given.tool, context))
        return verdict

    def _key(self, device: str, given: VerdictGiven) -> tuple[Any, ...]:
        """Alike for what the policy must judge alike: the same names and types, and no rule that sees a difference."""
        context = given.context
        who = device if self._principal else ""
        form = (who, given.tool, *context, *map(type, context.values()))
        if self._fields is None:
            return (*form, *context.values())
        return (*form, *(_class(context.get(name), bounds) for name, bounds in self._fields))


def _class(value: int | bool | str | None, bounds: list[int] | None) -> Any:
    """Where a number stands among those it is compared with: below, at or above each. Any other value is itself."""
    if bounds is None or not isinstance(value, int):
        return value
    return bisect_left(bounds, value) + bisect_right(bounds, value)


def difference(judge: Judge, past: Past) -> Difference | None:
    """What would now become of an action otherwise than then, ``None`` where nothing would."""
    given = past.given
    now = judge.judge(past.device, given)
    kind = now.kind
    by_host = any(rule.startswith("host:") for rule in given.rules)
    if by_host and given.verdict == ASK and kind == ALLOW:
        kind = ASK
    if given.context.get("approved") is True and kind != DENY:
        return None
    return None if kind == given.verdict else Difference(past, kind, list(now.rules))


def is_held(given: VerdictGiven) -> bool:
    """The host held it back, whatever the policy said."""
    return given.verdict == DENY and any(rule.startswith("host:") for rule in given.rules)


def compare(policy: Policy, verdicts: Iterable[Past], *, most: int = 200) -> Differences:
    """Judge all of ``verdicts``, given the newest first, under ``policy``."""
    judge = Judge(policy)
    total = Differences()
    told: set[tuple[str, str, str]] = set()  # what is denied after a yes is not counted a second time
    for past in verdicts:
        given = past.given
        if is_held(given):
            total.held += 1
            continue
        found = difference(judge, past)
        name = (past.device, past.run, given.step)
        if given.context.get("approved") is True:
            if found is None:
                continue
            told.add(name)
        elif found is not None and name in told:
            continue
        total.looked += 1
        _count(total, found)
        if found is not None and len(total.found) < most:
            total.found.append(found)
    return total


def _count(total: Differences, found: Difference | None) -> None:
    if found is None:
        total.same += 1
    elif found.unjudged:
        total.unjudged += 1
    elif found.now == DENY:
        total.denied += 1
    elif found.now == ASK:
        total.asked += 1
    else:
        total.allowed += 1
