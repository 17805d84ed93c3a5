"""The power is cut at every place of a log's life, and what was not synced is lost: whole, in part, in torn sectors.

What was acknowledged must be there afterwards, under a checkpoint that holds, and nothing of a commit without the rest
of it. A real process writes the log; a small library loaded into it records what it does to its files.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.audit import verify_file
from edge_agent.journal import Journal
from shared.errors import OutriderError
from tests.edge_agent.logs import draft, open_log
from tests.edge_agent.power.disk import Disk, Record, compile_recorder, read_record

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        sys.platform != "linux" or not shutil.which("gcc"), reason="it is made on Linux, with a compiler"
    ),
]

# Acknowledgements go through the same recorder as everything else: their place among the rest is what counts.
LIFE = """
    import asyncio, os, sys
    from pathlib import Path

    from edge_agent import database
    database.FOLD_PAGES = 40  # the write-ahead log begins anew every few commits
    from edge_agent.journal import turns
    from shared.errors import OutriderError
    from shared.keys import cosign_note
    from tests.edge_agent.logs import HUB, draft, open_log

    folder, how, appends = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    turns._QUICK_S = {"loop": 3600, "thread": -1}[sys.argv[4]]
    acks = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def one(journal, number):
        size = 10 + number * 997 % 3000
        drafts = [draft(f"{number}.{n}", shared={"x": "y" * size}) for n in range(1 + number % 3)]
        entries = await journal.append(*drafts)
        os.write(acks, b"%d\\n" % entries[-1].seq)

    async def life():
        journal = open_log(folder)
        journal._store._db.execute(f"PRAGMA synchronous={how}")
        for number in range(0, appends, 4):
            try:
                await asyncio.gather(one(journal, number), one(journal, number + 1))
                await one(journal, number + 2)
                size, note, _ = journal.newest()
                await journal.cosign(size, cosign_note(note, "city", HUB, 1))
                journal.keep_snapshot(size, 1, b"state" * 200)
                await one(journal, number + 3)
            except OutriderError as error:
                print(error.code)
        journal.close()

    asyncio.run(life())
    asyncio.run(life())
"""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """Many thousand files are written to see what they come to: in memory, where there is such a place."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def lived(
    folder: Path, recorder: Path, how: str, *, by: str = "thread", fail: str = "", appends: int = 16
) -> tuple[list[Record], str]:
    """What two lives of a log did to their files, in order; and the codes of their troubles."""
    script, log, record = folder / "life.py", folder / "log", folder / "record"
    script.write_text(textwrap.dedent(LIFE))
    log.mkdir()
    environment = os.environ | {
        "LD_PRELOAD": str(recorder),
        "POWER_FOLDER": str(log),
        "POWER_RECORD": str(record),
        "POWER_FAIL": fail,
    }
    command = [sys.executable, str(script), str(log), how, str(appends), by]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return list(read_record(record)), done.stdout


class Trial:
    """What must hold of a log after the power failed."""

    def __init__(self, folder: Path, whole: Path, *, failed: bool = False) -> None:
        """``whole`` is the log as it was in the end. With ``failed`` commits in between, one of them may come back."""
        self._folder = folder
        self._failed = failed
        journal = open_log(whole)
        self._sizes = {0} | {size for size, *_ in journal.checkpoints()}
        self._written = [(data, journal.body(seq)) for seq, data in journal.raw()]
        journal.close()
        self.images = 0

    def fault(self, disk: Disk, acknowledged: int, chance: random.Random | None, *, all_of_it: bool = False) -> str:
        """What is wrong with the log if the power fails now; empty when nothing is."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        disk.power_off(self._folder, chance, all_of_it=all_of_it)
        self.images += 1
        if not (self._folder / "log.sqlite3").exists():
            return f"{acknowledged} entries were acknowledged, and there is no log" if acknowledged else ""
        try:
            journal = open_log(self._folder)
        except OutriderError as error:
            return f"it does not open: {error}"
        try:
            return self._look(journal, acknowledged)
        except OutriderError as error:
            return f"it does not read: {error}"
        finally:
            journal.close()

    def _look(self, journal: Journal, acknowledged: int) -> str:
        size = journal.committed
        if size < acknowledged:
            return f"{acknowledged} entries were acknowledged, {size} are there"
        if size not in self._sizes and not self._failed:
            return f"{size} entries: half a commit"
        raw = dict(journal.raw())
        known = acknowledged if self._failed else size
        found = [(raw[e.seq], journal.body(e.seq)) for e in journal.entries()]
        if found[:known] != self._written[:known]:
            return "other entries than were written"
        journal.append_blocking([draft("after")])
        if self.images % 10:  # what opened has its newest checkpoint verified, and its bytes were compared
            return ""
        report = verify_file(self._folder / "log.sqlite3")
        return f"it does not verify: {report['error']}" if report["error"] else ""


def cut_everywhere(records: list[Record], trial: Trial, chance: random.Random) -> list[str]:
    """Faults found by cutting the power around every sync, and at other places by chance."""
    disk, acknowledged, faults, inode = Disk(), 0, list[str](), 0
    for place, record in enumerate(records):
        if record.operation == "C" and record.data.endswith(b"/acknowledged"):
            inode = record.inode
        around = "S" in (record.operation, records[place - 1].operation)
        if around or chance.random() < 0.1:
            faults.append(trial.fault(disk, acknowledged, None))
            faults.append(trial.fault(disk, acknowledged, chance))
        if around and chance.random() < 0.3:
            faults.append(trial.fault(disk, acknowledged, None, all_of_it=True))
        disk.do(record)
        if record.operation == "W" and record.inode == inode:
            acknowledged = int(record.data) + 1
    faults.append(trial.fault(disk, acknowledged, None))
    return [fault for fault in faults if fault]


@pytest.mark.parametrize("by", ["loop", "thread"])
def test_what_was_acknowledged_outlives_the_power(tmp_path: Path, recorder: Path, quick_disk: Path, by: str) -> None:
    records, _ = lived(tmp_path, recorder, "FULL", by=by)
    trial = Trial(quick_disk / "image", tmp_path / "log")
    assert cut_everywhere(records, trial, random.Random(1)) == []
    assert trial.images > 200


@pytest.mark.parametrize(
    ("fail", "code"),
    [("S:24:1:5", "log.write"), ("S:24:3:5", "log.write"), ("W:40:1:28", "log.disk-full"), ("W:40:6:5", "log.write")],
)
def test_a_disk_that_fails_and_then_loses_its_power(
    tmp_path: Path, recorder: Path, quick_disk: Path, fail: str, code: str
) -> None:
    """A write or a sync that fails (EIO, ENOSPC) is an error to its callers, and what was acknowledged stays. Whether a
    commit whose sync failed is there after a power cut, nobody can know; it is there whole or not at all."""
    records, said = lived(tmp_path, recorder, "FULL", fail=fail, appends=12)
    assert code in said
    trial = Trial(quick_disk / "image", tmp_path / "log", failed=True)
    assert cut_everywhere(records, trial, random.Random(1)) == []


@pytest.mark.parametrize("how", ["OFF", "NORMAL"])
def test_without_its_syncs_it_would_not(tmp_path: Path, recorder: Path, quick_disk: Path, how: str) -> None:
    """So that the test above is known to fail where it should."""
    records, _ = lived(tmp_path, recorder, how)
    faults = cut_everywhere(records, Trial(quick_disk / "image", tmp_path / "log"), random.Random(1))
    assert any("were acknowledged" in fault for fault in faults)
