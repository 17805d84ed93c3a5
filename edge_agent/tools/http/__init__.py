"""The kind ``http``: a table of ``tools.toml`` names one service and its calls; each call is a tool.

    table       what the table says, with an example
    templates   arguments into paths, queries and bodies, never into the host
    addresses   which origins and addresses may be reached
    transport   one exchange, exact about whether anything was sent
    auth        secrets and tokens
    answers     what a status means, and what of an answer is kept
    call        the tool

What the service promises is for the person who writes the table to know: ``idempotent`` says that the service acts once
for a key, ``ask`` that it can be asked for one. Where it promises nothing, nothing is declared, and a doubt goes to a
person.
"""

from __future__ import annotations

from typing import Any

from edge_agent.tools import Tool
from edge_agent.tools.build import Place, settings
from edge_agent.tools.http.addresses import Resolve, system_resolve
from edge_agent.tools.http.plans import make_calls
from edge_agent.tools.http.table import Settings


def make(place: Place, given: dict[str, Any], *, resolve: Resolve = system_resolve) -> list[Tool]:
    """The tools of one table. Raises ``BadInput('tools.setting')`` and ``BadInput('web.url')``, naming the table."""
    return make_calls(place, settings(Settings, place, given), resolve)
