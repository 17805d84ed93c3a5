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
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.identity import write_file
from edge_agent.journal import Journal
from edge_agent.sense.table import BadRow, Row, Table, read_table
from shared.codec import hex_sha256
from shared.entries import Draft, RunOpened, SourceRead, SourceRefused
from shared.errors import BadInput, Unavailable
from shared.playbook import Playbook
from shared.runs import Device

_CHUNK = 128  # runs opened under one commit


def run_id(playbook: str, subject: str) -> str:
    """The same case is the same run, on every device and in every file."""
    return "run_" + hashlib.sha256(f"{playbook}\n{subject}".encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Found:
    """A file as a poll saw it; unchanged at the next poll, it is ready."""

    path: Path
    size: int
    modified_ns: int


class Inbox:
    """One folder, one playbook."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[Path, Found] = {}

    def ready(self) -> list[Path]:
        """Files that have not changed since the last call, oldest first. Hidden and partial files are left."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        now: dict[Path, Found] = {}
        for path in self.folder.iterdir():
            if path.name.startswith(".") or path.suffix.lower() != ".csv" or path.is_symlink() or not path.is_file():
                continue
            stat = path.stat()
            now[path] = Found(path, stat.st_size, stat.st_mtime_ns)
        stable = [found for path, found in now.items() if self._seen.get(path) == found]
        self._seen = now
        return [found.path for found in sorted(stable, key=lambda found: found.modified_ns)]


class Intake:
    """Takes files in: a file's rows become runs."""

    def __init__(self, journal: Journal, device: Device, *, taken: Path, refused: Path) -> None:
        self._journal = journal
        self._device = device
        self._taken = taken
        self._refused = refused

    async def take(self, path: Path, playbook: Playbook, release: int) -> list[str]:
        """Open a run for each usable new row; return their ids. Raises only when the disk does."""
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise Unavailable("intake.unreadable", f"{path}: {error.strerror}", advice="check its owner") from error
        sha256 = hex_sha256(data)
        try:
            table = read_table(data, playbook)
        except BadInput as error:
            await self._refuse(path, sha256, error)
            return []
        opened = await self._open(path.name, sha256, table, playbook, release)
        self._set_aside(path, table)
        _move(path, self._taken, sha256)
        return opened

    async def _refuse(self, path: Path, sha256: str, error: BadInput) -> None:
        body = {"file": path.name, "message": str(error), "advice": error.advice}
        await self._journal.append(Draft(SourceRefused(sha256=sha256, code=error.code), bodies={"shared": body}))
        moved = _move(path, self._refused, sha256)
        write_file(moved.with_name(moved.name + ".why.txt"), f"{error}\n".encode())

    async def _open(self, name: str, sha256: str, table: Table, playbook: Playbook, release: int) -> list[str]:
        again = sha256 in self._device.sources  # the same bytes, dropped twice
        opened: list[str] = []
        duplicates = already = 0
        drafts: list[Draft] = []
        fresh: set[str] = set()
        for row in table.rows:
            run = run_id(playbook.playbook, row.subject)
            trigger = f"csv:{sha256}:{row.number}"
            if run in fresh:
                duplicates += 1
                continue
            known = self._journal.has_run(run)
            if known is None:
                fresh.add(run)
                drafts.append(_opening(run, row, trigger, name, playbook, release))
                opened.append(run)
            elif isinstance(known.facts, RunOpened) and known.facts.trigger == trigger and not again:
                already += 1  # this very row, before a crash
            elif self._differs(known.seq, row, playbook):
                table.refused.append(BadRow(row.number, [str(v or "") for v in row.inputs.values()], _changed(row)))
            else:
                duplicates += 1
            if len(drafts) == _CHUNK:
                await self._journal.append(*drafts)
                drafts = []
        facts = SourceRead(
            sha256=sha256,
            rows=len(table.rows) + sum(bad.error.code != "intake.row.changed" for bad in table.refused),
            opened=len(opened) + already,
            duplicates=duplicates,
            refused=len(table.refused),
        )
        await self._journal.append(*drafts, Draft(facts, bodies={"shared": _account(name, table)}))
        return opened

    def _differs(self, seq: int, row: Row, playbook: Playbook) -> bool:
        """Whether this case came before with other content. An erased body cannot differ."""
        shared, private = self._journal.body(seq), self._journal.body(seq, "private")
        if shared is None:
            return False
        before = shared["inputs"] | (private or {}).get("inputs", {})
        return any(before[name] != value for name, value in row.inputs.items() if name in before)

    def _set_aside(self, path: Path, table: Table) -> None:
        """Write refused rows, as they were, to a file a person can mend and drop again."""
        if not table.refused:
            return
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["row", "code", "what to do", *table.headings])
        for bad in sorted(table.refused, key=lambda bad: bad.number):
            writer.writerow([bad.number, bad.error.code, f"{bad.error.message}: {bad.error.advice}", *bad.cells])
        write_file(self._refused / f"{path.stem}.refused-rows.csv", out.getvalue().encode())


def _changed(row: Row) -> BadInput:
    return BadInput(
        "intake.row.changed",
        f"{row.subject} came before with other content",
        advice="if it is an amendment, give it a number of its own; if not, correct it",
        where=f"row {row.number}",
    )


def _opening(run: str, row: Row, trigger: str, name: str, playbook: Playbook, release: int) -> Draft:
    shared = {key: value for key, value in row.inputs.items() if key not in playbook.private}
    private = {key: value for key, value in row.inputs.items() if key in playbook.private and value is not None}
    facts = RunOpened(
        playbook=playbook.playbook,
        playbook_version=playbook.version,
        playbook_sha256=playbook.digest,
        release=release,
        trigger=trigger,
        subject_sha256=hex_sha256(row.subject.encode()),
        private_fields=bool(private),
    )
    bodies = {"shared": {"inputs": shared, "subject": row.subject, "source": f"{name} row {row.number}"}}
    if private:
        bodies["private"] = {"inputs": private}
    return Draft(facts, run, bodies)


def _account(name: str, table: Table) -> dict[str, object]:
    def errors() -> Iterator[dict[str, object]]:
        for bad in table.refused[:100]:
            e = bad.error
            yield {"row": bad.number, "code": e.code, "message": e.message, "advice": e.advice}

    return {"file": name, "errors": list(errors()), "dropped_columns": table.dropped[:50]}


def _move(path: Path, folder: Path, sha256: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = folder / path.name
    if target.exists():
        target = folder / f"{path.stem}.{sha256[:8]}{path.suffix}"
    try:
        shutil.move(path, target)
    except OSError as error:
        raise Unavailable(
            "intake.move", f"{path}: {error.strerror}", advice="check the folder's owner; it is tried again"
        ) from error
    return target
