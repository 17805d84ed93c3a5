"""What was acknowledged is on the disk, what failed changed nothing, and a damaged log says so instead of going on."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.audit import verify_file
from edge_agent.journal import Journal, LogReader
from shared import limits
from shared.entries import ClockStepped, Draft, Entry, HubPinned, SourceRefused, read
from shared.errors import BadInput, Conflict, OutriderError, Tampered, Unavailable
from shared.keys import SigningKey, cosign_note
from shared.tlog import inclusion_proof, leaf_hash, open_checkpoint, verify_inclusion

KEY = SigningKey(b"k" * 32)
HUB = SigningKey(b"h" * 32)
START = 1_790_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def draft(code: str = "x", **bodies: object) -> Draft:
    return Draft(SourceRefused(sha256="00", code=code), bodies=bodies)


def open_log(folder: Path, now: Callable[[], int] | None = None, key: SigningKey = KEY) -> Journal:
    return Journal(folder / "log.sqlite3", "city/dev", key, now=now or Clock(), software="test")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = open_log(tmp_path)
    yield made
    made.close()


def sound(folder: Path) -> None:
    report = verify_file(folder / "log.sqlite3")
    assert report["error"] is None, report


# --- what an acknowledgement means -------------------------------------------------------------------------------

CHILD = """
    import asyncio, sys
    from pathlib import Path
    from edge_agent.journal import Journal
    from shared.entries import Draft, SourceRefused
    from shared.keys import SigningKey

    async def work(journal, name):
        for number in range(10_000):
            draft = Draft(SourceRefused(sha256=name, code=str(number)), bodies={"shared": {"n": number}})
            (entry,) = await journal.append(draft)
            print(entry.seq, flush=True)

    async def main():
        journal = Journal(Path(sys.argv[1]), "city/dev", SigningKey(b"k" * 32), now=lambda: 1, software="test")
        await asyncio.gather(*(work(journal, str(n)) for n in range(8)))

    asyncio.run(main())
"""


@pytest.mark.system
def test_killed_at_any_moment_everything_acknowledged_is_there(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    last = 0
    for kill in range(10):
        command = [sys.executable, str(script), str(tmp_path / "log.sqlite3")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            seen = [int(child.stdout.readline()) for _ in range(20 + 7 * kill)]
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().splitlines()
        seen += [int(line) for line in rest if line]
        last = max(seen)
        reader = LogReader(tmp_path / "log.sqlite3")
        held = {entry.seq for entry in reader.entries()}
        assert set(seen) <= held
        assert all(reader.body(seq) is not None for seq in seen)
        reader.close()
        sound(tmp_path)
    journal = open_log(tmp_path)
    assert journal.committed > last
    journal.close()


async def test_concurrent_appends_share_commits_and_keep_their_own_results(journal: Journal, tmp_path: Path) -> None:
    found = await asyncio.gather(*(journal.append(draft(f"a{n}"), draft(f"b{n}")) for n in range(64)))
    for n, entries in enumerate(found):
        assert [entry.facts.code for entry in entries] == [f"a{n}", f"b{n}"]  # type: ignore[attr-defined]
        assert entries[1].seq == entries[0].seq + 1
    assert journal.committed == 129
    assert len(list(journal.checkpoints())) < 20
    sound(tmp_path)


async def test_listeners_hear_each_commit_once_in_order_before_its_writers(journal: Journal) -> None:
    heard: list[int] = []
    journal.listen(lambda entries: heard.extend(entry.seq for entry in entries))

    async def one() -> None:
        (entry,) = await journal.append(draft())
        assert entry.seq in heard

    await asyncio.gather(*(one() for _ in range(50)))
    assert heard == list(range(1, 51))


async def test_a_listener_that_cannot_follow_fails_the_writers(journal: Journal) -> None:
    def broken(_: list[Entry]) -> None:
        raise Tampered("run.order", "no", advice="stop")

    journal.listen(broken)
    with pytest.raises(Tampered):
        await journal.append(draft())


# --- what a failure means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (draft(shared={"ratio": 0.5}), "codec.float"),
        (draft(shared={"x": "y" * limits.BODY_BYTES}), "entry.too-large"),
        (draft(public={}), "entry.body"),
        (draft("c" * limits.ENTRY_BYTES), "entry.too-large"),
        (draft(shared={"x": "\ud800"}), "codec.form"),
        (draft(shared={"x": object()}), "codec.form"),
        (Draft(SourceRefused("00", "x"), not_after=START - 1), "entry.late"),
    ],
)
async def test_one_bad_draft_fails_alone(journal: Journal, tmp_path: Path, bad: Draft, code: str) -> None:
    jobs = [journal.append(draft()), journal.append(draft(), bad), journal.append(draft())]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(results[1], OutriderError) and results[1].code == code
    assert [isinstance(result, list) for result in results] == [True, False, True]
    assert journal.committed == 3  # nothing of the bad job, not even its good draft
    sound(tmp_path)


async def test_something_unforeseen_fails_its_callers_and_not_the_log(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(journal, "_insert", broken)
    with pytest.raises(Unavailable) as caught:
        await journal.append(draft())
    assert caught.value.code == "log.fault"
    monkeypatch.undo()
    assert (await journal.append(draft()))[0].seq == 1


async def test_a_commit_never_outgrows_what_an_upload_may_hold(journal: Journal) -> None:
    big = {"x": "y" * (200 * 1024)}
    with pytest.raises(BadInput) as caught:
        await journal.append(*(draft(shared=big) for _ in range(30)))
    assert caught.value.code == "log.too-large"
    with pytest.raises(BadInput) as caught:
        await journal.append(*(draft() for _ in range(limits.COMMIT_ENTRIES + 1)))
    assert caught.value.code == "log.too-many"
    await asyncio.gather(*(journal.append(draft(shared=big)) for _ in range(30)))
    assert journal.committed == 31
    start = 0
    while (batch := journal.batch(start)) is not None:
        assert (
            sum(len(sent.data) + (len(sent.body.data) if sent.body else 0) for sent in batch[0]) <= limits.BATCH_BYTES
        )
        start += len(batch[0])
    assert start == 31


async def test_after_close_callers_are_told(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    pending = asyncio.ensure_future(journal.append(draft()))
    await asyncio.sleep(0)
    journal.close()
    assert (await pending)[0].seq == 1  # what was taken in before the end is still written
    with pytest.raises(Unavailable) as caught:
        await journal.append(draft())
    assert caught.value.code == "log.closed"
    with pytest.raises(Unavailable):
        await journal.cosign(1, b"")
    journal.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.system
async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {mount.stderr.decode().strip()}")
    try:
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
        assert open_log(disk).committed == held + 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_log_that_may_only_be_read(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    path = tmp_path / "log.sqlite3"
    if os.geteuid() == 0:
        path = _read_only_copy(path)
    else:
        path.chmod(0o400)
    try:
        with pytest.raises(Unavailable) as caught:
            Journal(path, "city/dev", KEY, now=Clock(), software="test").append_blocking([draft()])
        assert caught.value.code == "log.read-only"
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(path.parent)], check=True)


def _read_only_copy(path: Path) -> Path:
    """Root may write any file, so the file is put on a disk that is mounted read-only."""
    disk = path.parent / "readonly"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")
    shutil.copy(path, disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return disk / path.name


# --- damage ------------------------------------------------------------------------------------------------------


def damage(folder: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(folder / "log.sqlite3") as db:
        assert db.execute(sql, values).rowcount == 1
    db.close()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM checkpoint WHERE size = 4",
        "UPDATE checkpoint SET note = CAST('junk' AS BLOB) WHERE size = 4",
        "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 3) WHERE size = 4",
        "UPDATE entry SET data = CAST(replace(data, 'source', 'SOURCE') AS BLOB) WHERE seq = 3",
        "UPDATE entry SET data = 'text' WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 3",
        "UPDATE node SET hash = zeroblob(32) WHERE level = 0 AND idx = 3",
        "UPDATE node SET hash = zeroblob(32) WHERE level = 2 AND idx = 0",
        "UPDATE node SET hash = zeroblob(5) WHERE level = 2 AND idx = 0",
        "DELETE FROM node WHERE level = 2 AND idx = 0",
        "INSERT INTO entry VALUES (4, '', 'source.refused', '{}')",
    ],
)
def test_an_end_that_does_not_hold_is_refused(tmp_path: Path, sql: str) -> None:
    journal = open_log(tmp_path)
    for _ in range(3):
        journal.append_blocking([draft()])
    journal.close()
    damage(tmp_path, sql)
    with pytest.raises(Tampered) as caught:
        open_log(tmp_path)
    assert caught.value.code == "log.corrupt"
    assert "outrider audit verify" in caught.value.advice or "restore" in caught.value.advice


def test_another_key_is_not_this_logs(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    with pytest.raises(Tampered) as caught:
        open_log(tmp_path, key=HUB)
    assert caught.value.code == "log.corrupt"


@pytest.mark.parametrize("page", ["header", "root", "all"])
def test_damaged_pages_are_said(tmp_path: Path, page: str) -> None:
    journal = open_log(tmp_path)
    for _ in range(50):
        journal.append_blocking([draft(shared={"x": "y" * 900})])
    journal.close()
    path = tmp_path / "log.sqlite3"
    whole = bytearray(path.read_bytes())
    begin, end = {"header": (0, 100), "root": (100, 4096), "all": (4096, len(whole))}[page]
    whole[begin:end] = b"\xa5" * (end - begin)
    path.write_bytes(whole)
    with pytest.raises(Tampered) as caught:
        open_log(tmp_path)
    assert caught.value.code in ("log.unreadable", "log.corrupt")
    assert "restore" in caught.value.advice


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


# --- the clock ---------------------------------------------------------------------------------------------------


async def test_a_clock_set_back_is_told_once_and_time_stands(tmp_path: Path) -> None:
    clock = Clock()
    journal = open_log(tmp_path, clock)
    clock.now = START - 3_600_000_000
    assert journal.behind_us == 3_600_000_000
    assert journal.now() == START
    for _ in range(3):
        await journal.append(draft())
    clock.now = START + 5
    await journal.append(draft())
    assert journal.now() == START + 5
    clock.now = START - 3_600_000_000
    await asyncio.gather(journal.append(draft("first")), journal.append(draft("second")))
    entries = list(journal.entries())
    assert [entry.type for entry in entries].count("clock.stepped") == 2
    assert next(e.facts for e in entries if isinstance(e.facts, ClockStepped)).behind_us == 3_600_000_000
    assert all(a.at <= b.at for a, b in itertools.pairwise(entries))
    journal.close()
    sound(tmp_path)


async def test_a_small_step_back_is_not_worth_an_entry(tmp_path: Path) -> None:
    clock = Clock()
    journal = open_log(tmp_path, clock)
    clock.now = START - limits.CLOCK_SKEW_SECONDS * 1_000_000
    (entry,) = await journal.append(draft())
    assert (entry.seq, entry.at) == (1, START)
    journal.close()


async def test_a_full_commit_and_a_clock_step_still_fit_one_upload(tmp_path: Path) -> None:
    clock = Clock()
    journal = open_log(tmp_path, clock)
    clock.now = 0
    await journal.append(*(draft() for _ in range(limits.COMMIT_ENTRIES)))
    batch = journal.batch(1)
    assert batch is not None and len(batch[0]) == limits.COMMIT_ENTRIES + 1 <= limits.BATCH_ENTRIES
    journal.close()


async def test_a_deadline_counts_in_the_logs_time(tmp_path: Path) -> None:
    """With the clock behind, an answer that looks timely here would stand after its expiry in the log."""
    clock = Clock()
    journal = open_log(tmp_path, clock)
    clock.now = START - 30 * 86_400_000_000
    with pytest.raises(Conflict) as caught:
        await journal.append(Draft(SourceRefused("00", "x"), not_after=clock.now + 1))
    assert caught.value.code == "entry.late"
    await journal.append(Draft(SourceRefused("00", "x"), not_after=journal.now()))
    journal.close()


# --- reading -----------------------------------------------------------------------------------------------------


async def test_batches_end_where_commits_end(journal: Journal) -> None:
    sizes = [3, 500, 8, 20, 511, 1]
    for count in sizes:
        await journal.append(*(draft() for _ in range(count)))
    start, ends = 0, []
    while (batch := journal.batch(start)) is not None:
        entries, note = batch
        checkpoint = open_checkpoint(note, "city/dev", journal.public)
        start += len(entries)
        assert checkpoint.size == start
        assert [read(sent.data.encode()).seq for sent in entries] == list(range(start - len(entries), start))
        ends.append(start)
    assert ends == [512, 532, 1044]
    assert journal.batch(ends[-1]) is None


async def test_batches_count_bytes_and_not_letters(journal: Journal) -> None:
    for _ in range(40):
        await journal.append(draft(shared={"x": "\N{GRINNING FACE}" * 50_000}))
    batch = journal.batch(0)
    assert batch is not None
    assert sum(len(sent.body.data.encode()) for sent in batch[0] if sent.body) <= limits.BATCH_BYTES


async def test_private_bodies_are_in_no_batch(journal: Journal) -> None:
    await journal.append(draft(shared={"a": 1}, private={"b": 2}), draft(private={"c": 3}))
    batch = journal.batch(1)
    assert batch is not None
    assert [sent.body and sent.body.data for sent in batch[0]] == ['{"a":1}', None]
    assert journal.body(1, "private") == {"b": 2}
    assert journal.body(2) is None


async def test_every_entry_can_be_proved(journal: Journal) -> None:
    await journal.append(*(draft(str(n)) for n in range(20)))
    for seq, data in journal.raw():
        proof = inclusion_proof(seq, 21, journal.node)
        verify_inclusion(leaf_hash(data), seq, 21, proof, journal.root)
    with pytest.raises(Tampered):
        journal.node(9, 9)


async def test_cosignatures_are_kept_beside_their_checkpoint(journal: Journal, tmp_path: Path) -> None:
    await journal.append(draft())
    (_, note, none) = list(journal.checkpoints())[-1]
    assert none is None and journal.cosigned_size() == 0
    await journal.cosign(2, cosign_note(note, "city", HUB, 1_790_000_000))
    assert journal.cosigned_size() == 2
    with pytest.raises(Conflict) as caught:
        await journal.cosign(7, b"note")
    assert caught.value.code == "log.no-checkpoint"
    report = verify_file(tmp_path / "log.sqlite3", "city", HUB.public.text)
    assert (report["error"], report["cosigned"], report["cosigned_size"]) == (None, 1, 2)
    assert verify_file(tmp_path / "log.sqlite3", "city", KEY.public.text)["error"] is not None


async def test_entries_are_found_by_run_and_by_type(journal: Journal) -> None:
    await journal.append(draft(), Draft(HubPinned("city/log", 1, "00")), Draft(SourceRefused("00", "y"), run="run_1"))
    assert [entry.seq for entry in journal.of_types("hub.pinned", "log.opened")] == [0, 2]
    assert [entry.seq for entry in journal.run_entries("run_1")] == [3]
    opened = journal.has_run("run_1")
    assert opened is not None and opened.seq == 3
    assert journal.has_run("run_2") is None
    assert [entry.seq for entry in journal.entries(2)] == [2, 3]


READER = """
    import sys
    from pathlib import Path
    from edge_agent.audit import verify_file
    from edge_agent.journal import LogReader
    path = Path(sys.argv[1])
    last = 0
    for _ in range(8):
        reader = LogReader(path)
        size = len(list(reader.entries()))
        reader.close()
        report = verify_file(path)
        assert report["error"] is None, report
        assert last <= size <= report["entries"]
        last = report["entries"]
    print(last)
"""


@pytest.mark.system
async def test_another_process_reads_and_verifies_while_this_one_writes(journal: Journal, tmp_path: Path) -> None:
    script = tmp_path / "reader.py"
    script.write_text(textwrap.dedent(READER))
    path = str(tmp_path / "log.sqlite3")
    reading = await asyncio.create_subprocess_exec(sys.executable, str(script), path, stdout=asyncio.subprocess.PIPE)
    end = asyncio.ensure_future(reading.communicate())
    while not end.done():
        await journal.append(draft(shared={"a": 1}), draft())
        await asyncio.sleep(0.005)
    output, _ = await end
    assert reading.returncode == 0
    assert int(output) > 2


async def test_readers_cannot_write(journal: Journal, tmp_path: Path) -> None:
    reader = LogReader(tmp_path / "log.sqlite3")
    with pytest.raises(Tampered):
        list(reader._rows("DELETE FROM entry"))
    reader.close()
    assert journal.size == 1
