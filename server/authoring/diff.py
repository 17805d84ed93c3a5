"""What changed between two states of a workspace, file by file, as people read it: lines taken out and put in."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

CONTEXT = 3
_LINES = 4_000  # of one file; longer ones are told to differ, and not how
ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class Line:
    """``kind`` is ``same``, ``out``, ``in`` or ``gap`` (lines that are left away). Numbers count from 1; 0 is none."""

    kind: str
    old: int
    new: int
    text: str


@dataclass(frozen=True)
class FileDiff:
    """``state`` is ``added``, ``removed`` or ``changed``. Without ``lines`` it is too long, or no text."""

    path: str
    state: str
    lines: list[Line]

    @property
    def put_in(self) -> int:
        return sum(1 for line in self.lines if line.kind == "in")

    @property
    def taken_out(self) -> int:
        return sum(1 for line in self.lines if line.kind == "out")


def diff(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> list[FileDiff]:
    """The files that differ, by path."""
    found = []
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before != after:
            state = ADDED if before is None else REMOVED if after is None else CHANGED
            found.append(FileDiff(path, state, list(_lines(before or b"", after or b""))))
    return found


def _lines(before: bytes, after: bytes) -> Iterator[Line]:
    try:
        old, new = before.decode().splitlines(), after.decode().splitlines()
    except UnicodeDecodeError:
        return
    if max(len(old), len(new)) > _LINES:
        return
    groups = difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT)
    for number, group in enumerate(groups):
        if number or group[0][1] or group[0][3]:
            yield Line("gap", 0, 0, "")
        for kind, old_from, old_to, new_from, new_to in group:
            if kind == "equal":
                for place in range(old_to - old_from):
                    yield Line("same", old_from + place + 1, new_from + place + 1, old[old_from + place])
                continue
            yield from (Line("out", place + 1, 0, old[place]) for place in range(old_from, old_to))
            yield from (Line("in", 0, place + 1, new[place]) for place in range(new_from, new_to))
