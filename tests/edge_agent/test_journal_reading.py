"""What is read from a log: batches for the hub, bodies, proofs, and all of it from another process meanwhile."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.audit import verify_file
from edge_agent.journal import Journal, LogReader
from shared import limits
from shared.entries import Draft, HubPinned, SourceRefused, read
from shared.errors import Conflict, Tampered
from shared.keys import cosign_note
from shared.tlog import inclusion_proof, leaf_hash, open_checkpoint, verify_inclusion
from tests.edge_agent.logs import HUB, KEY, draft, open_log


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = open_log(tmp_path)
    yield made
    made.close()


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
    await journal.append(Draft(SourceRefused("00", "y"), run="run_0"))
    assert journal.newest_runs(9)[:2] == ["run_0", "run_1"] and journal.newest_runs(1) == ["run_0"]
    opened = journal.has_run("run_1")
    assert opened is not None and opened.seq == 3
    assert journal.has_run("run_2") is None
    assert [entry.seq for entry in journal.entries(2)] == [2, 3, 4]


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
