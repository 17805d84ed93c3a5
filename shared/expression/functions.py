"""The functions of expressions: those of CEL that hold their promise in this implementation, and ten of our own.

Left out are functions that the library lacks, that err in silence (``duration`` beyond what ``patterns`` lets through),
or that lead to values a playbook has no use for: fractions, bytes, unsigned numbers, types. Ours bear the names and the
meaning of CEL's strings extension, and work on whole numbers and ISO dates where that has none.

Each of ours is given plain values by the evaluator and raises ``ValueError`` with words that do not quote them: values
may be private, and the words end in errors and logs.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# name -> the least and most values it is given; a method's receiver counts
GLOBAL: dict[str, tuple[int, int]] = {
    "size": (1, 1),
    "string": (1, 1),
    "int": (1, 1),
    "timestamp": (1, 1),
    "duration": (1, 1),
    "decimal": (2, 2),
    "addDays": (2, 2),
    "daysBetween": (2, 2),
}
_PARTS = ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "Hours", "Minutes", "Seconds")
METHOD: dict[str, tuple[int, int]] = {
    "size": (1, 1),
    "contains": (2, 2),
    "startsWith": (2, 2),
    "endsWith": (2, 2),
    "matches": (2, 2),
    **{f"get{part}": (1, 1) for part in _PARTS},
    "lowerAscii": (1, 1),
    "upperAscii": (1, 1),
    "trim": (1, 1),
    "replace": (3, 3),
    "split": (2, 2),
    "join": (1, 2),
    "substring": (2, 3),
}
# name -> how many bodies it takes at most after its variable
LOOPS = {"all": 1, "exists": 1, "exists_one": 1, "filter": 1, "map": 2}
# What these are given last is written out, so that it is judged before anything runs.
LITERAL = frozenset(("matches", "duration"))

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_UPPER = {lower: upper for upper, lower in _LOWER.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("it takes text")
    return value


def _int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("it takes a whole number")
    return value


def _lower_ascii(text: Any) -> str:
    return _text(text).translate(_LOWER)


def _upper_ascii(text: Any) -> str:
    return _text(text).translate(_UPPER)


def _trim(text: Any) -> str:
    return _text(text).strip()


def _replace(text: Any, old: Any, new: Any) -> str:
    return _text(text).replace(_text(old), _text(new))


def _split(text: Any, separator: Any) -> list[str]:
    return _text(text).split(separator) if _text(separator) else list(_text(text))


def _join(parts: Any, separator: Any = "") -> str:
    if not isinstance(parts, list):
        raise ValueError("it takes a list of texts")
    return _text(separator).join(_text(part) for part in parts)


def _substring(text: Any, start: Any, end: Any = None) -> str:
    last = len(_text(text)) if end is None else _int(end)
    if not 0 <= _int(start) <= last <= len(text):
        raise ValueError("the range lies outside the text")
    return str(text[start:last])


def _decimal(number: Any, places: Any) -> str:
    """``decimal(1250, 2)`` is ``"12.50"``: what people read for cents and permille."""
    if not 1 <= _int(places) <= 9:
        raise ValueError("it takes 1 to 9 places")
    digits = str(abs(_int(number))).rjust(places + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _date(text: Any) -> dt.date:
    if _DATE.fullmatch(_text(text)):
        with suppress(ValueError):
            return dt.date.fromisoformat(text)
    raise ValueError("it takes a date like 2026-03-31")


def _add_days(date: Any, days: Any) -> str:
    try:
        return (_date(date) + dt.timedelta(days=_int(days))).isoformat()
    except OverflowError:
        raise ValueError("the date lies outside the years 1 to 9999") from None


def _days_between(first: Any, last: Any) -> int:
    return (_date(last) - _date(first)).days


OWN: dict[str, Callable[..., Any]] = {
    "lowerAscii": _lower_ascii,
    "upperAscii": _upper_ascii,
    "trim": _trim,
    "replace": _replace,
    "split": _split,
    "join": _join,
    "substring": _substring,
    "decimal": _decimal,
    "addDays": _add_days,
    "daysBetween": _days_between,
}
