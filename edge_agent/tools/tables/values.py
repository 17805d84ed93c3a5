"""Values of cells: as an action gives them, as a file holds them, and as they are told.

An action gives text, an integer, true or false, null, or an object that names its kind: ``{"decimal": "12.50"}``,
``{"date": "2030-07-31"}``, ``{"time": "2030-07-31T09:30:00"}``. No float stands in signed bytes, so decimals are text.
What is read is told as text: decimals plainly, dates in ISO 8601, an empty cell as ``""``.

A text that begins like a formula is never to be run by the program that opens the file next: what an applicant typed
into a form would otherwise read other cells and fetch addresses on the computer of whoever opens the list ("CSV
injection"). In CSV such a text gets an apostrophe in front (``guarded``), which is taken off again when it is read
here; in a workbook it is stored as text, and marked so that editing the cell does not turn it into a formula either.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from shared import limits
from shared.errors import BadInput

Kind = Literal["empty", "text", "number", "boolean", "date", "time"]

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DIGITS = 15  # what a spreadsheet keeps of a number
# Also the full-width signs, which some programs take for the others, and what a program may skip before them.
_RUNS = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


@dataclass(frozen=True)
class Cell:
    """``text`` is what is told of it: a plain number, ISO date or time, ``TRUE`` or ``FALSE``."""

    kind: Kind
    text: str


EMPTY = Cell("empty", "")


def cell(value: Any, column: str) -> Cell:
    """A cell from what an action gives. Raises ``BadInput('tables.value')``."""
    if value is None or value == "":
        return EMPTY
    if isinstance(value, bool):
        return Cell("boolean", "TRUE" if value else "FALSE")
    if isinstance(value, int):
        return Cell("number", _number(str(value), column))
    if isinstance(value, str):
        return Cell("text", _text(value, column))
    if isinstance(value, dict) and len(value) == 1:
        kind, text = next(iter(value.items()))
        if kind == "decimal" and isinstance(text, str) and _DECIMAL.fullmatch(text):
            return Cell("number", _number(text, column))
        if kind == "date" and isinstance(text, str):
            return Cell("date", _date(text, column))
        if kind == "time" and isinstance(text, str):
            return Cell("time", _time(text, column))
    raise _bad(column, "is no text, integer, true, false, null, decimal, date or time")


def guarded(text: str) -> str:
    """As a text stands in CSV: with an apostrophe where it would be run. A plain negative number is not."""
    return f"'{text}" if _RUNS.match(text) and not _DECIMAL.fullmatch(text) else text


def unguarded(text: str) -> str:
    """The text again: the inverse of ``guarded``."""
    return text[1:] if text.startswith("'") and _RUNS.match(text) else text


def runs(text: str) -> bool:
    """Whether a spreadsheet would take this text for a formula if somebody typed it."""
    return _RUNS.match(text) is not None


def _number(text: str, column: str) -> str:
    if len(text.lstrip("-").replace(".", "").strip("0")) > _DIGITS:
        raise _bad(column, f"has more than the {_DIGITS} digits that a spreadsheet keeps: send it as text")
    return text


def _text(text: str, column: str) -> str:
    if len(text) > limits.FIELD_CHARS:
        raise _bad(column, f"is longer than {limits.FIELD_CHARS} characters")
    for sign in text:
        if sign not in "\t\n" and (unicodedata.category(sign) in ("Cc", "Cs") or sign in "\ufffe\uffff"):
            raise _bad(column, "has a sign that no cell can hold")
    return text


def _date(text: str, column: str) -> str:
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError as error:
        raise _bad(column, "is no date such as 2030-07-31") from error
    if day.year < 1901:
        raise _bad(column, "is before 1901, which spreadsheets count in two ways: send it as text")
    return day.isoformat()


def _time(text: str, column: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise _bad(column, "is no time such as 2030-07-31T09:30:00") from error
    if moment.tzinfo is not None or moment.microsecond or moment.year < 1901:
        raise _bad(column, "has a zone, a fraction of a second, or lies before 1901: send it as text")
    return moment.isoformat()


def _bad(column: str, said: str) -> BadInput:
    return BadInput("tables.value", f"the value for {column!r} {said}", advice="see docs/reference/tools.md")
