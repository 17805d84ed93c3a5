"""Cell formats of a workbook, as far as values need them: what is a date, and a format like this one but for a date."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal

from edge_agent.tools.tables import markup
from edge_agent.tools.tables.values import Cell

_DATES = {*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)}
_DAY, _MOMENT, _GENERAL = 14, 22, 0  # formats that every program knows by number
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,3})?")
_QUOTED = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|_.|\*.')


class Styles:
    """``xl/styles.xml``. New formats are added at the end, so that the old ones keep their numbers."""

    def __init__(self, what: str, raw: bytes, *, since_1904: bool) -> None:
        self._raw = raw
        self._epoch = datetime.datetime.fromisoformat("1904-01-01" if since_1904 else "1899-12-30")
        self._least = 0 if since_1904 else 61  # days before March 1900 are counted with a day that never was
        root = markup.parse(what, raw)
        formats = root.first("numFmts")
        coded = (
            [(node.attributes.get("numFmtId"), node.attributes.get("formatCode", "")) for node in formats.nodes]
            if formats
            else []
        )
        self._coded = {number for number, code in coded if re.search("[dmyhs]", _QUOTED.sub("", code.lower()))}
        self._node = root.first("cellXfs")
        self._formats = [node for node in self._node.nodes if node.name == "xf"] if self._node else []
        self._added: list[bytes] = []
        self._known: dict[tuple[int, str], int] = {}

    def is_date(self, style: int) -> bool:
        number = self._number(style)
        return number in self._coded or (number.isdecimal() and int(number) in _DATES)

    def told(self, raw: str, style: int) -> Cell:
        """A stored number as it is told. Raises ``ValueError`` for what is none, as the caller expects."""
        if not _NUMBER.fullmatch(raw):
            raise ValueError(raw)
        value = Decimal(format(float(raw), ".15g"))
        dated = 0 <= value < 1 or self._least <= value < 2_958_466  # to the end of the year 9999
        if not dated or not self.is_date(style):
            plain = format(value, "f")
            return Cell("number", plain.rstrip("0").rstrip(".") if "." in plain else plain)
        moment = self._epoch + datetime.timedelta(seconds=round(float(value) * 86_400))
        if value < 1:
            return Cell("time", moment.time().isoformat())
        if moment.time() == datetime.time():
            return Cell("date", moment.date().isoformat())
        return Cell("time", moment.isoformat())

    def stored(self, cell: Cell) -> str:
        """A date or time as the number that stands for it."""
        since = datetime.datetime.fromisoformat(cell.text) - self._epoch
        return format(since.days + since.seconds / 86_400, ".15g")

    def fitting(self, style: int, cell: Cell, *, guarded: bool) -> int:
        """This format, or one like it in which such a cell is seen as what it is."""
        if not self._formats:
            return style
        if cell.kind in ("date", "time") and not self.is_date(style):
            return self._like(style, f"numFmtId={_DAY if cell.kind == 'date' else _MOMENT}")
        if cell.kind == "number" and self.is_date(style):
            return self._like(style, f"numFmtId={_GENERAL}")
        return self._like(style, "quotePrefix=1") if guarded else style

    def content(self) -> bytes:
        if not self._added or self._node is None:
            return self._raw
        tag = self._raw[self._node.start : self._node.inside]
        count = str(len(self._formats) + len(self._added))
        return markup.splice(
            self._raw,
            [
                (self._node.start, self._node.inside, markup.with_attribute(tag, "count", count)),
                (self._node.outside, self._node.outside, b"".join(self._added)),
            ],
        )

    def _number(self, style: int) -> str:
        return self._formats[style].attributes.get("numFmtId", "0") if 0 <= style < len(self._formats) else "0"

    def _like(self, style: int, change: str) -> int:
        if (style, change) not in self._known:
            node = self._formats[style if 0 <= style < len(self._formats) else 0]
            tag, rest = self._raw[node.start : node.inside], self._raw[node.inside : node.end]
            name, _, value = change.partition("=")
            tag = markup.with_attribute(tag, name, value)
            if name == "numFmtId":
                tag = markup.with_attribute(tag, "applyNumberFormat", "1")
            self._known[style, change] = len(self._formats) + len(self._added)
            self._added.append(tag + rest)
        return self._known[style, change]
