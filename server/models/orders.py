"""What an operator orders about models: a command sends it to the running hub, or carries it out.

The command itself brings the file into the home's staging (``server.models.staging``), so that an order stays small.
"""

from __future__ import annotations

from typing import Any

import msgspec

from server.models.registry import About, Models, ModelView
from server.models.staging import Staged
from shared.errors import BadInput


class ModelOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``act`` is ``add``, ``list``, ``score``, ``remove`` or ``use`` and says which of the other fields count."""

    act: str
    name: str = ""
    staged: Staged | None = None
    about: About | None = None
    suite: str = ""
    scores: dict[str, int] = {}
    cases: int = 0


def carry_out(models: Models, order: ModelOrder, by: str) -> dict[str, Any]:
    """Do it for the hub's operator; JSON-plain values to show. Raises what ``Models`` raises, and
    ``BadInput('model.order')`` for an order that is none."""
    match order:
        case ModelOrder(act="add", staged=Staged() as staged, about=About() as about):
            return shown(models.add(staged, about, by))
        case ModelOrder(act="list"):
            uses = [msgspec.to_builtins(use) for use in models.uses()]
            return {"models": [shown(model) for model in models.list()], "devices": uses}
        case ModelOrder(act="score"):
            return shown(models.score(order.name, order.suite, order.scores, order.cases, by))
        case ModelOrder(act="remove"):
            models.remove(order.name, by)
            return {"name": order.name}
        case ModelOrder(act="use"):
            ref: dict[str, Any] = msgspec.to_builtins(models.use(order.name))
            return ref
    raise BadInput("model.order", f"{order.act[:40]!r} is no order", advice="bring both to the same release")


def shown(model: ModelView) -> dict[str, Any]:
    """A model as people see it."""
    made: dict[str, Any] = msgspec.to_builtins(model)
    return made
