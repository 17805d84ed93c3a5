"""What stands before a tool: a rate, and a rest after failures that ends by itself."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.act import Hands
from edge_agent.act.gate import Gate
from edge_agent.tools import Backoff, Breaker, Effect, NotSent, Rate, Receipt, Tool
from shared.actions import Action
from shared.policy import ALLOW, Verdict, permit

ACTION = Action("shop.put", {}, "S1")


class Door(Tool):
    """Counts calls; shut or open."""

    name = "shop.put"
    about = "Put something on the shelf."
    effect: Effect = "read"
    idempotent = True
    askable = False
    backoff = Backoff(attempts=1, first_s=0.001)
    breaker = Breaker(failures=3, rest_s=30)

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self.shut = True
        self.calls = 0

    async def send(self, action: Action, key: str) -> Receipt:
        self.calls += 1
        if self.shut:
            raise NotSent("shop.shut", "the door is shut", advice="wait")
        return Receipt({})


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_rest_ends_however_often_it_was_knocked_meanwhile() -> None:
    door, clock = Door(), Seconds()
    hands = Hands({door.name: door}, stopped=lambda run, tool: None, now=lambda: 0, monotonic=clock)
    allowed = permit(ACTION, Verdict(ALLOW, ["may"]), judged=ACTION.digest, step="a")
    for _ in range(3):
        with pytest.raises(NotSent, match=r"shop\.shut"):
            await hands.perform("run_1", allowed)
    for second in range(1, 30):  # many runs wait for this tool, and each knocks
        clock.now = float(second)
        with pytest.raises(NotSent, match=r"tool\.resting"):
            await hands.perform("run_1", allowed)
    assert door.calls == 3
    clock.now, door.shut = 30.0, False
    draft = await hands.perform("run_1", allowed)
    assert draft.facts.outcome == "done" and door.calls == 4  # type: ignore[attr-defined]


async def test_a_rate_lets_so_many_through_and_puts_off_the_rest() -> None:
    door, clock = Door(), Seconds()
    door.rate = Rate(calls=2, per_s=120)
    gate = Gate(door, clock)
    await gate.enter()
    await gate.enter()
    with pytest.raises(NotSent, match=r"tool\.rate"):
        await gate.enter()
    clock.now = 120.0
    await gate.enter()
