"""Whose turn it is: urgency, then age; and who is asked to let go."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.models.messages import BACKGROUND, BATCH, INTERACTIVE
from edge_agent.models.turns import Turn, Turns


async def work(turns: Turns, turn: Turn, name: str, done: list[str], gate: asyncio.Event | None = None) -> None:
    async with turns.hold(turn):
        if gate is not None:
            await gate.wait()
        done.append(name)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_most_urgent_first_then_the_oldest() -> None:
    turns, done, gate = Turns(), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(work(turns, turns.enter(BATCH), "first", done, gate))]
    await settled()
    for name, urgency in (
        ("b1", BATCH),
        ("g1", BACKGROUND),
        ("i1", INTERACTIVE),
        ("g2", BACKGROUND),
        ("i2", INTERACTIVE),
    ):
        tasks.append(asyncio.create_task(work(turns, turns.enter(urgency), name, done)))
        await settled()
    assert turns.taken
    gate.set()
    await asyncio.gather(*tasks)
    assert done == ["first", "i1", "i2", "g1", "g2", "b1"]
    assert not turns.taken


async def test_a_turn_keeps_its_age_when_it_is_taken_again() -> None:
    turns, done, gate = Turns(), list[str](), asyncio.Event()
    old, young = turns.enter(BATCH), turns.enter(BATCH)
    first = asyncio.create_task(work(turns, turns.enter(BACKGROUND), "first", done, gate))
    await settled()
    tasks = [asyncio.create_task(work(turns, young, "young", done)), asyncio.create_task(work(turns, old, "old", done))]
    await settled()
    gate.set()
    await asyncio.gather(first, *tasks)
    assert done == ["first", "old", "young"]


@pytest.mark.parametrize(
    ("holder", "yields", "comes", "asked"),
    [
        (BATCH, 1, INTERACTIVE, True),
        (BATCH, 0, INTERACTIVE, False),
        (BATCH, 1, BACKGROUND, False),
        (BATCH, 1, BATCH, False),
        (BACKGROUND, 1, INTERACTIVE, False),
        (INTERACTIVE, 1, INTERACTIVE, False),
    ],
)
async def test_only_batch_work_is_asked_to_let_go_and_only_for_a_person(
    holder: int, yields: int, comes: int, asked: bool
) -> None:
    turns, done, gate, calls = Turns(), list[str](), asyncio.Event(), list[int]()
    held = turns.enter(holder, yields=yields)
    first = asyncio.create_task(work(turns, held, "first", done, gate))
    await settled()
    held.interrupt = lambda: calls.append(1)
    second = asyncio.create_task(work(turns, turns.enter(comes), "second", done))
    await settled()
    assert bool(calls) is asked
    assert turns.wanted(held) is asked
    gate.set()
    await asyncio.gather(first, second)
    assert held.interrupt is None


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    turns, done, gate = Turns(), list[str](), asyncio.Event()
    held = turns.enter(BATCH, yields=1)
    first = asyncio.create_task(work(turns, held, "first", done, gate))
    await settled()
    gone = asyncio.create_task(work(turns, turns.enter(INTERACTIVE), "gone", done))
    last = asyncio.create_task(work(turns, turns.enter(BATCH), "last", done))
    await settled()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not turns.wanted(held)
    gate.set()
    await asyncio.gather(first, last)
    assert done == ["first", "last"]


async def test_a_turn_given_to_one_who_was_just_cancelled_goes_on_to_the_next() -> None:
    turns, done, gate = Turns(), list[str](), asyncio.Event()
    first = asyncio.create_task(work(turns, turns.enter(BATCH), "first", done, gate))
    await settled()
    gone = asyncio.create_task(work(turns, turns.enter(INTERACTIVE), "gone", done))
    last = asyncio.create_task(work(turns, turns.enter(BATCH), "last", done))
    await settled()
    gate.set()
    while len(done) < 1:
        await asyncio.sleep(0)
    gone.cancel()  # its turn has come, and it has not run yet
    with pytest.raises(asyncio.CancelledError):
        await gone
    async with asyncio.timeout(60):
        await asyncio.gather(first, last)
    assert done == ["first", "last"]
    assert not turns.taken


async def test_a_holder_that_fails_gives_the_turn_back() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        async with turns.hold(turns.enter(BATCH)):
            raise ZeroDivisionError
    assert not turns.taken


@given(st.lists(st.tuples(st.sampled_from((INTERACTIVE, BACKGROUND, BATCH)), st.booleans()), max_size=12))
def test_never_two_at_once_and_nobody_is_left(comers: list[tuple[int, bool]]) -> None:
    async def run() -> None:
        turns, at_work, most, done = Turns(), 0, 0, 0

        async def one(urgency: int) -> None:
            nonlocal at_work, most, done
            async with turns.hold(turns.enter(urgency)):
                at_work += 1
                most = max(most, at_work)
                try:
                    await asyncio.sleep(0)
                finally:
                    at_work -= 1
                done += 1

        tasks = []
        for urgency, cancelled in comers:
            tasks.append(asyncio.create_task(one(urgency)))
            await asyncio.sleep(0)
            if cancelled:
                tasks[len(tasks) // 2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 1
        assert done == sum(not task.cancelled() for task in tasks)
        assert not turns.taken

    asyncio.run(run())
