"""The register: a key acts once, a case is decided once, and what happened can be asked."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from edge_agent.tools.register import Register
from shared.actions import Action, Value
from shared.errors import BadInput, Refused, Unavailable


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "register.sqlite3")


def decide(number: str = "PA-1", lane: str = "express", **more: Value) -> Action:
    arguments: dict[str, Value] = {"application_id": number, "lane": lane, "reason": "same size", **more}
    return Action("register.decide", arguments, number)


async def test_a_decision_can_be_asked_and_observed(register: Register) -> None:
    action = decide(work_type="roof")
    assert await register.ask(action.key, action) is None
    assert await register.observe(action, action.key, {}) == (False, {})
    receipt = await register.send(action, action.key)
    assert receipt.details["application_id"] == "PA-1"
    known = await register.ask(action.key, action)
    assert known is not None and known.details["lane"] == "express" and known.details["work_type"] == "roof"
    matches, found = await register.observe(action, action.key, {})
    assert matches and found["decided_at"] > 0
    other = decide(lane="plan_review", work_type="roof")
    assert (await register.observe(other, action.key, {}))[0] is False


async def test_a_key_sent_many_times_at_once_acts_once(register: Register, tmp_path: Path) -> None:
    action = decide()
    await asyncio.gather(*(register.send(action, action.key) for _ in range(12)))
    with sqlite3.connect(tmp_path / "register.sqlite3") as db:
        assert db.execute("SELECT COUNT(*), MAX(calls) FROM decisions").fetchone() == (1, 12)
        assert db.execute("SELECT COUNT(*) FROM calls").fetchone() == (12,)
    db.close()


async def test_a_decided_case_is_not_decided_otherwise(register: Register) -> None:
    first, second = decide(), decide(lane="plan_review")
    await register.send(first, first.key)
    with pytest.raises(Refused) as caught:
        await register.send(second, second.key)
    assert caught.value.code == "register.decided"
    assert await register.ask(second.key, second) is None
    assert (await register.observe(first, first.key, {}))[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"application_id": "PA-1", "lane": "express"},
        {"application_id": "PA-1", "lane": None, "reason": "x"},
        {"application_id": "PA-1", "lane": 3, "reason": "x"},
        {"application_id": "PA-1", "lane": True, "reason": "x"},
        {"application_id": "PA-1", "lane": "express", "reason": "x", "force": True},
    ],
)
async def test_other_arguments_are_refused_before_anything_happens(
    register: Register, tmp_path: Path, arguments: dict[str, Value]
) -> None:
    with pytest.raises(BadInput) as caught:
        await register.send(Action("register.decide", arguments, "PA-1"), "key")
    assert caught.value.code == "tool.arguments"
    assert not (tmp_path / "register.sqlite3").exists()


async def test_a_register_out_of_reach_is_unavailable(tmp_path: Path) -> None:
    register = Register(tmp_path / "none" / "register.sqlite3")
    action = decide()
    key = action.key
    for work in (register.send(action, key), register.ask(key, action), register.observe(action, key, {})):
        with pytest.raises(Unavailable) as caught:
            await work
        assert caught.value.code == "register.unavailable"
