"""Files that were cut, deleted, replaced or put back from an older copy: the log knows how far it had come, by its own
word and by the hub's."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from edge_agent.journal import LogReader, commits
from shared.entries import Draft, SourceRefused
from shared.errors import Tampered, Unavailable
from shared.keys import cosign_note
from tests.edge_agent.logs import HUB, START, Clock, draft, everything, fill, hold_against, open_log, sound, spawn

HOUR_US = 3_600_000_000


# --- the write-ahead log ------------------------------------------------------------------------------------------

KILLED = """
    import os, sys
    from pathlib import Path
    from tests.edge_agent.logs import draft, open_log

    journal = open_log(Path(sys.argv[1]))
    for n in range(30):
        journal.append_blocking([draft(str(n), shared={"x": "y" * 900})])
    journal._end.look_after()
    print(journal.committed, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The files of an agent that was killed: its entries stand in the write-ahead log only."""
    folder = tmp_path / "kept"
    folder.mkdir()
    with spawn(tmp_path, KILLED, str(folder)) as child:
        assert child.communicate()[0] == "31\n"
    (folder / "log.sqlite3-shm").unlink()
    return folder


@pytest.mark.system
def test_after_a_kill_all_is_there(killed: Path) -> None:
    assert len(everything(killed)) == 31
    sound(killed)


@pytest.mark.system
def test_a_write_ahead_log_that_was_deleted_is_missed(killed: Path) -> None:
    (killed / "log.sqlite3-wal").unlink()
    with pytest.raises(Tampered) as caught:
        open_log(killed)
    assert caught.value.code == "log.rolled-back"
    assert "-wal" in caught.value.advice


@pytest.mark.system
def test_a_write_ahead_log_that_was_cut_or_changed_is_met(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed, tmp_path / "read")
    written = everything(tmp_path / "read")
    name = "log.sqlite3-wal"
    whole = (killed / name).read_bytes().rstrip(b"\0")
    choose, met = random.Random(2), 0
    for place in range(0, len(whole), len(whole) // 40):
        assert hold_against(tmp_path / "log", killed, written, name, whole[:place]), place
        at = min(len(whole) - 1, place + choose.randrange(900))
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        met += hold_against(tmp_path / "log", killed, written, name, changed)
    assert met > 30


async def test_a_write_ahead_log_removed_under_the_agent_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_LOOK_S", 0.0)
    journal = open_log(tmp_path)
    await journal.append(draft())
    (tmp_path / "log.sqlite3-wal").unlink()
    written = [0, 1]
    with pytest.raises(Unavailable) as caught:
        for _ in range(3):
            written.append((await journal.append(draft()))[0].seq)
    assert caught.value.code == "log.removed"
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "log.sqlite3", copy)  # all of it is in the file, even if the power fails now
    reader = LogReader(copy / "log.sqlite3")
    assert [found.seq for found in reader.entries()] == written
    reader.close()
    journal.close()
    again = open_log(tmp_path)
    assert again.committed == len(written)
    again.close()


async def test_a_file_replaced_under_the_agent_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_LOOK_S", 0.0)
    fill(tmp_path)
    journal = open_log(tmp_path)
    shutil.copy(tmp_path / "log.sqlite3", tmp_path / "old")
    (tmp_path / "old").replace(tmp_path / "log.sqlite3")  # as programs that synchronise folders do
    with pytest.raises(Unavailable) as caught:
        for _ in range(3):
            await journal.append(draft())
    assert caught.value.code == "log.removed"
    journal.close()


# --- put back from an older copy ----------------------------------------------------------------------------------


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A log in ``log``, and in ``backup`` a copy of its file from before its last entries."""
    log, backup = tmp_path / "log", tmp_path / "backup"
    log.mkdir()
    backup.mkdir()
    fill(log, 3)
    shutil.copy(log / "log.sqlite3", backup)
    journal = open_log(log)
    journal.append_blocking([draft("later")])
    *_, (size, note, _) = journal.checkpoints()
    asyncio.run(journal.cosign(size, cosign_note(note, "city", HUB, START // 1_000_000)))
    journal.append_blocking([draft("last")])
    journal.close()
    return tmp_path


def test_an_older_file_put_back_is_told_by_the_head_beside_it(older: Path) -> None:
    shutil.copy(older / "backup" / "log.sqlite3", older / "log")
    with pytest.raises(Tampered) as caught:
        open_log(older / "log")
    assert caught.value.code == "log.rolled-back"
    assert "6" in caught.value.message and "4" in caught.value.message
    assert "restored from an older copy" in caught.value.advice


def test_entries_cut_off_are_told_by_the_countersignature(older: Path) -> None:
    """Whoever cuts the log with care leaves a log that holds; but not one the hub has seen."""
    with sqlite3.connect(older / "log" / "log.sqlite3") as db:
        db.execute("DELETE FROM entry WHERE seq > 3")
    db.close()
    (older / "log" / "log.sqlite3-head").unlink()
    with pytest.raises(Tampered) as caught:
        open_log(older / "log")
    assert caught.value.code == "log.rolled-back"
    assert "countersigned" in caught.value.message


def test_another_history_of_the_same_length_is_told(older: Path) -> None:
    other = older / "backup"
    journal = open_log(other)
    journal.append_blocking([draft("another")])
    journal.append_blocking([draft("history")])
    journal.close()
    shutil.copy(other / "log.sqlite3", older / "log")
    with pytest.raises(Tampered) as caught:
        open_log(older / "log")
    assert caught.value.code == "log.rolled-back"


@pytest.mark.parametrize("head", [b"", b"\0" * 1024, b"junk", b"city/dev\n9\nAAAA\n\n\xe2\x80\x94 city/dev AAAAAAAA\n"])
def test_a_head_that_is_torn_tells_nothing(older: Path, head: bytes) -> None:
    (older / "log" / "log.sqlite3-head").write_bytes(head)
    journal = open_log(older / "log")
    assert journal.committed == 6
    journal.close()


def test_the_newest_entries_may_be_ahead_of_the_head(older: Path) -> None:
    """The head is not synced: after a power cut it may be older than the log."""
    head = (older / "log" / "log.sqlite3-head").read_bytes()
    journal = open_log(older / "log")
    journal.append_blocking([draft()])
    journal.close()
    (older / "log" / "log.sqlite3-head").write_bytes(head)
    again = open_log(older / "log")
    assert again.committed == 7
    again.close()


# --- the clock ----------------------------------------------------------------------------------------------------


def test_a_clock_set_back_between_starts_is_told_and_time_stands(tmp_path: Path) -> None:
    fill(tmp_path)
    clock = Clock()
    clock.now = START - 24 * HOUR_US
    journal = open_log(tmp_path, clock)
    assert journal.behind_us == 24 * HOUR_US
    entries = journal.append_blocking([Draft(SourceRefused("00", "x"))])
    assert (entries[0].seq, entries[0].at) == (5, START)
    assert [entry.type for entry in journal.entries(4)] == ["clock.stepped", "source.refused"]
    journal.close()
    sound(tmp_path)
