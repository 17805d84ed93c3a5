"""The log's tables: an older log is brought to today's form with every byte kept, snapshots are only what fits, and
nothing the agent asks at work costs more because the log is long."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.audit import verify_file
from edge_agent.journal import Journal, LogReader, schema
from shared.entries import ContextRecalled, Draft, Facts, RunOpened, SourceRefused
from shared.errors import Tampered, Unavailable
from shared.keys import cosign_note
from tests.edge_agent.logs import HUB, START, build, draft, open_log, sound

pytestmark = pytest.mark.timeout(300)

LONG = 250_000  # entries: reading all of them takes many times as long as any test here allows

FIRST_FORM = """
CREATE TABLE entry (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, type TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX entry_run ON entry (run, seq) WHERE run <> '';
CREATE INDEX entry_type ON entry (type, seq) WHERE run = '';
CREATE TABLE body (
    seq INTEGER NOT NULL, name TEXT NOT NULL, salt TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (seq, name)
) WITHOUT ROWID;
CREATE TABLE node (
    level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, idx)
) WITHOUT ROWID;
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note BLOB NOT NULL, cosigned BLOB);
"""


def several(folder: Path) -> Journal:
    """A log with runs, bodies of both names and a countersignature."""
    journal = open_log(folder)
    opened = RunOpened("triage", 1, "00", 1, "csv:x:1", "00", True)
    for n in range(6):
        facts: Facts = opened if n < 2 else ContextRecalled("triage", [], n)
        bodies = {"shared": {"n": n}, "private": {"n": -n}}
        journal.append_blocking([Draft(facts, f"run_{n % 2}", bodies), draft(str(n))])
    size, note, _ = list(journal.checkpoints())[3]
    asyncio.run(journal.cosign(size, cosign_note(note, "city", HUB, START // 1_000_000)))
    return journal


def first_form(folder: Path) -> Path:
    """The same log as the first version of this software wrote it."""
    made, old = folder / "log.sqlite3", folder / "old"
    old.mkdir()
    journal = several(folder)
    nodes = [
        (level, index, journal.node(level, index)) for level in range(4) for index in range(journal.committed >> level)
    ]
    journal.close()
    with sqlite3.connect(old / "log.sqlite3") as db:
        db.executescript(FIRST_FORM)
        db.execute("ATTACH ? AS made", (str(made),))
        db.execute("INSERT INTO main.entry SELECT seq, run, type, data FROM made.entry")
        db.execute("INSERT INTO main.body SELECT * FROM made.body")
        db.execute("INSERT INTO main.checkpoint SELECT * FROM made.checkpoint")
        db.executemany("INSERT INTO main.node VALUES (?, ?, ?)", nodes)
    db.close()
    return old


def test_an_older_log_is_brought_to_todays_form_and_keeps_every_byte(tmp_path: Path) -> None:
    old = first_form(tmp_path)
    report = verify_file(old / "log.sqlite3", "city", HUB.public.text)
    assert (report["error"], report["entries"], report["bodies"], report["cosigned"]) == (None, 13, 12, 1)
    with pytest.raises(Unavailable) as caught:
        LogReader(old / "log.sqlite3")
    assert caught.value.code == "log.older"
    journal, before = open_log(old), LogReader(tmp_path / "log.sqlite3")
    assert list(journal.raw()) == list(before.raw())
    assert list(journal.checkpoints()) == list(before.checkpoints())
    for seq in range(13):
        assert [journal.raw_body(seq, name) for name in ("shared", "private")] == [
            before.raw_body(seq, name) for name in ("shared", "private")
        ]
    assert [e.seq for e in journal.run_entries("run_1")] == [e.seq for e in before.run_entries("run_1")] == [3, 7, 11]
    before.close()
    assert journal.append_blocking([draft()])[0].seq == 13
    journal.close()
    again = verify_file(old / "log.sqlite3", "city", HUB.public.text)
    assert (again["error"], again["entries"], again["checkpoints"]) == (None, 14, report["checkpoints"] + 1)


def test_an_older_log_that_was_changed_stays_as_it_is(tmp_path: Path) -> None:
    old = first_form(tmp_path)
    with sqlite3.connect(old / "log.sqlite3") as db:
        db.execute("""UPDATE entry SET data = CAST(replace(data, '"code":"3"', '"code":"4"') AS BLOB) WHERE seq = 8""")
    db.close()
    for _ in range(2):
        with pytest.raises(Tampered) as caught:
            open_log(old)
        assert caught.value.code == "log.corrupt"
    assert verify_file(old / "log.sqlite3")["bad_entry"] == 8, "it is still there to be looked into"


def test_a_log_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    with sqlite3.connect(tmp_path / "log.sqlite3") as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    for opens in (open_log, lambda folder: LogReader(folder / "log.sqlite3")):
        with pytest.raises(Unavailable) as caught:
            opens(tmp_path)
        assert caught.value.code == "log.newer"
    sound(tmp_path)


def test_the_views_show_what_the_tables_hold(tmp_path: Path) -> None:
    several(tmp_path).close()
    with sqlite3.connect(tmp_path / "log.sqlite3") as db:
        sizes = [row[0] for row in db.execute("SELECT size FROM checkpoint ORDER BY size")]
        cosigned = [row[0] for row in db.execute("SELECT size FROM checkpoint WHERE cosigned IS NOT NULL")]
        bodies = db.execute("SELECT seq, name, data FROM body WHERE seq = 3 ORDER BY name").fetchall()
    db.close()
    assert (sizes, cosigned) == ([1, 3, 5, 7, 9, 11, 13], [7])
    assert bodies == [(3, "private", '{"n":-1}'), (3, "shared", '{"n":1}')]


# --- snapshots ----------------------------------------------------------------------------------------------------


def settled(journal: Journal) -> Journal:
    """Chores are done in order: when this entry is there, they are."""
    journal.append_blocking([draft()])
    return journal


def test_the_newest_snapshot_of_this_fold_is_given(tmp_path: Path) -> None:
    journal = several(tmp_path)
    assert journal.snapshot(1) is None
    for size in (3, 5, 9):
        journal.keep_snapshot(size, 1, b"state at %d" % size)
    journal.keep_snapshot(11, 2, b"of another fold")
    settled(journal)
    assert journal.snapshot(1) == (9, b"state at 9")
    assert journal.snapshot(2) == (11, b"of another fold")
    assert journal.snapshot(3) is None
    with sqlite3.connect(tmp_path / "log.sqlite3") as db:
        assert [size for (size,) in db.execute("SELECT size FROM snapshot ORDER BY size")] == [9, 11]
    db.close()
    journal.close()
    reader = LogReader(tmp_path / "log.sqlite3")
    assert reader.snapshot(1) == (9, b"state at 9")
    reader.close()
    sound(tmp_path)


def test_a_snapshot_without_a_checkpoint_is_not_kept(tmp_path: Path) -> None:
    journal = several(tmp_path)
    for size in (0, 4, 99, -1):
        journal.keep_snapshot(size, 1, b"x")
    settled(journal)
    assert journal.snapshot(1) is None
    journal.close()
    journal.keep_snapshot(3, 1, b"too late, and no trouble")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE snapshot SET root = zeroblob(32)",
        "UPDATE snapshot SET root = 'text'",
        "UPDATE snapshot SET data = CAST(data || 'x' AS BLOB)",
        "UPDATE snapshot SET data = 7",
        "UPDATE snapshot SET size = 4",
        "UPDATE snapshot SET size = 7",
        "UPDATE snapshot SET size = 99",
        "UPDATE entry SET note = CAST('junk' AS BLOB) WHERE seq = 8",
        "UPDATE entry SET note = NULL WHERE seq = 8",
    ],
)
def test_a_snapshot_that_does_not_fit_is_not_there(tmp_path: Path, sql: str) -> None:
    journal = several(tmp_path)
    journal.keep_snapshot(9, 1, b"state")
    settled(journal).close()
    with sqlite3.connect(tmp_path / "log.sqlite3") as db:
        assert db.execute(sql).rowcount == 1
    db.close()
    reader = LogReader(tmp_path / "log.sqlite3")
    assert reader.snapshot(1) is None
    reader.close()
    again = open_log(tmp_path)  # and it is in nobody's way
    again.keep_snapshot(11, 1, b"new")
    assert settled(again).snapshot(1) == (11, b"new")
    again.close()


def test_a_snapshot_of_another_history_is_not_there(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        journal = open_log(folder)
        journal.append_blocking([draft(folder.name)])
        journal.keep_snapshot(2, 1, folder.name.encode())
        settled(journal).close()
    with sqlite3.connect(one / "log.sqlite3") as db:
        db.execute("ATTACH ? AS other", (str(other / "log.sqlite3"),))
        db.execute("UPDATE main.snapshot SET (root, data) = (SELECT root, data FROM other.snapshot)")
    db.close()
    reader = LogReader(one / "log.sqlite3")
    assert reader.snapshot(1) is None
    reader.close()


def test_a_snapshot_that_cannot_be_kept_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = several(tmp_path)

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(journal._store, "keep", broken)
    journal.keep_snapshot(3, 1, b"x")
    assert settled(journal).committed == 14
    journal.close()


# --- long logs ----------------------------------------------------------------------------------------------------


def test_what_is_built_in_bulk_is_a_log(tmp_path: Path) -> None:
    build(tmp_path / "log.sqlite3", 1001, per_commit=8)
    sound(tmp_path)
    journal = open_log(tmp_path)
    assert journal.committed == 1001
    (entry,) = journal.append_blocking([draft()])
    assert entry.seq == 1001
    journal.close()
    sound(tmp_path)


def at_work(journal: Journal) -> None:
    """Everything the agent asks its log for at its start and while it works."""
    journal.append_blocking(
        [draft(), Draft(SourceRefused("00", "x"), "run_new"), Draft(SourceRefused("00", "x"), "run_new")]
    )
    size, note, _ = journal.newest() or (0, b"", None)
    asyncio.run(journal.cosign(size, cosign_note(note, "city", HUB, 1)))
    journal.keep_snapshot(size, 1, b"state")
    settled(journal)
    assert journal.snapshot(1) is not None
    assert journal.cosigned_size() == size and journal.cosigned() is not None and journal.cosigned(0) is not None
    assert journal.has_run("run_new") is not None and journal.has_run("run_none") is None
    assert len(journal.run_entries("run_new")) == 2
    assert [entry.seq for entry in journal.of_types("log.opened", "hub.pinned")] == [0]
    assert journal.body(1) is not None
    for start in (0, journal.committed // 2, journal.committed - 1, journal.committed):
        journal.batch(start)
    assert journal.root_at(journal.committed) == journal.root
    assert next(journal.entries(journal.committed - 1)).seq == journal.committed - 1


def test_no_question_reads_the_whole_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By SQLite's own plans for every statement that was run: an index or a key, never a walk through a table."""
    asked: set[str] = set()
    connect = sqlite3.connect

    def traced(*given: object, **named: object) -> sqlite3.Connection:
        db = connect(*given, **named)  # type: ignore[call-overload]  # whatever the caller gave
        db.set_trace_callback(asked.add)
        return db

    build(tmp_path / "log.sqlite3", 1000)
    monkeypatch.setattr(sqlite3, "connect", traced)
    journal = open_log(tmp_path)
    at_work(journal)
    journal.close()
    monkeypatch.undo()
    plans = {}
    with sqlite3.connect(tmp_path / "log.sqlite3") as db:
        for sql in asked:
            if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
                plans[sql] = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    db.close()
    assert len(plans) > 20
    walks = {sql: plan for sql, plan in plans.items() if any(step.startswith("SCAN") for step in plan)}
    allowed = ("FROM snapshot", "SELECT COALESCE(MAX", "DESC LIMIT 1", "SELECT 1 FROM", "CONSTANT ROW")
    assert {sql: plan for sql, plan in walks.items() if not any(word in sql + str(plan) for word in allowed)} == {}


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("long")
    build(folder / "log.sqlite3", LONG, per_commit=400)
    yield folder
    (folder / "log.sqlite3").unlink()  # a hundred megabytes


MEASURED = """
    import json, resource, sys, time
    from pathlib import Path
    from tests.edge_agent.logs import open_log
    from tests.edge_agent.test_journal_form import at_work

    began = time.process_time()
    journal = open_log(Path(sys.argv[1]))
    opened = time.process_time() - began
    journal.close()
    at_work(journal := open_log(Path(sys.argv[1])))
    journal.close()
    print(json.dumps([opened, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def measured(tmp_path: Path, folder: Path) -> tuple[float, int]:
    """Seconds of processor to open a log, and the KB of memory of a process that does and works with it."""
    script = tmp_path / "measured.py"
    script.write_text(textwrap.dedent(MEASURED))
    output = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, check=True)
    seconds, kilobytes = json.loads(output.stdout)
    return seconds, kilobytes


@pytest.mark.system
def test_a_log_of_many_entries_opens_at_once_and_takes_no_more_memory(tmp_path: Path, long_log: Path) -> None:
    short = tmp_path / "short"
    short.mkdir()
    build(short / "log.sqlite3", 2000, per_commit=400)
    (seconds, memory), (_, little) = measured(tmp_path, long_log), measured(tmp_path, short)
    assert seconds < 2
    assert memory - little < 6000, "pages that SQLite keeps, and no more"


@pytest.mark.system
def test_an_append_costs_the_same_at_any_length(tmp_path: Path, long_log: Path) -> None:
    """Counted in steps of SQLite's machine, which no other load on this computer can change."""

    def steps(folder: Path) -> list[int]:
        journal, counted = open_log(folder), [0]

        def count() -> None:
            counted[0] += 1

        journal._store._db.set_progress_handler(count, 1)
        found = []
        for n in range(20):
            counted[0] = 0
            journal.append_blocking([Draft(SourceRefused("00", "x"), f"run_new_{n // 5}") for _ in range(3)])
            found.append(counted[0])
        journal.close()
        return found

    short = tmp_path / "short"
    short.mkdir()
    build(short / "log.sqlite3", 10)
    assert max(steps(long_log)) <= max(steps(short))


@pytest.mark.system
def test_a_whole_log_is_read_in_a_stream(long_log: Path) -> None:
    began, reader = time.process_time(), LogReader(long_log / "log.sqlite3")
    seqs = [entry.seq for _, entry in zip(range(5), reader.entries(LONG - 1_000), strict=False)]
    assert seqs == list(range(LONG - 1_000, LONG - 995))
    assert time.process_time() - began < 1
    reader.close()
