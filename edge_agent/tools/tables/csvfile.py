"""CSV, changed without touching what is not meant: rows that stay keep their bytes, quoting and line ends.

The separator is the one that the headings use most, of comma, semicolon, tab and bar. The encoding is UTF-8, with or
without its mark, UTF-16 with its mark, or else Windows-1252, and is kept.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from edge_agent.tools.tables.sheet import ROWS, Line, Sheet, broken, too_large
from edge_agent.tools.tables.values import EMPTY, Cell, guarded, unguarded
from shared.errors import Refused

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class CsvSheet(Sheet):
    """One file, which is one table."""

    def __init__(self, name: str, content: bytes, header: int) -> None:
        """Raises ``Refused('tables.form')``."""
        self.name = name
        self.header = header
        self._mark, self._encoding, self._text = _decoded(name, content)
        self._separator = _separator(self._text)
        self._records = _records(name, self._text, self._separator)  # where each begins and ends, line end included
        if len(self._records) > ROWS:
            too_large(name, f"more than {ROWS} rows")
        if len(self._records) < header:
            broken(name, f"there is no row {header} for headings")
        self.columns = [text.strip() for text in self._texts(header)]
        self._ending = self._line_end(0) or "\r\n"

    def lines(self) -> list[Line]:
        width = len(self.columns)
        found = []
        for number in range(self.header + 1, len(self._records) + 1):
            texts = [unguarded(text) for text in self._texts(number)][:width]
            if any(texts):
                found.append(Line(number, texts + [""] * (width - len(texts))))
        return found

    def append(self, rows: Sequence[dict[int, Cell]]) -> int:
        end = len(self._records)
        while end > self.header and not self._text[slice(*self._records[end - 1])].strip():
            end -= 1  # empty lines at the end stay there, below
        at = self._records[end - 1][1]
        lines = [
            self._separator.join(self._written(row.get(i, EMPTY)) for i in range(len(self.columns))) for row in rows
        ]
        opening = "" if self._line_end(end - 1) else self._ending
        self._splice(at, at, opening + "".join(line + self._ending for line in lines))
        return end + 1

    def update(self, number: int, cells: dict[int, Cell]) -> None:
        start, end = self._records[number - 1]
        ending = self._line_end(number - 1)
        fields = self._fields(self._text[start : end - len(ending)])
        fields += [""] * (max(cells) + 1 - len(fields))
        for index, cell in cells.items():
            fields[index] = self._written(cell)
        self._splice(start, end, self._separator.join(fields) + ending)

    def drop(self, first: int, last: int) -> None:
        self._splice(self._records[first - 1][0], self._records[last - 1][1], "")

    def held(self, number: int, column: int) -> Cell:
        texts = self._texts(number)
        text = unguarded(texts[column]) if column < len(texts) else ""
        return Cell("text", text) if text else EMPTY

    def content(self) -> bytes:
        try:
            return self._mark + self._text.encode(self._encoding)
        except UnicodeEncodeError as error:
            raise Refused(
                "tables.encoding", f"{self.name} cannot hold {error.object[error.start]!r}", advice="save it as UTF-8"
            ) from error

    def _splice(self, start: int, end: int, text: str) -> None:
        self._text = self._text[:start] + text + self._text[end:]

    def _line_end(self, index: int) -> str:
        start, end = self._records[index]
        record = self._text[start:end]
        return next((ending for ending in ("\r\n", "\n", "\r") if record.endswith(ending)), "")

    def _fields(self, record: str) -> list[str]:
        """The fields as they are written, quotes included."""
        if '"' not in record:
            return record.split(self._separator)
        mark = re.escape(self._separator)
        found = re.findall(rf'("(?:[^"]|"")*"|[^{mark}]*)(?:{mark}|\Z)', record)
        return found if record.endswith(self._separator) else found[:-1]  # at the end the pattern matches once more

    def _texts(self, number: int) -> list[str]:
        start, end = self._records[number - 1]
        fields = self._fields(self._text[start : end - len(self._line_end(number - 1))])
        return [text[1:-1].replace('""', '"') if text.startswith('"') else text for text in fields]

    def _written(self, cell: Cell) -> str:
        text = guarded(cell.text) if cell.kind == "text" else cell.text
        if any(sign in text for sign in (self._separator, '"', "\r", "\n")) or text != text.strip():
            return '"' + text.replace('"', '""') + '"'
        return text


def _decoded(name: str, content: bytes) -> tuple[bytes, str, str]:
    try:
        for mark, encoding in _MARKS:
            if content.startswith(mark):
                return mark, encoding, content[len(mark) :].decode(encoding)
        try:
            text, encoding = content.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            text, encoding = content.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        broken(name, "its encoding is none of UTF-8, UTF-16 and Windows-1252")
    if "\0" in text:
        broken(name, "it is no text")
    return b"", encoding, text


def _separator(text: str) -> str:
    headings = re.sub(r'"(?:[^"]|"")*"', "", re.split(r"[\r\n]", text, maxsplit=1)[0])
    return max(",;\t|", key=headings.count)


def _records(name: str, text: str, separator: str) -> list[tuple[int, int]]:
    """Where each record begins and ends. A quote that opens a field must close it; any other is a sign like others."""
    begins = rf"(?<![^{re.escape(separator)}\r\n])"
    ends = rf"(?=[{re.escape(separator)}\r\n]|\Z)"
    found: list[tuple[int, int]] = []
    start = 0
    for token in re.finditer(rf'{begins}"(?:[^"]|"")*"{ends}|({begins}")|(\r\n|\n|\r)', text):
        if token[1]:
            broken(name, f"a quote in row {len(found) + 1} is not closed, or something follows it")
        if token[2]:
            found.append((start, token.end()))
            start = token.end()
    if start < len(text):
        found.append((start, len(text)))
    return found
