"""What people order about rollouts, as one message: from a command, over HTTP, or from the console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from server.rollouts.room import Rollouts
from server.rollouts.views import detail, summary
from shared import rollout as r
from shared.errors import BadInput, Refused

ROLES = ("admin", "release")
_LOOKING = ("list", "show", "plan")


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person wants otherwise than the default plan has it; see ``shared.facts.rollouts.Plan``."""

    stages: list[r.Stage] | None = None
    gates: list[r.Gate] | None = None
    alpha_permille: int | None = None
    beta_permille: int | None = None
    settle_s: int | None = None


class RolloutOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``act`` says which of the other fields count. ``release`` 0 is the newest, the control, or no release any more,
    as it fits the act."""

    act: str
    release: int = 0
    rollout: str = ""
    device: str = ""
    on: bool = True
    plan: Wanted = Wanted()


def carry_out(rollouts: Rollouts, order: RolloutOrder, by: str, roles: Sequence[str]) -> dict[str, Any]:
    """Do it; JSON-plain values to show. ``roles`` are the person's. Raises what ``Rollouts`` raises,
    ``Refused('rollout.role')``, and ``BadInput('rollout.act')`` for an order that is none."""
    if order.act not in _LOOKING and not set(ROLES) & set(roles):
        raise Refused("rollout.role", f"only {' or '.join(ROLES)} may do this", advice="ask somebody who is")
    match order.act:
        case "list":
            return {"current": rollouts.told().base, "rollouts": [summary(one) for one in rollouts.courses()]}
        case "show":
            return detail(rollouts, order.rollout)
        case "plan":
            return msgspec.to_builtins(planned(rollouts, order)) or {}
        case "start":
            plan = planned(rollouts, order)
            rollouts.start(plan, by)
            return msgspec.to_builtins(plan) or {}
        case "pause":
            rollouts.pause(by)
        case "resume":
            rollouts.resume(by)
        case "advance":
            rollouts.advance(by)
        case "rollback":
            rollouts.roll_back(by, order.release)
        case "pin":
            rollouts.pin(order.device, order.release, by)
        case "exclude":
            rollouts.exclude(order.device, order.on, by)
        case _:
            raise BadInput("rollout.act", f"{order.act[:40]!r} is no order", advice="bring both to the same release")
    return {}


def planned(rollouts: Rollouts, order: RolloutOrder) -> r.Plan:
    """The default plan of a release with what the person wants in its place. Raises ``BadInput('rollout.plan')``."""
    wanted = {name: value for name, value in msgspec.structs.asdict(order.plan).items() if value is not None}
    return r.checked(msgspec.structs.replace(rollouts.plan(order.release), **wanted))
