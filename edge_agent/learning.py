"""What the agent learns: a decision that a person confirmed becomes memory, and every item gets a vector."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from edge_agent.memory import Memory
from edge_agent.models.engine import Models
from edge_agent.models.messages import BATCH
from edge_agent.plan.planner import Planner
from edge_agent.releases import Releases
from shared.actions import Action
from shared.errors import OutriderError
from shared.memory import Item
from shared.runs import Run, Step

_AT_ONCE = 64  # texts embedded together
_LOOK_S = 30.0


class Learning:
    """``embedder`` of the planner names the model whose vectors are wanted; a change of it starts all over."""

    def __init__(
        self,
        memory: Memory,
        models: Models,
        planner: Planner,
        releases: Releases,
        trouble: Callable[[OutriderError], None],
    ) -> None:
        self._memory = memory
        self._models = models
        self._planner = planner
        self._releases = releases
        self._trouble = trouble
        self._more = asyncio.Event()

    def confirmed(self, run: Run, step: Step, action: Action, event: dict[str, Any]) -> None:
        """Remember what a person confirmed: the next case like it is nearer to a precedent. Once more does nothing."""
        release = self._releases.get(run.opened.release)
        context = release.playbooks[run.opened.playbook].context
        setup = release.setups.get((run.opened.playbook, step.id.partition("#")[0]))
        if setup is None:
            return
        text = event["inputs"].get(setup.text)
        lane = action.arguments.get("lane")
        if context is None or not isinstance(text, str) or not isinstance(lane, str) or step.answer is None:
            return
        item = Item(
            kind="decision",
            text=text,
            source=f"run {run.id}",
            scope=context.memory.scope,
            fields={"lane": lane, "decided_by": step.answer.by},
            valid_from=run.at,  # what it is aged by; the run's own time, so that learning it twice says the same
        )
        self._memory.add([item])
        self._more.set()

    def more(self) -> None:
        """There may be something to embed."""
        self._more.set()

    async def run(self) -> None:
        """Until cancelled: give every item a vector of the release's embedder, in the background."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._more.wait()
            self._more.clear()
            try:
                await self._embed_missing()
            except OutriderError as error:
                self._trouble(error)

    async def _embed_missing(self) -> None:
        model = self._planner.embedder
        while model and model == self._planner.embedder and not self._models.status().embedder.trouble:
            missing = self._memory.without_vector(model, _AT_ONCE)
            if not missing:
                return
            result = await self._models.embed([text for _, text in missing], urgency=BATCH)
            names = [name for name, _ in missing]
            self._memory.put_vectors(result.model, zip(names, result.embeddings, strict=True))
