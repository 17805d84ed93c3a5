"""Bodies are erased for good: not a byte of them is left in the log's files, and the log still verifies."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.journal import Journal
from shared.entries import Draft, StepEntered
from shared.errors import Unavailable
from shared.tlog import Frontier, leaf_hash
from tests.edge_agent.logs import open_log

RUN, OTHER = "run_" + "a" * 24, "run_" + "b" * 24


def write(journal: Journal, run: str, words: str) -> None:
    shared, private = {"said": words}, {"secretly": f"{words} in private"}
    journal.append_blocking(
        [Draft(StepEntered("a", "each", 0, 1, ""), run, {"shared": shared, "private": private})] * 40
    )


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


async def test_the_bodies_of_a_run_leave_the_file_and_the_write_ahead_log(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    write(journal, RUN, "a garage on Elm Street")
    write(journal, OTHER, "a porch on Oak Lane")
    assert b"Elm Street" in bytes_of(tmp_path)
    assert await journal.erase(RUN) == 40
    assert b"Elm Street" not in bytes_of(tmp_path)
    assert b"Oak Lane" in bytes_of(tmp_path)
    assert await journal.erase(RUN) == 0, "again, it does nothing"
    entries = list(journal.run_entries(RUN))
    assert len(entries) == 40 and all(journal.body(entry.seq) is None for entry in entries)
    await journal.append(Draft(StepEntered("b", "each", 0, 1, ""), OTHER))
    root = journal.root
    journal.close()
    journal = open_log(tmp_path)  # holds the newest checkpoint to the tree
    leaves = Frontier()
    leaves.extend([leaf_hash(data) for _, data in journal.raw()])
    assert journal.committed == leaves.size == 82 and leaves.root() == root
    journal.close()


async def test_a_reader_of_the_old_pages_is_waited_for(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    write(journal, RUN, "a garage on Elm Street")
    with closing(sqlite3.connect(tmp_path / "log.sqlite3", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM entry").fetchall()
        with pytest.raises(Unavailable, match=r"log\.busy"):
            await asyncio.to_thread(journal.erase_blocking, RUN)
    assert await journal.erase(RUN) == 0
    assert b"Elm Street" not in bytes_of(tmp_path)
    journal.close()
