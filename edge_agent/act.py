"""Act: carry out what the guard allowed, under an intent that is on the disk already.

``perform`` takes an ``Allowed`` and nothing else, so a skipped guard does not type-check. ``settle`` takes an intent
found without a result after a crash: nobody knows whether the effect happened. A tool that can be asked is asked by
key; what never reached it is sent, under the same key. A tool that is idempotent is sent to again. Any other is left in
doubt, for a person.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from edge_agent.tools import Receipt, Tool
from shared.actions import Action
from shared.entries import Draft, EffectObserved, IntentDoubted, IntentRecorded, ResultRecorded
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from shared.policy import Allowed

_TRIES = 3
_FIRST_WAIT_S = 0.2


def intent(allowed: Allowed) -> IntentRecorded:
    """The facts to commit before ``perform``."""
    action = allowed.action
    return IntentRecorded(
        step=allowed.step, action=action.digest, tool=action.tool, key=action.key, approval=allowed.approval
    )


class Hands:
    """The tools of this agent, and how to use them."""

    def __init__(self, tools: Mapping[str, Tool], *, now: Callable[[], int]) -> None:
        self._tools = tools
        self._now = now

    def tool(self, name: str) -> Tool:
        found = self._tools.get(name)
        if found is None:
            raise BadInput(
                "tool.unknown", f"there is no tool {name!r} here", advice="install it, or correct the playbook"
            )
        return found

    async def perform(self, run: str, allowed: Allowed) -> Draft:
        """Do it; the draft of its result. Never raises for what the tool does: that is a result too."""
        return await self._send(run, allowed.step, allowed.action, self.tool(allowed.action.tool), "sent")

    async def settle(self, run: str, open_intent: IntentRecorded, action: Action) -> Draft:
        """Find out what became of an intent; the draft of its result, or of the doubt."""
        tool = self.tool(open_intent.tool)
        if tool.askable:
            started = self._now()
            try:
                receipt = await tool.ask(open_intent.key)
            except Unavailable:
                return Draft(IntentDoubted(step=open_intent.step, key=open_intent.key), run)
            if receipt is not None:
                return self._result(run, open_intent.step, action.key, receipt, "asked", 1, started)
        elif not tool.idempotent:
            return Draft(IntentDoubted(step=open_intent.step, key=open_intent.key), run)
        return await self._send(run, open_intent.step, action, tool, "sent")

    async def _send(self, run: str, step: str, action: Action, tool: Tool, how: str) -> Draft:
        started = self._now()
        repeatable = tool.idempotent or tool.askable
        for attempt in range(1, _TRIES + 1):
            try:
                receipt = await tool.send(action, action.key)
            except (Refused, BadInput) as error:
                return self._failed(run, step, action.key, error, how, attempt, started)
            except Unavailable:
                if not repeatable:
                    return Draft(IntentDoubted(step=step, key=action.key), run)
                if attempt == _TRIES:
                    return await self._after_silence(run, step, action, tool, started)
                await asyncio.sleep(_FIRST_WAIT_S * 2 ** (attempt - 1))
                if tool.askable:
                    try:
                        known = await tool.ask(action.key)
                    except Unavailable:
                        if not tool.idempotent:  # nobody knows, and sending again could do it twice
                            return Draft(IntentDoubted(step=step, key=action.key), run)
                        continue
                    if known is not None:
                        return self._result(run, step, action.key, known, "asked", attempt, started)
            else:
                return self._result(run, step, action.key, receipt, how, attempt, started)
        raise AssertionError("the loop returns")

    async def _after_silence(self, run: str, step: str, action: Action, tool: Tool, started: int) -> Draft:
        """The last try failed too. Only a tool that answers for the key can turn silence into a result."""
        if tool.askable:
            with contextlib.suppress(Unavailable):
                known = await tool.ask(action.key)
                if known is not None:
                    return self._result(run, step, action.key, known, "asked", _TRIES, started)
        return Draft(IntentDoubted(step=step, key=action.key), run)

    async def observe(self, run: str, step: str, action: Action) -> Draft:
        """Read the outcome back and compare it with what the action said it would be."""
        matches, found = await self.tool(action.tool).observe(action, action.key)
        facts = EffectObserved(step=step, key=action.key, matches=matches)
        return Draft(facts, run, {"shared": {"found": found}})

    def _result(self, run: str, step: str, key: str, receipt: Receipt, how: str, attempts: int, started: int) -> Draft:
        facts = ResultRecorded(
            step=step,
            key=key,
            outcome="done",
            code="",
            how=how,
            attempts=attempts,
            latency_us=max(0, self._now() - started),
        )
        return Draft(facts, run, {"shared": {"receipt": receipt.details}})

    def _failed(
        self, run: str, step: str, key: str, error: OutriderError, how: str, attempts: int, started: int
    ) -> Draft:
        facts = ResultRecorded(
            step=step,
            key=key,
            outcome="failed",
            code=error.code,
            how=how,
            attempts=attempts,
            latency_us=max(0, self._now() - started),
        )
        return Draft(facts, run, {"shared": {"receipt": {"message": error.message, "advice": error.advice}}})
