"""A disk that loses what was not synced: from a record of what a process did (``record.c``), every file as it may stand
after the power failed at some place of it.

What was synced stays. Of what was written since, anything may be there or not, in pieces of 512 bytes; so too names
that were given or taken since their folder was synced, in order.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR = 512


def compile_recorder(folder: Path) -> Path:
    library = folder / "record.so"
    source = Path(__file__).parent / "record.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl", "-lpthread"], check=True)
    return library


class Record(NamedTuple):
    operation: str
    inode: int
    offset: int
    data: bytes


def read_record(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        while line := file.readline():
            operation, inode, offset, length = line.split()
            yield Record(operation.decode(), int(inode), int(offset), file.read(int(length)))


@dataclass
class File:
    """``kept`` is what was synced; ``since`` what was done after, as (offset, bytes), or (size, ``None``) for a cut."""

    kept: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.since:
            apply(self.kept, *change)
        self.since.clear()

    def after(self, chance: random.Random | None, *, all_of_it: bool = False) -> bytes:
        found = bytearray(self.kept)
        for offset, data in self.since if all_of_it or chance else ():
            if all_of_it or data is None:
                if all_of_it or (chance and chance.random() < 0.5):
                    apply(found, offset, data)
                continue
            for begin in range(0, len(data), SECTOR):
                if chance and chance.random() < 0.5:
                    apply(found, offset + begin, data[begin : begin + SECTOR])
        return bytes(found)


def apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(max(0, offset - len(content))))
    else:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


class Disk:
    """One folder, told record by record what was done to it."""

    def __init__(self) -> None:
        self._inodes: dict[int, File] = {}
        self._names: dict[str, File] = {}
        self._since: list[tuple[str, str, File | None]] = []  # (name, name before, new file)

    def do(self, record: Record) -> None:
        match record.operation:
            case "C":
                made = self._inodes[record.inode] = File()
                self._since.append((Path(record.data.decode()).name, "", made))
            case "R":
                before, name = (Path(path).name for path in record.data.decode().split("\0"))
                self._since.append((name, before, None))
            case "U":
                self._since.append(("", Path(record.data.decode()).name, None))
            case "W":
                self._inodes[record.inode].since.append((record.offset, record.data))
            case "T":
                self._inodes[record.inode].since.append((record.offset, None))
            case "S" if record.inode:
                self._inodes[record.inode].sync()
            case "S":
                self._names = self._named(len(self._since))
                self._since.clear()

    def _named(self, changes: int) -> dict[str, File]:
        names = dict(self._names)
        for name, before, made in self._since[:changes]:
            file = made or names.pop(before)
            if name:
                names[name] = file
        return names

    def power_off(self, folder: Path, chance: random.Random | None, *, all_of_it: bool = False) -> None:
        """Put into ``folder`` what may be left: without ``chance`` nothing unsynced, or all of it."""
        changes = len(self._since) if all_of_it else chance.randint(0, len(self._since)) if chance else 0
        for name, file in self._named(changes).items():
            (folder / name).write_bytes(file.after(chance, all_of_it=all_of_it))
