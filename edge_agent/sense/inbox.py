"""Watched folders. A file that has stopped changing is taken in whole, row by row, and then moved away.

Every row's run has an id made from the playbook and the row's business key, so a row is opened once however often its
file is read: after a crash in the middle the file still lies in its folder and is simply read again. Only when all runs
are on the disk, and ``source.read`` with them, is the file moved to ``taken/``; what could not be used goes to
``refused/`` with the reasons beside it. Nothing is deleted.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.identity import write_file
from edge_agent.journal import Journal
from edge_agent.sense.opening import Opening, opening, run_id
from edge_agent.sense.table import NOTES, BadRow, Row, Table, Value, read_table
from shared import limits
from shared.entries import Draft, RunOpenedV1, SourceRead, SourceRefused
from shared.errors import BadInput, Unavailable
from shared.playbook import Playbook
from shared.runs import Device

_CHUNK = 128  # runs opened under one commit,
_CHUNK_BYTES = 1024 * 1024  # or fewer, when they are this long


@dataclass(frozen=True)
class Found:
    """A file as a poll saw it; unchanged at the next poll, it is ready."""

    path: Path
    size: int
    modified_ns: int


def _look(path: Path) -> Found | None:
    """A data file as it is now; ``None`` for anything else, and for what is gone already."""
    if path.name.startswith(".") or path.suffix.lower() != ".csv":
        return None
    try:
        seen = path.lstat()  # a link is not followed
    except OSError:
        return None
    return Found(path, seen.st_size, seen.st_mtime_ns) if stat.S_ISREG(seen.st_mode) else None


class Inbox:
    """One folder, one playbook."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[Path, Found] = {}

    def ready(self) -> list[Path]:
        """Files that have not changed since the last call, oldest first. Hidden and partial files are left."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            now = {path: found for path in self.folder.iterdir() if (found := _look(path)) is not None}
        except OSError as error:
            raise Unavailable("intake.folder", f"{self.folder}: {error.strerror}", advice="check its owner") from error
        stable = [found for path, found in now.items() if self._seen.get(path) == found]
        self._seen = now
        return [found.path for found in sorted(stable, key=lambda found: (found.modified_ns, found.path))]


@dataclass(frozen=True)
class _Recorded:
    """A file whose rows are in the log, and what is left to do: where it goes, and what is written beside it."""

    folder: Path
    sha256: str
    why: bytes = b""
    refused_rows: bytes = b""


class Intake:
    """Takes files in: a file's rows become runs."""

    def __init__(self, journal: Journal, device: Device, *, taken: Path, refused: Path) -> None:
        self._journal = journal
        self._device = device
        self._taken = taken
        self._refused = refused
        self._recorded: dict[Found, _Recorded] = {}  # files that could not be moved yet: not to be recorded again

    async def take(self, path: Path, playbook: Playbook, release: int) -> list[str]:
        """Open a run for each usable new row; return their ids. Raises only when the disk does."""
        found = _look(path)
        if found is None:
            return []
        opened: list[str] = []
        if found not in self._recorded:
            recorded, opened = await self._record(path, playbook, release)
            if _look(path) != found:  # somebody still writes to it: it is read again
                return opened
            self._recorded[found] = recorded
        try:
            await asyncio.to_thread(self._put_away, path, self._recorded[found])
        except Unavailable:
            if opened:
                return opened  # its runs need not wait; the next call tries again, and says what is wrong
            raise
        del self._recorded[found]
        return opened

    async def _record(self, path: Path, playbook: Playbook, release: int) -> tuple[_Recorded, list[str]]:
        """Put into the log what the file holds."""
        data, sha256 = await asyncio.to_thread(_read, path)
        name = os.fsencode(path.name).decode("utf-8", "replace")
        try:
            table = await asyncio.to_thread(read_table, data, playbook)
        except BadInput as error:
            body = {"file": name, "message": str(error), "advice": error.advice}
            await self._journal.append(Draft(SourceRefused(sha256=sha256, code=error.code), bodies={"shared": body}))
            return _Recorded(self._refused, sha256, why=f"{error}\n".encode()), []
        opened = await self._open(name, sha256, table, playbook, release)
        return _Recorded(self._taken, sha256, refused_rows=_refused_rows(table)), opened

    def _put_away(self, path: Path, recorded: _Recorded) -> None:
        """Move the file, and leave a person what they need to mend what was refused."""
        try:
            for folder in (recorded.folder, self._refused):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            target = _free(recorded.folder / path.name, recorded.sha256)
            if recorded.why:
                write_file(self._refused / f"{target.name}.why.txt", recorded.why)
            if recorded.refused_rows:
                rows = _free(self._refused / f"{path.stem}.refused-rows.csv", recorded.sha256)
                write_file(rows, recorded.refused_rows)
            shutil.move(path, target)
        except OSError as error:
            raise Unavailable(
                "intake.move", f"{path}: {error.strerror}", advice="check the folder's owner; it is tried again"
            ) from error

    async def _open(self, name: str, sha256: str, table: Table, playbook: Playbook, release: int) -> list[str]:
        again = sha256 in self._device.sources  # the same bytes, dropped twice
        opened: list[str] = []
        duplicates = already = weight = 0
        drafts: list[Draft] = []
        fresh: dict[str, dict[str, Value]] = {}
        for row in table.rows:
            run = run_id(playbook.playbook, row.subject)
            trigger = f"csv:{sha256}:{row.number}"
            known = None if run in fresh else self._journal.has_run(run)
            if run in fresh and fresh[run] != row.inputs:
                table.refused.append(BadRow(row.number, row.cells, _changed(row)))
            elif run in fresh:
                duplicates += 1
            elif known is None:
                fresh[run] = row.inputs
                drafts.append(_opening(row, trigger, name, playbook, release))
                weight += 4 * sum(map(len, row.cells))
                opened.append(run)
            elif isinstance(known.facts, RunOpenedV1) and known.facts.trigger == trigger and not again:
                already += 1  # this very row, before a crash
            elif self._differs(known.seq, row):
                table.refused.append(BadRow(row.number, row.cells, _changed(row)))
            else:
                duplicates += 1
            if len(drafts) == _CHUNK or weight > _CHUNK_BYTES:
                await self._journal.append(*drafts)
                drafts, weight = [], 0
            elif row.number % _CHUNK == 0:
                await asyncio.sleep(0)  # a long file must not keep the link from its heartbeat
        facts = SourceRead(
            sha256=sha256,
            rows=len(table.rows) + sum(bad.error.code != "intake.row.changed" for bad in table.refused),
            opened=len(opened) + already,
            duplicates=duplicates,
            refused=len(table.refused),
        )
        await self._journal.append(*drafts, Draft(facts, bodies={"shared": _account(name, table)}))
        return opened

    def _differs(self, seq: int, row: Row) -> bool:
        """Whether this case came before with other content. An erased body cannot differ."""
        shared, private = self._journal.body(seq), self._journal.body(seq, "private")
        if shared is None:
            return False
        before = shared["inputs"] | (private or {}).get("inputs", {})
        return any(before[name] != value for name, value in row.inputs.items() if name in before)


def _read(path: Path) -> tuple[bytes, str]:
    """A file's bytes, or as many as show that it is too large, and the SHA-256 of all of it."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.CSV_BYTES + 1)
            file.seek(0)
            return data, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable("intake.unreadable", f"{path}: {error.strerror}", advice="check its owner") from error


def _refused_rows(table: Table) -> bytes:
    """Refused rows as they were, each with its reason before it: a person mends this file and drops it again."""
    if not table.refused:
        return b""
    out = io.StringIO()
    writer = csv.writer(out)
    before = len(NOTES) if table.headings[: len(NOTES)] == NOTES else 0  # they came mended, and were refused again
    writer.writerow([*NOTES, *table.headings[before:]])
    for bad in sorted(table.refused, key=lambda bad: bad.number):
        writer.writerow([bad.number, bad.error.code, f"{bad.error.message}: {bad.error.advice}", *bad.cells[before:]])
    return out.getvalue().encode()


def _changed(row: Row) -> BadInput:
    return BadInput(
        "intake.row.changed",
        f"{row.subject[:80]} came before with other content",
        advice="if it is an amendment, give it a number of its own; if not, correct it",
        where=f"row {row.number}",
    )


def _opening(row: Row, trigger: str, name: str, playbook: Playbook, release: int) -> Draft:
    wanted = Opening(
        playbook=playbook,
        release=release,
        inputs=row.inputs,
        trigger=trigger,
        source=f"{name} row {row.number}",
        subject=row.subject,
    )
    return opening(wanted)


def _account(name: str, table: Table) -> dict[str, object]:
    def errors() -> Iterator[dict[str, object]]:
        for bad in table.refused[:100]:
            e = bad.error
            yield {"row": bad.number, "code": e.code, "message": e.message, "advice": e.advice}

    return {"file": name, "errors": list(errors()), "dropped_columns": table.dropped[:50]}


def _free(wanted: Path, sha256: str) -> Path:
    """A name that no other content has: nothing is ever written over."""
    return wanted.with_name(f"{wanted.stem}.{sha256[:8]}{wanted.suffix}") if wanted.exists() else wanted
