"""What an operator orders about memory, as one message: a command sends it to the running hub, or carries it out."""

from __future__ import annotations

from typing import Any

import msgspec

from server.memory.room import Memory
from shared.errors import BadInput


class MemoryOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``act`` says which of the other fields count. Scopes are named as the hub names them."""

    act: str
    scope: str = ""
    member: str = ""
    role: str = ""
    item: str = ""
    subject: str = ""
    run: str = ""
    device: str = ""
    person: str = ""
    hold: str = ""
    reason: str = "asked"


def carry_out(memory: Memory, order: MemoryOrder, by: str) -> Any:
    """Do it; JSON-plain values to show. Raises what the parts of the room raise, ``BadInput('memory.order')`` for an
    order that is none."""
    match order.act:
        case "scopes":
            return {"scopes": msgspec.to_builtins(memory.access.scopes())}
        case "grant":
            memory.grant(order.scope, order.member, order.role, by)
        case "revoke":
            memory.revoke(order.scope, order.member, by)
        case "own":
            return {"scope": memory.own(order.device, order.person, by)}
        case "hold":
            return {"hold": memory.holds.hold(order.scope, order.item, by, order.reason)}
        case "unhold":
            memory.holds.lift(order.hold, by)
        case "holds":
            return {"holds": msgspec.to_builtins(memory.holds.list())}
        case "erase":
            return {"tombstone": _erase(memory, order, by)}
        case "erasures":
            return {"erasures": msgspec.to_builtins(memory.tombstones())}
        case _:
            raise BadInput("memory.order", f"{order.act[:40]!r} is no order", advice="bring both to the same release")
    return {}


def _erase(memory: Memory, order: MemoryOrder, by: str) -> str:
    """Exactly one of an item of a scope, a subject, a run, or a scope by itself. Its bytes are gone on return."""
    named = [name for name in (order.item, order.subject, order.run) if name]
    if len(named) > 1 or (order.item and not order.scope) or not (named or order.scope):
        raise BadInput(
            "memory.order",
            "that does not say one thing to erase",
            advice="name an item and its scope, a subject, a run, or a scope",
        )
    if order.item:
        done = memory.erasure.item(order.scope, order.item, by, order.reason)
    elif order.subject:
        done = memory.erasure.subject(order.subject, by, order.reason, order.scope)
    elif order.run:
        done = memory.erasure.run(order.run, by, order.reason, order.scope)
    else:
        done = memory.erasure.scope(order.scope, by, order.reason)
    memory.finish()
    return done
