"""Tables: rows come and go once a key, what is not meant keeps its bytes, no text runs as a formula."""

from __future__ import annotations

import asyncio
import csv
import datetime
import io
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.chart import BarChart, Reference
from openpyxl.worksheet.table import Table

from edge_agent.tools import NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.files.paths import Spot
from edge_agent.tools.tables import make, opened
from edge_agent.tools.tables.values import cell, guarded, unguarded
from shared.actions import Action, Value
from shared.errors import BadInput, OutriderError, Refused

# openpyxl says what it would lose on saving; it only reads here.
pytestmark = pytest.mark.filterwarnings("ignore:.*extension is not supported")

Snapshot = Callable[[Path], dict[str, Any]]


def day(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - a spreadsheet's time has no zone


def loaded(file: Path) -> Any:
    return openpyxl.load_workbook(io.BytesIO(file.read_bytes()))


def act(tool: str, subject: str = "s", **arguments: Value) -> Action:
    return Action(f"books.{tool}", arguments, subject)


class Books:
    """The tools of a table ``books`` over one root."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.root = folder / "ledgers"
        self.root.mkdir()
        self.place = place
        self.tools = {tool.name: tool for tool in make(place, {"roots": {"ledgers": str(self.root)}})}

    async def do(self, action: Action) -> dict[str, Any]:
        return (await self.tools[action.tool].send(action, action.key)).details

    async def undo(self, action: Action, receipt: dict[str, Any]) -> dict[str, Any]:
        undo = self.tools[action.tool].undo(action, receipt)
        assert isinstance(undo, Action)
        return await self.do(undo)

    async def rows(self, path: str, **more: Value) -> list[list[str]]:
        action = Action("books.read", {"path": path, **more}, "s")
        return [row["cells"] for row in (await self.do(action))["rows"]]


@pytest.fixture
def books(tmp_path: Path, place: Callable[[str], Place]) -> Books:
    return Books(tmp_path, place("books"))


def rich_workbook() -> bytes:
    """As Excel writes them, with much that a change must not touch."""
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    sheet = book.add_worksheet("July")
    dated, bold = book.add_format({"num_format": "dd.mm.yyyy"}), book.add_format({"bold": True})
    sheet.write_row(0, 0, ["No", "Name", "Day", "Sum", "Paid", "Twice"])
    for n in range(1, 6):
        sheet.write_row(n, 0, [f"{n}", f"Name {n} <&> ä", None, n * 1.1, n % 2 == 0])
        sheet.write_datetime(n, 2, day(2030, 7, n), dated)
        sheet.write_formula(n, 5, f"=D{n + 1}*2", None, n * 2.2)
    sheet.write_rich_string(2, 1, "half ", bold, "bold")
    sheet.write_comment("A2", "a comment")
    sheet.conditional_format("D2:D9", {"type": "data_bar", "data_bar_2010": True})
    sheet.data_validation("E2:E9", {"validate": "list", "source": ["yes", "no"]})
    sheet.add_sparkline("H2", {"range": "July!D2:D6"})
    sheet.insert_textbox("J9", "a text box")
    chart = book.add_chart({"type": "line"})
    chart.add_series({"values": "=July!$D$2:$D$6"})
    sheet.insert_chart("J2", chart)
    other = book.add_worksheet("Totals")
    other.write_formula("A1", "=SUM(July!D:D)", None, 16.5)
    book.define_name("Sums", "=July!$D$2:$D$6")
    book.close()
    return buffer.getvalue()


# --- promises -----------------------------------------------------------------------------------------------------


class TablesContract(ToolContract):
    """The hooks that CSV and workbooks share; effects are counted by other readers than ours."""

    verb = "append"
    file = "list.csv"

    @pytest.fixture(autouse=True)
    def world(self, tmp_path: Path, place: Callable[[str], Place], snapshot: Snapshot) -> None:
        self.root = tmp_path / "ledgers"
        self.root.mkdir()
        self.place, self.snapshot = place("books"), snapshot
        self.prepare()

    def prepare(self) -> None:
        lines = ["No;Name;Sum", *(f"{n};Name {n};{n}.50" for n in range(1, 6))]
        (self.root / self.file).write_bytes("\r\n".join(lines).encode() + b"\r\n")

    def read(self) -> list[list[str]]:
        with (self.root / self.file).open(newline="") as file:
            return list(csv.reader(file, delimiter=";"))

    def spoiled(self) -> None:
        (self.root / self.file).write_text("No;Name;Sum\n1;other;2\n")

    def make_tool(self) -> Tool:
        return self.tool_named(f"books.{self.verb}")

    def tool_named(self, name: str) -> Tool:
        tools = {tool.name: tool for tool in make(self.place, {"roots": {"ledgers": str(self.root)}})}
        return tools[name]

    def good_action(self, n: int) -> Action:
        row: dict[str, Value] = {"No": f"1{n}", "Name": f"new {n}", "Sum": {"decimal": f"{n}.25"}}
        return act("append", f"s-{n}", path=f"ledgers/{self.file}", rows=[row])

    def mark(self, action: Action) -> str:
        rows = action.arguments["rows"]
        assert isinstance(rows, list)
        return str(rows[0]["Name"])

    async def effects(self, action: Action | None) -> int:
        names = [row[1] for row in self.read() if row[1].startswith("new")]
        return len(names) if action is None else names.count(self.mark(action))

    async def state(self) -> Any:
        return self.snapshot(self.root)

    async def spoil(self, action: Action) -> None:
        self.spoiled()

    async def break_receiver(self) -> None:
        self.root.rename(self.root.parent / "away")

    async def mend_receiver(self) -> None:
        (self.root.parent / "away").rename(self.root)


class TestAppendCsv(TablesContract):
    pass


class TestUpdateCsv(TablesContract):
    verb = "update"

    def good_action(self, n: int) -> Action:
        return act(
            "update", path=f"ledgers/{self.file}", where={"No": f"{n + 1}"}, cells={"Name": f"new {n}", "Sum": 7}
        )

    def mark(self, action: Action) -> str:
        cells = action.arguments["cells"]
        assert isinstance(cells, dict)
        return str(cells["Name"])


class TestAppendXlsx(TablesContract):
    file = "list.xlsx"

    def prepare(self) -> None:
        (self.root / self.file).write_bytes(rich_workbook())

    def read(self) -> list[list[str]]:
        sheet = loaded(self.root / self.file)["July"]
        return [[str(value) for value in row[:4]] for row in sheet.iter_rows(values_only=True)]

    def spoiled(self) -> None:
        (self.root / self.file).write_bytes(rich_workbook())


class TestUpdateXlsx(TestAppendXlsx):
    verb = "update"
    good_action = TestUpdateCsv.good_action
    mark = TestUpdateCsv.mark


class TestRead(TablesContract):
    verb = "read"

    def good_action(self, n: int) -> Action:
        return act("read", path=f"ledgers/{self.file}", where={"No": f"{n + 1}"})


class TestReadXlsx(TestRead):
    file = "list.xlsx"
    prepare = TestAppendXlsx.prepare


class TestRestore(TablesContract):
    verb = "restore"

    def prepare(self) -> None:
        super().prepare()
        append = self.tool_named("books.append")
        self.appended = [TablesContract.good_action(self, n) for n in range(5)]
        for action in self.appended:
            asyncio.run(append.send(action, action.key))

    def good_action(self, n: int) -> Action:
        return act("restore", entry=self.appended[n].key)

    async def effects(self, action: Action | None) -> int:
        names = [row[1] for row in self.read()]
        gone = [done.key for done in self.appended if self.mark(done) not in names]
        return len(gone) if action is None else gone.count(str(action.arguments["entry"]))

    async def spoil(self, action: Action) -> None:
        rows = next(done for done in self.appended if done.key == action.arguments["entry"]).arguments["rows"]
        assert isinstance(rows, list)
        with (self.root / self.file).open("a") as file:
            file.write(f"{rows[0]['No']};{rows[0]['Name']};{rows[0]['Sum']['decimal']}\n")


# --- CSV ----------------------------------------------------------------------------------------------------------

NEW = {"Name": "Zoë, of 3", "Sum": {"decimal": "3.50"}, "No": 3, "Day": {"date": "2030-07-31"}}


@pytest.mark.parametrize(
    ("content", "added"),
    [
        ("No,Name,Sum,Day\n1,Ann,1,x\n", '3,"Zoë, of 3",3.50,2030-07-31\n'),
        ("No;Name;Sum;Day\r\n1;Ann;1;x\r\n", "3;Zoë, of 3;3.50;2030-07-31\r\n"),
        ("No\tName\tSum\tDay\n1\tAnn", "\n3\tZoë, of 3\t3.50\t2030-07-31\n"),  # without a last line end
        ('"No","Name","Sum","Day"\n1,"An""n",1,\n\n\n', '3,"Zoë, of 3",3.50,2030-07-31\n'),  # with empty lines below
        ("No,Name,Sum,Day", '\r\n3,"Zoë, of 3",3.50,2030-07-31\r\n'),
        ('No,Name,Sum,Day\n1,"two\nlines",1,5" pipe\n', '3,"Zoë, of 3",3.50,2030-07-31\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
async def test_appending_to_csv_keeps_every_byte_that_was_there(
    books: Books, content: str, added: str, encoding: str
) -> None:
    file = books.root / "list.csv"
    content = content.replace("Ann", "Änn")  # so that the encoding can be told
    before = content.encode(encoding)
    file.write_bytes(before)
    append = act("append", path="ledgers/list.csv", rows=[NEW])
    receipt = await books.do(append)
    kept = content.rstrip("\n") + "\n" if content.endswith("\n\n") else content
    if encoding == "cp1252" and "Ä" not in content:
        encoding = "utf-8"
    assert file.read_bytes() == (kept + added + content[len(kept) :]).encode(encoding)
    found = await books.do(act("read", path="ledgers/list.csv", where={"No": "3"}))
    assert [row["row"] for row in found["rows"]] == [receipt["first_row"]]
    assert found["rows"][0]["cells"] == ["3", "Zoë, of 3", "3.50", "2030-07-31"]
    await books.undo(append, receipt)
    assert file.read_bytes() == before


async def test_updating_csv_touches_one_line(books: Books) -> None:
    file = books.root / "list.csv"
    file.write_bytes(b'No,"Na""me",Sum\r\n"1",\'x,"1"\r\n2,"a, b",  3\r\n3\r\n')
    await books.do(act("update", path="ledgers/list.csv", where={"No": "2"}, cells={"Sum": None, 'Na"me': 'q"'}))
    assert file.read_bytes() == b'No,"Na""me",Sum\r\n"1",\'x,"1"\r\n2,"q""",\r\n3\r\n'
    await books.do(act("update", path="ledgers/list.csv", where={"No": "3"}, cells={"Sum": "x"}))
    assert file.read_bytes().endswith(b"\r\n3,,x\r\n")


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("=+-@\t'\","), max_size=8
)


@given(texts)
def test_a_guarded_text_does_not_run_and_is_read_as_it_was(text: str) -> None:
    written = guarded(text)
    assert unguarded(written) == text
    assert not re.match(r"[=+@\t\r]", written) and (written[:1] != "-" or re.fullmatch(r"-\d+(\.\d+)?", written))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(texts, min_size=3, max_size=3), max_size=5),
    st.lists(texts, min_size=3, max_size=3).filter(any),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_csv_of_any_content_is_appended_to_and_read_by_others(
    rows: list[list[str]], new: list[str], separator: str, ending: str, quoting: Any
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator=ending, quoting=quoting)
    writer.writerows([["a", "b", "c"], *rows])
    before = buffer.getvalue().encode()
    sheet = opened(Spot("r", ("x.csv",)), before, {})
    assert [line.texts for line in sheet.lines()] == [[unguarded(t) for t in row] for row in rows if any(row)]
    sheet.append([{i: cell(text, "x") for i, text in enumerate(new)}])
    after = sheet.content()
    read = list(csv.reader(io.StringIO(after.decode(), newline=""), delimiter=separator))
    plain = [row for row in read if any(row)]
    assert [[unguarded(text) for text in row] for row in plain][-1] == new
    assert plain[:-1] == [["a", "b", "c"], *(row for row in rows if any(row))]


# --- workbooks ----------------------------------------------------------------------------------------------------


def parts(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


async def test_a_change_of_a_workbook_leaves_all_other_parts_alone(books: Books) -> None:
    """Charts, sparklines, comments, text boxes, validations, data bars and names are there, byte for byte."""
    file = books.root / "list.xlsx"
    before = _with_part(rich_workbook(), "xl/workbook.xml", lambda raw: raw.replace(b' fullCalcOnLoad="1"', b""))
    file.write_bytes(before)
    row = {"No": "6", "Name": "Zoë", "Day": {"date": "2030-08-01"}, "Sum": {"decimal": "-0.10"}, "Paid": True}
    late = {"Day": {"time": "2030-08-01T09:30:00"}, "Name": "_x0041_ \n <b>", "Sum": 7}
    await books.do(act("append", path="ledgers/list.xlsx", rows=[row, late]))
    cells: Value = {"Day": "later", "Sum": {"date": "2030-12-24"}, "Name": None}
    await books.do(act("update", path="ledgers/list.xlsx", where={"No": "3"}, cells=cells))
    old, new = parts(before), parts(file.read_bytes())
    changed = {name for name in new if old.get(name) != new[name]}
    assert changed == {"xl/worksheets/sheet1.xml", "xl/styles.xml", "xl/workbook.xml"} and list(old) == list(new)
    around = r"(?s)<sheetData>.*</sheetData>|<dimension [^>]*>"
    sheets = [re.sub(around, "", found["xl/worksheets/sheet1.xml"].decode()) for found in (old, new)]
    assert sheets[0] == sheets[1]

    book = loaded(file)
    assert [cell.value for cell in book["July"][7][:5]] == ["6", "Zoë", day(2030, 8, 1), -0.1, True]
    assert book["July"]["C7"].number_format == "dd.mm.yyyy"  # as the days above it
    assert [cell.value for cell in book["July"][8][:4]] == [
        None, "_x005F_x0041_ \n <b>", day(2030, 8, 1, 9, 30), 7,
    ]  # fmt: skip
    assert [cell.value for cell in book["July"][4]][:6] == [
        "3", None, "later", day(2030, 12, 24), False, "=D4*2",
    ]  # fmt: skip
    assert book["July"].dimensions == "A1:F8" and book.calculation.fullCalcOnLoad
    told = await books.do(act("read", path="ledgers/list.xlsx", from_row=3))
    assert told["sheets"] == ["July", "Totals"] and told["rows"][0] == {
        "row": 3, "cells": ["2", "half bold", "2030-07-02", "2.2", "TRUE", "4.4"], "formulas": ["Twice"],
    }  # fmt: skip
    assert told["rows"][-1]["cells"] == ["", "_x0041_ \n <b>", "2030-08-01T09:30:00", "7", "", ""]


RUNS = ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "＝1+1", "'=1", '=HYPERLINK("x")']


@pytest.mark.parametrize("text", RUNS)
@pytest.mark.parametrize("file", ["list.csv", "list.xlsx"])
async def test_no_text_runs_as_a_formula(books: Books, text: str, file: str) -> None:
    (books.root / "list.csv").write_text("No,Name\n1,x\n")
    (books.root / "list.xlsx").write_bytes(rich_workbook())
    await books.do(act("append", path=f"ledgers/{file}", rows=[{"No": "9", "Name": text}]))
    await books.do(act("update", path=f"ledgers/{file}", where={"No": "1"}, cells={"Name": text}))
    found = [cells[1] for cells in await books.rows(f"ledgers/{file}") if cells[0] in ("1", "9")]
    assert found == [text, text]
    if file == "list.csv":
        rows = list(csv.reader(io.StringIO((books.root / file).read_text(), newline="")))
        assert [row[1] for row in rows[1:]] == ["'" + text] * 2
    else:
        sheet = loaded(books.root / file)["July"]
        for at in (sheet["B2"], sheet["B7"]):
            assert (at.value, at.data_type, at.quotePrefix) == (text, "s", True)


async def test_a_table_of_a_sheet_grows_with_its_rows(books: Books) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["No", "Name"], ["1", "Ann"]):
        sheet.append(row)
    sheet.add_table(Table(displayName="Names", ref="A1:B2"))
    sheet["D9"] = "aside"  # a note beside the table, lower down
    book.save(books.root / "list.xlsx")
    first = act("append", path="ledgers/list.xlsx", rows=[{"No": "2", "Name": "Ben"}, {"No": "3"}])
    receipt = await books.do(first)
    await books.do(act("append", path="ledgers/list.xlsx", rows=[{"No": "4"}]))
    sheet = loaded(books.root / "list.xlsx").active
    assert sheet.tables["Names"].ref == "A1:B5" and sheet.tables["Names"].autoFilter.ref == "A1:B5"
    with pytest.raises(Refused) as caught:
        await books.undo(first, receipt)  # rows stand below it by now
    assert caught.value.code == "tables.changed"
    assert sheet["D9"].value == "aside"


def _with_part(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    found = parts(content)
    found[name] = change(found.get(name, b""))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, raw in found.items():
            archive.writestr(path, raw)
    return buffer.getvalue()


def _prefixed(raw: bytes) -> bytes:
    """The same part as other programs write it: every element of the main name space with a prefix."""
    return re.sub(rb"<(/?)(?=[a-zA-Z])(?![a-z0-9]+:)", rb"<\1x:", raw).replace(b"xmlns=", b"xmlns:x=", 1)


async def test_elements_with_a_prefix_are_written_with_it(books: Books) -> None:
    book = openpyxl.Workbook()
    for row in (["No", "Name"], ["1", "Ann"], ["2", None]):
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    (books.root / "list.xlsx").write_bytes(_with_part(buffer.getvalue(), "xl/worksheets/sheet1.xml", _prefixed))
    await books.do(act("append", path="ledgers/list.xlsx", rows=[{"No": 3, "Name": "Zoë"}]))
    await books.do(act("update", path="ledgers/list.xlsx", where={"No": "2"}, cells={"Name": "Ben"}))
    sheet = loaded(books.root / "list.xlsx").active
    assert [[at.value for at in row] for row in sheet] == [["No", "Name"], ["1", "Ann"], ["2", "Ben"], [3, "Zoë"]]


async def test_dates_since_1904_and_odd_numbers_are_told_right(books: Books) -> None:
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True, "date_1904": True})
    sheet = book.add_worksheet()
    formats = ["yyyy-mm-dd", "hh:mm", '0.00" days"', "[$-407]d. mmmm yyyy", "[h]:mm", "0.00E+00"]
    sheet.write_row(0, 0, [f"h{n}" for n in range(len(formats) + 1)])
    values = [day(2030, 7, 1), 0.25, 40_000, day(2030, 7, 1, 8), 1.5, 123456]
    for n, (shape, value) in enumerate(zip(formats, values, strict=True)):
        shown = book.add_format({"num_format": shape})
        write = sheet.write_datetime if isinstance(value, datetime.datetime) else sheet.write_number
        write(1, n, value, shown)
    sheet.write_number(1, len(formats), 0.1 + 0.2)
    book.close()
    (books.root / "odd.xlsx").write_bytes(buffer.getvalue())
    assert await books.rows("ledgers/odd.xlsx") == [
        ["2030-07-01", "06:00:00", "40000", "2030-07-01T08:00:00", "1904-01-02T12:00:00", "123456", "0.3"]
    ]
    await books.do(act("append", path="ledgers/odd.xlsx", rows=[{"h0": {"date": "2031-01-01"}}]))
    assert loaded(books.root / "odd.xlsx").active["A3"].value == day(2031, 1, 1)


async def test_what_would_be_broken_is_refused(books: Books) -> None:
    before = rich_workbook()
    book = openpyxl.load_workbook(io.BytesIO(before))
    sheet = book["July"]
    sheet.merge_cells("A3:B3")
    book.create_sheet("Locked").append(["No"])
    book["Locked"].protection.sheet = True
    totals = book.create_sheet("Sums")
    for row in (["No"], [1], ["Total"]):
        totals.append(row)
    table = Table(displayName="S", ref="A1:A3")
    table.totalsRowCount = 1
    totals.add_table(table)
    book.save(books.root / "list.xlsx")
    signed = _with_part(before, "_xmlsignatures/sig1.xml", lambda _: b"<x/>")
    (books.root / "signed.xlsx").write_bytes(signed)
    for action, code in [
        (act("update", path="ledgers/list.xlsx", where={"No": "1"}, cells={"Twice": 2}), "tables.formula"),
        (act("update", path="ledgers/list.xlsx", where={"No": "2"}, cells={"No": 2}), "tables.form"),
        (act("append", path="ledgers/list.xlsx", sheet="Locked", rows=[{"No": "1"}]), "tables.protected"),
        (act("append", path="ledgers/list.xlsx", sheet="Sums", rows=[{"No": "1"}]), "tables.form"),
        (act("append", path="ledgers/signed.xlsx", rows=[{"No": "1"}]), "tables.protected"),
        (act("append", path="ledgers/list.xlsx", sheet="None", rows=[{"No": "1"}]), "tables.sheet"),
        (act("append", path="ledgers/list.xlsx", header=40, rows=[{"No": "1"}]), "tables.form"),
    ]:
        stands = (books.root / "list.xlsx").read_bytes()
        with pytest.raises(Refused) as caught:
            await books.do(action)
        assert caught.value.code == code and (books.root / "list.xlsx").read_bytes() == stands


# --- both ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["list.csv", "list.xlsx"])
def listed(request: pytest.FixtureRequest, books: Books) -> str:
    """A path to a table of No, Name, Name, Sum with the numbers 1, 2, 2."""
    rows = [["No", "Name", "Name", "Sum"], ["1", "a", "b", "1.5"], ["2", "c", "d", "2.5"], ["2", "e", "f", "3.5"]]
    if request.param.endswith(".csv"):
        (books.root / request.param).write_text("".join(",".join(row) + "\n" for row in rows))
    else:
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.save(books.root / request.param)
    return f"ledgers/{request.param}"


@pytest.mark.parametrize(
    ("tool", "given_", "code"),
    [
        ("update", {"where": {"No": "2"}, "cells": {"Sum": 1}}, "tables.which"),
        ("update", {"where": {"No": "7"}, "cells": {"Sum": 1}}, "tables.which"),
        ("update", {"where": {"No": 1}, "cells": {"Sum": 1}}, "tables.rows"),
        ("update", {"where": {}, "cells": {"Sum": 1}}, "tables.rows"),
        ("update", {"where": {"No": "1"}, "cells": {"Name": "x"}}, "tables.column"),
        ("update", {"where": {"None": "1"}, "cells": {"Sum": 1}}, "tables.column"),
        ("append", {"rows": [{"Total": 1}]}, "tables.column"),
        ("append", {"rows": []}, "tables.rows"),
        ("append", {"rows": [{}]}, "tables.rows"),
        ("append", {"rows": ["No"]}, "tables.rows"),
        ("append", {"rows": [{"No": None}]}, "tables.rows"),
        ("append", {"rows": [{"No": 1}] * 201}, "tables.rows"),
        ("append", {"header": 0, "rows": [{"No": 1}]}, None),
        ("append", {"header": -1, "rows": [{"No": 1}]}, "tables.rows"),
        ("append", {"rows": [{"No": {"decimal": "1,5"}}]}, "tables.value"),
        ("append", {"rows": [{"No": {"decimal": "1234567890.1234567"}}]}, "tables.value"),
        ("append", {"rows": [{"No": 10**16 + 1}]}, "tables.value"),
        ("append", {"rows": [{"No": {"date": "31.7.2030"}}]}, "tables.value"),
        ("append", {"rows": [{"No": {"date": "1899-01-01"}}]}, "tables.value"),
        ("append", {"rows": [{"No": {"time": "2030-07-31T09:30:00+02:00"}}]}, "tables.value"),
        ("append", {"rows": [{"No": {"formula": "1+1"}}]}, "tables.value"),
        ("append", {"rows": [{"No": ["x"]}]}, "tables.value"),
        ("append", {"rows": [{"No": "x\x07"}]}, "tables.value"),
        ("append", {"rows": [{"No": "x" * 8_001}]}, "tables.value"),
        ("read", {"where": {"No": 2}}, "tables.rows"),
    ],
)
async def test_what_is_not_meant_so_is_refused(
    books: Books, listed: str, tool: str, given_: dict[str, Any], code: str | None, snapshot: Snapshot
) -> None:
    before = snapshot(books.root)
    if code is None:
        await books.do(act(tool, path=listed, **given_))  # 0 is the default, as null is
        return
    with pytest.raises(OutriderError) as caught:
        await books.do(act(tool, path=listed, **given_))
    assert caught.value.code == code and isinstance(caught.value, BadInput | Refused)
    assert snapshot(books.root) == before


async def test_an_older_change_is_taken_back_from_between_others(books: Books, listed: str) -> None:
    one = act("append", path=listed, rows=[{"No": "7", "Sum": 1}])
    two = act("update", path=listed, where={"No": "1"}, cells={"Sum": {"decimal": "9.99"}})
    three = act("update", path=listed, where={"No": "7"}, cells={"Sum": 2})
    receipts = [await books.do(action) for action in (one, two, three)]
    await books.undo(two, receipts[1])
    assert [row[3] for row in await books.rows(listed)] == ["1.5", "2.5", "3.5", "2"]
    with pytest.raises(Refused) as caught:
        await books.undo(one, receipts[0])  # its row has been changed since
    assert caught.value.code == "files.changed"
    await books.undo(three, receipts[2])
    await books.undo(one, receipts[0])
    assert await books.rows(listed) == [["1", "a", "b", "1.5"], ["2", "c", "d", "2.5"], ["2", "e", "f", "3.5"]]


async def test_a_file_that_is_open_elsewhere_waits(books: Books, listed: str) -> None:
    name = listed.removeprefix("ledgers/")
    append = act("append", path=listed, rows=[{"No": "7"}])
    for lock in (books.root / f"~${name}", books.root / f".~lock.{name}#"):
        lock.write_text("Ana")
        with pytest.raises(NotSent) as caught:
            await books.do(append)
        assert caught.value.code == "tables.open"
        lock.unlink()
    receipt = await books.do(append)
    lock.write_text("Ana")
    assert await books.do(append) == receipt  # it is done, whoever has it open now
    with pytest.raises(NotSent):
        await books.undo(append, receipt)


async def test_long_tables_are_told_in_pieces(books: Books) -> None:
    (books.root / "long.csv").write_text("No,Text\n" + "".join(f"{n},{'x' * 300}\n" for n in range(450)))
    numbers: list[str] = []
    following = 1
    while following:
        told = await books.do(act("read", path="ledgers/long.csv", from_row=following))
        numbers += [row["cells"][0] for row in told["rows"]]
        following = told["next_row"]
    assert numbers == [str(n) for n in range(450)] and told["found"] == 450


async def test_headings_may_stand_lower(books: Books) -> None:
    (books.root / "list.csv").write_text("Applications of July,,\n,,\nNo,Name,\n1,Ann,\n")
    append = act("append", path="ledgers/list.csv", header=3, rows=[{"No": "2", "Name": "Ben"}])
    receipt = await books.do(append)
    assert await books.rows("ledgers/list.csv", header=3) == [["1", "Ann", ""], ["2", "Ben", ""]]
    assert (await books.tools["books.append"].observe(append, append.key, receipt))[0]


# --- hostile files ------------------------------------------------------------------------------------------------


def _bomb(_: bytes) -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><worksheet>&l11;</worksheet>'.encode()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_bomb, "tables.form"),
        (lambda _: b"<worksheet><sheetData>" + b"<row/>" * 400_000 + b"</sheetData></worksheet>", "tables.too-large"),
        (lambda _: b"<worksheet>" + b" " * 30_000_000 + b"</worksheet>", "tables.too-large"),
        (lambda _: b"<worksheet><sheetData><row r='1'><c r='ZZZ1'/></row></sheetData></worksheet>", "tables.form"),
        (lambda _: b"<worksheet><sheetData><row r='99999999'/></sheetData></worksheet>", "tables.form"),
        (lambda _: b"<x><sheetData><row r='1'><c t='s'><v>99</v></c></row></sheetData></x>", "tables.form"),
        (lambda _: b"<worksheet><sheetData><row><c><v>1_0</v></c></row></sheetData></worksheet>", "tables.form"),
        (lambda _: b"<worksheet/>", "tables.form"),
        (lambda _: b"", "tables.form"),
        (lambda raw: raw.decode().encode("utf-16"), "tables.form"),
        (lambda raw: raw.replace(b'encoding="UTF-8"', b'encoding="latin1"', 1), "tables.form"),
        (lambda raw: raw.replace(b"<sheetData>", b"<a>" * 20_000 + b"<sheetData>"), "tables.form"),
    ],
)  # fmt: skip
async def test_a_hostile_workbook_is_refused(books: Books, change: Callable[[bytes], bytes], code: str) -> None:
    (books.root / "list.xlsx").write_bytes(_with_part(rich_workbook(), "xl/worksheets/sheet1.xml", change))
    with pytest.raises(Refused) as caught:
        await books.rows("ledgers/list.xlsx")
    assert caught.value.code == code


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 100, b"No,Name\n", b"PK\x05\x06" + b"\0" * 18],
)
async def test_what_is_no_workbook_is_refused(books: Books, content: bytes) -> None:
    (books.root / "list.xlsx").write_bytes(content)
    with pytest.raises(Refused) as caught:
        await books.rows("ledgers/list.xlsx")
    assert caught.value.code == "tables.form"


@pytest.mark.parametrize("content", [b"", b'a,b\n"x', b'a,b\n"x"y,z\n', b"a\0b\n", b"\x81\x8d\n", b"\xff\xfea"])
async def test_what_is_no_csv_is_refused(books: Books, content: bytes) -> None:
    (books.root / "list.csv").write_bytes(content)
    with pytest.raises(Refused) as caught:
        await books.rows("ledgers/list.csv")
    assert caught.value.code == "tables.form"


def test_damaged_workbooks_end_in_our_errors() -> None:
    """Bytes of a real workbook and of its parts are spoiled at random: it is read, or refused in our words."""
    source, spot = random.Random(7), Spot("r", ("x.xlsx",))
    whole, outcomes = rich_workbook(), set()
    names = [
        name for name in parts(whole) if name.endswith(("sheet1.xml", "styles.xml", "Strings.xml", "book.xml", "rels"))
    ]
    for _ in range(300):
        content = bytearray(whole)
        if source.random() < 0.7:

            def spoil(raw: bytes) -> bytes:
                piece = bytearray(raw)
                for _ in range(source.randint(1, 4)):
                    at = source.randrange(len(piece))
                    piece[at : at + source.randint(0, 3)] = source.randbytes(source.randint(0, 3))
                return bytes(piece)

            content = bytearray(_with_part(whole, source.choice(names), spoil))
        else:
            for _ in range(source.randint(1, 20)):
                content[source.randrange(len(content))] = source.randrange(256)
        try:
            sheet = opened(spot, bytes(content), {})
            sheet.append([{0: cell("x", "No")}])
            sheet.content()
            outcomes.add("done")
        except Refused as error:
            outcomes.add(error.code)
    assert {"done", "tables.form"} <= outcomes


async def test_other_kinds_of_file_and_places_are_refused(books: Books, tmp_path: Path) -> None:
    (books.root / "list.ods").write_text("x")
    with pytest.raises(BadInput) as caught:
        await books.rows("ledgers/list.ods")
    assert caught.value.code == "tables.kind"
    (tmp_path / "out.csv").write_text("a,b\n1,2\n")
    (books.root / "link.csv").symlink_to(tmp_path / "out.csv")
    for action in (act("read", path="ledgers/link.csv"), act("append", path="ledgers/link.csv", rows=[{"a": "x"}])):
        with pytest.raises(Refused) as refused:
            await books.do(action)
        assert refused.value.code == "files.plain"
    assert (tmp_path / "out.csv").read_text() == "a,b\n1,2\n"


def test_a_bar_chart_of_another_program_survives() -> None:
    """openpyxl itself would lose a text box on saving; ours keeps what both of them wrote."""
    book = openpyxl.Workbook()
    for row in (["No", "Sum"], ["1", 2], ["2", 3]):
        book.active.append(row)
    chart = BarChart()
    chart.add_data(Reference(book.active, min_col=2, min_row=1, max_row=3), titles_from_data=True)
    book.active.add_chart(chart, "D2")
    buffer = io.BytesIO()
    book.save(buffer)
    sheet = opened(Spot("r", ("x.xlsx",)), buffer.getvalue(), {})
    sheet.append([{0: cell("3", "No"), 1: cell({"decimal": "4.5"}, "Sum")}])
    after = openpyxl.load_workbook(io.BytesIO(sheet.content())).active
    assert [at.value for at in after[4]] == ["3", 4.5] and len(after._charts) == 1
