"""A table in a file, of whatever kind: a line of headings, and rows below it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from edge_agent.tools.tables.values import Cell
from shared.codec import digest
from shared.errors import Refused

ROWS = 100_000  # of one table


@dataclass(frozen=True)
class Line:
    """A row as it is told. ``number`` counts as a spreadsheet does; ``formulas`` are the columns that hold one."""

    number: int
    texts: list[str]
    formulas: list[str] = field(default_factory=list)


class Sheet(ABC):
    """Opened from a file's content; ``content`` is the file's content after ``append``, ``update`` or ``drop``, one of
    them once."""

    name: str
    columns: list[str]
    header: int

    @property
    def sheets(self) -> list[str]:
        """The names of a workbook's sheets; none of another file."""
        return []

    @abstractmethod
    def lines(self) -> list[Line]:
        """The rows below the headings that are not empty, in order."""

    @abstractmethod
    def append(self, rows: Sequence[dict[int, Cell]]) -> int:
        """Add rows, as columns by index, below the last one; the number of the first."""

    @abstractmethod
    def update(self, number: int, cells: dict[int, Cell]) -> None:
        """Give some cells of a row other values."""

    @abstractmethod
    def drop(self, first: int, last: int) -> None:
        """Take rows away."""

    @abstractmethod
    def held(self, number: int, column: int) -> Cell:
        """One cell as it is."""

    @abstractmethod
    def content(self) -> bytes:
        """The file."""

    def index(self, column: str) -> int:
        """Raises ``Refused('tables.column')`` where no heading, or more than one, has this name."""
        if self.columns.count(column) != 1 or not column:
            known = ", ".join(name for name in self.columns if name)
            raise Refused(
                "tables.column", f"{column!r} names no single column: {known}", advice="use a heading, exactly",
                where=self.name,
            )  # fmt: skip
        return self.columns.index(column)

    def find(self, where: dict[str, str]) -> list[Line]:
        """The rows whose texts in these columns are these."""
        wanted = {self.index(column): text for column, text in where.items()}
        return [line for line in self.lines() if all(line.texts[at] == text for at, text in wanted.items())]

    def fingerprint(self, first: int, last: int, columns: Sequence[str] | None = None) -> str:
        """What these cells tell, as a digest, of all columns unless told; ``""`` where a row is not there."""
        known = {line.number: line.texts for line in self.lines()}
        return self._digest([known.get(number) for number in range(first, last + 1)], columns)

    def locate(self, receipt: dict[str, Any]) -> int | None:
        """The first row of the cells that a receipt tells of: at their place, or else as the only such rows."""
        first, last, columns = receipt["first_row"], receipt["last_row"], receipt["columns"]
        if self.fingerprint(first, last, columns) == receipt["cells_sha256"]:
            return int(first)
        lines, high = self.lines(), last - first + 1
        windows = [lines[i : i + high] for i in range(len(lines) - high + 1)]
        found = [
            window[0].number
            for window in windows
            if window[-1].number - window[0].number == high - 1
            and self._digest([line.texts for line in window], None) == receipt["rows_sha256"]
        ]
        return found[0] if len(found) == 1 else None

    def _digest(self, rows: Sequence[list[str] | None], columns: Sequence[str] | None) -> str:
        if not rows or any(row is None for row in rows):
            return ""
        at = range(len(self.columns)) if columns is None else [self.index(column) for column in columns]
        return digest([[row[i] for i in at] for row in rows if row])


def broken(name: str, said: str) -> NoReturn:
    raise Refused("tables.form", f"{name}: {said}", advice="open it in a spreadsheet program and save it anew")


def too_large(name: str, said: str) -> NoReturn:
    raise Refused("tables.too-large", f"{name} has {said}", advice="split it, or keep it in a database")
