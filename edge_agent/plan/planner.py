"""From a run's event to a plan on record: what was recalled, what is recommended, and the exact action that follows.

The recommendation is ``triage``'s. This module brings it the past decisions (fitted once, again when memory has
grown), and turns its answer into an action of one of the step's tools: each argument is filled from the
recommendation (``lane``, ``reason``), the fields it read, or the run's own inputs, by name. Private inputs are never
used as arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.memory import Kept, Memory
from edge_agent.plan.lanes import LaneModel, PastCase
from edge_agent.plan.triage import Models, Recommendation, recommend
from edge_agent.tools import Argument
from shared.actions import Action, Arguments
from shared.entries import ContextRecalled, ItemRef, PlanMade
from shared.playbook import MemoryContext, Playbook
from shared.triage.setup import Setup
from shared.triage.text import excerpt

_REFIT_AFTER = 25  # changes to memory after which past decisions are fitted again at once
_REFIT_SECONDS = 30.0  # or after this long, for fewer changes
_SOURCE_CHARS = 200


@dataclass(frozen=True)
class Planned:
    """``action`` is ``None`` where no action could be made; ``made.abstained`` then says why."""

    recalled: ContextRecalled
    made: PlanMade
    body: dict[str, Any]
    action: Action | None


class _Past:
    """Past decisions as last fitted."""

    def __init__(self) -> None:
        self.version = -1
        self.embedder = ""
        self.fitted_at = 0.0
        self.model: LaneModel | None = None
        self.items: dict[str, Kept] = {}


class Planner:
    """Plans for one agent. ``models`` is ``None`` where no model may run; ``embedder`` is the hash of the one in
    use."""

    def __init__(
        self,
        memory: Memory,
        *,
        now: Callable[[], int],
        monotonic_us: Callable[[], int],
        models: Models | None,
        embedder: str,
    ) -> None:
        self._memory = memory
        self._now = now
        self._clock = monotonic_us
        self.models = models
        self.embedder = embedder
        self._past: dict[tuple[str, ...], _Past] = {}
        self._fitting = asyncio.Lock()

    def other(self, models: Models, embedder: str) -> Planner:
        """One like this, with other models."""
        return Planner(self._memory, now=self._now, monotonic_us=self._clock, models=models, embedder=embedder)

    async def plan(
        self,
        playbook: Playbook,
        step_id: str,
        setup: Setup,
        inputs: Mapping[str, str | int | None],
        subject: str,
        tool: str,
        arguments: Mapping[str, Argument],
        *,
        urgency: int = 1,
        held_out: bool = False,
    ) -> Planned:
        """Recommend for one run. ``inputs`` are the run's public inputs; ``subject`` its business key; ``urgency`` is 0
        for interactive, 1 for background and 2 for batch runs: in this order they get the models. ``held_out`` plans as
        if what memory has of the very same words had not been decided yet."""
        started = self._clock()
        past = await self._recall(playbook.context.memory) if playbook.context else _Past()
        recalled_us = self._clock() - started
        found = await recommend(
            dict(inputs),
            setup,
            memory=past.model,
            models=self.models,
            clock=self._clock,
            urgency=urgency,
            held_out=held_out,
        )
        lane = found.lane or playbook.fallback or ""
        filled, missing = _fill(arguments, found, lane, inputs)
        action = None if missing else Action(tool=tool, arguments=filled, subject=subject)
        items = [ItemRef(source.id, source.sha256) for source in found.sources if source.kind == "item"]
        made = PlanMade(
            step=step_id,
            planner=found.planner,
            prompt=found.prompt,
            model=found.model,
            label=lane,
            confidence=found.confidence,
            rules=[source.id for source in found.sources if source.kind == "rule"],
            latency_us=self._clock() - started,
            prompt_tokens=found.prompt_tokens,
            reused_tokens=found.reused_tokens,
            generated_tokens=0,
            cost_cents=0,
            tool=tool,
            action=action.digest if action else "",
            abstained="plan.argument-missing" if missing else found.abstained,
        )
        body = _body(playbook, found, lane, action, past.items)
        searched_us = recalled_us + found.timings.embed_us + found.timings.memory_us
        return Planned(ContextRecalled(step=step_id, items=items, latency_us=searched_us), made, body, action)

    async def _recall(self, wanted: MemoryContext) -> _Past:
        """Past decisions, fitted. Fitting takes up to a second for thousands of items, so it is done off the loop and
        not for every new one."""
        past = self._past.setdefault((wanted.scope, str(wanted.nearest), *wanted.kinds), _Past())
        async with self._fitting:
            version, elapsed = self._memory.version, self._clock() / 1e6 - past.fitted_at
            changes = version - past.version
            fresh = past.model is not None and past.embedder == self.embedder
            if fresh and (changes == 0 or (changes < _REFIT_AFTER and elapsed < _REFIT_SECONDS)):
                return past
            kept = await asyncio.to_thread(self._memory.recall, wanted.kinds, wanted.scope, self.embedder, self._now())
            past.items = {item.id: item for item in kept}
            past.model = await asyncio.to_thread(_fit, kept, wanted.nearest)
            past.version, past.embedder, past.fitted_at = version, self.embedder, self._clock() / 1e6
        return past


def _fit(kept: list[Kept], nearest: int) -> LaneModel:
    """Vectors are used only where every item has one: half a memory with vectors would favour that half."""
    whole = all(item.vector is not None for item in kept)
    cases = [
        PastCase(item.id, item.sha256, item.text, item.label, item.vector if whole else None)
        for item in kept
        if item.label
    ]
    return LaneModel.fit(cases, nearest=nearest)


def _fill(
    wanted: Mapping[str, Argument], found: Recommendation, lane: str, inputs: Mapping[str, str | int | None]
) -> tuple[Arguments, list[str]]:
    """The tool's arguments by name, and the required ones that nothing fills."""
    known: dict[str, str | int | None] = {
        **inputs,
        **found.values,
        "lane": lane or None,
        "reason": found.reason or None,
    }
    filled: Arguments = {}
    missing = []
    for name, argument in wanted.items():
        value = known.get(name)
        if argument.kind == "text" and value is not None:
            value = str(value)
        if value is None and argument.required:
            missing.append(name)
        filled[name] = value
    return filled, missing


def _body(
    playbook: Playbook, found: Recommendation, lane: str, action: Action | None, items: Mapping[str, Kept]
) -> dict[str, Any]:
    """What a person reads. The text of an item is quoted only where its scope is shared with the hub anyway."""
    reasons = {rule.id: str(rule.then.get("reason", "")) for rule in playbook.rules}
    labels = {entry.id: entry.label for entry in playbook.lanes}
    sources = []
    for source in found.sources:
        item = items.get(source.id)
        if source.kind == "rule":
            text = reasons.get(source.id, "")
        elif item is not None and item.scope.startswith("team/"):
            text = f"{labels.get(item.label, item.label)}: {excerpt(item.text, _SOURCE_CHARS)}"
        else:
            text = labels.get(item.label, item.label) if item is not None else ""
        sources.append({"kind": source.kind, "id": source.id, "sha256": source.sha256, "text": text})
    return {
        "recommendation": True,
        "action": {"tool": action.tool, "arguments": action.arguments, "subject": action.subject} if action else None,
        "label": labels.get(lane, lane),
        "fields": found.values,
        "reason": found.reason,
        "notes": found.notes,
        "sources": sources,
    }
