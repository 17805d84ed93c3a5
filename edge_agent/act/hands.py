"""The tools of this agent, and the one way they are used.

``perform`` takes an ``Allowed`` and nothing else, so a skipped guard does not type-check. ``settle`` takes an intent
found without a result after a crash: nobody knows whether the effect happened. A tool that can be asked is asked by
key; what never reached it is sent, under the same key. A tool that is idempotent is sent to again. Any other is left in
doubt, for a person.

Both end in a result, in a doubt, or in ``NotSent``: surely nothing happened, and the run may try again later. A
person's stop ends them as well: it is looked for directly before each sending, the first and every further one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import stamina

from edge_agent.act.gate import Gate
from edge_agent.tools import Manual, NotSent, Receipt, Tool
from shared.actions import Action
from shared.entries import Draft, EffectObserved, IntentDoubted, IntentRecorded, ResultRecorded, Switch
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered, Unavailable
from shared.policy import Allowed


def intent(allowed: Allowed) -> IntentRecorded:
    """The facts to commit before ``perform``."""
    return IntentRecorded(
        step=allowed.step,
        action=allowed.digest,
        tool=allowed.action.tool,
        key=allowed.key,
        approval=allowed.approval,
    )


class _Silence(Exception):
    """Nobody knows whether it happened."""


class Stopped(Unavailable):
    """A person's stop came before the sending."""


class Hands:
    """``stopped`` gives the stop that keeps a run (by its id) from using a tool; ``now`` microseconds since 1970 UTC;
    ``monotonic`` seconds of a clock that is never set."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        *,
        stopped: Callable[[str, str], Switch | None],
        now: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tools = dict(tools)
        self._stopped = stopped
        self._now = now
        self._gates = {name: Gate(tool, monotonic) for name, tool in self._tools.items()}
        self._unsent: set[str] = set()  # keys that surely never left this process

    @property
    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def find(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def tool(self, name: str) -> Tool:
        """Raises ``BadInput('tool.unknown')``."""
        found = self._tools.get(name)
        if found is None:
            raise BadInput(
                "tool.unknown",
                f"there is no tool {name!r} here",
                advice="add it to tools.toml, or correct the playbook",
            )
        return found

    async def close(self) -> None:
        for tool in self._tools.values():
            await tool.close()

    async def perform(self, run: str, allowed: Allowed) -> Draft:
        """Do it; the draft of its result or of the doubt. What the tool refuses is a result too. Raises ``NotSent``."""
        call = _Call(run, allowed.step, allowed.action, allowed.key, self.tool(allowed.action.tool), self._now)
        return await self._finish(call)

    async def settle(self, run: str, open_intent: IntentRecorded, action: Action) -> Draft:
        """Find out what became of an intent; the draft of its result, or of the doubt. Raises ``NotSent``."""
        tool = self.tool(open_intent.tool)
        call = _Call(run, open_intent.step, action, open_intent.key, tool, self._now)
        if tool.askable:
            try:
                known = await call.ask()
            except Unavailable:
                return call.doubt()
            if known is not None:
                return call.result(known, "asked")
        elif not tool.idempotent and open_intent.key not in self._unsent:
            return call.doubt()
        return await self._finish(call)

    async def _finish(self, call: _Call) -> Draft:
        self._unsent.discard(call.key)
        try:
            return await self._send(call)
        except NotSent:
            self._unsent.add(call.key)
            raise
        except Stopped:
            if not call.silent:
                self._unsent.add(call.key)
            raise
        except _Silence:
            return call.doubt()
        except (Refused, BadInput, Conflict, Tampered) as error:
            return call.failed(error)

    async def _send(self, call: _Call) -> Draft:
        """Send, and again after what may pass, within the tool's back-off. What is needed for a second try is set up
        when the first has failed: nearly none does, and it costs more than all else here."""
        try:
            return await self._try(call)
        except (NotSent, _Silence) as error:
            first = error
        backoff = call.tool.backoff
        tries = stamina.retry_context(
            on=(NotSent, _Silence),
            attempts=backoff.attempts,
            timeout=None,
            wait_initial=backoff.first_s,
            wait_max=backoff.most_s,
            wait_jitter=backoff.first_s,
        )
        async for attempt in tries:
            with attempt:
                if attempt.num == 1:
                    raise first
                call.attempts = attempt.num
                return await self._try(call)
        raise AssertionError("the loop returns or raises")

    async def _try(self, call: _Call) -> Draft:
        """Send once. Raises ``NotSent`` or ``_Silence`` where another try may follow."""
        gate = self._gates[call.tool.name]
        if call.silent:
            known = await self._ask_again(call)
            if known is not None:
                return call.result(known, "asked")
        try:
            await gate.enter()
        except NotSent:  # the tool was not called: that is no failure of its own, or its rest would never end
            if call.silent:
                raise _Silence from None
            raise
        self._look_for_stop(call)
        try:
            receipt = await call.send()
        except NotSent:
            gate.failed()
            if call.silent:  # this one did not leave, but an earlier one may have arrived
                raise _Silence from None
            raise
        except Unavailable:
            gate.failed()
            call.silent = True
            if not call.repeatable:
                return call.doubt()
            if call.attempts == call.tool.backoff.attempts:
                known = await self._ask_again(call)
                return call.result(known, "asked") if known is not None else call.doubt()
            raise _Silence from None
        except OutriderError:
            gate.worked()
            raise
        gate.worked()
        return call.result(receipt, "sent")

    def _look_for_stop(self, call: _Call) -> None:
        """No wait may come between this and the sending. The run is not ended: it tries again when it is woken, and
        then what may have arrived is asked for first, as after a crash."""
        switch = self._stopped(call.run, call.tool.name)
        if switch is not None:
            said = switch.name or ("this device" if switch.kind == "device" else "everything")
            raise Stopped(
                "stop.pressed",
                f"{switch.by} stopped {said}",
                advice="it goes on when a person lets it, on the hub's safety page",
            )

    async def _ask_again(self, call: _Call) -> Receipt | None:
        """What the tool says of the key. Raises ``_Silence`` where nobody answers and sending could do it twice."""
        if not call.tool.askable:
            return None
        try:
            return await call.ask()
        except Unavailable:
            if call.tool.idempotent:
                return None
            raise _Silence from None

    async def observe(self, run: str, step: str, action: Action, key: str, receipt: dict[str, Any]) -> Draft:
        """Read the outcome back and compare it with what the action said it would be."""
        tool = self.tool(action.tool)
        try:
            async with asyncio.timeout(tool.timeout_s):
                matches, found = await tool.observe(action, key, receipt)
        except TimeoutError as error:
            raise _late(tool) from error
        return Draft(EffectObserved(step=step, key=key, matches=matches), run, {"shared": {"found": found}})

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        """How to take an effect back, as its tool says."""
        return self.tool(action.tool).undo(action, receipt)


class _Call:
    """One intent on its way: what is called, and how its end is written down."""

    def __init__(self, run: str, step: str, action: Action, key: str, tool: Tool, now: Callable[[], int]) -> None:
        self.run = run
        self.step = step
        self.action = action
        self.key = key
        self.tool = tool
        self.attempts = 1
        self.silent = False
        self._now = now
        self._started = now()

    @property
    def repeatable(self) -> bool:
        """A call that was not answered may be followed by another. One that ran into its time limit may still arrive,
        so asking is not enough: the tool must take the same key twice."""
        return self.tool.idempotent or (self.tool.askable and not self._timed_out)

    _timed_out = False

    async def send(self) -> Receipt:
        try:
            async with asyncio.timeout(self.tool.timeout_s):
                return await self.tool.send(self.action, self.key)
        except TimeoutError as error:
            self._timed_out = True
            raise _late(self.tool) from error

    async def ask(self) -> Receipt | None:
        try:
            async with asyncio.timeout(self.tool.timeout_s):
                return await self.tool.ask(self.key, self.action)
        except TimeoutError as error:
            raise _late(self.tool) from error

    def result(self, receipt: Receipt, how: str) -> Draft:
        return self._draft("done", "", how, {"receipt": receipt.details})

    def failed(self, error: OutriderError) -> Draft:
        said = {"message": error.message, "advice": error.advice}
        return self._draft("failed", error.code, "sent", {"receipt": said})

    def doubt(self) -> Draft:
        return Draft(IntentDoubted(step=self.step, key=self.key), self.run)

    def _draft(self, outcome: str, code: str, how: str, body: dict[str, Any]) -> Draft:
        facts = ResultRecorded(
            step=self.step,
            key=self.key,
            outcome=outcome,
            code=code,
            how=how,
            attempts=self.attempts,
            latency_us=max(0, self._now() - self._started),
        )
        return Draft(facts, self.run, {"shared": body})


def _late(tool: Tool) -> Unavailable:
    return Unavailable(
        "tool.timeout", f"{tool.name} did not answer within {tool.timeout_s:g} s", advice="check the other side"
    )
