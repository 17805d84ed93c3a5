"""Tables: read, append and update rows of CSV files and workbooks, inside the roots that this computer's person named.

    [books]
    kind = "tables"
    roots = {ledgers = "/srv/ledgers"}
    max_bytes = 10_000_000

gives ``books.read``, ``books.append``, ``books.update`` and ``books.restore`` for ``.csv``, ``.tsv``, ``.xlsx`` and
``.xlsm``.

Appending is idempotent and can be asked for, because it is a change of a file like any other (``files.changes``): the
key and what is to happen are on the disk before the new content takes the old one's name in one step. The former
content is kept. Taking a change back restores it exactly while nobody changed the file since; otherwise only the rows
or cells of that one change are taken back, if they still are as they were written.

What text, number and date mean, and how a text that looks like a formula is kept from running: ``values``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from edge_agent.tools import Argument, Effect, NotSent, Receipt, Risk, Tool, build, check_arguments
from edge_agent.tools.build import Place
from edge_agent.tools.files import Changing, Settings, disk, open_changes
from edge_agent.tools.files.changes import Changes, Details
from edge_agent.tools.files.ledger import Change, reaching
from edge_agent.tools.files.paths import Spot
from edge_agent.tools.tables.csvfile import CsvSheet
from edge_agent.tools.tables.sheet import Sheet
from edge_agent.tools.tables.values import cell
from shared.actions import Action
from shared.errors import BadInput, Refused

LINES = 200  # told in one answer
CHARS = 40_000  # of cells told in one answer; a log entry's body holds 256 KiB
APPENDED = 200  # rows in one action

_FILE = {
    "path": Argument(about="root-name/folder/file"),
    "sheet": Argument(required=False, about="of a workbook; the first unless told"),
    "header": Argument("integer", required=False, about="the row that holds the headings; 1 unless told"),
}
_READ = {
    **_FILE,
    "where": Argument("object", required=False, about="only rows whose text is this: {heading: text}"),
    "from_row": Argument("integer", required=False, about="begin at this row: next_row of the former answer"),
}
_APPEND = {**_FILE, "rows": Argument("list", about="objects {heading: value}, see docs/reference/tools.md for values")}
_UPDATE = {
    **_FILE,
    "where": Argument("object", about="{heading: text} that one row alone has"),
    "cells": Argument("object", about="{heading: new value}"),
}
_RESTORE = {"entry": Argument(about="entry of a receipt")}


def make(place: Place, given: dict[str, Any]) -> list[Tool]:
    """The tools of one table. Raises ``BadInput('tools.setting')``, ``BadInput('files.roots')``."""
    changes = open_changes(place, build.settings(Settings, place, given))
    return [kind(place.name, changes) for kind in (Read, Append, Update, Restore)]


class Read(Tool):
    """``TABLE.read``: headings and rows, as text."""

    about = "Read rows of a CSV file or workbook, all of them or those with certain texts."
    effect: Effect = "read"
    risk: Risk = "low"
    idempotent = True
    askable = False
    arguments = _READ

    def __init__(self, table: str, changes: Changes) -> None:
        self.name = f"{table}.read"
        self._changes = changes

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return Receipt(await asyncio.to_thread(self._read, action.arguments))

    def _read(self, given: dict[str, Any]) -> Details:
        spot = self._changes.roots.spot(given["path"])
        sheet = opened(spot, self._changes.content(spot), given)
        lines = sheet.find(_texts(given.get("where") or {}))
        told: list[Details] = []
        size, following = 0, None
        for line in lines:
            if line.number < (given.get("from_row") or 0):
                continue
            size += sum(map(len, line.texts))
            if told and (len(told) == LINES or size > CHARS):
                following = line.number
                break
            formulas = {"formulas": line.formulas} if line.formulas else {}
            told.append({"row": line.number, "cells": line.texts, **formulas})
        more = {"sheets": sheet.sheets} if sheet.sheets else {}
        return {
            "path": str(spot),
            "columns": sheet.columns,
            "rows": told,
            "found": len(lines),
            "next_row": following,
            **more,
        }


class _ChangingTable(Changing):
    """What append and update share: which cells were written stands in the receipt, and what they tell as a digest."""

    risk: Risk = "medium"

    def _change(self, action: Action, key: str, edit: Callable[[Sheet], tuple[int, int, list[str]]]) -> Details:
        given: dict[str, Any] = action.arguments
        spot = self._changes.roots.spot(given["path"])

        def compute(now: bytes | None) -> tuple[bytes, Details]:
            if now is None:
                raise disk.missing(spot)
            sheet = opened(spot, now, given)
            others = {line.number: line.texts for line in sheet.lines()}
            first, last, columns = edit(sheet)
            content = sheet.content()
            again = opened(spot, content, given)  # what was written is read anew before it is kept
            told = _told(given, again, first, last, columns)
            stay = {line.number: line.texts for line in again.lines() if not first <= line.number <= last}
            if not told["cells_sha256"] or stay != {n: texts for n, texts in others.items() if not first <= n <= last}:
                raise Refused("tables.form", f"{spot} cannot be changed safely", advice="save it anew in its program")
            return content, told

        known = self._changes.known(key)
        if known is not None:
            return known
        _in_use(self._changes, spot)
        return self._changes.put(key, spot, compute)

    def look(self, receipt: Details) -> tuple[bool, Details]:
        """Whether the cells still tell what was written, wherever else the file was changed."""
        spot = self._changes.roots.spot(receipt["path"])
        try:
            sheet = opened(spot, self._changes.content(spot), receipt)
            at = sheet.locate(receipt)
        except Refused as error:
            return False, {"found": error.message}
        return at is not None, {"row": at}


class Append(_ChangingTable):
    """``TABLE.append``: rows below the last one."""

    verb = "append"
    about = "Append rows to a CSV file or workbook."
    arguments = _APPEND

    def change(self, action: Action, key: str) -> Details:
        rows = action.arguments["rows"]
        assert isinstance(rows, list)
        if not 1 <= len(rows) <= APPENDED or not all(isinstance(row, dict) and row for row in rows):
            raise BadInput("tables.rows", f"rows are 1 to {APPENDED} objects with headings", advice='[{"Name": "x"}]')
        cells = [{column: cell(value, column) for column, value in row.items()} for row in rows]
        if any(all(one.kind == "empty" for one in row.values()) for row in cells):
            raise BadInput("tables.rows", "a row is empty", advice="leave it out")

        def edit(sheet: Sheet) -> tuple[int, int, list[str]]:
            first = sheet.append([{sheet.index(column): one for column, one in row.items()} for row in cells])
            return first, first + len(cells) - 1, sorted({column for row in cells for column in row})

        return self._change(action, key, edit)


class Update(_ChangingTable):
    """``TABLE.update``: cells of the one row that ``where`` finds."""

    verb = "update"
    about = "Change cells of one row of a CSV file or workbook, found by the texts of other cells."
    arguments = _UPDATE

    def change(self, action: Action, key: str) -> Details:
        where, given = action.arguments["where"], action.arguments["cells"]
        assert isinstance(where, dict) and isinstance(given, dict)
        if not where or not given:
            raise BadInput("tables.rows", "where and cells name at least one heading", advice='{"Number": "17"}')
        texts = _texts(where)
        cells = {column: cell(value, column) for column, value in given.items()}

        def edit(sheet: Sheet) -> tuple[int, int, list[str]]:
            found = sheet.find(texts)
            if len(found) != 1:
                raise Refused(
                    "tables.which", f"{len(found)} rows have {texts}, not one", advice="name what one row alone has"
                )
            sheet.update(found[0].number, {sheet.index(column): one for column, one in cells.items()})
            return found[0].number, found[0].number, sorted(cells)

        return self._change(action, key, edit)


class Restore(Changing):
    """``TABLE.restore``: take back an earlier append, update or restore."""

    verb = "restore"
    about = "Take back an earlier append, update or restore, named by the entry of its receipt."
    risk: Risk = "low"
    arguments = _RESTORE

    def change(self, action: Action, key: str) -> Details:
        entry = str(action.arguments["entry"])
        known, change = self._changes.known(key), self._changes.recorded(entry)
        if known is not None:
            return known
        if change is not None:
            _in_use(self._changes, self._changes.roots.spot(change.path))
        return self._changes.restore(key, entry, mended)

    def look(self, receipt: Details) -> tuple[bool, Details]:
        """Whether the file is as it was restored, or at least has what was taken back nowhere any more."""
        as_left, found = super().look(receipt)
        change = self._changes.recorded(receipt["restored"])
        if as_left or change is None or "cells_sha256" not in change.receipt or found["kind"] != "file":
            return as_left, found
        spot = self._changes.roots.spot(receipt["path"])
        at = opened(spot, self._changes.content(spot), change.receipt).locate(change.receipt)
        return at is None, {**found, "row": at}


def opened(spot: Spot, content: bytes, given: dict[str, Any]) -> Sheet:
    """The table of a file. Raises ``Refused('tables.form')``, ``BadInput('tables.kind')``."""
    header = given.get("header") or 1
    if not 1 <= header <= 1_000:
        raise BadInput("tables.rows", f"headings in row {header}", advice="name a row from 1 to 1000")
    if spot.name.lower().endswith((".csv", ".tsv")):
        return CsvSheet(str(spot), content, header)
    if spot.name.lower().endswith((".xlsx", ".xlsm")):
        from edge_agent.tools.tables.xlsxfile import XlsxSheet  # archives and XML, only where they are needed

        return XlsxSheet(str(spot), content, given.get("sheet"), header)
    raise BadInput("tables.kind", f"{spot} is no table", advice="name a .csv, .tsv, .xlsx or .xlsm file")


def mended(change: Change, former: bytes, now: bytes | None) -> tuple[bytes, Details]:
    """The content without this one change, which others have followed. Raises ``Refused('files.changed')``."""
    spot = Spot(*_split(change.path))
    told: Details = change.receipt
    if now is None or "cells_sha256" not in told:
        raise disk.changed(spot)
    sheet = opened(spot, now, told)
    first, last, columns = told["first_row"], told["last_row"], told["columns"]
    at = sheet.locate(told)
    if at is None:
        raise disk.changed(spot)
    before = opened(spot, former, told)
    if before.fingerprint(first, last):  # the row was there: an update
        sheet.update(at, {sheet.index(column): before.held(first, before.index(column)) for column in columns})
    else:
        sheet.drop(at, at + last - first)
    return sheet.content(), {}


def _told(given: dict[str, Any], sheet: Sheet, first: int, last: int, columns: list[str]) -> Details:
    told: Details = {name: given[name] for name in ("sheet", "header") if given.get(name) is not None}
    told |= {"first_row": first, "last_row": last, "columns": columns}
    told["cells_sha256"] = sheet.fingerprint(first, last, columns)
    told["rows_sha256"] = sheet.fingerprint(first, last)
    return told


def _texts(where: Any) -> dict[str, str]:
    if not all(isinstance(text, str) for text in where.values()):
        raise BadInput("tables.rows", "where compares texts", advice='{"Number": "17"}')
    return dict(where)


def _in_use(changes: Changes, spot: Spot) -> None:
    """A program that has the file open would write its own copy over ours."""
    with reaching(str(spot), begun=False), changes.roots.folder(spot.parent) as folder:
        for name in (f"~${spot.name}", f".~lock.{spot.name}#"):  # as Excel and LibreOffice mark it
            if disk.there(folder, name):
                raise NotSent("tables.open", f"{spot} is open in another program", advice="close it there")


def _split(path: str) -> tuple[str, tuple[str, ...]]:
    root, *parts = path.split("/")
    return root, tuple(parts)
