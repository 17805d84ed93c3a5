"""Logs for tests and benchmarks: a clock to set, drafts, a log to open, and a long one made in bulk."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.audit import verify_file
from edge_agent.journal import Journal, schema
from shared.entries import ContextRecalled, Draft, LogOpened, PlanMade, RunClosed, RunOpened, SourceRefused, write
from shared.errors import OutriderError
from shared.keys import SigningKey
from shared.tlog import Checkpoint, Frontier, leaf_hash

KEY = SigningKey(b"k" * 32)
HUB = SigningKey(b"h" * 32)
START = 1_790_000_000_000_000
ORIGIN = "city/dev"


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def draft(code: str = "x", **bodies: object) -> Draft:
    return Draft(SourceRefused(sha256="00", code=code), bodies=bodies)


def open_log(folder: Path, now: Callable[[], int] | None = None, key: SigningKey = KEY) -> Journal:
    return Journal(folder / "log.sqlite3", ORIGIN, key, now=now or Clock(), software="test")


async def at_rest(journal: Journal) -> None:
    """Until its thread has put its things away, which it does a little after the commit is told."""
    while journal._turns._turn.locked():
        await asyncio.sleep(0.001)


def sound(folder: Path) -> None:
    report = verify_file(folder / "log.sqlite3")
    assert report["error"] is None, report


def fill(folder: Path, count: int = 3, **bodies: object) -> None:
    journal = open_log(folder)
    for n in range(count):
        journal.append_blocking([draft(str(n), **bodies)])
    journal.close()


def spawn(folder: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    file = folder / "child.py"
    file.write_text(textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, str(file), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


# --- reading all of it -------------------------------------------------------------------------------------------

Seen = list[tuple[bytes, object, object]]


def everything(folder: Path) -> Seen:
    """Open the log as the agent does, read all of it, write to it."""
    journal = open_log(folder)
    try:
        raw = dict(journal.raw())
        bodies = (
            (entry.seq, journal.body(entry.seq), journal.body(entry.seq, "private")) for entry in journal.entries()
        )
        seen: Seen = [(raw[seq], shared, private) for seq, shared, private in bodies]
        start = 0
        while (batch := journal.batch(start)) is not None:
            assert [sent.data.encode() for sent in batch[0]] == [data for data, *_ in seen[start:][: len(batch[0])]]
            start += len(batch[0])
        assert start == len(seen)
        assert journal.append_blocking([draft("next")])[0].seq == len(seen)
    finally:
        journal.close()
    return seen


ANSWERS = {"log.corrupt", "log.unreadable", "log.rolled-back", "log.write", "log.older", "log.newer"}


def hold_against(folder: Path, kept: Path, written: Seen, name: str, whole: bytes) -> bool:
    """With ``whole`` in place of the file ``name``: what is read is what was written, or an error says why not."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    (folder / name).write_bytes(whole)
    try:
        seen = everything(folder)
    except OutriderError as error:
        assert error.code in ANSWERS and error.advice, error
        return True
    assert seen == written
    return False


# --- in bulk ------------------------------------------------------------------------------------------------------

_SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_PER_RUN = 4
_SEQ, _RUN = 987_654_321, "run_000000000000000000000000"


def build(path: Path, entries: int, per_commit: int = _PER_RUN) -> None:
    """A log of so many real entries: short runs, a body with each opening, a signed checkpoint every ``per_commit``.

    It is what a ``Journal`` writes, made by copying the bytes of a few entries and putting place and run in.
    """
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA secure_delete=OFF")
        schema.prepare(db)
        indexes = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql <> ''").fetchall()
        for name, _ in indexes:
            db.execute(f"DROP INDEX {name}")
        db.executemany(schema.insert(1), _rows(entries, per_commit))
        runs = ((_run(seq), seq) for seq in range(1, entries, _PER_RUN))
        db.executemany("INSERT INTO run VALUES (?, ?)", sorted(runs))
        for _, sql in indexes:
            db.execute(sql)
    db.execute("PRAGMA journal_mode=WAL")
    db.close()


def _run(seq: int) -> str:
    return f"run_{hashlib.sha256(str(seq).encode()).hexdigest()[:24]}"


def _templates() -> list[tuple[str, list[bytes], str | None, str | None]]:
    """A run that the planner left to a person: type, bytes around the run's id and the place, salt and body."""
    plan = PlanMade("triage", "rules", "", "", "", 0, [], 240, 0, 0, 0, 0, "register.decide", "", "rules.none")
    drafts = [
        Draft(RunOpened("triage", 1, _SHA, 1, "csv:x:1", _SHA, False), _RUN, {"shared": {"inputs": {"n": 1}}}),
        Draft(ContextRecalled("triage", [], 1_800), _RUN),
        Draft(plan, _RUN),
        Draft(RunClosed("referred", "rules.none"), _RUN),
    ]
    found = []
    for one in drafts:
        written = write(one, _SEQ, START, lambda n: b"s" * n)
        body = written.bodies.get("shared")
        parts = written.data.replace(b"%d" % _SEQ, _RUN.encode()).split(_RUN.encode())
        found.append((written.entry.type, parts, body.salt if body else None, body.data if body else None))
    return found


def _rows(entries: int, per_commit: int) -> Iterator[schema.Row]:
    templates = _templates()
    tree = Frontier()
    first = write(Draft(LogOpened(ORIGIN, KEY.public.text, "test")), 0, START, lambda n: b"s" * n).data
    nodes = b"".join(tree.grow(leaf_hash(first)))
    yield 0, "", None, "log.opened", first, nodes, _note(tree), None, None, None, None
    run, opened = "", 0
    for seq in range(1, entries):
        place = (seq - 1) % _PER_RUN
        if place == 0:
            run, opened = _run(seq), seq
        type_, (before, between, after), salt, text = templates[place]
        data = b"%b%b%b%d%b" % (before, run.encode(), between, seq, after)
        nodes = b"".join(tree.grow(leaf_hash(data)))
        note = _note(tree) if seq % per_commit == 0 or seq == entries - 1 else None
        yield seq, run, opened, type_, data, nodes, note, salt, text, None, None


def _note(tree: Frontier) -> bytes:
    return Checkpoint(ORIGIN, tree.size, tree.root()).sign(KEY)
