"""What the console says of a run's values, steps and context, beside what ``shared.formats`` says for all pages."""

from __future__ import annotations

from typing import Any

from shared.formats import SECOND as SECOND
from shared.formats import cents as cents
from shared.formats import count as count
from shared.formats import exact as exact
from shared.formats import iso as iso
from shared.formats import moment
from shared.formats import prose as prose
from shared.formats import relative as relative
from shared.formats import sentence as sentence
from shared.formats import share as share
from shared.formats import short as short
from shared.formats import span as span
from shared.formats import value as value
from shared.formats import when as when
from shared.formats import words as words

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def clock_time(at: int) -> str:
    """The time of day, to the millisecond, in UTC."""
    return f"{moment(at):%H:%M:%S}.{at % SECOND // 1000:03d}"


def day(at: int) -> str:
    """A day in UTC: ``Mon 23``."""
    told = moment(at)
    return f"{_WEEKDAYS[told.weekday()]} {told.day}"


def took(us: int) -> str:
    """A duration with a decimal where that matters: ``0.21 s``, ``38 ms``."""
    if us >= 10 * SECOND:
        return span(us)
    if us >= SECOND:
        return f"{us // 10_000 / 100:.2f} s"
    return span(us)


def step_base(name: str) -> str:
    """The playbook's id of a step that a run names ``~mail#3``: ``mail``."""
    return name.removeprefix("~").partition("#")[0]


def step(name: str, label: str = "") -> str:
    """A run's step in words: ``~mail#3`` becomes ``Taking back: Mail, round 4``."""
    rounds = [str(int(number) + 1) for number in name.partition("#")[2].split(".") if number.isdigit()]
    text = (label or words(step_base(name))) + (f", round {'.'.join(rounds)}" if rounds else "")
    return f"Taking back: {text}" if name.startswith("~") else text


def context_value(name: str, raw: Any) -> str:
    """A value of the guard's context; the unit stands at the end of its name."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        if name.endswith("_cents"):
            return cents(raw)
        if name in ("confidence", "floor") or name.endswith("_permille"):
            return share(raw)
        if name.endswith("_us"):
            return took(raw)
        if name.endswith(("_s", "_seconds")):
            return span(raw * SECOND)
    return value(raw)


def context_name(name: str) -> str:
    for unit in ("_cents", "_permille", "_seconds", "_us", "_s"):
        name = name.removesuffix(unit)
    return words(name)
