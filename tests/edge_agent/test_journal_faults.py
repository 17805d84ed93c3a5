"""Disks that are full, read-only or broken, files that were cut, deleted or put back: the log says so, and does not go
on from something that is not what was written."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.journal import Journal, LogReader
from shared.errors import Tampered, Unavailable
from tests.edge_agent.logs import HUB, KEY, Clock, draft, everything, fill, hold_against, open_log, sound, spawn

HOUR_US = 3_600_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, which only root can have."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip(f"no disk may be mounted here: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# --- disks --------------------------------------------------------------------------------------------------------


@pytest.mark.system
async def test_a_full_disk_is_said_and_survived(disk: Path) -> None:
    journal = open_log(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 900_000)
    with pytest.raises(Unavailable) as caught:
        for _ in range(200):
            await journal.append(draft(shared={"x": "y" * 50_000}))
    assert caught.value.code == "log.disk-full"
    assert "space" in caught.value.advice
    held = journal.committed
    with pytest.raises(Unavailable):
        await journal.append(draft(shared={"x": "y" * 50_000}))
    assert journal.committed == held
    ballast.unlink()
    (entry,) = await journal.append(draft(shared={"x": "y" * 50_000}))
    assert entry.seq == held
    journal.close()
    sound(disk)
    again = open_log(disk)
    assert again.committed == held + 1
    again.close()


QUOTA = """
    import json, resource, sys
    from pathlib import Path
    from shared.errors import OutriderError
    from tests.edge_agent.logs import draft, open_log

    journal = open_log(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    said = None
    try:
        for n in range(1000):
            journal.append_blocking([draft(str(n), shared={"x": "y" * 2000})])
    except OutriderError as error:
        said = [error.code, error.advice]
    held = journal.committed
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (entry,) = journal.append_blocking([draft()])
    journal.close()
    print(json.dumps([said, held, entry.seq]))
"""


@pytest.mark.system
def test_a_limit_on_what_this_user_may_write_is_said_and_survived(tmp_path: Path) -> None:
    with spawn(tmp_path, QUOTA, str(tmp_path)) as child:
        output, _ = child.communicate()
    (code, advice), held, seq = json.loads(output)
    assert (code, seq) == ("log.write", held)
    assert "what this user may use" in advice
    sound(tmp_path)


def test_a_log_that_may_only_be_read(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "log.sqlite3"
    fill(tmp_path)
    if os.geteuid() == 0:  # root may write any file, so it is put on a disk that is mounted read-only
        folder: Path = request.getfixturevalue("disk")
        path = Path(shutil.copy(path, folder))
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        path.chmod(0o400)
    with pytest.raises(Unavailable) as caught:
        Journal(path, "city/dev", KEY, now=Clock(), software="test").append_blocking([draft()])
    assert caught.value.code == "log.read-only"
    reader = LogReader(path) if os.geteuid() else None
    if reader is not None:
        assert len(list(reader.entries())) == 4
        reader.close()


# --- other writers ------------------------------------------------------------------------------------------------

OTHER = """
    import sys
    from pathlib import Path
    from shared.errors import OutriderError
    from tests.edge_agent.logs import draft, open_log

    journal = open_log(Path(sys.argv[1]))
    for line in sys.stdin:
        try:
            print(journal.append_blocking([draft("other")])[0].seq, flush=True)
        except OutriderError as error:
            print(error.code, flush=True)
    journal.close()
"""


@pytest.mark.system
def test_of_two_processes_on_one_log_only_one_goes_on(tmp_path: Path) -> None:
    """The agent's lock keeps them apart; this is what is left where somebody removed it."""
    fill(tmp_path)
    with spawn(tmp_path, OTHER, str(tmp_path)) as child:
        assert child.stdin is not None and child.stdout is not None

        def other() -> str:
            child.stdin.write("\n")  # type: ignore[union-attr]  # asserted above
            child.stdin.flush()  # type: ignore[union-attr]  # the same
            return child.stdout.readline().strip()  # type: ignore[union-attr]  # the same

        assert other() == "4"
        journal = open_log(tmp_path)
        assert journal.append_blocking([draft("mine")])[0].seq == 5
        assert other() == "log.other-writer"
        assert other() == "log.other-writer", "it does not get better by trying again"
        assert journal.append_blocking([draft("mine")])[0].seq == 6
        journal.close()
        child.stdin.close()
    sound(tmp_path)


async def test_a_file_that_somebody_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_log(tmp_path)
    journal._store._db.execute("PRAGMA busy_timeout = 50")
    browser = sqlite3.connect(tmp_path / "log.sqlite3", isolation_level=None)
    browser.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        await journal.append(draft())
    assert caught.value.code == "log.busy"
    browser.execute("ROLLBACK")
    browser.close()
    assert (await journal.append(draft()))[0].seq == 1
    journal.close()


# --- damage -------------------------------------------------------------------------------------------------------


def damage(folder: Path, sql: str) -> None:
    with sqlite3.connect(folder / "log.sqlite3") as db:
        assert db.execute(sql).rowcount == 1
    db.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entry SET note = NULL WHERE seq = 3",
        "UPDATE entry SET note = CAST('junk' AS BLOB) WHERE seq = 3",
        "UPDATE entry SET note = (SELECT note FROM entry WHERE seq = 2) WHERE seq = 3",
        "UPDATE entry SET data = CAST(replace(data, 'source', 'SOURCE') AS BLOB) WHERE seq = 3",
        "UPDATE entry SET data = 'text' WHERE seq = 3",
        "UPDATE entry SET tree = zeroblob(96) WHERE seq = 3",
        "UPDATE entry SET tree = CAST(substr(tree, 1, 64) || zeroblob(32) AS BLOB) WHERE seq = 3",
        "UPDATE entry SET tree = CAST(substr(tree, 1, 69) AS BLOB) WHERE seq = 3",
        "UPDATE entry SET tree = 'text' WHERE seq = 3",
        "INSERT INTO entry (seq, run, type, data, tree) VALUES (4, '', 'source.refused', '{}', zeroblob(32))",
        "UPDATE entry SET seq = 9 WHERE seq = 3",
        "INSERT INTO cosigned VALUES (3, CAST('junk' AS BLOB))",
        "INSERT INTO cosigned VALUES (3, 'text')",
    ],
)
def test_an_end_that_does_not_hold_is_refused(tmp_path: Path, sql: str) -> None:
    fill(tmp_path)
    damage(tmp_path, sql)
    with pytest.raises(Tampered) as caught:
        open_log(tmp_path)
    assert caught.value.code == "log.corrupt"
    assert "outrider audit verify" in caught.value.advice or "restore" in caught.value.advice


@pytest.mark.parametrize(
    "sql",
    [
        'UPDATE entry SET data = CAST(replace(data, \'"code":"1"\', \'"code":"7"\') AS BLOB) WHERE seq = 2',
        "UPDATE entry SET data = (SELECT data FROM entry WHERE seq = 1),"
        " tree = (SELECT tree FROM entry WHERE seq = 1) WHERE seq = 2",
        "UPDATE entry SET data = x'ff' WHERE seq = 2",
        "DELETE FROM entry WHERE seq = 2",
        "UPDATE entry SET shared = replace(shared, 'y', 'z') WHERE seq = 2",
        "UPDATE entry SET shared_salt = 'none' WHERE seq = 2",
        "UPDATE entry SET shared_salt = NULL WHERE seq = 2",
        "UPDATE entry SET shared = x'ff00' WHERE seq = 2",
    ],
)
def test_a_changed_entry_or_body_is_not_read(tmp_path: Path, sql: str) -> None:
    fill(tmp_path, shared={"x": "y"})
    damage(tmp_path, sql)
    reader = LogReader(tmp_path / "log.sqlite3")
    for read in (lambda: [reader.body(entry.seq) for entry in reader.entries()], lambda: reader.batch(0)):
        with pytest.raises(Tampered) as caught:
            read()
        assert caught.value.code == "log.corrupt"
    reader.close()


def test_an_erased_body_is_no_damage(tmp_path: Path) -> None:
    fill(tmp_path, shared={"x": "y"})
    damage(tmp_path, "UPDATE entry SET shared_salt = NULL, shared = NULL WHERE seq = 2")
    reader = LogReader(tmp_path / "log.sqlite3")
    assert [reader.body(entry.seq) for entry in reader.entries()] == [None, {"x": "y"}, None, {"x": "y"}]
    reader.close()
    sound(tmp_path)


def test_another_key_is_not_this_logs(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    with pytest.raises(Tampered) as caught:
        open_log(tmp_path, key=HUB)
    assert caught.value.code == "log.corrupt"


@pytest.mark.parametrize("page", ["header", "root", "all"])
def test_damaged_pages_are_said(tmp_path: Path, page: str) -> None:
    fill(tmp_path, 50, shared={"x": "y" * 900})
    path = tmp_path / "log.sqlite3"
    whole = bytearray(path.read_bytes())
    begin, end = {"header": (0, 100), "root": (100, 4096), "all": (4096, len(whole))}[page]
    whole[begin:end] = b"\xa5" * (end - begin)
    path.write_bytes(whole)
    with pytest.raises(Tampered) as caught:
        open_log(tmp_path)
    assert caught.value.code in ("log.unreadable", "log.corrupt")
    assert "restore" in caught.value.advice


def test_a_byte_flipped_anywhere_is_met_or_does_not_matter(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    fill(kept, 40, shared={"x": "y" * 900}, private={"x": "z" * 5000})
    shutil.copytree(kept, tmp_path / "read")
    written = everything(tmp_path / "read")
    whole = (kept / "log.sqlite3").read_bytes()
    choose, met = random.Random(1), 0
    for place in range(0, len(whole), 1300):
        place += choose.randrange(1300)
        if place < len(whole):
            changed = whole[:place] + bytes([whole[place] ^ choose.randrange(1, 256)]) + whole[place + 1 :]
            met += hold_against(tmp_path / "log", kept, written, "log.sqlite3", changed)
    assert met > 100, "most of the file is entries and bodies"


def test_a_file_that_lost_its_tail_is_met(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    fill(kept, 40, shared={"x": "y" * 900})
    whole = (kept / "log.sqlite3").read_bytes()
    for left in range(0, len(whole), 4096 * 2 + 777):
        assert hold_against(tmp_path / "log", kept, [], "log.sqlite3", whole[:left]), left


# --- files that are no log ----------------------------------------------------------------------------------------


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        LogReader(tmp_path / "log.sqlite3")
    assert caught.value.code == "log.missing"


def test_a_file_that_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite3").write_text("hello")
    with pytest.raises(Tampered) as caught:
        LogReader(tmp_path / "log.sqlite3")
    assert caught.value.code == "log.unreadable"
    with pytest.raises(Tampered):
        open_log(tmp_path)
