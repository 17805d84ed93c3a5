"""Files as people really make them: each is read, or refused with a code that says what to mend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sense.table import NOTES, read_table
from shared import limits
from shared.errors import BadInput
from shared.playbook import Playbook, load

BOOK = """
playbook: permits
version: 1
owner: desk@city.example
trigger: {folder: inbox}
inputs:
  number: {required: true, columns: [Application No]}
  text: {required: true, columns: [Description]}
  value: {type: cents, columns: [Est. Value]}
  filed: {type: date}
  phone: {private: true}
business_key: [number]
extra_columns: EXTRA
steps: [{id: triage, planner: triage, tools: [register.decide]}]
lanes: [{id: express, label: Express}]
fallback: express
approvals: {roles: [clerk]}
"""


def book(extra: str = "refuse") -> Playbook:
    return load(BOOK.replace("EXTRA", extra), "book.yaml")


def code_of(data: bytes, extra: str = "refuse") -> str:
    with pytest.raises(BadInput) as caught:
        read_table(data, book(extra))
    assert caught.value.advice
    return caught.value.code


def refusals(text: str) -> list[tuple[int, str]]:
    return [(bad.number, bad.error.code) for bad in read_table(text.encode(), book()).refused]


GOOD = "number,text,value,filed,phone\nPA-1,New roof,12500,2026-03-31,555\n"


@pytest.mark.parametrize(
    "data",
    [
        GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        GOOD.replace("number,text,value", "APPLICATION no, description ,est. value").encode(),
        GOOD.rstrip("\n").encode(),
        (GOOD + "\n , , ,\n\n").replace(" , , ,", ",,,,").encode(),
    ],
    ids=["plain", "bom", "crlf", "semicolon", "tab", "headings", "no last newline", "empty rows"],
)
def test_one_row_however_it_was_exported(data: bytes) -> None:
    table = read_table(data, book())
    assert table.refused == []
    (row,) = table.rows
    assert row.inputs == {
        "number": "PA-1",
        "text": "New roof",
        "value": 1_250_000,
        "filed": "2026-03-31",
        "phone": "555",
    }
    assert (row.number, row.subject) == (1, "PA-1")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (GOOD.encode("utf-16"), "intake.encoding"),
        (GOOD.encode("utf-16-le"), "intake.csv"),
        (GOOD.replace("roof", "café").encode("latin-1"), "intake.encoding"),
        (GOOD.replace("roof", "ro\x00of").encode(), "intake.csv"),
        (b"", "intake.empty"),
        (b"\n\n", "intake.empty"),
        (b",,\n1,2,3\n", "intake.empty"),
        (b'number,text\nPA-1,"never closed\nPA-2,x\n', "intake.csv"),
        (b'number,text\nPA-1,"a"b\n', "intake.csv"),
        (b"number\nPA-1\n", "intake.column.missing"),
        (b"number,text,colour\nPA-1,x,red\n", "intake.column.unknown"),
        (b"number,Application No,text\n1,2,x\n", "intake.column.twice"),
        (("number,text," + "c," * limits.CSV_COLUMNS + "\n").encode(), "intake.columns"),
        (("number,text," + "c" * (limits.HEADING_CHARS + 1) + "\n").encode(), "intake.heading"),
        (b"number,text,a\x1bb\n", "intake.heading"),
        (bytes(range(1, 256)) * 4, "intake.encoding"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_whole(data: bytes, code: str) -> None:
    assert code_of(data) == code


def test_wrong_encoding_names_the_line() -> None:
    with pytest.raises(BadInput) as caught:
        read_table(b"number,text\nPA-1,ok\nPA-2,caf\xe9\n", book())
    assert caught.value.where == "line 3"


def test_too_large_a_file_and_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CSV_BYTES", 100)
    assert code_of(b"number,text\n" + b"x" * 100) == "intake.size"
    monkeypatch.setattr(limits, "CSV_BYTES", 10_000)
    monkeypatch.setattr(limits, "CSV_ROWS", 3)
    assert len(read_table(b"number,text\n" + b"a,b\n" * 3, book()).rows) == 3
    assert code_of(b"number,text\n" + b"a,b\n" * 4) == "intake.rows"


def test_columns_nobody_named_are_dropped_and_never_kept() -> None:
    table = read_table(b"number,ssn,text\nPA-1,078-05-1120,roof\n", book("drop"))
    assert table.dropped == ["ssn"]
    assert "078-05-1120" not in str(table.rows[0].inputs)


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ("PA-1,roof", "intake.row.width"),
        ("PA-1,roof,1,,,,", "intake.row.width"),
        (",roof,1,,", "intake.field.missing"),
        ("PA-1, ,1,,", "intake.field.missing"),
        ("PA-1,roof,twelve,,", "intake.field.money"),
        ("PA-1,roof,-5,,", "intake.field.money"),
        ("PA-1,roof,(500),,", "intake.field.money"),
        ("PA-1,roof,12.345,,", "intake.field.money"),
        ("PA-1,roof,1e9,,", "intake.field.money"),
        ("PA-1,roof,€5,,", "intake.field.money"),
        ("PA-1,roof,١٢,,", "intake.field.money"),
        ('PA-1,roof,"12,50",,', "intake.field.money"),
        ("PA-1,roof," + "9" * 16 + ",,", "intake.field.money"),
        ("PA-1,roof,1,31.03.2026,", "intake.field.date"),
        ("PA-1,roof,1,2026-02-30,", "intake.field.date"),
        ("PA-1,ro\x07of,1,,", "intake.field.control"),
        ("PA-1," + "x" * (limits.FIELD_CHARS + 1) + ",1,,", "intake.field.too-long"),
    ],
)
def test_a_bad_row_is_refused_by_itself(cells: str, code: str) -> None:
    text = f"number,text,value,filed,phone\nPA-0,good,,,\n{cells}\nPA-9,good,,,\n"
    table = read_table(text.encode(), book())
    assert [row.subject for row in table.rows] == ["PA-0", "PA-9"]
    assert [(bad.number, bad.error.code) for bad in table.refused] == [(2, code)]
    assert table.refused[0].error.where == "row 2"
    assert table.refused[0].error.advice


@pytest.mark.parametrize(
    ("money", "cents"),
    [("0", 0), ("12500", 1250000), ("12,500.00", 1250000), ("$1,234,567.8", 123456780), ("0.05", 5), ("$ 3", 300),
     ("1.500", 150), ("999999999999999", 99999999999999900)],
)  # fmt: skip
def test_money_is_integer_cents(money: str, cents: int) -> None:
    (row,) = read_table(f'number,text,value\nPA-1,x,"{money}"\n'.encode(), book()).rows
    assert row.inputs["value"] == cents


def test_new_lines_inside_quotes_stay_in_their_cell() -> None:
    (row,) = read_table(b'number,text\nPA-1,"a\nb"\n', book()).rows
    assert row.inputs["text"] == "a\nb"


def test_a_row_too_long_for_one_body_is_refused() -> None:
    many = "".join(f"  f{n}: {{}}\n" for n in range(20))
    wide = load(
        BOOK.replace("EXTRA", "refuse").replace("business_key", f"{many}business_key").replace("  phone", "  phone"),
        "b",
    )
    head = "number,text," + ",".join(f"f{n}" for n in range(20))
    row = "PA-1,x," + ",".join(["é" * 7000] * 20)
    table = read_table(f"{head}\n{row}\n".encode(), wide)
    assert [bad.error.code for bad in table.refused] == ["intake.row.too-long"]


def test_mended_rows_come_back_with_their_notes() -> None:
    head = ",".join([*NOTES, "number", "text"])
    table = read_table(f"{head}\n4,intake.field.money,mend it,PA-1,roof\n".encode(), book())
    assert [row.subject for row in table.rows] == ["PA-1"]
    assert code_of(b"number,text,row\nPA-1,roof,3\n") == "intake.column.unknown"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_bad_input(data: bytes) -> None:
    try:
        table = read_table(b"number,text\n" + data, book())
    except BadInput as error:
        assert error.code.startswith("intake.")
    else:
        assert all(row.inputs["number"] for row in table.rows)


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_bad_input(text: str) -> None:
    try:
        read_table(text.encode("utf-8", "surrogatepass"), book("drop"))
    except BadInput as error:
        assert error.code.startswith("intake.")
