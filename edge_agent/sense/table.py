"""A CSV file to rows that fit a playbook's inputs. Bytes in, judgement out: the folder itself is watched elsewhere.

A file that cannot be read as a table is refused whole. In a file that can, each bad row is refused by itself with a
code, and the others go on. Columns the playbook does not name are refused or dropped, as it says; dropped ones are
never kept.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared import limits
from shared.codec import canonical
from shared.errors import BadInput
from shared.playbook import Input, Playbook

Value = str | int | None

_MONEY = re.compile(r"^\$?\s*(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:\.(\d{1,2})0*)?$", re.ASCII)
# Put before the headings of a file of refused rows; left out again when the mended file comes back.
NOTES = ["row", "code", "what to do"]
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Row:
    """``number`` counts data rows from 1. ``inputs`` has every input of the playbook, ``None`` where empty; ``cells``
    are as they stood in the file."""

    number: int
    cells: list[str]
    inputs: dict[str, Value]
    subject: str


@dataclass(frozen=True)
class BadRow:
    number: int
    cells: list[str]
    error: BadInput


@dataclass
class Table:
    headings: list[str]
    rows: list[Row] = field(default_factory=list)
    refused: list[BadRow] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def read_table(data: bytes, playbook: Playbook) -> Table:
    """Raises ``BadInput('intake.…')`` when the file as a whole cannot be used."""
    lines = _parse(_decode(data))
    headings = [heading.strip() for heading in next(lines, [])]
    if not any(headings):
        raise BadInput("intake.empty", "the file has no heading line", advice="put the column names in the first line")
    if len(headings) > limits.CSV_COLUMNS:
        raise BadInput("intake.columns", f"{len(headings)} columns", advice=f"keep to {limits.CSV_COLUMNS}")
    if any(len(heading) > limits.HEADING_CHARS or _CONTROL.search(heading) for heading in headings):
        raise BadInput(
            "intake.heading",
            f"a heading has control characters, or more than {limits.HEADING_CHARS} characters",
            advice="put short column names in the first line",
        )
    places, dropped = _places(headings, playbook)
    table = Table(headings, dropped=dropped)
    for number, cells in enumerate(lines, 1):
        if number > limits.CSV_ROWS:
            raise BadInput("intake.rows", f"more than {limits.CSV_ROWS} rows", advice="split the file")
        if not any(cell.strip() for cell in cells):
            continue
        try:
            table.rows.append(_row(number, cells, len(headings), places, playbook))
        except BadInput as error:
            table.refused.append(BadRow(number, cells, error))
    return table


def _decode(data: bytes) -> str:
    if len(data) > limits.CSV_BYTES:
        raise BadInput("intake.size", f"more than {limits.CSV_BYTES} bytes", advice="split the file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            "intake.encoding",
            f"byte {error.start} is not UTF-8",
            advice="save the file as 'CSV UTF-8' and drop it again",
            where=f"line {line}",
        ) from error
    if "\x00" in text:
        raise BadInput(
            "intake.csv", "the file has NUL bytes", advice="save it as 'CSV UTF-8'; it may be UTF-16 or binary"
        )
    return text


def _parse(text: str) -> Iterator[list[str]]:
    """Rows of cells; a broken quote or an endless field ends the file with ``intake.csv``."""
    csv.field_size_limit(limits.CSV_BYTES)  # too-long cells are refused row by row further on
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)

    try:
        yield from reader
    except csv.Error as error:
        raise BadInput(
            "intake.csv",
            f"not readable as CSV: {error}",
            advice="look for an unclosed quote; export the file again",
            where=f"line {reader.line_num}",
        ) from error


def _places(headings: list[str], playbook: Playbook) -> tuple[dict[str, int], list[str]]:
    """Where each input stands, and the columns no input names."""
    known: dict[str, str] = {}
    for name, entry in playbook.inputs.items():
        for column in [name, *entry.columns]:
            known[column.casefold()] = name
    places: dict[str, int] = {}
    unknown: list[str] = []
    for index, heading in enumerate(headings):
        found = known.get(heading.casefold())
        if found is None:
            if index >= len(NOTES) or headings[: len(NOTES)] != NOTES:
                unknown.append(heading)
        elif found in places:
            raise BadInput(
                "intake.column.twice",
                f"columns {headings[places[found]]!r} and {heading!r} both mean {found!r}",
                advice="keep one of them",
            )
        else:
            places[found] = index
    missing = [name for name, entry in playbook.inputs.items() if entry.required and name not in places]
    if missing:
        raise BadInput(
            "intake.column.missing",
            f"no column for {', '.join(missing)}",
            advice=f"name a column so, or add its heading under inputs.{missing[0]}.columns in the playbook",
        )
    if unknown and playbook.extra_columns == "refuse":
        raise BadInput(
            "intake.column.unknown",
            f"unknown columns: {', '.join(map(repr, unknown[:8]))}",
            advice="remove them, name them in the playbook's inputs, or let it say extra_columns: drop",
        )
    return places, unknown


def _row(number: int, cells: list[str], width: int, places: dict[str, int], playbook: Playbook) -> Row:
    where = f"row {number}"
    if len(cells) != width:
        raise BadInput(
            "intake.row.width",
            f"{len(cells)} cells for {width} columns",
            advice="quote cells that hold commas",
            where=where,
        )
    inputs: dict[str, Value] = {}
    for name, entry in playbook.inputs.items():
        text = cells[places[name]].strip() if name in places else ""
        inputs[name] = _value(name, entry, text, where)
    if sum(map(len, cells)) > limits.FIELD_CHARS and len(canonical(inputs)) > limits.ROW_BYTES:
        raise BadInput(
            "intake.row.too-long", f"more than {limits.ROW_BYTES} bytes", advice="shorten its texts", where=where
        )
    subject = " ".join(str(inputs[name]) for name in playbook.business_key)
    return Row(number, cells, inputs, subject)


def _value(name: str, entry: Input, text: str, where: str) -> Value:
    if len(text) > limits.FIELD_CHARS:
        raise BadInput(
            "intake.field.too-long",
            f"{name} has {len(text)} characters",
            advice=f"keep to {limits.FIELD_CHARS}; look for an unclosed quote",
            where=where,
        )
    if _CONTROL.search(text):
        raise BadInput("intake.field.control", f"{name} has control characters", advice="remove them", where=where)
    if not text:
        if entry.required:
            raise BadInput("intake.field.missing", f"{name} is empty", advice="fill it in", where=where)
        return None
    if entry.type == "cents":
        return _cents(name, text, where)
    if entry.type == "date":
        return _date(name, text, where)
    return text


def _cents(name: str, text: str, where: str) -> int:
    found = _MONEY.match(text)
    if not found:
        raise BadInput(
            "intake.field.money", f"{name} is not an amount", advice="write it as 12500 or 12,500.00", where=where
        )
    whole, part = found.groups()
    return int(whole.replace(",", "")) * 100 + int((part or "0").ljust(2, "0"))


def _date(name: str, text: str, where: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise BadInput(
            "intake.field.date", f"{name} is not a date", advice="write it as 2026-03-31", where=where
        ) from error
