"""The cells of one sheet's part: what they tell, and the part again with some of them written anew."""

from __future__ import annotations

import re
from html import escape

from edge_agent.tools.tables import markup
from edge_agent.tools.tables.markup import Node
from edge_agent.tools.tables.sheet import broken
from edge_agent.tools.tables.styles import Styles
from edge_agent.tools.tables.values import EMPTY, Cell, runs

_ROWS, _COLUMNS = 1_048_576, 16_384  # what the format allows


class Grid:
    """Read once; ``written`` gives the part with cells replaced or added, and nothing else touched."""

    def __init__(self, what: str, raw: bytes, styles: Styles, strings: list[str]) -> None:
        self._what, self._raw, self._styles, self._strings = what, raw, styles, strings
        root = markup.parse(what, raw)
        self.protected = root.first("sheetProtection") is not None
        self._dimension = root.first("dimension")
        data = root.first("sheetData")
        if data is None:
            broken(what, "a sheet has no data")
        self._data = data
        self._prefix = markup.prefix(raw, data)
        self._rows: dict[int, Node] = {}
        self._cells: dict[int, dict[int, Node]] = {}
        merged = root.first("mergeCells")
        self._merged = [node.attributes.get("ref", "") for node in merged.nodes] if merged else []
        self._index()

    def _index(self) -> None:
        number = 0
        for row in self._data.all("row"):
            number = _whole(self._what, row.attributes.get("r", str(number + 1)), _ROWS)
            column = -1
            cells: dict[int, Node] = {}
            for node in row.all("c"):
                ref = node.attributes.get("r")
                column = column + 1 if ref is None else _column(self._what, ref, number)
                cells[column] = node
            if number in self._rows:
                broken(self._what, f"row {number} stands twice")
            self._rows[number], self._cells[number] = row, cells

    def numbers(self) -> list[int]:
        return list(self._rows)

    def row(self, number: int) -> list[Cell]:
        cells = self._cells.get(number, {})
        return [self._told(cells[i]) if i in cells else EMPTY for i in range(max(cells, default=-1) + 1)]

    def has(self, number: int, index: int) -> bool:
        return index in self._cells.get(number, {})

    def formulas(self, number: int) -> list[int]:
        return [index for index, node in self._cells.get(number, {}).items() if node.first("f")]

    def style(self, number: int, index: int, otherwise: int) -> int:
        node = self._cells.get(number, {}).get(index)
        return _style(node) if node else otherwise

    def styles(self, number: int) -> dict[int, int]:
        """The formats of a row's cells, for one that is to look like it."""
        return {index: _style(node) for index, node in self._cells.get(number, {}).items()}

    def written(self, rows: dict[int, dict[int, bytes]]) -> bytes:
        """The part with these cells, given as XML without prefix."""
        changes: list[tuple[int, int, bytes]] = []
        fresh: dict[int, bytes] = {}
        for number, cells in sorted(rows.items()):
            self._unmerged(number, cells)
            row = self._rows.get(number)
            if row is None:
                body = b"".join(cells[index] for index in sorted(cells))
                fresh[number] = b'<row r="%d">' % number + body + b"</row>"
            elif cells:
                changes += self._into_row(number, row, cells)
        changes += self._fresh_rows(fresh)
        changes += self._bounds(rows)
        return markup.splice(self._raw, changes)

    def _into_row(self, number: int, row: Node, cells: dict[int, bytes]) -> list[tuple[int, int, bytes]]:
        known = self._cells[number]
        tag = markup.with_attribute(self._raw[row.start : row.inside], "spans", None)  # a hint that may be wrong now
        if row.inside == row.end:  # <row/>
            name = self._prefix + b"row"
            body = b"".join(self._named(cells[index]) for index in sorted(cells))
            return [(row.start, row.end, tag[:-2].rstrip() + b">" + body + b"</" + name + b">")]
        changes = [(row.start, row.inside, tag)]
        for index, xml in sorted(cells.items()):
            if index in known:
                changes.append((known[index].start, known[index].end, self._named(xml)))
            else:
                later = [node.start for column, node in known.items() if column > index]
                at = min(later, default=row.outside)
                changes.append((at, at, self._named(xml)))
        return changes

    def _fresh_rows(self, fresh: dict[int, bytes]) -> list[tuple[int, int, bytes]]:
        if fresh and self._data.inside == self._data.end:  # <sheetData/>
            name = self._prefix + b"sheetData"
            body = b"".join(self._named(fresh[number]) for number in sorted(fresh))
            return [(self._data.start, self._data.end, b"<" + name + b">" + body + b"</" + name + b">")]
        changes = []
        for number, xml in sorted(fresh.items()):
            later = [node.start for known, node in self._rows.items() if known > number]
            at = min(later, default=self._data.outside)
            changes.append((at, at, self._named(xml)))
        return changes

    def _bounds(self, rows: dict[int, dict[int, bytes]]) -> list[tuple[int, int, bytes]]:
        node = self._dimension
        found = (
            re.fullmatch(r"([A-Z]+)([0-9]+)(?::([A-Z]+)([0-9]+))?", node.attributes.get("ref", "")) if node else None
        )
        if node is None or found is None:
            return []
        width = max([_index_of(found[3] or found[1]), *(index for cells in rows.values() for index in cells)])
        height = max([int(found[4] or found[2]), *(number for number, cells in rows.items() if cells)])
        ref = f"{found[1]}{found[2]}:{letters(width)}{height}"
        tag = markup.with_attribute(self._raw[node.start : node.inside], "ref", ref)
        return [(node.start, node.inside, tag)]

    def _named(self, xml: bytes) -> bytes:
        return re.sub(rb"<(/?)(?=[a-z])", rb"<\1" + self._prefix, xml) if self._prefix else xml

    def _unmerged(self, number: int, cells: dict[int, bytes]) -> None:
        for ref in self._merged:
            found = re.fullmatch(r"([A-Z]+)([0-9]+):([A-Z]+)([0-9]+)", ref)
            if found and int(found[2]) <= number <= int(found[4]):
                low, high = _index_of(found[1]), _index_of(found[3])
                if any(low <= index <= high for index in cells):
                    broken(self._what, f"the cells {ref} are joined")

    def _told(self, node: Node) -> Cell:
        kind, value = node.attributes.get("t", "n"), node.first("v")
        if kind == "inlineStr":
            inline = node.first("is")
            runs_ = [inline, *inline.all("r")] if inline else []
            text = markup.told("".join(t.text for part in runs_ for t in part.all("t")))
            return Cell("text", text) if text else EMPTY
        raw = value.text if value else ""
        if not raw:
            return EMPTY
        try:
            if kind == "s":
                text = self._strings[int(raw)]
                return Cell("text", text) if text else EMPTY
            if kind == "n":
                return self._styles.told(raw, _style(node))
        except (ValueError, IndexError, ArithmeticError):
            broken(self._what, f"the cell {node.attributes.get('r', '')} holds what cannot be")
        if kind == "b":
            return Cell("boolean", "TRUE" if raw in ("1", "true") else "FALSE")
        return Cell("text", markup.told(raw))  # a formula's text, an error, a date in ISO


def cell_xml(styles: Styles, number: int, index: int, cell: Cell, style: int) -> bytes:
    """A cell as it stands in the part, in a format that shows it as what it is."""
    guarded = cell.kind == "text" and runs(cell.text)
    style = styles.fitting(style, cell, guarded=guarded)
    head = f'<c r="{letters(index)}{number}"' + (f' s="{style}"' if style else "")
    if cell.kind == "empty":
        return f"{head}/>".encode()
    if cell.kind == "text":
        text = markup.written(cell.text)
        return f'{head} t="inlineStr">'.encode() + b'<is><t xml:space="preserve">' + text + b"</t></is></c>"
    if cell.kind == "boolean":
        return f'{head} t="b"><v>{int(cell.text == "TRUE")}</v></c>'.encode()
    value = cell.text if cell.kind == "number" else styles.stored(cell)
    return f"{head}><v>{escape(value)}</v></c>".encode()


def letters(index: int) -> str:
    """A for 0, Z for 25, AA for 26."""
    name, rest = "", index + 1
    while rest:
        rest, digit = divmod(rest - 1, 26)
        name = chr(65 + digit) + name
    return name


def _index_of(name: str) -> int:
    index = 0
    for letter in name:
        index = index * 26 + ord(letter) - 64
    return index - 1


def _column(what: str, ref: str, number: int) -> int:
    found = re.fullmatch(r"([A-Z]{1,3})([0-9]{1,7})", ref)
    if not found or int(found[2]) != number or _index_of(found[1]) >= _COLUMNS:
        broken(what, f"the cell {ref!r} stands in row {number}")
    return _index_of(found[1])


def _whole(what: str, text: str, most: int) -> int:
    if not re.fullmatch("[0-9]{1,7}", text) or not 1 <= int(text) <= most:
        broken(what, f"a row has the number {text!r}")
    return int(text)


def _style(node: Node) -> int:
    text = node.attributes.get("s", "0")
    return int(text) if re.fullmatch("[0-9]{1,6}", text) else 0
