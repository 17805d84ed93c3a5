"""The promises of a tool, as tests: every adapter runs this suite, and so can an adapter written elsewhere.

Derive from ``ToolContract``, fill in its hooks against the real receiver, and let pytest collect the class (with
pytest-asyncio in its auto mode), or call ``broken_promises`` where there is no pytest. How-to:
``docs/how-to/write-an-adapter.md``.

    class TestNotes(ToolContract):
        @pytest.fixture(autouse=True)
        def world(self, tmp_path): ...

        def make_tool(self): ...
        def good_action(self, n): ...
        async def effects(self, action): ...

A check of something that the tool does not promise passes at once. A hook that a promise needs and that is not filled
in fails its checks: what cannot be shown is not promised.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, get_args

from edge_agent.tools import Effect, Manual, NotSent, Receipt, Risk, Tool
from shared import limits
from shared.actions import Action, Value
from shared.codec import canonical
from shared.errors import BadInput, OutriderError, Unavailable

# As a playbook may name it: ``shared.playbook.ToolName``.
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}\.[A-Za-z][A-Za-z0-9_-]{0,79}")
RECEIPT_BYTES = limits.BODY_BYTES // 2  # a receipt shares its log entry's body with other things

_CODE = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9][a-z0-9-]*)+")
_WRONG: dict[str, list[Value]] = {
    "text": [7, True, ["x"]],
    "integer": ["7", True],
    "boolean": ["yes", 1],
    "decimal": [7, "7,5", "1e3", "NaN", "."],
    "list": ["x", {"x": 1}],
    "object": ["x", ["x"]],
}
_MANY = 5  # actions at once


class ToolContract:
    """Hooks first, checks after them. Actions are always sent under their own key, ``action.key``."""

    secrets: tuple[str, ...] = ()  # texts that may stand in no receipt and no error
    breakable = True  # False only where the receiver cannot be away

    def make_tool(self) -> Tool:
        """The tool, newly made. Called again after ``close`` it stands for a restart of the agent: the same receiver,
        the same state folder. It must be makeable while the receiver is away."""
        raise NotImplementedError("make_tool")

    def good_action(self, n: int) -> Action:
        """The ``n``-th of at least five different actions that the receiver carries out, in any order, or at once."""
        raise NotImplementedError("good_action")

    async def effects(self, action: Action | None) -> int:
        """How many times this action took effect, counted at the receiver and not by the adapter; ``None`` counts the
        effects of all actions. Not asked of ``read`` tools."""
        raise NotImplementedError("effects")

    async def state(self) -> Any:
        """Anything that is equal only when the receiver is as it was. For ``read`` and ``reversible``."""
        raise NotImplementedError("state")

    async def spoil(self, action: Action) -> None:
        """Change the world so that the action's outcome is there no more. For tools that read back."""
        raise NotImplementedError("spoil")

    def tool_named(self, name: str) -> Tool:
        """The tool that carries out an undo. For ``reversible`` and ``compensatable``, where it is another one."""
        tool = self.make_tool()
        if tool.name != name:
            raise NotImplementedError(f"tool_named: {name}")
        return tool

    async def break_receiver(self) -> None:
        """Put the receiver out of reach, with everything it did kept."""
        raise NotImplementedError("break_receiver, or breakable = False")

    async def mend_receiver(self) -> None:
        """Put it back into reach."""
        raise NotImplementedError("mend_receiver, or breakable = False")

    # --- what it declares -------------------------------------------------------------------------------------------

    async def test_it_declares_itself(self) -> None:
        async with self._tool() as tool:
            _must(isinstance(tool, Tool), "a tool derives from edge_agent.tools.Tool")
            _must(NAME.fullmatch(tool.name), f"{tool.name!r} is no tool's name: table.verb")
            _must(tool.about.strip() and "\n" not in tool.about, "about is one line, and not empty")
            _must(tool.effect in get_args(Effect), f"{tool.effect!r} is no effect")
            _must(tool.risk in get_args(Risk), f"{tool.risk!r} is no risk")
            for said in (tool.idempotent, tool.askable, tool.reads_back):
                _must(isinstance(said, bool), "idempotent, askable and reads_back are booleans")
            _must(tool.idempotent or tool.effect != "read", "a read can be sent twice: say idempotent")
            _must(tool.timeout_s > 0, "timeout_s is above 0")
            _must(
                tool.backoff.attempts >= 1 and 0 <= tool.backoff.first_s <= tool.backoff.most_s, "backoff has no sense"
            )
            _must(tool.rate is None or (tool.rate.calls >= 1 and tool.rate.per_s > 0), "rate has no sense")
            _must(tool.breaker.failures >= 1 and tool.breaker.rest_s >= 0, "breaker has no sense")
            for name, argument in tool.arguments.items():
                _must(argument.kind in _WRONG, f"{name}: {argument.kind!r} is no kind")
        actions = [self.good_action(n) for n in range(_MANY)]
        _must(all(action.tool == tool.name for action in actions), "good_action gives actions of this tool")
        _must(len({action.key for action in actions}) == _MANY, "good_action gives different actions")

    async def test_wrong_arguments_are_refused_before_anything_happens(self) -> None:
        async with self._tool() as tool:
            for said, action in _wrong(tool, self.good_action(0)):
                with self._raises(f"send with {said}", BadInput):
                    await tool.send(action, action.key)
                await self._count(tool, None, 0, f"after {said}")

    # --- what it does -----------------------------------------------------------------------------------------------

    async def test_sending_acts_once_and_gives_a_plain_receipt(self) -> None:
        async with self._tool() as tool:
            action = self.good_action(0)
            before = await self.state() if tool.effect == "read" else None
            self._plain((await tool.send(action, action.key)).details, "the receipt")
            await self._count(tool, action, 1, "after send")
            await self._count(tool, None, 1, "in all, after send")
            await self._count(tool, self.good_action(1), 0, "of another action")
            if tool.effect == "read":
                _must(await self.state() == before, "a read changed the receiver")

    async def test_a_key_sent_again_acts_once(self) -> None:
        async with self._tool() as tool:
            if not tool.idempotent:
                return
            action = self.good_action(0)
            first = await tool.send(action, action.key)
            await self._again(tool, action, first, "sent twice")
        async with self._tool() as tool:
            await self._again(tool, action, first, "sent again after a restart")
            other = self.good_action(1)
            receipts = await asyncio.gather(*(self._settled(tool, other) for _ in range(_MANY)))
            await self._count(tool, other, 1, f"sent {_MANY} times at once")
            if tool.effect != "read":
                _must(all(_same(receipt, receipts[0]) for receipt in receipts), "receipts of one key differ")

    async def test_a_call_cut_off_and_sent_again_acts_once(self) -> None:
        """The engine cuts a call off at its time limit; what was begun may still be under way when it sends again."""
        async with self._tool() as tool:
            if not tool.idempotent:
                return
            for n, pause in enumerate((0.0, 0.0005, 0.004, 0.03)):
                action = self.good_action(n)
                cut = asyncio.ensure_future(tool.send(action, action.key))
                await asyncio.sleep(pause)
                cut.cancel()
                with suppress(asyncio.CancelledError):
                    await cut
                await self._settled(tool, action)
                await self._count(tool, action, 1, f"cut off after {pause} s and sent again")
            await asyncio.sleep(0.05)
            for n in range(4):
                await self._count(tool, self.good_action(n), 1, "some time after it was cut off and sent again")

    async def test_actions_sent_at_once_do_not_mix(self) -> None:
        async with self._tool() as tool:
            actions = [self.good_action(n) for n in range(_MANY)]
            receipts = await asyncio.gather(*(self._settled(tool, action) for action in actions))
            for action, receipt in zip(actions, receipts, strict=True):
                await self._count(tool, action, 1, "sent at once with others")
                matches, _ = await tool.observe(action, action.key, receipt.details)
                _must(matches, "after actions sent at once, one's outcome is not there")

    # --- what it tells ----------------------------------------------------------------------------------------------

    async def test_it_answers_for_a_key_without_acting(self) -> None:
        async with self._tool() as tool:
            if not tool.askable:
                return
            action, other = self.good_action(0), self.good_action(1)
            _must(await tool.ask(action.key, action) is None, "ask knows a key that was never sent")
            await self._count(tool, None, 0, "after ask")
            sent = await tool.send(action, action.key)
            await self._told(tool, action, sent, "after send")
            _must(await tool.ask(other.key, other) is None, "ask gives one key's receipt for another")
        async with self._tool() as tool:
            await self._told(tool, action, sent, "after a restart")

    async def test_it_reads_the_outcome_back(self) -> None:
        async with self._tool() as tool:
            action = self.good_action(0)
            details = (await tool.send(action, action.key)).details
            matches, found = await tool.observe(action, action.key, details)
            self._plain(found, "what was observed")
            _must(matches, "observe does not find what was just done")
            await self._count(tool, None, 1, "after observe")
            if tool.effect == "read":
                return
            if not tool.reads_back:
                _must(found == {}, "a tool that does not read back has found nothing: (True, {})")
                return
            await self.spoil(action)
            matches, found = await tool.observe(action, action.key, details)
            self._plain(found, "what was observed")
            _must(
                not matches, "the outcome is gone, and observe says it is there: reads_back = False if it cannot look"
            )

    # --- how it is taken back ---------------------------------------------------------------------------------------

    async def test_its_undo_is_what_its_effect_says(self) -> None:
        async with self._tool() as tool:
            action = self.good_action(0)
            before = await self.state() if tool.effect == "reversible" else None
            undo = tool.undo(action, (await tool.send(action, action.key)).details)
            if tool.effect == "read":
                _must(undo is None, "there is nothing to take back of a read")
            elif tool.effect == "irreversible":
                steps = undo.steps if isinstance(undo, Manual) else []
                _must(steps and all(step.strip() for step in steps), "an irreversible tool gives a person's steps")
            else:
                _must(isinstance(undo, Action), f"{tool.effect}: undo is an action")
                assert isinstance(undo, Action)
                await self._take_back(tool, undo, before)

    async def _take_back(self, tool: Tool, undo: Action, before: Any) -> None:
        canonical(undo)
        other = self.tool_named(undo.tool)
        try:
            for said in ("sent", "sent twice"):
                self._plain((await other.send(undo, undo.key)).details, "the undo's receipt")
                if tool.effect == "reversible":
                    _must(await self.state() == before, f"the undo, {said}, does not restore the former state")
        finally:
            await other.close()

    # --- when the receiver is away ----------------------------------------------------------------------------------

    async def test_a_receiver_out_of_reach_is_told_as_that(self) -> None:
        if not self.breakable:
            return
        async with self._tool() as tool:
            action, known = self.good_action(0), self.good_action(1)
            sent = await tool.send(known, known.key)
            await self.break_receiver()
            with self._raises("send to a receiver out of reach", Unavailable) as caught:
                await tool.send(action, action.key)
            if tool.askable:  # ``None`` would be an answer: "never heard of it"
                with suppress(Unavailable):
                    _must(
                        await tool.ask(known.key, known) is not None, "out of reach, ask says it never heard of a key"
                    )
            if tool.reads_back and tool.effect != "read":
                with suppress(Unavailable):
                    _must(
                        (await tool.observe(known, known.key, sent.details))[0], "out of reach, observe says it is gone"
                    )
            await self.mend_receiver()
            if any(isinstance(error, NotSent) for error in caught):
                await self._count(tool, action, 0, "after NotSent")
            if tool.idempotent:
                await self._settled(tool, action)
                await self._count(tool, action, 1, "sent again to the mended receiver")

    async def test_it_can_be_made_while_the_receiver_is_away(self) -> None:
        if not self.breakable:
            return
        await self.break_receiver()
        async with self._tool() as tool:
            action = self.good_action(0)
            with self._raises("send to a receiver that was away from the start", Unavailable):
                await tool.send(action, action.key)
            await self.mend_receiver()
            if tool.idempotent:
                await self._settled(tool, action)
                await self._count(tool, action, 1, "sent again to the mended receiver")

    async def test_closing_twice_is_harmless(self) -> None:
        unused = self.make_tool()
        await unused.close()
        await unused.close()
        async with self._tool() as tool:
            action = self.good_action(0)
            await tool.send(action, action.key)
            await tool.close()  # and once more at the end of the block
        await self._count(tool, action, 1, "after close")

    # --- helpers ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _tool(self) -> AsyncIterator[Tool]:
        tool = self.make_tool()
        try:
            yield tool
        finally:
            await tool.close()

    @contextmanager
    def _raises(self, what: str, kind: type[OutriderError]) -> Iterator[list[OutriderError]]:
        """The block must raise ``kind``, told well. Anything else that it raises fails the check as it is."""
        caught: list[OutriderError] = []
        try:
            yield caught
        except kind as error:
            caught.append(error)
            _must(_CODE.fullmatch(error.code), f"{what}: {error.code!r} is no error code")
            _must(error.message and error.advice, f"{what}: an error has a message and advice")
            self._secretless(str(error), f"the error of {what}")
        _must(caught, f"{what}: nothing was raised, not {kind.__name__}")

    def _plain(self, details: dict[str, Any], what: str) -> None:
        text = canonical(details)  # raises BadInput("codec.float") and the like
        _must(len(text) <= RECEIPT_BYTES, f"{what} has {len(text)} bytes, more than {RECEIPT_BYTES}")
        self._secretless(text.decode(), what)

    def _secretless(self, text: str, what: str) -> None:
        _must(not any(secret in text for secret in self.secrets), f"a secret stands in {what}")

    async def _count(self, tool: Tool, action: Action | None, wanted: int, when: str) -> None:
        if tool.effect != "read":
            found = await self.effects(action)
            _must(found == wanted, f"{when}: {found} effects, not {wanted}")

    async def _again(self, tool: Tool, action: Action, first: Receipt, said: str) -> None:
        receipt = await tool.send(action, action.key)
        await self._count(tool, action, 1, said)
        _must(tool.effect == "read" or _same(receipt, first), f"{said}: the receipts differ")

    async def _told(self, tool: Tool, action: Action, sent: Receipt, when: str) -> None:
        told = await tool.ask(action.key, action)
        _must(told is not None, f"{when}, ask does not know the key")
        assert told is not None
        self._plain(told.details, "the receipt that ask gives")
        await self._count(tool, None, 1, f"asked {when}")
        undo, asked = tool.undo(action, sent.details), tool.undo(action, told.details)
        _must(undo == asked, f"{when}, the undo made of ask's receipt is another than that of send's")

    async def _settled(self, tool: Tool, action: Action) -> Receipt:
        """Send, and where the tool says that another call of the same key is under way, again a little later."""
        for _ in range(100):
            try:
                return await tool.send(action, action.key)
            except Unavailable:
                if not (tool.idempotent or tool.askable):
                    raise
                await asyncio.sleep(0.05)
        return await tool.send(action, action.key)


async def broken_promises(make: Callable[[], ToolContract]) -> dict[str, str]:
    """Run every check on a contract of its own; the names of those that failed, and why. For use without pytest."""
    broken: dict[str, str] = {}
    for name in [name for name in dir(ToolContract) if name.startswith("test_")]:
        try:
            await getattr(make(), name)()
        except Exception as error:  # noqa: BLE001 - whatever a check raises is what is reported
            broken[name] = f"{type(error).__name__}: {error}"
    return broken


def _wrong(tool: Tool, good: Action) -> Iterator[tuple[str, Action]]:
    def changed(arguments: dict[str, Value]) -> Action:
        return Action(good.tool, arguments, good.subject)

    yield "an unknown argument", changed({**good.arguments, "no-such-argument": "x"})
    for name, argument in tool.arguments.items():
        if argument.required:
            yield f"no {name}", changed({key: value for key, value in good.arguments.items() if key != name})
            yield f"{name} null", changed({**good.arguments, name: None})
        for value in _WRONG[argument.kind]:
            yield f"{name} = {value!r}", changed({**good.arguments, name: value})


def _same(one: Receipt, other: Receipt) -> bool:
    return canonical(one.details) == canonical(other.details)


def _must(holds: object, said: str) -> None:
    if not holds:
        raise AssertionError(said)
