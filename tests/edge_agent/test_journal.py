"""What was acknowledged is on the disk, what failed changed nothing, and a damaged log says so instead of going on."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.journal import Journal, LogReader, turns
from shared import limits
from shared.entries import ClockStepped, Draft, Entry, SourceRefused
from shared.errors import BadInput, Conflict, OutriderError, Tampered, Unavailable
from tests.edge_agent.logs import START, Clock, at_rest, draft, open_log, sound


@pytest.fixture(params=["thread", "loop"])
def journal(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """One whose commits are made by its thread, and one whose commits the event loop makes."""
    monkeypatch.setattr(turns, "_QUICK_S", 3600 if request.param == "loop" else -1)
    made = open_log(tmp_path)
    yield made
    made.close()


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


@pytest.mark.parametrize("fault", [Tampered("run.order", "no", advice="stop"), ZeroDivisionError("oh")])
async def test_a_listener_that_cannot_follow_fails_the_writers(journal: Journal, fault: Exception) -> None:
    heard: list[Entry] = []

    def broken(entries: list[Entry]) -> None:
        heard.extend(entries)
        if len(heard) == 1:
            raise fault

    journal.listen(broken)
    with pytest.raises(OutriderError) as caught:
        await journal.append(draft())
    assert caught.value.code == ("run.order" if isinstance(fault, Tampered) else "log.fault")
    assert (await journal.append(draft()))[0].seq == 2, "it was written all the same"


async def test_what_is_ready_together_is_one_commit_in_the_loop_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_QUICK_S", 3600)
    journal = open_log(tmp_path)
    for _ in range(5):
        await at_rest(journal)
        await asyncio.gather(*(journal.append(draft()) for _ in range(20)))
    assert [size for size, *_ in journal.checkpoints()] == [1, 21, 41, 61, 81, 101]
    journal.close()


async def test_a_disk_that_turns_slow_is_left_to_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_log(tmp_path)
    threads: list[bool] = []
    insert = journal._store.insert

    def watched(*given: Any) -> None:
        threads.append(threading.current_thread() is not threading.main_thread())
        insert(*given)

    monkeypatch.setattr(journal._store, "insert", watched)
    await journal.append(draft())
    assert threads == [True], "nothing is known of this disk yet"
    await at_rest(journal)
    for _ in range(60):
        journal._turns.took(0.0001)
    await journal.append(draft())
    assert threads == [True, False], "it has shown that it is quick"
    journal._turns.took(0.5)
    await journal.append(draft())
    assert threads == [True, False, True]
    journal.close()
    sound(tmp_path)


async def test_commits_of_the_loop_and_of_other_threads_take_turns(journal: Journal, tmp_path: Path) -> None:
    def others() -> list[int]:
        return [journal.append_blocking([draft(f"t{n}")])[0].seq for n in range(40)]

    async def mine(name: int) -> list[int]:
        return [(await journal.append(draft(f"{name}.{n}")))[0].seq for n in range(40)]

    found = await asyncio.gather(mine(0), mine(1), asyncio.to_thread(others), asyncio.to_thread(others))
    assert sorted(seq for seqs in found for seq in seqs) == list(range(1, 161))
    assert all(seqs == sorted(seqs) for seqs in found)
    sound(tmp_path)


async def test_a_waiter_that_gives_up_does_not_undo_the_commit(journal: Journal) -> None:
    waiting = asyncio.ensure_future(journal.append(draft()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await journal.append(draft()))[0].seq == 2


def test_each_loop_is_told_in_its_own(journal: Journal) -> None:
    """The agent's tools may run a loop of their own; what the first one does must not reach into the second."""
    heard: list[int] = []
    journal.listen(lambda entries: heard.extend(entry.seq for entry in entries))
    for n in range(1, 4):
        assert asyncio.run(journal.append(draft()))[0].seq == n
    assert journal.append_blocking([draft()])[0].seq == 4
    assert heard == [1, 2, 3, 4]


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

    monkeypatch.setattr(journal._store, "insert", broken)
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


async def test_after_close_callers_are_told(journal: Journal) -> None:
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
