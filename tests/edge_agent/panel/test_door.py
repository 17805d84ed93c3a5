"""Codes that open a panel once, and the sessions of those that are open."""

from __future__ import annotations

import gc

import pytest

from edge_agent.panel.door import CODE_S, REST_S, Door
from shared.errors import Refused


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(door: Door, code: str) -> Refused:
    with pytest.raises(Refused) as caught:
        door.enter(code)
    assert caught.value.code == "panel.code"
    return caught.value


def closed(door: Door, room: str, cookie: str) -> None:
    with pytest.raises(Refused, match="panel.closed"):
        door.visit(room, cookie)


def test_a_code_opens_one_panel_in_the_name_of_who_asked() -> None:
    door = Door()
    room, cookie = door.enter(door.invite("ann"))
    visit = door.visit(room, cookie)
    assert (visit.by, visit.room, len(visit.csrf)) == ("ann", room, 64)
    other = door.enter(door.invite("omar"))
    assert door.visit(*other).by == "omar" and door.visit(*other).csrf != visit.csrf
    assert len(cookie) >= 43 and len(room) >= 22


def test_a_code_is_good_for_a_minute() -> None:
    clock = Clock()
    door = Door(clock=clock)
    late, early = door.invite("ann"), door.invite("ann")
    clock.now += CODE_S - 1
    door.enter(early)
    clock.now += 1
    assert "not valid" in refused(door, late).message


def test_a_code_that_comes_twice_closes_what_it_opened() -> None:
    door = Door()
    code = door.invite("ann")
    room, cookie = door.enter(code)
    assert "used already" in refused(door, code).message
    closed(door, room, cookie)
    refused(door, code)  # and opens nothing later either


@pytest.mark.parametrize("code", ["", "x", "é" * 30, "\udcff", "a" * 5000])
def test_another_code_opens_nothing(code: str) -> None:
    door = Door()
    door.invite("ann")
    refused(door, code)


def test_room_and_cookie_belong_together() -> None:
    door = Door()
    one, other = door.enter(door.invite("ann")), door.enter(door.invite("ann"))
    closed(door, one[0], other[1])
    closed(door, one[0], "")
    closed(door, "", one[1])
    closed(door, f"{one[0]}/{one[1]}", "")
    door.visit(*one)


def test_a_panel_closes_when_nobody_uses_it_and_when_it_is_closed() -> None:
    clock = Clock()
    door = Door(clock=clock)
    one, other, third = (door.enter(door.invite("ann")) for _ in range(3))
    clock.now += REST_S - 1
    door.visit(*one)
    door.visit(*third)
    clock.now += 1
    door.visit(*one)
    closed(door, *other)
    door.close(*third)
    closed(door, *third)
    code = door.invite("ann")
    assert door.close_all() == 1
    closed(door, *one)
    refused(door, code)


def test_only_so_many_are_kept() -> None:
    door = Door()
    first = door.enter(door.invite("ann"))
    codes = [door.invite("ann") for _ in range(40)]
    refused(door, codes[0])
    for code in codes[-16:]:
        door.enter(code)
    closed(door, *first)


def test_what_was_said_is_heard_once() -> None:
    door = Door()
    room, cookie = door.enter(door.invite("ann"))
    door.visit(room, cookie).say("Saved.")
    assert door.visit(room, cookie).hear() == ["Saved."]
    assert door.visit(room, cookie).hear() == []


def test_no_secret_of_a_browser_is_kept() -> None:
    door = Door()
    code = door.invite("ann")
    room, cookie = door.enter(code)
    gc.collect()
    held = repr([vars(door), *door._codes.values(), *door._open.values()])
    assert not any(secret in held for secret in (code, room, cookie))
