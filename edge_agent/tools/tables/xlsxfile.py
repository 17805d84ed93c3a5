"""Workbooks (.xlsx, .xlsm), changed cell by cell in place: all else of the file stays as it was.

Only the sheet's own part is changed, the formats where a date needs one, and the bounds of a table that grows. Charts,
pictures, pivots, macros and what else a workbook holds keep their bytes: a library that reads a workbook into objects
and writes them out again drops what it does not know. Formulas are never evaluated: a cell tells the value that the
spreadsheet program saved last, and the program is asked to calculate anew when it opens the file.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

from edge_agent.tools.tables import markup
from edge_agent.tools.tables.grid import Grid, cell_xml
from edge_agent.tools.tables.markup import Node
from edge_agent.tools.tables.sheet import Line, Sheet, broken, too_large
from edge_agent.tools.tables.styles import Styles
from edge_agent.tools.tables.values import EMPTY, Cell
from shared.errors import Refused

_LIKE = 20  # rows above a new one that it takes its formats from, the nearest first
_PARTS = 2_000
_PART_BYTES = 24_000_000  # of one part, and four times that of all, inflated


class XlsxSheet(Sheet):
    """One sheet of a workbook."""

    def __init__(self, name: str, content: bytes, sheet: str | None, header: int) -> None:
        """The first sheet where ``sheet`` is ``None``. Raises ``Refused('tables.form')``, ``Refused('tables.sheet')``,
        ``Refused('tables.too-large')``."""
        self.header = header
        self._file = name
        self._parts = _unpacked(name, content)
        self._book = self._part("xl/workbook.xml")
        self.name, self._path = self._choose(sheet)
        properties = self._book.first("workbookPr")
        since_1904 = properties is not None and properties.attributes.get("date1904") in ("1", "true")
        self._styles = Styles(name, self._parts.get("xl/styles.xml", b"<x/>"), since_1904=since_1904)
        strings = self._part("xl/sharedStrings.xml").all("si") if "xl/sharedStrings.xml" in self._parts else []
        self._grid = Grid(name, self._parts[self._path], self._styles, [_said(node) for node in strings])
        self.columns = [cell.text.strip() for cell in self._grid.row(header)]
        if not any(self.columns):
            broken(name, f"there is no row {header} for headings")

    @property
    def sheets(self) -> list[str]:
        return [node.attributes.get("name", "") for node in self._sheet_nodes()]

    def lines(self) -> list[Line]:
        width = len(self.columns)
        found = []
        for number in sorted(n for n in self._grid.numbers() if n > self.header):
            texts = [cell.text for cell in self._grid.row(number)][:width]
            texts += [""] * (width - len(texts))
            formulas = [self.columns[i] for i in self._grid.formulas(number) if i < width]
            if any(texts) or formulas:
                found.append(Line(number, texts, formulas))
        return found

    def append(self, rows: Sequence[dict[int, Cell]]) -> int:
        self._allowed()
        lines = self.lines()
        above = lines[-1].number if lines else self.header
        first = above + 1
        written = {first + i: row for i, row in enumerate(rows)}
        self._bound_tables(lambda top, end: max(end, first + len(rows) - 1) if top <= above <= end else end)
        styles: dict[int, int] = {}
        for line in lines[-_LIKE:]:
            styles.update(self._grid.styles(line.number))
        self._write(written, styles)
        return first

    def update(self, number: int, cells: dict[int, Cell]) -> None:
        self._allowed()
        held = set(self._grid.formulas(number)) & set(cells)
        if held:
            names = ", ".join(self.columns[i] for i in sorted(held))
            raise Refused(
                "tables.formula", f"row {number} holds a formula in {names}", advice="change what it is made of"
            )
        self._write({number: cells}, {})

    def drop(self, first: int, last: int) -> None:
        self._allowed()
        if any(line.number > last for line in self.lines()):
            raise Refused("tables.changed", f"rows stand below row {last} by now", advice="take the rows out by hand")
        self._bound_tables(lambda top, end: max(top + 1, first - 1) if end == last else end)
        self._write({n: dict.fromkeys(range(len(self.columns)), EMPTY) for n in range(first, last + 1)}, {})

    def held(self, number: int, column: int) -> Cell:
        row = self._grid.row(number)
        return row[column] if column < len(row) else EMPTY

    def content(self) -> bytes:
        if "xl/styles.xml" in self._parts:
            self._parts["xl/styles.xml"] = self._styles.content()
        return _packed(self._parts)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _part(self, path: str) -> Node:
        if path not in self._parts:
            broken(self._file, f"it has no part {path}")
        return markup.parse(self._file, self._parts[path])

    def _sheet_nodes(self) -> list[Node]:
        sheets = self._book.first("sheets")
        return sheets.all("sheet") if sheets else []

    def _choose(self, wanted: str | None) -> tuple[str, str]:
        links = _links(self._file, self._parts, "xl/workbook.xml")
        for node in self._sheet_nodes():
            name = node.attributes.get("name", "")
            if wanted in (None, name):
                link = next((value for key, value in node.attributes.items() if key.endswith(":id")), "")
                path = links.get(link, "")
                if path not in self._parts:
                    broken(self._file, f"its sheet {name!r} is missing")
                return name, path
        raise Refused(
            "tables.sheet", f"{self._file} has no sheet {wanted!r}", advice=f"one of {', '.join(self.sheets)}"
        )

    def _allowed(self) -> None:
        if self._grid.protected:
            raise Refused("tables.protected", f"the sheet {self.name} is protected", advice="lift it, or do it by hand")
        if any(path.startswith("_xmlsignatures") for path in self._parts):
            raise Refused("tables.protected", f"{self._file} is signed", advice="a change would break the signature")

    def _write(self, rows: dict[int, dict[int, Cell]], styles: dict[int, int]) -> None:
        stored = {
            number: {
                index: cell_xml(
                    self._styles, number, index, cell, self._grid.style(number, index, styles.get(index, 0))
                )
                for index, cell in cells.items()
                if cell.kind != "empty" or self._grid.has(number, index)
            }
            for number, cells in rows.items()
        }
        self._parts[self._path] = self._grid.written(stored)
        calc = self._book.first("calcPr")
        if calc:
            raw = self._parts["xl/workbook.xml"]
            tag = markup.with_attribute(raw[calc.start : calc.inside], "fullCalcOnLoad", "1")
            self._parts["xl/workbook.xml"] = markup.splice(raw, [(calc.start, calc.inside, tag)])

    def _bound_tables(self, bound: Callable[[int, int], int]) -> None:
        """Give each table of the sheet the last row that ``bound`` says, of its first and last row."""
        for path in _links(self._file, self._parts, self._path).values():
            if not path.startswith("xl/tables/") or path not in self._parts:
                continue
            raw = self._parts[path]
            table = markup.parse(self._file, raw)
            found = re.fullmatch(r"([A-Z]+)([0-9]+):([A-Z]+)([0-9]+)", table.attributes.get("ref", ""))
            if not found or (end := bound(int(found[2]), int(found[4]))) == int(found[4]):
                continue
            if table.attributes.get("totalsRowCount", "0") != "0":
                raise Refused("tables.form", f"the table of {self.name} ends in totals", advice="add the row by hand")
            ref = f"{found[1]}{found[2]}:{found[3]}{end}"
            nodes = [table, *table.all("autoFilter")]
            tags = [(n.start, n.inside, markup.with_attribute(raw[n.start : n.inside], "ref", ref)) for n in nodes]
            self._parts[path] = markup.splice(raw, tags)


def _said(node: Node) -> str:
    """The text of a string item: its own, or that of its runs, without the reading aids of East Asian scripts."""
    own = "".join(text.text for text in node.all("t"))
    return markup.told(own + "".join(text.text for run in node.all("r") for text in run.all("t")))


def _links(what: str, parts: dict[str, bytes], path: str) -> dict[str, str]:
    folder, name = posixpath.split(path)
    rels = f"{folder}/_rels/{name}.rels"
    if rels not in parts:
        return {}
    found = {}
    for node in markup.parse(what, parts[rels]).nodes:
        target = node.attributes.get("Target", "")
        at = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        found[node.attributes.get("Id", "")] = at
    return found


def _unpacked(name: str, content: bytes) -> dict[str, bytes]:
    """Every part by its path, in the file's order; what inflates beyond all bounds is refused before it does."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            sizes = [part.file_size for part in parts]
            if len({part.filename for part in parts}) != len(parts) or any(part.flag_bits & 1 for part in parts):
                broken(name, "it has a part twice, or is encrypted")
            if len(parts) > _PARTS or max(sizes, default=0) > _PART_BYTES or sum(sizes) > 4 * _PART_BYTES:
                too_large(name, f"{len(parts)} parts of {sum(sizes)} bytes")
            return {part.filename: archive.read(part) for part in parts}
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        broken(name, f"it is no workbook: {error}")


def _packed(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, raw in parts.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), raw, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
