"""What is asked and ordered of replay and reconciliation from the hub's own machine: one message for each act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from server.replay.reconcile import Reconcile
from server.replay.room import DAYS, Replays
from shared.errors import BadInput
from shared.replay import Difference


class ReplayOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``act`` says which of the other fields count; ``release`` 0 is the workspace."""

    act: str
    release: int = 0
    days: int = DAYS
    most: int = 50
    sample: int = 50
    n: int = 0
    reason: str = ""


def carry_out(
    replays: Replays, reconcile: Reconcile, order: ReplayOrder, by: str, roles: Sequence[str]
) -> dict[str, Any]:
    """Do it; JSON-plain values to show. Raises what the rooms raise, and ``BadInput('replay.act')``."""
    match order.act:
        case "compare":
            return compared(replays, order)
        case "ask":
            return {"replay": replays.ask(order.release, order.sample, by=by, roles=roles), "release": order.release}
        case "scores":
            return {"asked": msgspec.to_builtins(replays.asked(order.release))}
        case "drift":
            return {"drift": msgspec.to_builtins(replays.drift())}
        case "reconcile":
            reconcile.look()
            return {"open": msgspec.to_builtins(reconcile.open())}
        case "undo":
            return msgspec.to_builtins(reconcile.take_back(order.n, by=by, roles=roles, reason=order.reason)) or {}
        case "excuse":
            reconcile.excuse(order.n, by=by, roles=roles, reason=order.reason)
            return {"n": order.n, "state": "excused"}
    raise BadInput("replay.act", f"{order.act[:40]!r} cannot be done", advice="see outrider hub replay --help")


def compared(replays: Replays, order: ReplayOrder) -> dict[str, Any]:
    """The differences of a release, or of the workspace, with its golden cases."""
    subject = replays.subject(order.release)
    found = replays.compare(subject, order.days, most=order.most)
    counts = {name: value for name, value in msgspec.to_builtins(found).items() if isinstance(value, int)}
    cases = subject.cases
    return counts | {
        "release": order.release,
        "days": order.days,
        "found": [_told(one) for one in found.found],
        "golden": {
            "cases": len(cases),
            "open": [f"{one.playbook}: {one.case}" for one in cases if one.open],
            "wrong": [f"{one.playbook}: {one.case}: {', '.join(one.wrong)}" for one in cases if one.wrong],
        },
    }


def _told(one: Difference) -> dict[str, Any]:
    given = one.past.given
    return {
        "device": one.past.device,
        "run": one.past.run,
        "seq": one.past.seq,
        "at": one.past.at,
        "step": given.step,
        "tool": given.tool,
        "was": given.verdict,
        "was_rules": given.rules,
        "now": one.now,
        "rules": one.rules,
    }
