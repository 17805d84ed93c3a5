"""Looking at what an MCP server offers, and accepting it. A person does this; nothing here is called by a run.

``review`` connects and compares; ``accept`` takes what was looked at, and exactly that: it is bound to the digest that
the review showed, so that a server which answers otherwise the second time is caught.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from edge_agent.tools.build import Place
from edge_agent.tools.mcp import pins, settings
from edge_agent.tools.mcp.effects import Class, classify
from edge_agent.tools.mcp.pins import Accepted, Pin
from edge_agent.tools.mcp.session import Session
from edge_agent.tools.mcp.tool import name_of
from shared.errors import BadInput, Conflict, OutriderError

State = Literal["new", "changed", "accepted", "gone", "unfit"]


@dataclass(frozen=True)
class Seen:
    """One tool of a review. ``name`` is ours, ``at_server`` theirs; ``state`` compares it with what was accepted.
    ``offered`` is ``None`` for what is gone or unfit, and then ``why`` says more."""

    name: str
    at_server: str
    state: State
    kind: Class | None = None
    offered: Pin | None = None
    accepted: Pin | None = None
    why: str = ""

    def parts(self) -> list[str]:
        """What changed, part by part."""
        if self.offered is None or self.accepted is None:
            return []
        return pins.changes(self.accepted.description, self.offered.description)

    def difference(self) -> list[str]:
        """The descriptions as a unified diff, in lines; ASCII, so that nothing in them can hide."""
        old, new = _pretty(self.accepted), _pretty(self.offered)
        return list(difflib.unified_diff(old, new, "accepted", "offered", lineterm="", n=2))


@dataclass(frozen=True)
class Review:
    """``server`` and ``protocol`` are what the server says of itself. ``digest`` is over all that it offers."""

    table: str
    server: str
    protocol: str
    tools: list[Seen]

    @property
    def offered(self) -> list[Pin]:
        return [seen.offered for seen in self.tools if seen.offered is not None]

    @property
    def digest(self) -> str:
        return pins.together(self.offered)

    @property
    def open(self) -> list[Seen]:
        """What a person has to decide: everything that is not as it was accepted."""
        return [seen for seen in self.tools if seen.state in ("new", "changed", "gone")]


async def review(place: Place, given: dict[str, Any]) -> Review:
    """Connect, list, compare. Raises what ``settings.read`` and ``Session.list`` raise; accepted descriptions that do
    not hold together count as none."""
    found = settings.read(place, given)
    try:
        before = pins.load(place.state)
    except OutriderError as error:
        if error.code != "mcp.pins":
            raise
        before = None
    known = {one.name: one for one in before.tools} if before else {}
    session = Session(place, found)
    try:
        listed = await session.list()
    finally:
        await session.close()
    tools: list[Seen] = []
    for one in map(pins.pin, listed.descriptions):
        old = known.pop(one.name, None)
        if one.name in listed.unfit:
            tools.append(_unfit(place, one.name, listed.unfit.pop(one.name), old))
            continue
        state: State = "new" if old is None else "accepted" if old == one else "changed"
        kind = classify(one.facts.get("annotations"), found.tools.get(one.name))
        tools.append(Seen(name_of(place.name, one.name), one.name, state, kind, one, old))
    tools += [_unfit(place, name, why, known.pop(name, None)) for name, why in listed.unfit.items()]
    tools += [Seen(name_of(place.name, old.name), old.name, "gone", accepted=old) for old in known.values()]
    return Review(place.name, listed.server, listed.protocol, sorted(tools, key=lambda seen: seen.name))


def _unfit(place: Place, name: str, why: str, old: Pin | None) -> Seen:
    return Seen(name_of(place.name, name), name, "unfit", accepted=old, why=why)


def accept(place: Place, seen: Review, digest: str, *, only: Collection[str] | None = None) -> Accepted:
    """Write what was reviewed as accepted, and return it. ``digest`` is the one the person was shown. ``only`` names
    tools, as the server does; what else was accepted before and is still the same stays so, and nothing else does.

    Raises ``Conflict('mcp.digest')`` when the server has shown something else meanwhile, ``BadInput('mcp.name')`` for a
    name that is not offered or that two tools would have, ``Unavailable('disk.write')``."""
    if seen.digest != digest:
        raise Conflict(
            "mcp.digest",
            "what the server offers is not what was reviewed",
            advice=f"look again: outrider agent mcp review {place.name}",
        )
    offered = {one.at_server: one for one in seen.tools if one.offered is not None}
    if only is not None and (unknown := sorted({*only} - {*offered})):
        raise BadInput("mcp.name", f"the server offers no {unknown[0]!r}", advice="take a name from the review")
    kept = [
        one.offered
        for name, one in offered.items()
        if one.offered is not None and (only is None or name in only or one.state == "accepted")
    ]
    accepted = Accepted(seen.server, place.now(), sorted(kept, key=lambda one: one.name))
    pins.save(place.state, accepted)
    return accepted


def _pretty(one: Pin | None) -> list[str]:
    return json.dumps(one.facts, indent=2, sort_keys=True).splitlines() if one is not None else []
