"""Files in a folder become runs exactly once, whatever happens in between; nothing is lost or written over."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.journal import Journal
from edge_agent.sense import inbox as inbox_module
from edge_agent.sense.inbox import Inbox, Intake, run_id
from shared import limits
from shared.entries import Draft, Entry, RunOpened, SourceRead, SourceRefused
from shared.errors import Unavailable
from shared.keys import SigningKey
from shared.playbook import load
from shared.runs import Device

BOOK = load(
    """
playbook: permits
version: 1
owner: desk@city.example
trigger: {folder: inbox}
inputs:
  number: {required: true}
  text: {required: true}
  value: {type: cents}
  phone: {private: true}
business_key: [number]
steps: [{id: triage, planner: triage, tools: [register.decide]}]
lanes: [{id: express, label: Express}]
fallback: express
approvals: {roles: [clerk]}
""",
    "book.yaml",
)
HEAD = "number,text,value,phone\n"


class Desk:
    """A home with a real log and one watched folder. Open it again to be the agent after a restart."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "inbox"
        self.folder.mkdir(exist_ok=True)
        self.ticks = 1_790_000_000_000_000
        self.journal = Journal(root / "log.sqlite3", "city/dev", SigningKey(b"k" * 32), now=self._now, software="test")
        self.device = Device()
        for entry in self.journal.entries():
            self.device.fold(entry)
        self.journal.listen(self._fold)
        self.intake = Intake(self.journal, self.device, taken=root / "taken", refused=root / "refused")

    def _now(self) -> int:
        self.ticks += 1
        return self.ticks

    def _fold(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.device.fold(entry)

    def drop(self, text: str | bytes, name: str = "june.csv") -> Path:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    async def take(self, path: Path) -> list[str]:
        return await self.intake.take(path, BOOK, 1)

    def sources(self) -> list[SourceRead]:
        return [entry.facts for entry in self.journal.entries() if isinstance(entry.facts, SourceRead)]

    def opened(self) -> list[str]:
        return [entry.run for entry in self.journal.entries() if isinstance(entry.facts, RunOpened)]

    def files(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.root / folder).glob("*"))


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.journal.close()


async def test_rows_become_runs_and_the_file_is_kept(desk: Desk) -> None:
    text = HEAD + "PA-1,New roof,12500,555-0100\nPA-2,New deck,,\n"
    runs = await desk.take(desk.drop(text))
    assert runs == [run_id("permits", "PA-1"), run_id("permits", "PA-2")] == desk.opened()
    (source,) = desk.sources()
    assert (source.rows, source.opened, source.duplicates, source.refused) == (2, 2, 0, 0)
    assert desk.files("inbox") == []
    assert (desk.root / "taken" / "june.csv").read_text() == text


async def test_private_inputs_stand_in_a_body_of_their_own(desk: Desk) -> None:
    await desk.take(desk.drop(HEAD + "PA-1,New roof,12500,555-0100\nPA-2,New deck,,\n"))
    first, second = [entry for entry in desk.journal.entries() if isinstance(entry.facts, RunOpened)]
    shared = desk.journal.body(first.seq)
    assert shared == {
        "inputs": {"number": "PA-1", "text": "New roof", "value": 1_250_000},
        "subject": "PA-1",
        "source": "june.csv row 1",
    }
    assert desk.journal.body(first.seq, "private") == {"inputs": {"phone": "555-0100"}}
    assert desk.journal.body(second.seq, "private") is None
    assert [first.facts.private_fields, second.facts.private_fields] == [True, False]  # type: ignore[attr-defined]
    batch = desk.journal.batch(0)
    assert batch is not None
    assert "555-0100" not in json.dumps([(sent.data, sent.body and sent.body.data) for sent in batch[0]])


async def test_the_same_row_twice_in_a_file_and_across_files(desk: Desk) -> None:
    await desk.take(desk.drop(HEAD + "PA-1,roof,1,\nPA-1,roof,1,\nPA-2,deck,,\n"))
    await desk.take(desk.drop(HEAD + "PA-2,deck,,\nPA-3,shed,,\n", "july.csv"))
    assert len(desk.opened()) == len(set(desk.opened())) == 3
    assert [(s.rows, s.opened, s.duplicates) for s in desk.sources()] == [(3, 2, 1), (2, 1, 1)]


async def test_the_same_file_twice_opens_nothing(desk: Desk) -> None:
    text = HEAD + "PA-1,roof,1,\nPA-2,deck,,\n"
    await desk.take(desk.drop(text))
    assert await desk.take(desk.drop(text)) == []
    assert await desk.take(desk.drop(text, "copy.csv")) == []
    assert [(s.opened, s.duplicates) for s in desk.sources()] == [(2, 0), (0, 2), (0, 2)]
    kept = desk.files("taken")
    assert len(kept) == 3 and "june.csv" in kept and "copy.csv" in kept


async def test_a_known_case_with_other_content_is_refused(desk: Desk) -> None:
    await desk.take(desk.drop(HEAD + "PA-1,roof,100,555\n"))
    await desk.take(desk.drop(HEAD + "PA-1,tower,900,555\nPA-2,deck,250,\nPA-2,shed,250,\n", "july.csv"))
    assert len(desk.opened()) == 2
    source = desk.sources()[1]
    assert (source.rows, source.opened, source.duplicates, source.refused) == (3, 1, 0, 2)
    account = desk.journal.body(desk.journal.committed - 1)
    assert account is not None
    assert [(e["row"], e["code"]) for e in account["errors"]] == [(1, "intake.row.changed"), (3, "intake.row.changed")]
    rows = rows_of(desk.root / "refused" / "july.refused-rows.csv")
    assert rows[0] == ["row", "code", "what to do", "number", "text", "value", "phone"]
    assert [row[:2] + row[3:] for row in rows[1:]] == [
        ["1", "intake.row.changed", "PA-1", "tower", "900", "555"],
        ["3", "intake.row.changed", "PA-2", "shed", "250", ""],
    ]


async def test_a_private_change_is_a_change(desk: Desk) -> None:
    await desk.take(desk.drop(HEAD + "PA-1,roof,100,555\n"))
    await desk.take(desk.drop(HEAD + "PA-1,roof,100,777\n", "july.csv"))
    assert desk.sources()[1].refused == 1


async def test_refused_rows_can_be_mended_and_dropped_again(desk: Desk) -> None:
    await desk.take(desk.drop(HEAD + "PA-1,roof,lots,\nPA-2,deck,,\n,x,,\n"))
    left = desk.root / "refused" / "june.refused-rows.csv"
    mended = left.read_text().replace("lots", "5000")
    await desk.take(desk.drop(mended, "mended.csv"))
    assert run_id("permits", "PA-1") in desk.opened()
    again = rows_of(desk.root / "refused" / "mended.refused-rows.csv")
    assert again[0] == ["row", "code", "what to do", "number", "text", "value", "phone"]
    assert [row[3:] for row in again[1:]] == [["", "x", "", ""]]


async def test_refused_rows_of_another_file_of_that_name_are_not_written_over(desk: Desk) -> None:
    await desk.take(desk.drop(HEAD + "PA-1,roof,lots,\n"))
    await desk.take(desk.drop(HEAD + "PA-2,roof,much,\n"))
    kept = [path.read_text() for path in (desk.root / "refused").glob("june*")]
    assert len(kept) == 2
    assert any("lots" in text for text in kept) and any("much" in text for text in kept)
    assert len(desk.files("taken")) == 2


async def test_a_file_that_is_no_table_is_set_aside_with_the_reason(desk: Desk) -> None:
    data = "number,text\nPA-1,café\n".encode("latin-1")
    assert await desk.take(desk.drop(data, "bad.csv")) == []
    assert (desk.root / "refused" / "bad.csv").read_bytes() == data
    assert "intake.encoding" in (desk.root / "refused" / "bad.csv.why.txt").read_text()
    entry = list(desk.journal.entries())[-1]
    assert isinstance(entry.facts, SourceRefused) and entry.facts.code == "intake.encoding"
    body = desk.journal.body(entry.seq)
    assert body is not None and body["file"] == "bad.csv" and body["advice"]


async def test_a_crash_between_commits_opens_each_row_once(desk: Desk, tmp_path: Path) -> None:
    rows = 300
    path = desk.drop(HEAD + "".join(f"PA-{n},roof,1,\n" for n in range(rows)))
    append, calls = desk.journal.append, 0

    async def cut(*drafts: Draft) -> list[Entry]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Unavailable("log.write", "the power went", advice="start again")
        return await append(*drafts)

    desk.journal.append = cut  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await desk.take(path)
    assert 0 < len(desk.opened()) < rows
    assert path.exists()
    desk.journal.close()
    after = Desk(tmp_path)
    again = await after.take(path)
    assert len(again) == rows - 256
    assert len(after.opened()) == len(set(after.opened())) == rows
    (source,) = after.sources()
    assert (source.rows, source.opened, source.duplicates, source.refused) == (rows, rows, 0, 0)
    after.journal.close()


async def test_a_file_still_being_written_is_left(desk: Desk) -> None:
    inbox = Inbox(desk.folder)
    path = desk.drop(HEAD)
    assert inbox.ready() == []
    with path.open("a") as file:
        file.write("PA-1,roof,1,\n")
    assert inbox.ready() == []
    assert inbox.ready() == [path]


async def test_a_file_that_grew_while_it_was_read_is_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.drop(HEAD + "PA-1,roof,1,\n")
    read = inbox_module._read

    def slowly(which: Path) -> tuple[bytes, str]:
        found = read(which)
        if which.stat().st_size < 60:
            with which.open("a") as file:
                file.write("PA-2,deck,,\nPA-3,shed,,\n")
        return found

    monkeypatch.setattr(inbox_module, "_read", slowly)
    assert len(await desk.take(path)) == 1
    assert path.exists()
    assert len(await desk.take(path)) == 2
    assert len(set(desk.opened())) == 3
    assert desk.files("taken") == ["june.csv"]


async def test_only_plain_csv_files_are_taken(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(HEAD + "PA-9,x,,\n")
    (desk.folder / "link.csv").symlink_to(secret)
    (desk.folder / "folder.csv").mkdir()
    os.mkfifo(desk.folder / "pipe.csv")
    desk.drop("x", ".hidden.csv")
    desk.drop("x", "notes.txt")
    desk.drop("x", "june.csv.part")
    wanted = desk.drop(HEAD, "JUNE.CSV")
    inbox = Inbox(desk.folder)
    inbox.ready()
    assert inbox.ready() == [wanted]
    assert await desk.take(desk.folder / "link.csv") == []
    assert desk.opened() == [] and secret.exists()


async def test_a_file_taken_away_is_no_error(desk: Desk) -> None:
    assert await desk.take(desk.folder / "gone.csv") == []


async def test_a_name_that_is_not_utf8(desk: Desk) -> None:
    path = Path(os.fsdecode(os.fsencode(desk.folder) + b"/caf\xe9.csv"))
    path.write_text(HEAD + "PA-1,roof,1,\n")
    assert len(await desk.take(path)) == 1
    body = desk.journal.body(desk.journal.committed - 1)
    assert body is not None and body["file"] == "caf�.csv"


@pytest.mark.parametrize("text", [HEAD + "PA-1,roof,1,\n", "number\nPA-1\n"], ids=["taken", "refused"])
async def test_a_file_that_cannot_be_moved_is_recorded_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = desk.drop(text)

    def stuck(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inbox_module.shutil, "move", stuck)
    first = await asyncio.gather(desk.take(path), return_exceptions=True)
    size = desk.journal.committed
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await desk.take(path)
        assert caught.value.code == "intake.move"
    assert desk.journal.committed == size
    if "roof" in text:
        assert first == [[run_id("permits", "PA-1")]]  # its run can begin though the file lies there still
    monkeypatch.undo()
    await desk.take(path)
    assert desk.journal.committed == size and not path.exists()


async def test_a_file_beyond_the_bound_is_refused_without_reading_it_all(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CSV_BYTES", 1000)
    await desk.take(desk.drop(HEAD + "x" * 5000))
    entry = list(desk.journal.entries())[-1]
    assert isinstance(entry.facts, SourceRefused) and entry.facts.code == "intake.size"
    assert len(next((desk.root / "refused").glob("june.csv")).read_bytes()) > 5000


async def test_long_rows_stay_within_what_one_upload_may_hold(desk: Desk) -> None:
    text = "é" * 7900
    await desk.take(desk.drop(HEAD + "".join(f'PA-{n},"{text}",1,{text}\n' for n in range(300))))
    start = 0
    while (batch := desk.journal.batch(start)) is not None:
        weight = sum(len(sent.data) + len(sent.body.data.encode() if sent.body else b"") for sent in batch[0])
        assert len(batch[0]) <= limits.BATCH_ENTRIES and weight <= limits.BATCH_BYTES
        start += len(batch[0])
    assert start == desk.journal.committed == 302


async def test_many_bad_rows_with_long_keys_still_fit_the_account(desk: Desk) -> None:
    key = "K" * 7900
    await desk.take(desk.drop(HEAD + "".join(f"{key}{n},roof,1,\n" for n in range(150))))
    await desk.take(desk.drop(HEAD + "".join(f"{key}{n},deck,1,\n" for n in range(150)), "july.csv"))
    assert desk.sources()[1].refused == 150
    account = desk.journal.body(desk.journal.committed - 1)
    assert account is not None and len(account["errors"]) == 100
