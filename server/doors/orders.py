"""What an operator orders about tokens of documents: a command sends it to the running hub, or carries it out."""

from __future__ import annotations

from typing import Any

import msgspec

from server.doors.tokens import Door, Doors
from shared.errors import BadInput
from shared.memory.repo import names


class DoorOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``act`` is ``issue``, ``list`` or ``revoke`` and says which of the other fields count."""

    act: str
    scope: str = ""
    item: str = ""
    role: str = ""
    origins: list[str] = []
    seconds: int = 0
    label: str = ""
    door: str = ""


def carry_out(doors: Doors, order: DoorOrder, by: str) -> dict[str, Any]:
    """Do it for the hub's operator; JSON-plain values to show. ``path`` is what a client connects to, behind the hub's
    address, and holds the token. Raises what ``Doors`` raises, ``BadInput('door.order')`` for an order that is none."""
    match order.act:
        case "issue":
            token, door = doors.issue(
                order.scope,
                order.item,
                role=order.role,
                origins=order.origins,
                seconds=order.seconds,
                label=order.label,
                by=by,
                operator=True,
            )
            return shown(door) | {"token": token, "path": doors.path(token)}
        case "list":
            return {"doors": [shown(door) for door in doors.list(order.scope, order.item)]}
        case "revoke":
            doors.revoke(order.door, by=by, operator=True)
            return {"id": order.door}
    raise BadInput("door.order", f"{order.act[:40]!r} is no order", advice="bring both to the same release")


def shown(door: Door) -> dict[str, Any]:
    """A token as people see it, with the URL that a client gives to ``repo.find``."""
    return vars(door) | {"origins": list(door.origins), "url": names.document_url(door.item)}
