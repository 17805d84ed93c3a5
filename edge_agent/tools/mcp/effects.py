"""What an MCP tool says about itself, mapped to the effect classes that policy reads.

MCP calls these annotations hints, from a party that is not trusted. So each is taken at its most careful reading, what
is absent counts as the protocol says (it writes, destroys, is not idempotent, reaches an open world), a person sees the
result before it counts, and ``tools.toml`` overrides it:

- ``readOnlyHint`` true: ``read``, which can be sent again. Anything else changes something, and because no MCP tool
  says how it is taken back, even a tool that only adds is ``irreversible``: a person has to take it back;
- ``destructiveHint`` false lowers the risk by a step, ``openWorldHint`` true raises it by one;
- ``idempotentHint`` true: the same arguments sent twice act once. An idempotency key stands for exactly one tool with
  exactly one set of arguments, so a call may be sent again after a doubt.

No MCP tool can be asked what became of a call, so none is askable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edge_agent.tools import Effect, Risk
from edge_agent.tools.mcp.settings import Override

_RISKS: tuple[Risk, ...] = ("low", "medium", "high")


@dataclass(frozen=True)
class Class:
    effect: Effect
    risk: Risk
    idempotent: bool


def classify(annotations: dict[str, Any] | None, override: Override | None = None) -> Class:
    """The class of a tool with these annotations, as they stand in its accepted description."""
    hints = annotations or {}
    found = _hinted(hints)
    if override is None:
        return found
    if override.effect == "read":
        found = _hinted({**hints, "readOnlyHint": True})
    elif override.effect == "irreversible" and found.effect == "read":
        found = _hinted({})  # it was wrong about the one thing, so nothing else that it says is taken either
    if override.risk is not None:
        found = replace(found, risk=override.risk)
    if override.idempotent is not None and found.effect != "read":
        found = replace(found, idempotent=override.idempotent)
    return found


def _hinted(hints: dict[str, Any]) -> Class:
    reads = hints.get("readOnlyHint") is True
    destroys = not reads and hints.get("destructiveHint") is not False
    opens = hints.get("openWorldHint") is not False
    level = (0 if reads else 2 if destroys else 1) + (1 if opens else 0)
    effect: Effect = "read" if reads else "irreversible"
    return Class(effect, _RISKS[min(level, 2)], reads or hints.get("idempotentHint") is True)
